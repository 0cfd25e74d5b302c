"""What the verifier reads, remembers and hands on, as plain types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from sealstream.schemas.entry import ZERO_HASH, Kind
from sealstream.schemas.violation import Violation
from sealstream.sinks.verifier.rules import SourceRecord, Verdict

OPEN_VIOLATIONS_MAX: Final = 100
"""How many open violations of one chain are reported; further ones are only counted until these are resolved."""


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
        head: Where it goes on by the rules.
        other: Behind something at fault: where it goes on if the log was written so, rather than altered later. The
            next entry shows which of the two is the case.
        missing: Whether the record before its next one was found not to be chained, and reported.
        open: Ids of the violations that stop its verified feed.
        unreported: Number of violations found beyond :data:`OPEN_VIOLATIONS_MAX`.
    """

    name: bytes
    head: Head = field(default_factory=Head)
    other: Head | None = None
    missing: bool = False
    open: list[str] = field(default_factory=list[str])
    unreported: int = 0

    @property
    def stopped(self) -> bool:
        """Whether its verified feed stands still."""
        return bool(self.open)


class Demand(NamedTuple):
    """The record that must stand next on audit.chained.

    Arguments:
        chain: Its chain.
        verdict: What the rules say of the source record.
        genesis: Whether it is the genesis before that record's own entry.
        seq: Its seq.
        prev: The hash of the entry before it.
        entry: Its entry's bytes.
        digest: Its entry's hash.
        value: Its value.
    """

    chain: Chain
    verdict: Verdict
    genesis: bool
    seq: int
    prev: bytes
    entry: bytes
    digest: bytes
    value: bytes

    @property
    def kind(self) -> Kind:
        """The entry's kind."""
        return Kind.GENESIS if self.genesis else self.verdict.kind

    def met_by(self, record: ChainedRecord) -> bool:
        """Return whether a record is the one demanded, byte for byte."""
        return record.entry == self.entry and record.value == self.value and record.key == self.chain.name


@dataclass(slots=True)
class Outcome:
    """What checking a batch of one partition came to; it takes effect with the transaction that carries it.

    Arguments:
        published: What goes to audit.verified, in order: each chained record and what it was held against.
        violations: What goes to audit.violations.
        touched: The chains whose state changed, by name.
        kinds: Number of entries that hold, by kind.
        records: Number of chained records that were checked.
    """

    published: list[tuple[ChainedRecord, Demand]] = field(default_factory=list[tuple[ChainedRecord, Demand]])
    violations: list[Violation] = field(default_factory=list[Violation])
    touched: dict[bytes, Chain] = field(default_factory=dict[bytes, Chain])
    kinds: Counter[Kind] = field(default_factory=Counter[Kind])
    records: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing came of it."""
        return not (self.records or self.touched or self.violations)

    def add(self, other: Outcome) -> None:
        """Let another outcome of the same partition, without records, take effect with this one."""
        self.violations += other.violations
        self.touched |= other.touched


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
