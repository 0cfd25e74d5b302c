"""audit.chained and audit.verifier in memory, as the judge reads them, for unit tests of what it computes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from sealstream.kafka.topics import SEAL_ENTRY_HEADER
from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.entry import GapReason, Genesis, Kind, entry_hash, gap_payload, partition_chain
from sealstream.schemas.note_key import VerifierKey
from sealstream.schemas.violation import Violation
from sealstream.sinks.verifier.chains import Chains as VerifiedChains
from sealstream.sinks.verifier.records import Chain
from sealstream.sinks.verifier.state import Position
from sealstream.sinks.witness.recomputing.epochs import Epochs
from sealstream.sinks.witness.recomputing.middle import Middle
from sealstream.sinks.witness.recomputing.published import PublishedRounds
from sealstream.sinks.witness.recomputing.recomputation import Recomputation
from sealstream.sinks.witness.recomputing.sources import Sources
from sealstream.sinks.witness.recomputing.trees import Changes, Log, Tenants, layered
from support.chained import INSTANCE, Chains
from support.chained import Sealed as Record
from support.memory_objects import MemoryObjects
from support.rounds import SECRET, PlainRound, Sealed, last_ends, publish_chains, publish_rounds, root_checkpoint

PARTITIONS = 2
TOPIC_ID = bytes(range(16))
CHAINED_ID = b"c" * 16
FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class ChainedMessage:
    """A record that answers like confluent-kafka's ``Message``."""

    at: int
    sealed: Sealed

    def offset(self) -> int:
        """Return the offset on audit.chained."""
        return self.at

    def value(self) -> bytes:
        """Return the value."""
        return self.sealed.value

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the headers."""
        return [(SEAL_ENTRY_HEADER, self.sealed.entry)]


class MemoryLog:
    """audit.chained, from which an impatient reader gets little at once."""

    topic = "audit.chained"

    def __init__(
        self, entries: Mapping[int, list[Sealed]], *, at_once: int = 3, starts: Mapping[int, int] | None = None
    ) -> None:
        self.entries = entries
        self._starts = starts or {}
        self._at_once = at_once
        self._positions: dict[int, int] = {}
        self._come: dict[int, int] = {}

    def start(self, partition: int) -> int:
        """Return the first offset."""
        return self._starts.get(partition, 0)

    def end(self, partition: int) -> int:
        """Return the offset behind the last record."""
        return len(self.entries[partition])

    def read(self, positions: Mapping[int, int]) -> None:
        """Read these partitions from these offsets on."""
        assert all(at >= self.start(number) for number, at in positions.items()), "that has expired"
        self._positions, self._come = dict(positions), dict(positions)

    def waiting(self, partition: int) -> list[ChainedMessage]:
        """Return records that have come."""
        begin, end = self._positions[partition], self._come[partition]
        return [ChainedMessage(at, self.entries[partition][at]) for at in range(begin, end)]

    def take(self, partition: int, count: int) -> None:
        """Let go of so many of them."""
        self._positions[partition] += count

    def has_come_to(self, partition: int, limit: int) -> bool:
        """Return whether all records before an offset have come."""
        return self._come[partition] >= limit

    def fill(self, wanted: Iterable[int]) -> None:
        """Let a few more records come."""
        for number in wanted:
            self._come[number] = min(self._come[number] + self._at_once, self.end(number))


@dataclass
class MemoryWord:
    """The verifier's word about all that is in a log."""

    positions: dict[int, Position]
    chains: dict[int, VerifiedChains]
    changed: dict[bytes, int] = field(default_factory=dict[bytes, int])
    is_whole: bool = True

    def refresh(self, deadline: float) -> bool:
        """Do nothing: nothing new is said."""
        del deadline
        return True

    def position(self, partition: int) -> Position | None:
        """Return how far a partition is verified."""
        return self.positions.get(partition)

    def chain(self, partition: int, name: bytes) -> Chain | None:
        """Return a chain."""
        return self.chains[partition].get(name)

    def known(self, partition: int) -> Iterator[Chain]:
        """Return all chains of a partition."""
        return self.chains[partition].all()

    def unsound(self, partition: int) -> list[Chain]:
        """Return the chains that something is known to be wrong with."""
        return self.chains[partition].unsound()

    def rest(self) -> None:
        """Do nothing."""


def word_of(entries: Mapping[int, list[Sealed]]) -> MemoryWord:
    """Return the word of a verifier that has verified all of a log."""
    positions: dict[int, Position] = {}
    chains: dict[int, VerifiedChains] = {}
    changed: dict[bytes, int] = {}
    for number, records in entries.items():
        known = chains[number] = VerifiedChains()
        verified = 0
        for one in records:
            entry = one.parsed
            name = entry.tenant.encode()
            known.put(Chain(name, entry.seq + 1, entry_hash(one.entry)))
            changed[name] = number
            behind = int(one.value.split()[3]) + 1 if entry.kind is Kind.GAP else entry.offset + 1
            verified = max(verified, behind)
        genesis = Genesis(INSTANCE, PARTITIONS).payload()
        positions[number] = Position(
            chained=len(records),
            source=verified,
            verified=verified,
            chained_topic_id=CHAINED_ID,
            source_topic_id=TOPIC_ID,
            genesis=genesis,
        )
    return MemoryWord(positions, chains, changed)


class MemoryViolations:
    """Violations by their ids."""

    def __init__(self, *violations: Violation) -> None:
        self.known = {violation.id: violation for violation in violations}

    def find(self, ids: Iterable[str]) -> dict[str, Violation]:
        """Return the violations with these ids."""
        return {key: self.known[key] for key in ids if key in self.known}


def busy_log(seed: int, count: int) -> dict[int, list[Sealed]]:
    """Return a log with everything that can be in one: many chains, kinds, aborted records and lost ranges."""
    chance, chains = random.Random(seed), Chains(partitions=PARTITIONS)  # to be repeated
    records: list[Record] = []
    for number in range(count):
        partition, what = chance.randrange(PARTITIONS), chance.randrange(12)
        if what == 0:
            chains.offsets[partition] += chance.randint(1, 4)
        elif what == 1:
            first = chains.offsets[partition]
            last = first + chance.randint(0, 3)
            payload = gap_payload(first, last)
            records += chains.record(partition_chain(partition), payload, kind=Kind.GAP, reason=GapReason.EXPIRED)
            chains.offsets[partition] = last + 1
        elif what == 2:
            records += chains.quarantined(f"tenant-{chance.randrange(5)}")
        else:
            records += chains.event(f"tenant-{chance.randrange(5)}", f"ev-{number}")
    return by_partition(records)


def by_partition(records: Iterable[Record]) -> dict[int, list[Sealed]]:
    """Return records as they stand in the partitions of audit.chained."""
    entries: dict[int, list[Sealed]] = {number: [] for number in range(PARTITIONS)}
    for record in records:
        entries[record.partition].append(Sealed(record.entry, record.value))
    return entries


@dataclass
class MemoryJudge:
    """What the judge does, without Kafka and without a disk.

    Arguments:
        entries: audit.chained.
        word: What the verifier says.
        violations: What is recorded.
        at_once: How many records come at once.
        stored: The entries whose hashes are published for each chain; nobody's if not given.
        older: The epoch before: its audit.chained, and what the verifier says of it.
        starts: The offsets that the partitions of audit.chained begin at, where they do not begin at 0.
    """

    entries: Mapping[int, list[Sealed]]
    word: MemoryWord
    violations: MemoryViolations = field(default_factory=MemoryViolations)
    at_once: int = 3
    stored: Mapping[int, list[Sealed]] | None = None
    older: tuple[Mapping[int, list[Sealed]], MemoryWord] | None = None
    starts: Mapping[int, int] = field(default_factory=dict[int, int])
    changes: Changes = field(default_factory=lambda: Changes(Log()))

    def begin(self, checkpoint: Checkpoint, objects: MemoryObjects, keys: Iterable[VerifierKey]) -> None:
        """Begin at a checkpoint, with what is published."""
        published = PublishedRounds(objects)
        epochs = [] if self.older is None else [self._sources(*self.older, published)]
        epochs.append(self._sources(self.entries, self.word, published, self.starts))
        middle = Middle(published, tuple(keys), instance=INSTANCE, secret=SECRET)
        self.changes = middle.begin(checkpoint, epochs)

    def judge(
        self, rounds: list[PlainRound], checkpoint: Checkpoint | None = None, *, deadline: float = FOREVER
    ) -> None:
        """Judge the checkpoint behind rounds, as they would be published."""
        objects = MemoryObjects()
        publish_rounds(objects, rounds)
        if self.stored is not None:
            publish_chains(objects, self.stored, last_ends(self.stored))
        tenants = Tenants(SECRET, ())
        tenants.update(self.changes.chains.items())
        published = PublishedRounds(objects)
        newest = self._sources(self.entries, self.word, published, self.starts)
        older = None if self.older is None else self._sources(*self.older, published)
        epochs = Epochs(newest, lambda: older)
        asked = root_checkpoint(INSTANCE, rounds) if checkpoint is None else checkpoint
        while self.changes.log.size < asked.size:
            self._advance(epochs, asked, tenants, deadline)

    def _advance(self, epochs: Epochs, asked: Checkpoint, tenants: Tenants, deadline: float) -> None:
        known, roots = self.changes.chains, self.changes.roots
        load = layered(known, below=lambda _name: None)
        recomputation = Recomputation(epochs, asked, log=self.changes.log, load=load, tenants=tenants)
        recomputation.advance(deadline)
        found = recomputation.changes
        self.changes = Changes(found.log, known | found.chains, roots | found.roots)

    def _sources(
        self,
        entries: Mapping[int, list[Sealed]],
        word: MemoryWord,
        published: PublishedRounds,
        starts: Mapping[int, int] | None = None,
    ) -> Sources:
        log = MemoryLog(entries, at_once=self.at_once, starts=starts)
        made = cast("Any", Sources)(word, log, self.violations, published, instance=INSTANCE, partitions=len(entries))
        return cast("Sources", made)
