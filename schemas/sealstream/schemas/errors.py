"""The errors a user of Sealstream may meet, as one tree.

::

    SealstreamError
    ├── ConfigError            a setting is missing, unknown or out of range
    ├── EventInvalid           an application's event breaks the event model (names the field)
    ├── FormatError            bytes are not what their format says
    │   ├── BundleInvalid      a bundle of a chain's entries does not parse
    │   ├── ControlInvalid     a control's statement or body does not parse, or cannot be made
    │   ├── EntryInvalid       an entry does not parse, or its fields cannot be packed
    │   ├── FrameInvalid       a value has no Avro frame that we know, or its prefix is malformed
    │   ├── NameInvalid        a name in a file's or an object's name is none that we write
    │   ├── NoteInvalid        a signed note does not parse, or cannot be made
    │   ├── CheckpointInvalid  a text is no checkpoint
    │   ├── LogProofInvalid    a log's proof file does not parse, or does not prove what it says
    │   ├── PolicyInvalid      a policy does not parse, or contradicts itself
    │   ├── KeyInvalid         a key does not parse, or cannot be used for this
    │   ├── RotationInvalid    the record of a key's rotation does not parse, or is not signed by both keys
    │   ├── LeafInvalid        a leaf of the tenant map or root log, or a coverage, does not parse or cannot be packed
    │   ├── ProofInvalid       a Merkle proof does not lead from what it is for to the root given
    │   ├── ProofFileInvalid   a proof file does not parse, or cannot be made
    │   ├── SchemaUnknown      the writer's schema of a value cannot be found, or is unsafe to use
    │   ├── TimestampInvalid   a timestamp does not parse, or is not one over the data it is given for
    │   ├── TileInvalid        a tile, an entry bundle or its path is malformed, or does not belong to its tree
    │   └── TreeInvalid        a size, index, hash or stored state is that of no Merkle tree
    ├── Untrusted              what is signed parses, and is not to be believed
    │   ├── ControlRefused     a control is about another chain, or those whose word counts have not said it
    │   ├── EvidenceInvalid    the parts of a proof contradict one another
    │   ├── SignatureInvalid   a signature in the name of a known key does not verify
    │   ├── SignatureMissing   no known key has signed
    │   ├── OriginDiffers      a checkpoint is of another log than the one that was asked for
    │   ├── EventDiffers       a proof is of another event than the one that was asked for
    │   ├── KeyUntimely        a log's key was not, or is not proven to have been, in use when it signed
    │   ├── QuorumMissing      too few witnesses have cosigned
    │   ├── CheckpointRefused  a checkpoint is not what its judge has computed himself
    │   ├── TimestampUntrusted a timestamp leads to no authority that is trusted, or to one that was no longer valid
    │   └── HistoryForked      one key is said to be followed by two
    ├── DeliveryError          an event did not reach Kafka, as far as the sender knows
    │   └── QueueFull          the sender holds as many events as it may
    ├── SpoolError             an application's spool does not take, or does not give back, what it should
    │   ├── SpoolOwned         another process has it (named)
    │   └── SpoolDamaged       a part of it could not be read (counts what was kept and what was lost)
    ├── ClientUnusable         an audit log is used after its close, or in a forked process
    ├── UnsafeState            a worker refuses to go on, because going on could damage a chain
    │   ├── SourceGap          records that were not chained yet are gone from the source
    │   ├── SourceExpired      records that were not verified yet are gone from the source
    │   ├── OffsetsExpired     heads exist, but the group's committed offsets do not
    │   ├── HeadsDiffer        committed offsets and heads do not agree
    │   ├── EpochEnded         the chains go on in another epoch
    │   ├── EpochNotStarted    the chains of the epoch before were not carried over yet
    │   ├── EpochNotDrained    an epoch cannot end yet: something of it is still to be done
    │   ├── InstanceDiffers    partition count, topic UUID or window are not those of the genesis
    │   ├── TreeDiffers        a tree would shrink, or be another one than it was at the same size (names the chains)
    │   ├── RolledBack         what was published is larger than the heads that it must have come from
    │   ├── WriterConflict     another writer advanced the same position
    │   └── SealInvalid        a record on audit.chained is not what its seal says
    ├── StoreError             the store cannot be used, or refuses
    │   ├── ObjectMissing      there is no such file or object in a storage
    │   ├── StoreDamaged       a stored row does not hold together (names tenant and seq)
    │   │   └── EvidenceDamaged  what is kept of an entry does not lead to the root that was signed
    │   └── TilesDamaged       the published tiles of a log are missing, or are not those of its head (names the logs)
    ├── SchemaRefused          a schema may not become a version of AuditEvent, or the registry keeps one that may not
    ├── RowRefused             a row that is to be imported is no valid event (names its key)
    ├── SourceUnreadable       rows that are to be imported cannot be read as they are
    ├── NotYetProvable         no checkpoint with its quorum covers an entry so far
    ├── Unreachable            a server does not answer within the time given
    └── WorkerLost             a process that did a part of the work ended before its time

Each carries a message (what, and where) and a ``hint`` (what to do about it).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class SealstreamError(Exception):
    """The base of every error that Sealstream raises on purpose.

    Arguments:
        message: What went wrong and where, for a person.
        hint: What that person can do about it; empty if nothing sensible is known.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(SealstreamError):
    """A setting is missing, unknown or out of range."""


class EventInvalid(SealstreamError):
    """An application's event breaks the event model.

    Arguments:
        field: The field at fault, as a dotted path such as ``targets.0.id``.
        message: What is wrong with it.
        hint: What would be right.
    """

    def __init__(self, field: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{field}: {message}", hint=hint)
        self.field = field


class FormatError(SealstreamError):
    """Bytes are not what their format says."""


class BundleInvalid(FormatError):
    """A bundle of a chain's entries does not parse, or what is in it cannot be made one."""


class ControlInvalid(FormatError):
    """A control's statement, its note or its body does not parse, or cannot be made of what was given."""


class EntryInvalid(FormatError):
    """An entry does not parse, or its fields cannot be packed."""


class FrameInvalid(FormatError):
    """A value has no Avro frame that we know, or the event prefix behind the frame is malformed."""


class LeafInvalid(FormatError):
    """A leaf of the tenant map or of the root log, or a coverage, does not parse, or its fields cannot be packed."""


class ProofInvalid(FormatError):
    """A Merkle proof does not lead from what it is for to the root given, or is none for such a place and size."""


class ProofFileInvalid(FormatError):
    """A proof file does not parse, was damaged, or cannot be made of what was given."""


class NameInvalid(FormatError):
    """A name in a file's or an object's name is none that we write."""


class NoteInvalid(FormatError):
    """A signed note does not parse, or cannot be made of what was given."""


class CheckpointInvalid(FormatError):
    """A text is no checkpoint, or a checkpoint cannot be made of what was given."""


class LogProofInvalid(FormatError):
    """A log's proof file does not parse, or does not prove what it says."""


class PolicyInvalid(FormatError):
    """A policy does not parse, or contradicts itself."""


class KeyInvalid(FormatError):
    """A key does not parse, or cannot be used for what was asked."""


class RotationInvalid(FormatError):
    """The record of a key's rotation does not parse, or is not signed by both keys."""


class SchemaUnknown(FormatError):
    """The schema that a value was written with cannot be found, or is none to decode with; the value may be sound."""


class TimestampInvalid(FormatError):
    """A timestamp (RFC 3161) does not parse, was refused by its authority, or is not one over the data given."""


class TileInvalid(FormatError):
    """A tile, an entry bundle or its path is malformed, or does not belong to its tree."""


class TreeInvalid(FormatError):
    """A size, an index, a hash or a stored state is that of no Merkle tree."""


class Untrusted(SealstreamError):
    """What is signed parses, and is not to be believed as it stands."""


class ControlRefused(Untrusted):
    """A control event is about another chain, has another body, or those whose word counts have not said it."""


class EvidenceInvalid(Untrusted):
    """The parts of a proof contradict one another, so somebody has put it together who should not have."""


class SignatureInvalid(Untrusted):
    """A signature in the name of a known key does not verify."""


class SignatureMissing(Untrusted):
    """No known key has signed."""


class OriginDiffers(Untrusted):
    """A checkpoint is of another log than the one that was asked for."""


class EventDiffers(Untrusted):
    """A proof is of another tenant or event than the one that was asked for, whatever it shows of that one."""


class KeyUntimely(Untrusted):
    """A log's key was not in use when it signed, or nothing proves that it was."""


class QuorumMissing(Untrusted):
    """Too few witnesses have cosigned."""


class TimestampUntrusted(Untrusted):
    """A timestamp leads to no authority that is trusted, or to one that was not valid at the time that it states."""


class CheckpointRefused(Untrusted):
    """A log says of its tree what its judge, who computed it himself, does not find."""


class HistoryForked(Untrusted):
    """One key is said to be followed by two."""


class DeliveryError(SealstreamError):
    """An event did not reach Kafka, as far as the sender knows: an answer that got lost looks the same.

    Sending the same bytes again is safe at any time: the chain marks the second one as a duplicate.

    Arguments:
        message: Which event, which topic, and what Kafka or the client library said.
        hint: What to do about it.
        code: The cause as librdkafka names it, such as ``_MSG_TIMED_OUT``; empty if it was not librdkafka's.
        retriable: Whether sending it again, as it is, can succeed.
    """

    def __init__(self, message: str, *, hint: str = "", code: str = "", retriable: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.retriable = retriable


class QueueFull(DeliveryError):
    """The sender holds as many events, or bytes of events, as it may; this one was not taken."""


class SpoolError(SealstreamError):
    """A spool does not take, or does not give back, what it should: what it was to keep is not safe on the disk."""


class SpoolOwned(SpoolError):
    """A spool is in use by another process, or by another audit log of this one.

    Arguments:
        message: Which spool.
        hint: What to do about it.
        pid: The process that has it; 0 if it could not be learnt.
    """

    def __init__(self, message: str, *, hint: str = "", pid: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.pid = pid


class SpoolDamaged(SpoolError):
    """A part of a spool could not be read; the rest is in use, and the damaged file was set aside.

    Arguments:
        message: Which spool, and what is wrong with it.
        hint: What to do about it.
        kept: How many events were recovered.
        lost_max: How many events are lost at most; -1 if even that cannot be told.
    """

    def __init__(self, message: str, *, hint: str = "", kept: int = 0, lost_max: int = -1) -> None:
        super().__init__(message, hint=hint)
        self.kept = kept
        self.lost_max = lost_max


class ClientUnusable(SealstreamError):
    """An audit log is used after its close, or in a process that was forked after it had started."""


class UnsafeState(SealstreamError):
    """A worker refuses to go on, because going on could damage a chain."""


class SourceGap(UnsafeState):
    """Records that were not chained yet are gone from the source topic."""


class SourceExpired(UnsafeState):
    """Records that were not verified yet are gone from their topic: whether they were right cannot be said any more."""


class OffsetsExpired(UnsafeState):
    """Heads exist, but the consumer group has no committed offset any more."""


class HeadsDiffer(UnsafeState):
    """The committed offset and the position in audit.heads do not agree."""


class EpochEnded(UnsafeState):
    """The epoch is over: its chains go on in the next one, and an entry here would fork them."""


class EpochNotStarted(UnsafeState):
    """The chains of the epoch before were not carried over: an entry now would begin them a second time."""


class EpochNotDrained(UnsafeState):
    """An epoch cannot end yet: records are still to be chained or verified, or workers still run."""


class InstanceDiffers(UnsafeState):
    """Partition count, topic UUID or duplicate window are not those that the genesis entries pinned."""


class ChainPlace(NamedTuple):
    """Where a chain is not what was committed to.

    Arguments:
        tenant: The chain; ``!root`` for the root log.
        seq: The first place that is missing; ``None`` where the chain is another one and it is not known from where on.
    """

    tenant: str
    seq: int | None


class TreeDiffers(UnsafeState):
    """A tree would shrink, or be another one than it was at the same size.

    Arguments:
        message: What differs.
        places: The chains that it is about, as far as they are known.
        hint: What to do about it.
    """

    def __init__(self, message: str, *, places: Iterable[ChainPlace] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.places = tuple(places)


class RolledBack(UnsafeState):
    """What was published, or what a witness has seen, is larger than the heads that it must have come from.

    Arguments:
        message: What is larger.
        places: The chains that it is about, as far as they are known.
        hint: What to do about it.
    """

    def __init__(self, message: str, *, places: Iterable[ChainPlace] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.places = tuple(places)


class WriterConflict(UnsafeState):
    """Another writer advanced the position that this writer held."""


class SealInvalid(UnsafeState):
    """A record on audit.chained is not what its seal says, though nobody but the processor may write there."""


class StoreError(SealstreamError):
    """The store cannot be used, or refuses what was asked."""


class ObjectMissing(StoreError):
    """There is no such file or object in a storage."""


class StoreDamaged(StoreError):
    """A stored row does not hold together: its columns, its hash or its payload are not those of its entry.

    Arguments:
        tenant: The chain.
        seq: The place in it.
        message: What is wrong.
        hint: What to do about it.
    """

    def __init__(self, tenant: str, seq: int, message: str, *, hint: str = "") -> None:
        super().__init__(f"tenant {tenant} seq {seq}: {message}", hint=hint)
        self.tenant = tenant
        self.seq = seq


class TilesDamaged(StoreError):
    """The published tiles of logs are missing, or are not those of their heads: they are to be made anew.

    Arguments:
        message: What is wrong.
        logs: The names of the chains; an empty one stands for the root log.
        hint: What to do about it.
    """

    def __init__(self, message: str, *, logs: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.logs = logs


class EvidenceDamaged(StoreDamaged):
    """What store, storage and the notary's database hold of an entry does not lead to the root that was signed."""


class NotYetProvable(SealstreamError):
    """An entry is stored, and no kept round that a checkpoint with its quorum covers has it so far.

    Arguments:
        message: Which entry, since when it is there, and how long this normally takes.
        hint: What to do about it.
    """


class SchemaRefused(SealstreamError):
    """A schema may not become a version of AuditEvent, or the registry keeps or gives something that may not be one."""


class RowRefused(SealstreamError):
    """A row that is to be imported is no valid event, and the import stops before it.

    Arguments:
        key: What names the row in its source: its key, or its line.
        message: What is wrong with it.
        hint: What to do about it.
    """

    def __init__(self, key: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"row {key}: {message}", hint=hint)
        self.key = key


class SourceUnreadable(SealstreamError):
    """Rows that are to be imported cannot be read as they are: their source refuses, or is not what it was."""


class Unreachable(SealstreamError):
    """A server, such as Kafka or PostgreSQL, does not answer within the time given."""


class WorkerLost(SealstreamError):
    """A process that did a part of the work ended before its time: it was killed, or ran out of memory."""
