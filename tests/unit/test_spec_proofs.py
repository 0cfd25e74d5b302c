"""SPEC.md is right about proof files: its vectors come out of bytes joined by hand, and out of the code."""

from __future__ import annotations

import pytest

from sealstream.schemas.entry import VALUE_BYTES_MAX, WINDOW_KINDS
from sealstream.schemas.errors import QuorumMissing
from sealstream.schemas.evidence import PayloadStatus, ProofLevel, verify_proof
from sealstream.schemas.log_proof import HASHES_MAX
from sealstream.schemas.note import SIGNATURES_MAX
from sealstream.schemas.policy import Policy
from sealstream.schemas.proof_bytes import pack_number
from sealstream.schemas.proof_file import (
    CHECK_BYTES,
    PROOF_BYTES_MAX,
    PROOF_LABEL,
    PROOF_SUFFIX,
    SCHEMA_BYTES_MAX,
    TIMESTAMP_BYTES_MAX,
    TIMESTAMPS_MAX,
    ProofFile,
)
from sealstream.schemas.proof_note import PROOF_NOTE_BYTES_MAX
from sealstream.schemas.trust import CLOCK_SKEW_SECONDS, Reader
from support import proof_vectors, spec

POLICY = Policy.parse(spec.blocks("proof_policy")[0].encode())
FILES = [bytes.fromhex(text.replace("\n", "")) for text in spec.blocks("proof_files")[0].split("\n\n")]


def test_block() -> None:
    """The block is what hand-made bytes give, character for character."""
    assert spec.blocks("proof_files") == [proof_vectors.block()]
    assert proof_vectors.vectors() == FILES


def test_files_hold() -> None:
    """Both files come back from the code as they are, and show what the page says."""
    first, second = (
        verify_proof(ProofFile.parse(data), Reader(POLICY, 1_700_000_200), origin=proof_vectors.INSTANCE)
        for data in FILES
    )
    assert [ProofFile.parse(data).pack() for data in FILES] == FILES
    assert [one.entry_hash for one in (first, second)] == [spec.entries()[seq].hash for seq in (0, 2)]
    assert (first.level, second.level) == (ProofLevel.WITNESSED, ProofLevel.WITNESSED)
    assert (first.payload, second.payload) == (PayloadStatus.MATCHES, PayloadStatus.ABSENT)
    assert [one.existed_by[0].time_seconds for one in (first, second)] == [1_700_000_041, 1_700_000_160]
    bound = second.absent_at[0]
    assert (bound.by, bound.time_seconds, second.earlier_size, first.absent_at) == ("one", 1_700_000_040, 2, ())


def test_too_early() -> None:
    """A reader whose clock stands before the cosignatures believes neither."""
    for data in FILES:
        with pytest.raises(QuorumMissing):
            verify_proof(ProofFile.parse(data), Reader(POLICY, 1_600_000_000))


def test_numbers() -> None:
    """Labels, sizes and limits of the page are those of the code."""
    text = spec.text()
    section = text[text.index("## 22. Proof files") :]
    rows = {row[0]: row[1:] for number in range(4) for row in spec.table("### 22.1 The bytes", number)}
    assert rows["label"] == [f"{len(PROOF_LABEL)} bytes", f"`sealproof1\\n`, that is `{PROOF_LABEL.hex()}`"]
    assert rows["check"][0] == f"{CHECK_BYTES} bytes"
    assert f"(127 is `{pack_number(127).hex()}`, 128 is `{pack_number(128).hex()}`.)" in section
    assert f"how many, 1 to {SIGNATURES_MAX};" in section
    assert f"at most {VALUE_BYTES_MAX:,} |" in section
    assert f"at most {SCHEMA_BYTES_MAX:,} |" in section
    assert f"they are at most {PROOF_NOTE_BYTES_MAX:,}." in section
    assert f"at most {TIMESTAMPS_MAX}, and each behind its size as a number, 1 to {TIMESTAMP_BYTES_MAX:,} |" in section
    assert f"no more than {PROOF_BYTES_MAX:,}, and all" in section
    assert f"at most {HASHES_MAX}, and these hashes" in section
    assert f"by more than {CLOCK_SKEW_SECONDS} s" in section
    assert f"`{PROOF_SUFFIX}`" in section
    without = ", ".join(str(kind) for kind in range(9) if kind not in WINDOW_KINDS).replace(", 8", " and 8")
    assert f"schema for kinds {without}." in section
