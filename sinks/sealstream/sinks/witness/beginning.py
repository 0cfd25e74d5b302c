"""Where a witness begins with a log: said by its operator, once, and never by an empty file.

C2SP tlog-witness lets a witness take whatever a log shows first. Then whoever loses a witness's memory, or makes it
lost, could show another history, and be cosigned. So an empty memory takes nothing at all, not even an empty log: its
operator names a checkpoint, or says in so many words that he trusts what comes first. Either is an error once there is
nothing left to begin: in a start script it would begin anew, silently, on the day on which the file is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sealstream.schemas.cosignature import parse_timestamped
from sealstream.schemas.errors import ConfigError
from sealstream.schemas.note import NOTE_BYTES_MAX, Note, Signature
from sealstream.schemas.note_key import SignerKey, VerifierKey
from sealstream.sinks.witness.judging import Judge
from sealstream.sinks.witness.memory import Began, Memory
from sealstream.sinks.witness.protocol import AddCheckpoint, KnownLogs, Refusal
from sealstream.worker.logs import logger


@dataclass(frozen=True, slots=True)
class Beginning:
    """How a witness may begin with logs of which it remembers nothing.

    Arguments:
        checkpoint: A file with the signed checkpoint to begin with.
        trust_first_use: Whether to begin with whatever a log shows first.
    """

    checkpoint: Path | None = None
    trust_first_use: bool = False

    @property
    def is_given(self) -> bool:
        """Whether the operator has said anything."""
        return self.checkpoint is not None or self.trust_first_use


def begin(
    memory: Memory, logs: KnownLogs, key: SignerKey, beginning: Beginning, judge: Judge, *, now_seconds: int
) -> None:
    """Begin as the operator has said, and refuse to begin silently.

    Arguments:
        memory: What is remembered.
        logs: The logs that the witness knows.
        key: The witness's key.
        beginning: What the operator has said.
        judge: Begins at the checkpoint, too; it is written in the same transaction.
        now_seconds: What time it is.

    Raises:
        SealstreamError: What :meth:`.Judge.begin` raises. Nothing has begun.
        ConfigError: Nothing is remembered, and he has said nothing; he has, and there is nothing left to begin; or the
            checkpoint cannot be read, or is none that a known log has signed.
    """
    if beginning.checkpoint is not None:
        _begin_with(memory, logs, key, beginning.checkpoint, judge, now_seconds)
    missing = sorted(set(logs.origins) - memory.origins())
    if beginning.trust_first_use and not missing:
        raise ConfigError(
            "--trust-first-use is given, and every log of the policy has begun",
            hint="take it away: it would begin anew, silently, if the memory were lost",
        )
    if len(missing) == len(logs.origins) and not beginning.is_given:
        raise ConfigError(
            f"{memory.path} remembers none of the logs {', '.join(missing)}",
            hint="if it was lost, begin with the newest checkpoint that anybody kept: --from-checkpoint FILE; "
            "if this witness is new, the same, or --trust-first-use, once",
        )
    for origin in missing:
        if beginning.trust_first_use:
            logger().warning("the next checkpoint of this log will be trusted as it comes", origin=origin)
        else:
            logger().warning("this log has not begun, and is refused", origin=origin)


def _begin_with(memory: Memory, logs: KnownLogs, key: SignerKey, path: Path, judge: Judge, now_seconds: int) -> None:
    try:
        with path.open("rb") as file:
            data = file.read(NOTE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    try:
        given = AddCheckpoint.parse(b"old 0\n\n" + data)
        request = logs.check_signed(given, now_seconds=now_seconds)
    except Refusal as refusal:
        raise ConfigError(
            f"checkpoint {path} is none to begin with: {refusal.words}",
            hint="it must be signed by a log of SEALSTREAM_POLICY, by a key that is in use",
        ) from refusal
    own, time_seconds = _own_signature(given.note, key.verifier)
    note = Note.parse(request.note)
    checkpoint = request.checkpoint
    known = memory.log(checkpoint.origin)  # this process owns the memory, and nobody is served yet
    if known is not None:
        raise ConfigError(
            f"--from-checkpoint is given, and {checkpoint.origin} is remembered at size {known.remembered.size}",
            hint="take it away: it would go back to that checkpoint, silently, if the memory were lost",
        )
    judge.begin(checkpoint)
    # If we die up to here, nothing has begun, and the option is given again.
    with memory.turn() as turn:
        how = Began.CHECKPOINT if checkpoint.size else Began.BEGINNING
        kept = Note(note.text, (*note.signatures, *own)).pack()
        turn.begin(checkpoint, kept, how, time_seconds=time_seconds, now_seconds=now_seconds)
        judge.witnessed(checkpoint, turn.connection)
    # If we die here, the log has begun, and the judge with it; the next start says that the option is no longer wanted.
    logger().warning("began to witness a log from a checkpoint", origin=checkpoint.origin, size=checkpoint.size)


def _own_signature(note: bytes, key: VerifierKey) -> tuple[tuple[Signature, ...], int]:
    """Return this witness's own cosignature below a checkpoint, and its time: what comes later must not be earlier."""
    parsed = Note.parse(note)
    for signature in parsed.signatures:
        if (signature.name, signature.key_id) == (key.name, key.key_id) and key.verify(
            parsed.text, signature.signature
        ):
            return (signature,), parse_timestamped(signature.signature)[0]
    return (), 0
