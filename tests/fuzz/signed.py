"""Targets: what is signed, and what says who is believed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fuzz.target import Target, bytes_of, same, text_of
from sealstream.schemas import cosignature
from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import FormatError, KeyInvalid, Untrusted
from sealstream.schemas.key_history import KeyHistory, Rotation, parse_rotations, sign_rotation
from sealstream.schemas.keys import pack_key, parse_key
from sealstream.schemas.log_proof import LogProof
from sealstream.schemas.merkle import leaf_hash, root
from sealstream.schemas.note import Note, sign_note
from sealstream.schemas.note_key import KeyType, SignerKey, VerifierKey
from sealstream.schemas.policy import Policy
from sealstream.schemas.proofs import inclusion_proof, nodes_of
from sealstream.schemas.trust import Reader, verify_checkpoint, verify_log_proof
from support.notes import CHECKPOINT, LOG, NOW_SECONDS, ORIGIN, cosigned, policy, reader, signer, witness

LEAVES: Final = tuple(leaf_hash(b"%d" % number) for number in range(11))
INDEX: Final = 4
NOTE: Final = cosigned({1: NOW_SECONDS, 2: NOW_SECONDS - 60})
PROOF: Final = LogProof(
    INDEX,
    tuple(inclusion_proof(INDEX, len(LEAVES), nodes_of(LEAVES))),
    cosigned({1: NOW_SECONDS, 2: NOW_SECONDS}, checkpoint=Checkpoint(ORIGIN, len(LEAVES), root(LEAVES))),
).pack()
READER: Final = reader(policy(2, 2))

_ML_DSA: Final = signer("w9.example/witness", KeyType.COSIGNATURE_ML_DSA_44)
_ML_DSA_READER: Final = reader(Policy.parse(b"log %b\nwitness W %b\nquorum W\n" % (
    str(LOG.verifier).encode(), str(_ML_DSA.verifier).encode())))  # fmt: skip
_ROTATIONS: Final = tuple(
    sign_rotation(
        signer(ORIGIN, number=number),
        signer(ORIGIN, number=number + 1),
        old_not_after_seconds=1_000 * number + 1_000,
        new_not_before_seconds=1_000 * number,
    )[1]
    for number in range(3)
)


def _cosignature(data: bytes) -> None:
    time_seconds, signature = cosignature.parse_timestamped(data)
    assert cosignature.pack_timestamped(time_seconds, signature) == data


def _signature(data: bytes) -> None:
    """Any bytes as a signature are right or wrong, by every type of key, and as a statement."""
    for key in (LOG.verifier, witness(1).verifier, _ML_DSA.verifier):
        key.verify(CHECKPOINT.pack(), data)
        key.verify(data, data)
        key.verify_statement(data, data[:64])


def _message(data: bytes) -> None:
    cosignature.ed25519_message(data, NOW_SECONDS)
    cosignature.ml_dsa_message(data, NOW_SECONDS, ORIGIN)


def _trusted(judge: Reader) -> Callable[[bytes], None]:
    """Return a check that nothing but the one checkpoint is believed."""

    def check(data: bytes) -> None:
        assert verify_checkpoint(data, judge, origin=ORIGIN).checkpoint == CHECKPOINT

    return check


def _trusted_proof(data: bytes) -> None:
    trusted = verify_log_proof(LogProof.parse(data), LEAVES[INDEX], READER, origin=ORIGIN)
    assert (trusted.checkpoint.size, trusted.checkpoint.root) == (len(LEAVES), root(LEAVES))


def _policy(data: bytes) -> None:
    found = Policy.parse(data)
    assert Policy.parse(found.pack()) == found


def _rotations(data: bytes) -> None:
    rotations = parse_rotations(data)
    history = KeyHistory(rotations)
    for rotation in rotations:
        lineage = history.lineage(rotation.old)
        assert {rotation.old, rotation.new} <= {dated.key for dated in lineage}


def _signer_key(data: bytes) -> None:
    text = text_of(data)
    assert SignerKey.parse(text).secret() == text


def _key_file(data: bytes) -> None:
    key = parse_key(data)
    assert parse_key(pack_key(key)).verifier == key.verifier


_KEYS: Final = (LOG, witness(1), _ML_DSA)
_ML_DSA_NOTE: Final = sign_note(CHECKPOINT.pack(), [LOG, _ML_DSA], time_seconds=NOW_SECONDS)

_REFUSALS: Final = (FormatError, Untrusted)

TARGETS: Final = (
    Target("note", same(Note.parse, Note.pack), (NOTE, _ML_DSA_NOTE, *_ROTATIONS)),
    Target(
        "checkpoint",
        same(Checkpoint.parse, Checkpoint.pack),
        (CHECKPOINT.pack(), Checkpoint("a", 0, bytes(32), ("more", "lines")).pack()),
    ),
    Target("cosignature", _cosignature, (bytes(8) + bytes(64), b"\x7f" + b"\xff" * 7)),
    Target(
        "signature",
        _signature,
        tuple(key.sign(CHECKPOINT.pack(), time_seconds=NOW_SECONDS) for key in _KEYS),
    ),
    Target("cosigned-message", _message, (CHECKPOINT.pack(),)),
    Target("trusted-checkpoint", _trusted(READER), (NOTE,), _REFUSALS),
    Target("trusted-checkpoint-ml-dsa", _trusted(_ML_DSA_READER), (_ML_DSA_NOTE,), _REFUSALS),
    Target("log-proof", same(LogProof.parse, LogProof.pack), (PROOF, LogProof(0, (), NOTE, b"extra").pack())),
    Target("trusted-log-proof", _trusted_proof, (PROOF,), _REFUSALS),
    Target(
        "policy",
        _policy,
        (
            policy().pack(),
            policy(0).pack(),
            policy(3, 1).pack() + b"# a comment\n\ngroup outer any W1\n",
        ),
    ),
    Target("rotation", Rotation.parse, _ROTATIONS),
    Target("rotations", _rotations, (b"".join(_ROTATIONS), _ROTATIONS[0]), _REFUSALS),
    Target(
        "vkey",
        same(lambda data: VerifierKey.parse(text_of(data)), lambda key: bytes_of(str(key))),
        tuple(str(key.verifier).encode() for key in _KEYS),
        (KeyInvalid,),
    ),
    Target("signer-key", _signer_key, tuple(key.secret().encode() for key in _KEYS), (KeyInvalid,)),
    Target(
        "key-file",
        _key_file,
        (*(pack_key(key) for key in _KEYS), LOG.secret().encode() + b"\n"),
        (KeyInvalid,),
    ),
)
