"""What the verifier reads, remembers and hands on, as plain types."""

# ruff: noqa: D102 - the methods of the messages' protocols are described by their classes
from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast

from sealstream.kafka.topics import SEAL_ENTRY_HEADER, TRACEPARENT_HEADER
from sealstream.schemas.entry import ZERO_HASH, Kind
from sealstream.schemas.violation import Violation
from sealstream.sinks.verifier.rules import SourceRecord, Verdict

OPEN_VIOLATIONS_MAX: Final = 100
"""How many open violations of one chain are reported; further ones are only counted until these are resolved."""
LOG_APPEND_TIME: Final = 2
"""The timestamp type of a record whose time is the broker's, as the Kafka protocol and librdkafka number it."""


class SourceMessage(Protocol):
    """A record of audit.events as confluent-kafka's ``Message`` presents it: nothing is copied before it is checked."""

    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def offset(self) -> int | None: ...
    def timestamp(self) -> tuple[int, int]: ...


class ChainedMessage(Protocol):
    """A record of audit.chained as confluent-kafka's ``Message`` presents it."""

    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def offset(self) -> int | None: ...
    def headers(self) -> Any: ...


def source_record(message: SourceMessage) -> SourceRecord:
    """Return a message of audit.events as the rules take it."""
    kind, milliseconds = message.timestamp()
    received = milliseconds * 1000 if kind == LOG_APPEND_TIME else None
    return SourceRecord(cast("int", message.offset()), message.key(), message.value(), received)


def chained_record(message: ChainedMessage) -> ChainedRecord:
    """Return a message of audit.chained as it is checked."""
    try:
        headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    except (SystemError, UnicodeError):
        # confluent-kafka cannot present headers of which one has a name that is no UTF-8; no processor writes such.
        headers = []
    entries, entry, traceparent = 0, None, None
    for name, value in headers:
        if name == SEAL_ENTRY_HEADER:
            entries, entry = entries + 1, value
        elif name == TRACEPARENT_HEADER and traceparent is None:
            traceparent = value
    offset = cast("int", message.offset())
    return ChainedRecord(offset, message.key(), message.value(), entry if entries == 1 else None, traceparent)


class ChainedRecord(NamedTuple):
    """A record of audit.chained.

    Arguments:
        offset: Its offset on audit.chained.
        key: Its key.
        value: Its value.
        entry: Its ``seal-entry`` header; ``None`` if there is none, or more than one.
        traceparent: Its ``traceparent`` header, if there is one.
    """

    offset: int
    key: bytes | None
    value: bytes | None
    entry: bytes | None
    traceparent: bytes | None = None


class Head(NamedTuple):
    """Where a chain goes on.

    Arguments:
        seq: The seq of its next entry.
        prev: The hash of the entry before that.
    """

    seq: int = 0
    prev: bytes = ZERO_HASH


@dataclass(slots=True)
class Chain:
    """One chain as far as it was verified.

    Arguments:
        name: The chain's name.
        seq: The seq of its next entry by the rules.
        prev: The hash of the entry before that.
        other: Behind something at fault: where it goes on if the log was written so, rather than altered later. The
            next entry shows which of the two is the case.
        missing: Whether the record before its next one was found not to be chained, and reported.
        open: Ids of the violations that stop its verified feed.
        unreported: Number of violations found beyond :data:`OPEN_VIOLATIONS_MAX`.
        previous_topic: UUID of the source topic that it comes from, as long as nothing of it stands in this one.
    """

    name: bytes
    seq: int = 0
    prev: bytes = ZERO_HASH
    other: Head | None = None
    missing: bool = False
    open: list[str] = field(default_factory=list[str])
    unreported: int = 0
    previous_topic: bytes = b""

    @property
    def head(self) -> Head:
        """Where it goes on by the rules."""
        return Head(self.seq, self.prev)

    @head.setter
    def head(self, head: Head) -> None:
        self.seq, self.prev = head

    @property
    def stopped(self) -> bool:
        """Whether its verified feed stands still."""
        return bool(self.open)

    @property
    def is_sound(self) -> bool:
        """Whether nothing more is known of it than where it goes on, in this source topic."""
        return self.is_faultless and not self.previous_topic

    @property
    def is_faultless(self) -> bool:
        """Whether nothing at fault is known of it."""
        return not (self.open or self.unreported or self.missing or self.other)


class Demand(NamedTuple):
    """The record that must stand next on audit.chained.

    Arguments:
        chain: Its chain.
        verdict: What the rules say of the source record.
        leads: Whether it is the genesis or epoch before that record's own entry.
        seq: Its seq.
        prev: The hash of the entry before it.
        entry: Its entry's bytes.
        digest: Its entry's hash.
        value: Its value.
    """

    chain: Chain
    verdict: Verdict
    leads: bool
    seq: int
    prev: bytes
    entry: bytes
    digest: bytes
    value: bytes

    @property
    def kind(self) -> Kind:
        """The entry's kind."""
        if self.leads:
            return Kind.EPOCH if self.seq else Kind.GENESIS
        return self.verdict.kind

    def met_by(self, record: ChainedRecord) -> bool:
        """Return whether a record is the one demanded, byte for byte."""
        return record.entry == self.entry and record.value == self.value and record.key == self.chain.name


Header: TypeAlias = tuple[str, str | bytes | None]
"""A header of a record: its name and its value."""
Published: TypeAlias = tuple[bytes, bytes, Header, int, bytes, bytes, bytes, Sequence[Header]]
"""A record for audit.verified: key, value, the header with the entry, seq, hash, hash of the entry before it, event id,
and the header ``traceparent`` if there is one. A plain tuple, because there is one for nearly every record."""


@dataclass(slots=True)
class Outcome:
    """What checking a batch of one partition came to; it takes effect with the transaction that carries it.

    Arguments:
        published: What goes to audit.verified, in order.
        violations: What goes to audit.violations.
        touched: The chains whose state changed, by name.
        kinds: Number of entries that hold, by kind.
        records: Number of chained records that were checked.
    """

    published: list[Published] = field(default_factory=list[Published])
    violations: list[Violation] = field(default_factory=list[Violation])
    touched: dict[bytes, Chain] = field(default_factory=dict[bytes, Chain])
    kinds: Counter[Kind] = field(default_factory=Counter[Kind])
    records: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing came of it."""
        return not (self.records or self.touched or self.violations)

    def add(self, other: Outcome) -> None:
        """Let an earlier outcome of the same partition, without records, take effect with this one."""
        self.violations += other.violations
        self.touched = other.touched | self.touched


class Source(Protocol):
    """One partition of audit.events, read from where the verifier stands in it."""

    def ready(self) -> SourceRecord | None:
        """Return the next record if it is at hand, and move behind it."""
        ...

    def wait(self, until: int) -> SourceRecord | None:
        """Return the next record and move behind it; ``None`` if there is certainly none up to an offset."""
        ...

    def find(self, offset: int) -> SourceRecord | None:
        """Return the record at an offset, if a read_committed reader sees one there, without moving."""
        ...

    def upcoming(self) -> Iterable[SourceRecord]:
        """Return the records that are at hand already, in order, without moving."""
        ...

    def start(self) -> int:
        """Return the first offset that the partition still has."""
        ...

    def skip_to(self, offset: int) -> None:
        """Move to an offset, past what was read and lies before it."""
        ...

    def messages(self) -> deque[SourceMessage]:
        """Return the messages that are at hand already, to be looked at; :meth:`take` takes them."""
        ...

    def take(self, count: int, size_bytes: int) -> int:
        """Move behind messages that are at hand.

        Arguments:
            count: How many; at least one.
            size_bytes: The size of their values.

        Returns:
            The offset behind the last of them.
        """
        ...
