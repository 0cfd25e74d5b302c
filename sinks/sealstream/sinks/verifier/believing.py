"""What a checkpoint is worth to a reader with a policy, a clock, and records of keys that followed one another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import ConfigError, QuorumMissing, SealstreamError, Untrusted
from sealstream.schemas.policy import NO_QUORUM, Log, Policy
from sealstream.schemas.trust import Reader, TrustedCheckpoint, verify_checkpoint
from sealstream.sinks.verifier.levels import Level

CHECKPOINT_BYTES_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Believed:
    """A checkpoint that is believed, and how far.

    Arguments:
        checkpoint: What the log says.
        level: ``CHECKPOINT`` for the log's signature, ``WITNESSED`` for a quorum's, ``ANCHORED`` for a quorum's with a
            timestamp over all of it.
        time_seconds: When it was there, in seconds since the Unix epoch: the authority's time, else the quorum's;
            ``None`` if nobody says.
        why_not_more: What kept it from a higher level, in words; empty if nothing did.
    """

    checkpoint: Checkpoint
    level: Level
    time_seconds: int | None
    why_not_more: str = ""


def believe(note: bytes, reader: Reader, *, origin: str, token: bytes | None = None, roots_pem: str = "") -> Believed:
    """Return what a signed checkpoint is worth.

    Arguments:
        note: The checkpoint with its signatures.
        reader: What the reader judges by.
        origin: The log that it must be of.
        token: A timestamp over the note, if there is one.
        roots_pem: The certificates that a timestamp must lead to.

    Raises:
        SealstreamError: It is not believed at all.
    """
    stamped, why = _stamped(note, token, roots_pem)
    try:
        trusted = verify_checkpoint(note, reader, origin=origin, existed_by_seconds=stamped)
    except QuorumMissing as error:
        # The log's own signature is worth something, too, and no more than that.
        alone = replace(reader, policy=Policy(reader.policy.logs, (), (), NO_QUORUM))
        trusted = verify_checkpoint(note, alone, origin=origin, existed_by_seconds=stamped)
        return Believed(trusted.checkpoint, Level.CHECKPOINT, stamped, error.message)
    if trusted.quorum_time_seconds is None:
        return Believed(trusted.checkpoint, Level.CHECKPOINT, stamped, "the policy asks for no witness")
    if stamped is None:
        return Believed(trusted.checkpoint, Level.WITNESSED, trusted.quorum_time_seconds, why)
    return Believed(trusted.checkpoint, Level.ANCHORED, stamped)


def believe_chain(note: bytes, reader: Reader, *, log: Log, origin: str) -> TrustedCheckpoint:
    """Return a chain's own checkpoint, which the instance's key signs under the chain's name, and nobody cosigns.

    Arguments:
        note: The checkpoint with its signature.
        reader: What the reader judges by.
        log: The instance's line of the policy.
        origin: The chain's origin.

    Raises:
        SealstreamError: It is not believed.
    """
    policy = Policy((Log(log.key.renamed(origin)),), (), (), NO_QUORUM)
    return verify_checkpoint(note, replace(reader, policy=policy), origin=origin)


def log_of(policy: Policy, instance: str) -> Log:
    """Return the policy's line of the instance; of the only log there is, if no instance is asked for.

    Raises:
        ConfigError: It has none, or several of which none was asked for.
    """
    named = [log for log in policy.logs if log.key.name == instance] or (policy.logs if not instance else ())
    if not named:
        raise ConfigError(
            f"the policy has no log of the instance {instance}",
            hint="set SEALSTREAM_INSTANCE to the name of the log in the policy, or correct the policy",
        )
    if len({log.key.name for log in named}) > 1:
        raise ConfigError("the policy has several logs", hint="say which one: set SEALSTREAM_INSTANCE")
    return named[0]


def check_age(believed: Believed, now_seconds: int, age_seconds_max: int | None) -> None:
    """Refuse a checkpoint that is older than was asked for.

    Raises:
        Untrusted: It is, or nothing says how old it is.
    """
    if age_seconds_max is None:
        return
    size = believed.checkpoint.size
    if believed.time_seconds is None:
        raise Untrusted(
            f"nothing says how old the checkpoint of size {size} is: {believed.why_not_more}",
            hint="ask for a witnessed one, or do not ask for its age",
        )
    age_seconds = now_seconds - believed.time_seconds
    if age_seconds > age_seconds_max:
        raise Untrusted(
            f"the checkpoint of size {size} is {age_seconds:,} s old, and {age_seconds_max:,} s were asked for",
            hint="see whether the notary and its witnesses run",
        )


def _stamped(note: bytes, token: bytes | None, roots_pem: str) -> tuple[int | None, str]:
    """Return the time by which a timestamp shows that the note was there; else why not."""
    if token is None:
        return None, "no timestamp of it is published"
    if not roots_pem:
        return None, "no certificates were given that its timestamp may lead to"
    from sealstream.schemas.timestamp import verify_timestamp  # noqa: PLC0415  # of an extra, and slow to import

    try:
        return verify_timestamp(token, note, roots_pem).existed_by_seconds, ""
    except ConfigError:
        raise
    except SealstreamError as error:
        return None, error.message
