"""A store in memory: what `sealstream verify` reads of it, and the plain twin of how it is verified."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby, islice
from operator import itemgetter
from typing import NamedTuple, cast

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.entry import (
    CARRIED_KINDS,
    Genesis,
    Kind,
    entry_hash,
    parse,
    parse_epoch_payload,
    parse_gap_payload,
)
from sealstream.schemas.errors import EntryInvalid
from sealstream.schemas.merkle import root
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.sinks.verifier.checking import check_piece
from sealstream.sinks.verifier.ledger import Ledger
from sealstream.sinks.verifier.pieces import SEQ_MAX, Part, plan
from sealstream.sinks.verifier.stored_chain import End, StoredChain, StoredRow
from sealstream.sinks.verifier.stored_copy import CopyRow
from sealstream.sinks.verifier.stored_ordinary import OrdinaryRows
from sealstream.sinks.verifier.stored_rows import StoreReader

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = 11
_AT_ONCE = 3


def stored_row(entry: bytes, value: bytes) -> StoredRow:
    """Return the row that the sink makes of a chained record."""
    fields = parse(entry)
    carried = fields.kind in CARRIED_KINDS
    return StoredRow(
        fields.partition,
        fields.seq,
        int(fields.kind),
        fields.topic_id,
        fields.offset,
        fields.event_id or None,
        fields.received,
        entry_hash(entry),
        entry,
        value if carried else None,
        int(carried),
    )


def copy_row(tenant: str, row: StoredRow, payload: bytes | None) -> CopyRow:
    """Return a row as PostgreSQL's binary COPY sends it."""
    values = (
        tenant.encode(),
        struct.pack(">q", row.seq),
        struct.pack(">i", row.partition),
        struct.pack(">h", row.kind),
        row.topic_id,
        struct.pack(">q", row.offset),
        struct.pack(">q", row.received),
        row.hash,
        None if row.event_id is None else row.event_id.encode(),
        row.entry,
        payload,
    )
    assert len(values) == _COLUMNS
    return struct.pack(">h", _COLUMNS) + b"".join(map(_sized, values))


def _sized(value: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if value is None else struct.pack(">i", len(value)) + value


class Payload(NamedTuple):
    """A stored payload."""

    tenant: str
    seq: int
    value: bytes


@dataclass
class MemoryStore:
    """A store in memory, which is read as the one in PostgreSQL is.

    Arguments:
        entries: Rows of entries, by chain; what they say of payloads does not count.
        payloads: The payloads.
        heads: The table of heads.
        block_rows: How many rows come at a time.
    """

    entries: list[tuple[str, StoredRow]]
    payloads: list[Payload]
    heads: dict[str, End]
    block_rows: int = 3

    @classmethod
    def of(cls, rows: Iterable[StoredRow]) -> MemoryStore:
        """Return the store that the sink fills with these rows."""
        entries = [(parse(row.entry).tenant, row) for row in rows]
        payloads = [Payload(name, row.seq, row.payload) for name, row in entries if row.payload is not None]
        return cls(entries, payloads, {name: End(row.seq, row.hash) for name, row in entries})

    @property
    def tenants(self) -> list[str]:
        """The chains that the store has anything of."""
        return sorted({name for name, _ in self.entries} | {p.tenant for p in self.payloads} | set(self.heads))

    @property
    def second(self) -> MemoryStore:
        """The same store."""
        return self

    def copied(self, tenant: str, first: int, last: int) -> Iterator[list[CopyRow]]:
        """Return a chain's rows, as the reader does."""
        return self._blocks(lambda name, seq: name == tenant and first <= seq <= last)

    def copied_between(self, first: str, last: str) -> Iterator[list[CopyRow]]:
        """Return the rows of several chains, as the reader does."""
        return self._blocks(lambda name, _: first <= name <= last)

    def _blocks(self, wanted: Callable[[str, int], bool]) -> Iterator[list[CopyRow]]:
        found = [
            copy_row(name, row, value)
            for name, row in self._sorted
            if wanted(name, row.seq)
            for value in self._values.get((name, row.seq), (None,))
        ]
        return iter([found[n : n + self.block_rows] for n in range(0, len(found), self.block_rows)])

    # What is read once is no longer changed.

    @cached_property
    def _sorted(self) -> list[tuple[str, StoredRow]]:
        return sorted(self.entries, key=lambda found: (found[0], found[1].seq, found[1].partition))

    @cached_property
    def _chains(self) -> dict[str, list[StoredRow]]:
        return {name: [row for _, row in rows] for name, rows in groupby(self._sorted, key=itemgetter(0))}

    @cached_property
    def _values(self) -> dict[tuple[str, int], list[bytes]]:
        values: dict[tuple[str, int], list[bytes]] = {}
        for name, seq, value in self.payloads:
            values.setdefault((name, seq), []).append(value)
        return values

    def rows(self, tenant: str, first: int, last: int, chain: StoredChain) -> Iterator[StoredRow]:
        """Return a chain's rows one by one, as the reader does: a payload goes to the first row of its seq."""
        rows = [row for row in self._chains.get(tenant, []) if first <= row.seq <= last]
        seqs = {row.seq for row in rows}
        for name, seq in self._values:
            if name == tenant and first <= seq <= last and seq not in seqs:
                chain.orphan(seq)
        before = -1
        for row in rows:
            values = [] if row.seq == before else self._values.get((tenant, row.seq), [])
            yield row._replace(payload=values[-1] if values else None, payloads=len(values))
            before = row.seq

    def payload_ends(self, places: dict[str, tuple[int, int]]) -> dict[str, int]:
        """Return where payloads stand behind the last entries, as the reader does."""
        ends: dict[str, int] = {}
        for name, seq, _ in self.payloads:
            if name in places and places[name][0] < seq <= places[name][1]:
                ends[name] = max(seq, ends.get(name, -1))
        return ends

    def genesis(self, tenant: str, first: int) -> Genesis | None:
        """Return what a chain pins at a seq, as the reader does."""
        rows = self._chains.get(tenant, [])
        topics = {row.topic_id for row in rows if row.seq in (0, first - 1)}
        epochs = [row.seq for row in rows if row.kind == Kind.EPOCH and row.seq < first]
        seq = max(epochs) if len(topics) > 1 and epochs else 0
        value = next(iter(self._values.get((tenant, seq), [])), None)
        try:
            return None if value is None else parse_epoch_payload(value)[0] if seq else Genesis.parse(value)
        except EntryInvalid:
            return None

    def fill_window(self, chain: StoredChain, first: int, window_offsets: int) -> None:
        """Let a chain know what its first entries can repeat, as the reader does."""
        rows = [row for row in self._chains.get(chain.tenant, []) if first - window_offsets <= row.seq < first]
        OrdinaryRows(chain).remember(struct.pack(">h", 1) + _sized(row.entry) for row in rows)

    def entry_within(self, partition: int, topic_id: bytes, first: int, last: int) -> tuple[str, int] | None:
        """Return an entry of a range that is declared lost, as the reader does."""
        for name, row in self._sorted:
            there = (row.topic_id, row.partition) == (topic_id, partition) and first <= row.offset <= last
            if there and row.kind not in (Kind.GENESIS, Kind.GAP, Kind.EPOCH):
                return name, row.seq
        return None


@dataclass
class Verified:
    """What a verification came to."""

    violations: list[Violation] = field(default_factory=list[Violation])
    checked_through: dict[str, int] = field(default_factory=dict[str, int])
    entries: int = 0
    chains: int = 0
    trees: dict[str, tuple[int, bytes | None]] = field(default_factory=dict[str, tuple[int, bytes | None]])
    ends: dict[str, End] = field(default_factory=dict[str, End])
    pieces: int = field(default=0, compare=False)


def verify_in_pieces(store: MemoryStore, *, piece_entries: int, known: dict[str, End] | None = None) -> Verified:
    """Verify a store as the command does."""
    seen, ends = known or {}, dict[str, End]()

    def whole_of(name: str) -> Part:
        end = seen.get(name)
        size = published_size(store, name) if end is None else 0
        return Part(name, 0 if end is None else end.seq, SEQ_MAX, seen=end, end=store.heads.get(name), tree_size=size)

    def window_of(name: str) -> int | None:
        genesis = store.genesis(name, 0)
        return None if genesis is None else genesis.window_offsets

    tenants = sorted({*store.tenants, *seen})
    pieces = plan(map(whole_of, tenants), piece_entries=piece_entries, window_of=window_of)
    trees: dict[str, tuple[int, bytes | None]] = {}

    def on_chain(name: str, last: int, tree: CompactRange | None) -> None:
        if name not in seen:
            trees[name] = (last, None if tree is None else tree.root())

    ledger = Ledger(pieces, whole_of=whole_of, on_end=ends.__setitem__, on_entries=lambda _: None, on_chain=on_chain)
    reader = cast("StoreReader", store)
    given_out = 0
    while taken := list(islice(iter(ledger.next, None), _AT_ONCE)):
        given_out += len(taken)
        for piece in reversed(taken):  # as if several worked on them, and the last was the fastest
            ledger.done(check_piece(reader, piece, lambda _: None))
    found = ledger.found
    violations = [replace(violation, detected_at=_NEVER) for violation in found.first_violations()]
    assert len(violations) == found.violations_total
    return Verified(violations, found.checked_through, found.entries, found.chains, trees, ends, given_out)


def published_size(store: MemoryStore, name: str) -> int:
    """Return how many entries of a chain were published, as far as these tests are concerned."""
    end = store.heads.get(name)
    return 0 if end is None else end.seq * 2 // 3 + 1


def verify_plainly(store: MemoryStore, *, known: dict[str, End] | None = None) -> Verified:
    """Verify a store row by row by the whole rules, in one pass over each chain: the plain twin."""
    verified, seen = Verified(), known or {}
    for tenant in sorted({*store.tenants, *seen}):
        _verify_chain(store, tenant, seen.get(tenant), verified)
    return verified


def _verify_chain(store: MemoryStore, tenant: str, seen: End | None, verified: Verified) -> None:
    first = 0 if seen is None else seen.seq
    genesis = store.genesis(tenant, first) if first else None
    chain = StoredChain(tenant, first=first, seen=seen, genesis=genesis)
    if genesis is not None:
        for row in store.rows(tenant, first - genesis.window_offsets, first - 1, StoredChain(tenant)):
            with suppress(EntryInvalid):
                chain.remember(parse(row.entry))
    found: list[Violation] = []
    good = first - 1
    for row in store.rows(tenant, first, SEQ_MAX, chain):
        found += [*chain.check(row), *_within_gap(store, tenant, row)]
        if not found and chain.end is not None:
            good = row.seq
    end = store.heads.get(tenant)
    if end is None and not chain.entries and seen is None:
        return
    found += chain.finish(end)
    verified.chains += 1
    if seen is None:
        rows = list(store.rows(tenant, 0, SEQ_MAX, StoredChain(tenant)))
        published = [row for row in rows if row.seq < published_size(store, tenant)]
        is_tree = [row.seq for row in published] == list(range(len(published)))
        leaves = [entry_hash(row.entry) for row in published]
        verified.trees[tenant] = (rows[-1].seq if rows else -1, root(leaves) if is_tree else None)
    verified.entries += chain.entries
    verified.violations += [replace(violation, detected_at=_NEVER) for violation in found]
    good = min([good, *(violation.seq - 1 for violation in found if violation.seq is not None)])
    if good >= 0:
        verified.checked_through[tenant] = good
    if not found and chain.end is not None:
        verified.ends[tenant] = chain.end


def _within_gap(store: MemoryStore, tenant: str, row: StoredRow) -> Iterator[Violation]:
    with suppress(EntryInvalid):
        if row.kind == Kind.GAP:
            first, last = parse_gap_payload(row.payload or b"")
            within = store.entry_within(row.partition, row.topic_id, first, last)
            if within is not None:
                yield Violation(
                    type=ViolationType.GAP,
                    tenant=tenant,
                    seq=row.seq,
                    message=f"offsets {first} to {last} are declared lost,"
                    f" and {within[0]} seq {within[1]} is one of them",
                    partition=row.partition,
                    offset=row.offset,
                    topic_id=row.topic_id,
                )
