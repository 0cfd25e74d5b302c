"""SPEC.md is right about bundles: its vector comes out of text joined by hand, and out of the code."""

from __future__ import annotations

import base64
import hashlib
import io

from sealstream.schemas.bundle import (
    BUNDLE_FORMAT,
    BUNDLE_SUFFIX,
    LINE_BYTES_MAX,
    BundleEnd,
    BundleEntry,
    BundleHead,
    parse_line,
)
from sealstream.schemas.bundle_check import verify_bundle
from sealstream.schemas.evidence import ProofLevel
from sealstream.schemas.policy import Policy
from sealstream.schemas.proof_file import ProofFile
from sealstream.schemas.trust import Reader
from support import proof_vectors, rfc_trees, spec

POLICY = Policy.parse(spec.blocks("proof_policy")[0].encode())
CHARACTERS = 118
"""How long a line of the block is before it is broken."""


def by_hand() -> str:
    """Return the vector: entries 3 and 4 of section 11.5, and the way of the second proof file, which has them too."""
    proof = ProofFile.parse(proof_vectors.vectors()[1])
    way, entries = proof.rooted, spec.entries()
    first = rfc_trees.mth([one.hash for one in entries[:2]])
    note = way.note.decode().replace("\n", r"\n").replace("\N{EM DASH}", r"\u2014")
    lines = [
        (
            f'{{"type":"bundle","format":"sealstream/bundle1","tenant":"acme","first":3,"last":4,"size":5,'
            f'"nonce":"{proof.nonce.hex()}","before":["{first.hex()}","{entries[2].hash.hex()}"],"behind":[],'
            f'"index":{way.index},"round":{way.round},"map_path":[{_quoted(way.map_path)}],'
            f'"previous":"{way.previous.hex()}","length":{way.length},"coverage":"{way.coverage.hex()}",'
            f'"chains":{way.chains},"root_path":[{_quoted(way.root_path)}],"note":"{note}","timestamps":[]}}\n'
        )
    ]
    for seq, kind, event_id in ((3, "duplicate", "ev-1"), (4, "quarantined", "")):
        one = entries[seq]
        lines.append(
            f'{{"type":"entry","seq":{seq},"kind":"{kind}","received":{one.entry.received},"event_id":"{event_id}",'
            f'"hash":"{one.hash.hex()}","entry":"{base64.b64encode(one.data).decode()}","payload":null}}\n'
        )
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    lines.append(f'{{"type":"end","entries":2,"sha256":"{digest}"}}\n')
    return "".join(lines)


def _quoted(hashes: tuple[bytes, ...]) -> str:
    return ",".join(f'"{one.hex()}"' for one in hashes)


def block() -> str:
    """Return the vector as the page has it: long lines broken, what goes on behind two blanks."""
    broken: list[str] = []
    for line in by_hand().splitlines():
        parts = [line[at : at + CHARACTERS] for at in range(0, len(line), CHARACTERS)]
        broken.append("\n  ".join(parts))
    return "\n".join(broken) + "\n"


def test_block() -> None:
    """The block is what text joined by hand gives, character for character, and so is its reading."""
    assert spec.blocks("bundle") == [block()]
    assert spec.blocks("bundle")[0].replace("\n  ", "") == by_hand()


def test_bundle_holds() -> None:
    """It comes back from the code line by line as it is, and shows what the page says."""
    data = by_hand().encode()
    head, *entries, end = [parse_line(line) for line in data.splitlines(keepends=True)]
    packed = [BundleHead.parse(head).pack(), *(BundleEntry.parse(one).pack() for one in entries)]
    assert b"".join((*packed, BundleEnd.parse(end).pack())) == data
    result = verify_bundle(io.BytesIO(data).readline, Reader(POLICY, 1_700_000_200))
    assert (result.exit_code, result.failure) == (0, None)
    assert (result.tenant, result.first, result.last, result.entries) == ("acme", 3, 4, 2)
    assert result.shown is not None
    assert (result.shown.level, result.shown.existed_by[0].time_seconds) == (ProofLevel.WITNESSED, 1_700_000_160)


def test_numbers() -> None:
    """Names and limits of the page are those of the code."""
    section = spec.text().partition("\n## 23. Bundles\n")[2]
    for stated in (f"`{BUNDLE_SUFFIX}`", f"`{BUNDLE_FORMAT}`", f"{LINE_BYTES_MAX:,} bytes"):
        assert stated in section
