"""Proof files of a log: one form, and nothing of what they prove can be changed."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import FormatError, LogProofInvalid, ProofInvalid, SealstreamError, Untrusted
from sealstream.schemas.log_proof import EXTRA_BYTES_MAX, HASHES_MAX, LogProof
from sealstream.schemas.merkle import root
from sealstream.schemas.proofs import inclusion_proof, nodes_of
from sealstream.schemas.trust import verify_log_proof
from support.notes import LOG, NOW_SECONDS, ORIGIN, cosigned, policy, reader

LEAVES = [hashlib.sha256(bytes((number,))).digest() for number in range(11)]
ALL_OF_TWO = reader(policy(2, 2))


def proof_of(index: int, size: int = len(LEAVES)) -> LogProof:
    """Return a proof of a leaf in the tree over the first so many leaves, with two cosignatures."""
    checkpoint = Checkpoint(ORIGIN, size, root(LEAVES[:size]))
    hashes = tuple(inclusion_proof(index, size, nodes_of(LEAVES[:size])))
    return LogProof(index, hashes, cosigned({1: NOW_SECONDS, 2: NOW_SECONDS}, checkpoint=checkpoint))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 11])
def test_every_leaf_is_proven(size: int) -> None:
    """Each leaf's file comes back as it was, and proves that leaf and no other."""
    for index in range(size):
        proof = LogProof.parse(proof_of(index, size).pack())
        assert proof == proof_of(index, size)
        assert verify_log_proof(proof, LEAVES[index], ALL_OF_TWO, origin=ORIGIN).checkpoint.size == size
        with pytest.raises(ProofInvalid):
            verify_log_proof(proof, hashlib.sha256(b"another").digest(), ALL_OF_TWO)


def test_every_change_is_refused() -> None:
    """Where all signatures are asked for, no byte of a file can be another one, and none can be missing at its end."""
    data, leaf = proof_of(4).pack(), LEAVES[4]
    for place in range(len(data)):
        for mask in (1, 4, 32):
            changed = data[:place] + bytes((data[place] ^ mask,)) + data[place + 1 :]
            with pytest.raises((FormatError, Untrusted)):
                verify_log_proof(LogProof.parse(changed), leaf, ALL_OF_TWO)
        with pytest.raises((FormatError, Untrusted)):
            verify_log_proof(LogProof.parse(data[:place]), leaf, ALL_OF_TWO)


@given(st.data())
def test_any_change(data: st.DataObject) -> None:
    """Any bytes put in, taken out or put in another place are refused with a reason."""
    packed = proof_of(4).pack()
    begin = data.draw(st.integers(0, len(packed)))
    end = data.draw(st.integers(begin, min(len(packed), begin + 40)))
    changed = packed[:begin] + data.draw(st.binary(max_size=40)) + packed[end:]
    try:
        verify_log_proof(LogProof.parse(changed), LEAVES[4], ALL_OF_TWO)
    except SealstreamError as error:
        reason = error.message
    else:
        reason = "the same" if same_but_unsigned(changed, packed) else ""
    assert reason


def same_but_unsigned(changed: bytes, packed: bytes) -> bool:
    """Return whether bytes differ from a proof file in nothing but signature lines of nobody that is known."""
    return set(packed.splitlines()) <= set(changed.splitlines())


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """Whatever the bytes are, they are refused with a reason."""
    for candidate in (data, b"c2sp.org/tlog-proof@v1\n" + data, b"c2sp.org/tlog-proof@v1\nindex 0\n" + data):
        with pytest.raises(LogProofInvalid):
            LogProof.parse(candidate)


def test_extra_data() -> None:
    """Extra data is carried, and proves nothing."""
    proof = replace(proof_of(4), extra=b"hint")
    assert LogProof.parse(proof.pack()) == proof
    assert verify_log_proof(replace(proof, extra=b"other"), LEAVES[4], ALL_OF_TWO)


CHECKPOINT = cosigned({})
GOOD = b"c2sp.org/tlog-proof@v1\nindex 3\n\n" + CHECKPOINT


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "does not begin"),
        (GOOD.replace(b"@v1", b"@v2"), "does not begin"),
        (b"c2sp.org/tlog-proof@v1", "no empty line"),
        (b"c2sp.org/tlog-proof@v1\n\n" + CHECKPOINT, "no index"),
        (GOOD.replace(b"index 3", b"index 03"), "leading zeros"),
        (GOOD.replace(b"index 3", b"Index 3"), "no index"),
        (GOOD.replace(b"index 3", b"index 42"), "leaf 42 in a tree of 42"),
        (GOOD.replace(b"index 3", b"extra \nindex 3"), "0 bytes of extra"),
        (GOOD.replace(b"index 3", b"extra A\nindex 3"), "base64"),
        (GOOD.replace(b"index 3", b"extra AA==\nextra AA==\nindex 3"), "no index"),
        (GOOD.replace(b"index 3", b"index 3\nAAAA"), "hash 1 .*3 bytes"),
        (GOOD.replace(b"\n\n", b"\r\n\r\n"), "does not begin|no empty line|hash|index"),
        (GOOD[:-1], "newline"),
        (GOOD.replace(CHECKPOINT, b"a\n\n" + CHECKPOINT[-10:]), "no checkpoint"),
        (GOOD.replace(b"index 3", b"index 3" + b"\n" + b"A" * 43 + b"=" * (HASHES_MAX + 1)), "hash 1"),
        (GOOD.replace(b"index 3", b"index 3" + (b"\n" + b"A" * 43 + b"=") * (HASHES_MAX + 1)), "64 hashes"),
        (b"c2sp.org/tlog-proof@v1\n" + b"a" * 2_000_000, "at most"),
    ],
)  # fmt: skip
def test_reasons(data: bytes, words: str) -> None:
    """What is wrong is said."""
    with pytest.raises(LogProofInvalid, match=words):
        LogProof.parse(data)


@pytest.mark.parametrize(
    "wrong",
    [
        LogProof(-1, (), CHECKPOINT),
        LogProof(2**63, (), CHECKPOINT),
        LogProof(0, (bytes(31),), CHECKPOINT),
        LogProof(0, (bytes(32),) * 64, CHECKPOINT),
        LogProof(0, (), b"nothing"),
        LogProof(0, (), CHECKPOINT, b""),
        LogProof(0, (), CHECKPOINT, bytes(EXTRA_BYTES_MAX + 1)),
    ],
    ids=["below", "beyond", "hash", "hashes", "checkpoint", "no extra", "extra"],
)
def test_only_proofs_are_written(wrong: LogProof) -> None:
    """What would not be read is not written."""
    with pytest.raises(LogProofInvalid):
        wrong.pack()


def test_size() -> None:
    """A proof of an entry among a million, with a log's signature and two cosignatures, has less than 2 KB."""
    proof = replace(proof_of(4), hashes=(bytes(32),) * 20)
    assert len(proof.pack()) < 2_000
    assert LOG.verifier.name in proof.pack().decode()
