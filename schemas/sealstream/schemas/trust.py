"""Who is believed: whether a checkpoint holds by its reader's policy, keys and clock.

All of them come from the reader; the checkpoint and the proof only from whoever wants to be believed.

A signature by a key that is no longer in use counts only if something shows that it was there while the key was: for a
log's key a quorum of witnesses, who took the checkpoint only because the log had signed it, or a timestamp from
outside over the whole note; for a witness's key nothing but the timestamp, since a thief of the key would write
whatever time he likes into a cosignature.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import (
    CheckpointInvalid,
    HistoryForked,
    KeyUntimely,
    OriginDiffers,
    QuorumMissing,
    SignatureMissing,
)
from sealstream.schemas.key_history import DatedKey, KeyHistory
from sealstream.schemas.log_proof import LogProof
from sealstream.schemas.note import NoteVerifier, VerifiedNote, VerifiedSignature, verify_note
from sealstream.schemas.note_key import KeyType, VerifierKey
from sealstream.schemas.policy import NO_QUORUM, Policy
from sealstream.schemas.proofs import verify_inclusion

CLOCK_SKEW_SECONDS: Final = 300
"""How far a cosigner's clock may be ahead of the reader's."""


@dataclass(frozen=True, slots=True)
class Reader:
    """What a reader brings along to judge by.

    Arguments:
        policy: Whom he believes.
        now_seconds: What time it is, in seconds since the Unix epoch.
        history: Which key followed which.
        clock_skew_seconds: How far a cosigner's clock may be ahead of his.
        cosigned_since_seconds: Cosignatures of before this time do not count: he asks for a fresh one.
        verify_note: By what he verifies the signatures of a note. Whoever judges many proofs under few checkpoints has
            one that remembers; what a signature counts for at his time is judged each time all the same.
    """

    policy: Policy
    now_seconds: int
    history: KeyHistory = field(default_factory=KeyHistory)
    clock_skew_seconds: int = CLOCK_SKEW_SECONDS
    cosigned_since_seconds: int = 0
    verify_note: NoteVerifier = verify_note


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A witness's cosignature that counts.

    Arguments:
        witness: The policy's name of the witness.
        key: The key that made it.
        time_seconds: When the witness says it saw the checkpoint, in seconds since the Unix epoch.
    """

    witness: str
    key: VerifierKey
    time_seconds: int


@dataclass(frozen=True, slots=True)
class TrustedCheckpoint:
    """A checkpoint that its reader may believe.

    Arguments:
        checkpoint: What the log says.
        log_key: The key by which it said so.
        cosignatures: Those that count, the earliest first.
        quorum_time_seconds: The time by which a quorum had seen it, in seconds since the Unix epoch; ``None`` if the
            policy asks for none.
        left_out: What did not count and why, in words.
    """

    checkpoint: Checkpoint
    log_key: VerifierKey
    cosignatures: tuple[Cosignature, ...]
    quorum_time_seconds: int | None
    left_out: tuple[str, ...]


def verify_checkpoint(
    data: bytes, reader: Reader, *, origin: str | None = None, existed_by_seconds: int | None = None
) -> TrustedCheckpoint:
    """Return a checkpoint if its reader may believe it.

    Arguments:
        data: The signed note.
        reader: What the reader judges by.
        origin: The log that was asked for; ``None`` for any that the policy knows.
        existed_by_seconds: A time by which this note was there with all its signatures, shown by somebody who is
            neither the log nor a witness (a timestamp over ``data``), in seconds since the Unix epoch.

    Raises:
        NoteInvalid: The bytes are no note.
        CheckpointInvalid: The note is none of a checkpoint, or has lines that the log's signature does not cover.
        SignatureInvalid: A signature in the name of a known key does not verify.
        SignatureMissing: No known log of this origin has signed.
        OriginDiffers: It is of another log than the one that was asked for.
        KeyUntimely: The log's key is not in use, and nothing shows that the signature is from when it was.
        QuorumMissing: Too few witnesses have cosigned.
        HistoryForked: The reader's records give one key to two witnesses.
        ConfigError: A signature is by ML-DSA-44, and the installed ``cryptography`` has none.
    """
    log_keys, witness_keys = _log_keys(reader), _witness_keys(reader)
    note = reader.verify_note(data, {**log_keys, **witness_keys})
    checkpoint = Checkpoint.parse(note.text)
    if origin is not None and checkpoint.origin != origin:
        raise OriginDiffers(
            f"checkpoint is of {checkpoint.origin[:200]!r}, and not of {origin!r}", hint="it belongs to another log"
        )
    left_out: list[str] = []
    cosignatures = tuple(
        sorted(_counted(note, witness_keys, reader, existed_by_seconds, left_out), key=lambda one: one.time_seconds)
    )
    log_key = _signed_by(note, checkpoint, log_keys, reader, cosignatures, existed_by_seconds)
    quorum_time = _quorum_time(reader.policy, cosignatures)
    if quorum_time is None and reader.policy.quorum != NO_QUORUM:
        names = ", ".join(sorted({one.witness for one in cosignatures})) or "nobody"
        reasons = f"; {'; '.join(left_out)}" if left_out else ""
        raise QuorumMissing(
            f"checkpoint {checkpoint.origin} at size {checkpoint.size} has no quorum "
            f"{reader.policy.quorum!r}: {names} cosigned{reasons}",
            hint="get a later copy of the checkpoint: witnesses may not have answered yet",
        )
    return TrustedCheckpoint(checkpoint, log_key, cosignatures, quorum_time, tuple(left_out))


def verify_log_proof(
    proof: LogProof, leaf: bytes, reader: Reader, *, origin: str | None = None, existed_by_seconds: int | None = None
) -> TrustedCheckpoint:
    """Return the checkpoint that a proof shows a leaf to stand under, if its reader may believe it.

    Arguments:
        proof: The proof.
        leaf: The leaf's hash; for a chain's log the entry's hash.
        reader: As for :func:`verify_checkpoint`.
        origin: As there.
        existed_by_seconds: As there, for the proof's checkpoint.

    Raises:
        ProofInvalid: The leaf does not stand at the proof's index in the checkpoint's tree.
        SealstreamError: What :func:`verify_checkpoint` raises.
    """
    trusted = verify_checkpoint(proof.checkpoint, reader, origin=origin, existed_by_seconds=existed_by_seconds)
    checkpoint = trusted.checkpoint
    verify_inclusion(proof.hashes, leaf=leaf, index=proof.index, size=checkpoint.size, root=checkpoint.root)
    return trusted


def _log_keys(reader: Reader) -> dict[VerifierKey, DatedKey]:
    return {dated.key: dated for log in reader.policy.logs for dated in reader.history.lineage(log.key)}


def _witness_keys(reader: Reader) -> dict[VerifierKey, tuple[str, DatedKey]]:
    owners: dict[bytes, str] = {}
    keys: dict[VerifierKey, tuple[str, DatedKey]] = {}
    for witness in reader.policy.witnesses:
        for dated in reader.history.lineage(witness.key):
            if owners.setdefault(dated.key.public_key, witness.name) != witness.name:
                raise HistoryForked(
                    f"the key {dated.key.name}+{dated.key.key_id.hex()} belongs to two witnesses of the policy",
                    hint="one of them would count twice: take it out of the policy",
                )
            keys[dated.key] = (witness.name, dated)
    return keys


def _counted(
    note: VerifiedNote,
    witness_keys: dict[VerifierKey, tuple[str, DatedKey]],
    reader: Reader,
    existed_by_seconds: int | None,
    left_out: list[str],
) -> Iterable[Cosignature]:
    """Yield the cosignatures that count, and say in words of each other one why it does not."""
    for signature in note.verified:
        if signature.key not in witness_keys:
            continue
        name, dated = witness_keys[signature.key]
        reason = _objection(signature, dated, reader, existed_by_seconds)
        if reason:
            left_out.append(f"{name} {reason}")
        elif signature.time_seconds is not None:
            yield Cosignature(name, signature.key, signature.time_seconds)


def _objection(
    signature: VerifiedSignature, dated: DatedKey, reader: Reader, existed_by_seconds: int | None
) -> str | None:
    """Say why a cosignature does not count; ``None`` if it does."""
    time_seconds = signature.time_seconds
    if time_seconds is None:
        return "does not say when it cosigned"
    if time_seconds > reader.now_seconds + reader.clock_skew_seconds:
        return f"says that it cosigned at {time_seconds}, which is in the future"
    if time_seconds < reader.cosigned_since_seconds:
        return f"cosigned at {time_seconds}, before {reader.cosigned_since_seconds}"
    if not dated.in_use(time_seconds):
        return f"cosigned at {time_seconds} with a key that was not in use then"
    if dated.ended_before(reader.now_seconds) and not _existed_in_use(dated, existed_by_seconds):
        return "cosigned with a key that is no longer in use, and no timestamp shows that it did while it was"
    return None


def _existed_in_use(dated: DatedKey, existed_by_seconds: int | None) -> bool:
    return existed_by_seconds is not None and not dated.ended_before(existed_by_seconds)


def _signed_by(
    note: VerifiedNote,
    checkpoint: Checkpoint,
    log_keys: dict[VerifierKey, DatedKey],
    reader: Reader,
    cosignatures: tuple[Cosignature, ...],
    existed_by_seconds: int | None,
) -> VerifierKey:
    """Return the log's key that counts.

    Raises:
        SignatureMissing: No known log of this origin has signed.
        KeyUntimely: None of the keys that signed counts.
        CheckpointInvalid: There are extension lines, and no signature covers them.
    """
    signed = [one for one in note.verified if one.key in log_keys and one.key.name == checkpoint.origin]
    if not signed:
        raise SignatureMissing(
            f"no known key of the log {checkpoint.origin[:200]!r} has signed its checkpoint",
            hint="check the log's line in the policy, and whether it has another key by now",
        )
    timely = [one for one in signed if _timely(one, log_keys[one.key], reader, cosignatures, existed_by_seconds)]
    if not timely:
        keys = ", ".join(f"{one.key.name}+{one.key.key_id.hex()}" for one in signed)
        raise KeyUntimely(
            f"checkpoint at size {checkpoint.size} is signed by {keys}, which is not in use, and nothing shows that "
            "it was when it signed",
            hint="a quorum of witnesses or a timestamp from the key's time would show it",
        )
    covering = [one for one in timely if one.key.type is KeyType.ED25519 or not checkpoint.extensions]
    if not covering:
        raise CheckpointInvalid("checkpoint has extension lines that the log's signature does not cover")
    return covering[0].key


def _timely(
    signature: VerifiedSignature,
    dated: DatedKey,
    reader: Reader,
    cosignatures: tuple[Cosignature, ...],
    existed_by_seconds: int | None,
) -> bool:
    """Return whether a log's signature is from a time when its key was in use."""
    latest_seconds = reader.now_seconds + reader.clock_skew_seconds
    if dated.not_before_seconds > latest_seconds:
        return False
    stated = signature.time_seconds
    if stated is not None and (stated > latest_seconds or not dated.in_use(stated)):
        return False
    if not dated.ended_before(reader.now_seconds) or _existed_in_use(dated, existed_by_seconds):
        return True
    then = tuple(one for one in cosignatures if not dated.ended_before(one.time_seconds))
    return _quorum_time(reader.policy, then) is not None


def _quorum_time(policy: Policy, cosignatures: tuple[Cosignature, ...]) -> int | None:
    """Return the time by which the policy's quorum had cosigned; ``None`` if it had not, or if none is asked for."""
    if policy.quorum == NO_QUORUM:
        return None
    names: set[str] = set()
    for cosignature in sorted(cosignatures, key=lambda one: one.time_seconds):
        names.add(cosignature.witness)
        if policy.satisfied(names):
            return cosignature.time_seconds
    return None
