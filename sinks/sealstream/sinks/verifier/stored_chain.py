"""One chain as the store returns it, checked row by row in constant memory. Pure.

Three opinions are held against each other: what a row's columns say, what its entry's bytes say, and what the entries
around it were chained with. Which one stands alone tells what was changed. The rules of repeats are computed anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from sealstream.kafka.partition import partition_of
from sealstream.schemas.codec import read_prefix
from sealstream.schemas.entry import (
    CARRIED_KINDS,
    SOURCELESS_KINDS,
    WINDOW_KINDS,
    Entry,
    Genesis,
    Kind,
    entry_hash,
    is_tenant,
    parse,
    parse_epoch_payload,
    parse_gap_payload,
    partition_chain,
    payload_digest,
)
from sealstream.schemas.errors import EntryInvalid, FrameInvalid
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.sinks.verifier.rules import KIND_BY_INDEX
from sealstream.sinks.verifier.window import Repeat, Window, name_of

_COLUMNS: Final = ("kind", "topic_id", "offset", "event_id", "received")
LOST_MAX: Final = 100_000
"""How many missing or altered entries of a chain are remembered; with more, its repeats are no longer recomputed."""
_REPEATS: Final = frozenset({Kind.DUPLICATE, Kind.CONFLICT})


class StoredRow(NamedTuple):
    """A row of the store, as it was read and not yet believed.

    Arguments:
        partition: The source partition.
        seq: The place under which it is stored.
        kind: The entry's kind.
        topic_id: UUID of the source topic.
        offset: The source offset.
        event_id: The event's id, or ``None``.
        received: The time received, in microseconds since the Unix epoch.
        hash: The hash stored beside the entry.
        entry: The entry's bytes.
        payload: The payload's bytes; ``None`` if there are none.
        payloads: Number of payloads that are stored for it.
    """

    partition: int
    seq: int
    kind: int
    topic_id: bytes
    offset: int
    event_id: str | None
    received: int
    hash: bytes
    entry: bytes
    payload: bytes | None
    payloads: int = 1


class End(NamedTuple):
    """Where a chain ended when it was seen before, or ends by the store's table of heads.

    Arguments:
        seq: The seq of its last entry.
        hash: The hash of its last entry; empty if only the seq is to be compared.
    """

    seq: int
    hash: bytes = b""


class Standing(NamedTuple):
    """Where a chain stands that nothing is wrong or in doubt with, and whose next row may be an ordinary one.

    Arguments:
        seq: The seq of its last entry.
        hash: The hash of its last entry.
        offset: The source offset of its last entry.
        topic_id: UUID of its source topic.
        partition: Its source partition.
        window: What its next entry can repeat.
    """

    seq: int
    hash: bytes
    offset: int
    topic_id: bytes
    partition: int
    window: Window


@dataclass(slots=True)
class _Before:
    """The entry before the one that is checked.

    Arguments:
        seq: Its place.
        hashes: What its successor may have been chained with.
        entry: What it says, if nothing is wrong with it by itself.
    """

    seq: int
    hashes: tuple[bytes, ...]
    entry: Entry | None


class StoredChain:
    """Checks one chain.

    Arguments:
        tenant: The chain's name.
        first: The seq of the first row to come.
        seen: The entry at ``first``, as an earlier run verified it, if one did.
        genesis: What the chain pins, where the rows do not begin with the genesis; ``None`` if that is not known.
    """

    def __init__(self, tenant: str, *, first: int = 0, seen: End | None = None, genesis: Genesis | None = None) -> None:
        self.tenant = tenant
        self.entries = 0
        self.instance = ""
        self._next = first
        self._seen = seen
        self._before: _Before | None = None
        self._doubt: int | None = None  # an entry that is not the one its successor was chained to, if that is right
        self._window: Window | None = None
        self._pinned: Genesis | None = None
        self._partitions = 0
        self._lost_to = -1  # the last offset that the entry before declares lost, if it is a gap
        self._highest = -1 if seen is None else seen.seq
        self._lost: set[int] = set()
        self._lost_uncounted = False
        if genesis is not None:
            self._pin(genesis)

    @property
    def end(self) -> End | None:
        """The last entry that was checked, if nothing is wrong or in doubt with it."""
        before = self._before
        if before is None or before.entry is None or self._doubt is not None:
            return None
        return End(before.seq, before.hashes[0])

    @property
    def last(self) -> int:
        """The seq of the last entry that was checked; the one before the first to come if none was."""
        return self._next - 1

    @property
    def pinned(self) -> Genesis | None:
        """What the genesis or epoch pins that the next entry stands behind, if that is known."""
        return self._pinned

    @property
    def window(self) -> Window | None:
        """What the next entry can repeat; ``None`` if that is not known."""
        return self._window

    @property
    def standing(self) -> Standing | None:
        """Where the chain stands; ``None`` if its next row needs the whole rules, whatever it is."""
        before = self._before
        if before is None or before.entry is None or self._doubt is not None or self._window is None:
            return None
        entry = before.entry
        # What follows a genesis or an epoch is the first that is held against what these pin.
        if entry.kind in SOURCELESS_KINDS or not is_tenant(self.tenant):
            return None
        return Standing(before.seq, before.hashes[0], entry.offset, entry.topic_id, entry.partition, self._window)

    def go_on(self, rows: int, digest: bytes, entry: bytes) -> None:
        """Take in that rows were found to be ordinary ones: events, chained and remembered, with nothing wrong.

        Arguments:
            rows: How many.
            digest: The hash of the last one.
            entry: The entry of the last one.
        """
        last = parse(entry)
        self.entries += rows
        self._next = last.seq + 1
        self._before = _Before(last.seq, (digest,), last)

    def remember(self, entry: Entry) -> None:
        """Take in an entry from before the first row, for the duplicate window only."""
        if self._pinned is not None and entry.kind is Kind.EPOCH:  # no later entry can repeat what stands before it
            self._pin(self._pinned)
        if self._window is not None and entry.kind in WINDOW_KINDS:
            name = name_of(self.tenant.encode(), entry.event_id.encode())
            self._window.add(name, entry.offset, entry.received, entry.payload, entry.seq)

    def rest(self) -> None:
        """Take in that no more rows come, and keep only what the chain's end needs."""
        self._window = None

    def orphan(self, seq: int) -> None:
        """Take in that a payload stands in the store without an entry: so there was one once."""
        self._highest = max(self._highest, seq)

    def check(self, row: StoredRow) -> list[Violation]:
        """Check the next row.

        Returns:
            What is wrong: at most one finding about this row, and one about rows before it.
        """
        self.entries += 1
        if row.seq < self._next:
            return [self._violation(ViolationType.FORK, row, "two rows claim this seq")]
        found = list(self._missing(row))
        digest = entry_hash(row.entry)
        hashes = (digest,) if digest == row.hash else (row.hash, digest)
        entry: Entry | None = None
        try:
            entry = parse(row.entry)
        except EntryInvalid as error:
            wrong: Violation | None = self._violation(
                ViolationType.EDITED, row, f"the entry does not parse: {error.message}"
            )
        else:
            if entry.kind is Kind.EPOCH:
                self._partitions, self._window = 0, None  # what its payload pins is known once that is checked
            wrong = self._itself(row, entry, digest)
        linked = list(self._link(entry if wrong is None else None))
        if wrong is None and entry is not None:
            wrong = self._content(row, entry)
        found += linked
        if wrong is not None:
            found.append(wrong)
            self._lose(range(row.seq, row.seq + 1))
        self._next = row.seq + 1
        self._before = _Before(row.seq, hashes, entry if wrong is None else None)
        return found

    def finish(self, end: End | None) -> list[Violation]:
        """Check the chain's end.

        Arguments:
            end: Where the chain ends by the store's table of heads, if that has it.
        """
        last, before = self._next - 1, self._before
        found: list[Violation] = []
        if end is not None and end.seq == last and end.hash and before is not None:
            is_end = end.hash in before.hashes
            if self._doubt is not None:
                found.append(self._edited(self._doubt if is_end else last, "is not the one that its neighbours have"))
            elif not is_end and before.entry is not None:
                found.append(self._edited(last, "is not the one that the chain ends with by the table of heads"))
            self._doubt = None
        found += self._settle()
        highest = max(self._highest, -1 if end is None else end.seq)
        if highest > last:
            message = f"the chain ends at seq {last}, and went on to {highest} at least"
            found.append(self._at(ViolationType.TRUNCATED, last + 1, message))
        return found

    # -- one row -------------------------------------------------------------------------------------------------------

    def _missing(self, row: StoredRow) -> Iterator[Violation]:
        """Entries between the row before and this one."""
        if row.seq == self._next:
            return
        last = row.seq - 1
        message = f"entries {self._next} to {last} are missing" if last > self._next else "the entry is missing"
        yield from self._settle()
        yield self._at(ViolationType.GAP, self._next, message, partition=row.partition)
        self._lose(range(self._next, row.seq))
        self._before = None

    def _itself(  # noqa: PLR0911  # one return a kind of wrong
        self, row: StoredRow, entry: Entry, digest: bytes
    ) -> Violation | None:
        """What is wrong between a row's columns and its entry, most telling first."""
        if self._seen is not None and self._seen.seq == row.seq and self._seen.hash != digest:
            found = (self._seen.hash, digest)
            return self._violation(
                ViolationType.EDITED, row, "the entry is not the one that was verified before", *found
            )
        if digest != row.hash:
            return self._violation(
                ViolationType.EDITED, row, "the entry does not have the hash stored with it", row.hash, digest
            )
        if entry.tenant != self.tenant:
            found = (self.tenant.encode(), entry.tenant.encode())
            return self._violation(ViolationType.FOREIGN, row, "the entry belongs to another chain", *found)
        if entry.seq != row.seq and self._was_right(entry.seq):
            message = f"the entry says seq {entry.seq}, where it was right, and stands at {row.seq} as well"
            return self._violation(ViolationType.FORK, row, message)
        if entry.seq != row.seq:
            message = f"the entry says seq {entry.seq}, and stands at {row.seq}"
            return self._violation(ViolationType.REORDERED, row, message)
        if entry.partition != row.partition or not self._belongs(entry):
            message = f"a chain of another partition stands in partition {row.partition}"
            return self._violation(ViolationType.FOREIGN, row, message)
        columns = (row.kind, row.topic_id, row.offset, row.event_id or "", row.received)
        differ = [n for n, value in zip(_COLUMNS, columns, strict=True) if getattr(entry, n) != value]
        if differ:
            return self._violation(
                ViolationType.EDITED, row, f"columns are not what the entry says: {', '.join(differ)}"
            )
        return None

    def _link(self, entry: Entry | None) -> Iterator[Violation]:
        """Whether an entry was chained to the one before it. If not, the next link tells which of the two is wrong."""
        before = self._before
        if entry is None or before is None or before.entry is None or entry.prev in before.hashes:
            yield from self._settle()
        elif self._doubt is None:
            self._doubt = before.seq
        else:  # neither neighbour was chained to the entry between them
            self._doubt = None
            self._lose(range(before.seq, before.seq + 1))
            yield self._edited(before.seq, "is not the one that its neighbours have")

    def _settle(self) -> Iterator[Violation]:
        """No more can be known about a doubtful entry: the one that its successor was chained to was replaced."""
        if self._doubt is not None:
            doubt, self._doubt = self._doubt, None
            self._lose(range(doubt, doubt + 1))
            yield self._edited(doubt, "is not the one that its successor was chained to")

    def _content(self, row: StoredRow, entry: Entry) -> Violation | None:
        """What is wrong with an entry that stands at its place: its order, its payload, the rules."""
        before = None if self._before is None else self._before.entry
        if before is not None and self._doubt is None:
            moved = self._moved(row, before, entry)
            if moved is not None:
                return moved
        wrong = self._payload(row, entry)
        if wrong is not None:
            return wrong
        if entry.kind is Kind.GENESIS:
            return self._genesis(row)
        if entry.kind is Kind.GAP:
            return self._gap(row, entry)
        if entry.kind is Kind.EPOCH:
            return self._epoch(row, entry, None if self._doubt is not None else before)
        return self._rules(row, entry)

    def _moved(self, row: StoredRow, before: Entry, entry: Entry) -> Violation | None:
        """What is wrong with where an entry's record stands in the source, as against the one before."""
        same = (before.topic_id, before.partition) == (entry.topic_id, entry.partition)
        if entry.kind is Kind.EPOCH:
            message = "the epoch stands in the source topic of the entry before it"
            return self._violation(ViolationType.EDITED, row, message) if before.topic_id == entry.topic_id else None
        if not same:
            message = "the entry has another source topic or partition than the one before it, and is no epoch"
            return self._violation(ViolationType.FOREIGN, row, message)
        least = max(before.offset, self._lost_to) if before.kind is Kind.GAP else before.offset
        shared = before.kind in (Kind.GENESIS, Kind.EPOCH)  # these have the offset of the entry behind them
        if entry.offset > least or (entry.offset == least and shared):
            return None
        message = f"source offset {entry.offset} stands behind {least}"
        return self._violation(ViolationType.REORDERED, row, message)

    def _payload(self, row: StoredRow, entry: Entry) -> Violation | None:
        if row.payloads > 1:
            return self._violation(ViolationType.PAYLOAD_ALTERED, row, "more than one payload stands beside the entry")
        if entry.kind not in CARRIED_KINDS:
            if row.payload is None:
                return None
            message = "a payload stands beside an entry that carries none"
            return self._violation(ViolationType.PAYLOAD_ALTERED, row, message)
        if row.payload is None:
            return self._violation(ViolationType.PAYLOAD_ALTERED, row, "the payload is missing")
        digest = payload_digest(row.payload)
        if digest != entry.payload or len(row.payload) != entry.length:
            message = "the payload is not the one that the entry commits to"
            return self._violation(ViolationType.PAYLOAD_ALTERED, row, message, entry.payload, digest)
        return None

    def _genesis(self, row: StoredRow) -> Violation | None:
        try:
            genesis = Genesis.parse(row.payload or b"")
        except EntryInvalid as error:
            return self._violation(ViolationType.EDITED, row, error.message)
        if self.instance and genesis.instance != self.instance:
            return self._violation(ViolationType.FOREIGN, row, "the genesis is another instance's")
        self._pin(genesis)
        return None

    def _gap(self, row: StoredRow, entry: Entry) -> Violation | None:
        try:
            first, self._lost_to = parse_gap_payload(row.payload or b"")
        except EntryInvalid as error:
            return self._violation(ViolationType.EDITED, row, error.message)
        if first == entry.offset:
            return None
        return self._violation(ViolationType.EDITED, row, "the gap does not begin at the entry's offset")

    def _epoch(self, row: StoredRow, entry: Entry, before: Entry | None) -> Violation | None:
        try:
            genesis, previous = parse_epoch_payload(row.payload or b"")
        except EntryInvalid as error:
            return self._violation(ViolationType.EDITED, row, error.message)
        if self.instance and genesis.instance != self.instance:
            return self._violation(ViolationType.FOREIGN, row, "the epoch is another instance's")
        self._pin(genesis)
        if not self._belongs(entry):
            message = f"a chain of another partition stands in partition {row.partition}"
            return self._violation(ViolationType.FOREIGN, row, message)
        if before is None or previous == before.topic_id:
            return None
        message = "the epoch names another source topic than that of the entry before it"
        return self._violation(ViolationType.EDITED, row, message, before.topic_id, previous)

    def _rules(self, row: StoredRow, entry: Entry) -> Violation | None:
        """Whether kind and ref are what the rules make of the payload and of the entries before."""
        if entry.kind not in WINDOW_KINDS and entry.kind is not Kind.DUPLICATE:
            return None
        differs = None if row.payload is None else self._prefix(row.payload, entry)
        if differs is not None:
            return self._violation(ViolationType.EDITED, row, differs)
        if self._window is None:
            return None
        name = name_of(self.tenant.encode(), entry.event_id.encode())
        repeat = self._window.find(name, entry.offset, entry.received, entry.payload)
        claimed = Repeat(entry.kind is Kind.DUPLICATE, entry.ref) if entry.kind in _REPEATS else None
        # What an entry repeats cannot be told where that entry is missing, or is no longer what it was.
        if repeat == claimed or any(place is not None and place.seq in self._lost for place in (repeat, claimed)):
            self.remember(entry)
            return None
        message = f"by the rules the entry repeats {_place(repeat)}, and it says {_place(claimed)}"
        return self._violation(ViolationType.EDITED, row, message)

    def _prefix(self, payload: bytes, entry: Entry) -> str | None:
        """Return what an entry says otherwise than the payload that it commits to, if anything."""
        try:
            event_id, tenant, index = read_prefix(payload)
        except FrameInvalid:
            return "the payload should have been quarantined"
        if (event_id, tenant) != (entry.event_id.encode(), self.tenant.encode()):
            return "the payload's tenant or id is not the entry's"
        if entry.kind is not Kind.CONFLICT and entry.kind is not KIND_BY_INDEX[index]:
            return "the payload is of another kind than the entry"
        return None

    # -- what is known -------------------------------------------------------------------------------------------------

    def _pin(self, genesis: Genesis) -> None:
        self.instance = self.instance or genesis.instance
        self._pinned = genesis
        self._partitions = genesis.partitions
        self._window = Window(genesis.window_offsets, genesis.window_seconds)

    def _belongs(self, entry: Entry) -> bool:
        """Return whether the chain's name belongs to the entry's partition, as far as that is known."""
        if not is_tenant(self.tenant):
            return self.tenant == partition_chain(entry.partition)
        return not self._partitions or partition_of(self.tenant.encode(), self._partitions) == entry.partition

    def _was_right(self, seq: int) -> bool:
        """Return whether the entry of a place before this one was found there, with nothing wrong."""
        return seq < self._next and seq not in self._lost and not self._lost_uncounted

    def _lose(self, seqs: range) -> None:
        """Remember that entries cannot serve the rules of repeats any more, or give these up if it is too many."""
        if len(self._lost) + len(seqs) > LOST_MAX:
            self._window = None
            self._lost_uncounted = True
        else:
            self._lost.update(seqs)

    def _edited(self, seq: int, what: str) -> Violation:
        return self._at(ViolationType.EDITED, seq, f"the entry {what}")

    def _at(self, kind: ViolationType, seq: int, message: str, *, partition: int = 0) -> Violation:
        return Violation(
            type=kind, tenant=self.tenant, seq=seq, message=message, instance=self.instance, partition=partition
        )

    def _violation(
        self, kind: ViolationType, row: StoredRow, message: str, expected: bytes = b"", found: bytes = b""
    ) -> Violation:
        return Violation(
            type=kind,
            tenant=self.tenant,
            seq=row.seq,
            message=message,
            partition=row.partition,
            offset=row.offset,
            topic_id=row.topic_id,
            instance=self.instance,
            expected=_text(expected),
            found=_text(found),
        )


def _place(repeat: Repeat | None) -> str:
    if repeat is None:
        return "nothing"
    return f"seq {repeat.seq} with {'the same' if repeat.same else 'another'} payload"


def _text(value: bytes) -> str:
    return value.hex() if len(value) == 32 else value.decode("ascii", "backslashreplace")
