"""Keys, checkpoints and policies for tests of what is signed: the same ones in every run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.key_history import KeyHistory, Rotation
from sealstream.schemas.note import sign_note
from sealstream.schemas.note_key import KeyType, SignerKey
from sealstream.schemas.policy import Group, Log, Policy, Witness
from sealstream.schemas.trust import Reader

ORIGIN: Final = "demo.example/audit"
NOW_SECONDS: Final = 1_800_000_000
DAY_SECONDS: Final = 86_400


def signer(name: str, key_type: KeyType = KeyType.ED25519, *, number: int = 0) -> SignerKey:
    """Return a key that is the same in every run.

    Arguments:
        name: The key's name.
        key_type: What it signs.
        number: Tells several keys of one name and type apart.
    """
    seed = hashlib.sha256(f"{name} {int(key_type)} {number}".encode()).digest()
    if key_type is KeyType.COSIGNATURE_ML_DSA_44:
        return SignerKey(name, key_type, MLDSA44PrivateKey.from_seed_bytes(seed))
    return SignerKey(name, key_type, Ed25519PrivateKey.from_private_bytes(seed))


def witness(number: int, *, generation: int = 0) -> SignerKey:
    """Return the key of the witness of a number, of its first or a later generation."""
    return signer(f"w{number}.example/witness", KeyType.COSIGNATURE, number=generation)


LOG: Final = signer(ORIGIN)
CHECKPOINT: Final = Checkpoint(ORIGIN, 42, hashlib.sha256(b"root").digest())


def policy(witnesses: int = 3, threshold: int = 2, *, log: SignerKey = LOG) -> Policy:
    """Return a policy with one log, and witnesses of whom so many are a quorum; no witnesses for ``quorum none``."""
    known = tuple(Witness(f"W{number}", witness(number).verifier) for number in range(1, witnesses + 1))
    if not known:
        return Policy((Log(log.verifier),), (), (), "none")
    group = Group("all-of-them", threshold, tuple(one.name for one in known))
    return Policy((Log(log.verifier),), known, (group,), group.name)


def reader(
    judged_by: Policy | None = None, *, now_seconds: int = NOW_SECONDS, rotations: Sequence[Rotation] = ()
) -> Reader:
    """Return a reader with a policy, a clock and the rotations that he takes."""
    return Reader(judged_by or policy(), now_seconds, KeyHistory(rotations))


def cosigned(
    witnesses: dict[int, int],
    *,
    log: SignerKey = LOG,
    checkpoint: Checkpoint = CHECKPOINT,
    generation: int = 0,
) -> bytes:
    """Return a checkpoint that the log has signed, and witnesses at the times given.

    Arguments:
        witnesses: The time of each witness's cosignature, by its number.
        log: The log's key.
        checkpoint: What is signed.
        generation: Which of their keys the witnesses use.
    """
    note = sign_note(checkpoint.pack(), [log])
    for number, time_seconds in witnesses.items():
        note += cosignature_line(checkpoint, witness(number, generation=generation), time_seconds)
    return note


def cosignature_line(checkpoint: Checkpoint, key: SignerKey, time_seconds: int) -> bytes:
    """Return the line that a witness adds below a checkpoint."""
    made = sign_note(checkpoint.pack(), [key], time_seconds=time_seconds)
    return made[len(checkpoint.pack()) + 1 :]
