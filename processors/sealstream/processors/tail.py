"""Rebuilds a partition's duplicate window from the tail of audit.chained, and checks its heads against it (pure)."""

from __future__ import annotations

from sealstream.processors.chaining import PartitionState, Rules
from sealstream.processors.gaps import end_of_gap
from sealstream.processors.heads import REBUILD_HINT, PackedHeads, PartitionHead
from sealstream.schemas.entry import WINDOW_KINDS, Entry, Kind, entry_hash, parse
from sealstream.schemas.errors import EntryInvalid, HeadsDiffer


class TailReader:
    """Takes in the seals of one partition of audit.chained, in their order, from some place to the end.

    Arguments:
        partition: The partition.
        rules: What every entry depends on.
        head: The partition's head: what the last record must be, and how far back the window reaches.
    """

    def __init__(self, partition: int, rules: Rules, head: PartitionHead) -> None:
        self._partition = partition
        self._rules = rules
        self._head = head
        self._window = rules.window()
        self.window_offsets = rules.genesis.window_offsets
        self._window_start = head.position - self.window_offsets
        self._ends: dict[bytes, tuple[int, bytes]] = {}
        self._first: Entry | None = None
        self.last_offset = -1

    def reaches_back(self, first: Entry) -> bool:
        """Return whether nothing before this record belongs to the window.

        Only offsets tell: a broker's clock may step back, and then an older record is near again.
        """
        return first.offset <= self._window_start

    def longer_span(self, span: int, first: Entry | None) -> int:
        """Return how many offsets of audit.chained to go back, where so many were too few.

        Arguments:
            span: How many they were.
            first: The first entry there, if there was any.
        """
        reached = 0 if first is None else self._head.position - first.offset
        if reached <= 0:
            return span * 4
        # An entry can take several offsets: two with its genesis, and more with small transactions, for their markers.
        needed = span * self.window_offsets // reached
        return min(needed + needed // 8 + 1024, span * 4)

    def feed(self, seal: bytes, value: bytes | None = None) -> None:
        """Take in one record: its seal and, for a gap, its value.

        Raises:
            HeadsDiffer: It is no entry of this partition and topic, or stands behind a later one.
        """
        entry = self.parse(seal)
        if entry.offset < self.last_offset:
            raise self._differs(f"source offset {entry.offset} stands behind {self.last_offset}")
        if entry.kind is Kind.GAP:
            self.last_offset = self._end_of_gap(value)
        else:
            self.last_offset = entry.offset
            self._first = self._first or entry
        name = entry.tenant.encode()
        self._ends[name] = (entry.seq, seal)
        if entry.kind in WINDOW_KINDS and entry.offset >= self._window_start:
            event_id = entry.event_id.encode()
            self._window.restore(name, event_id, entry.offset, entry.received, entry.seq, entry.payload)

    def parse(self, seal: bytes) -> Entry:
        """Return the entry that a seal is.

        Raises:
            HeadsDiffer: It is no entry of this partition and topic.
        """
        try:
            entry = parse(seal)
        except EntryInvalid as error:
            raise self._differs(error.message) from error
        if (entry.partition, entry.topic_id) != (self._partition, self._rules.topic_id):
            raise self._differs(f"the entry of source offset {entry.offset} is of another partition or topic")
        return entry

    def _end_of_gap(self, value: bytes | None) -> int:
        try:
            return end_of_gap(value)
        except EntryInvalid as error:
            raise self._differs(error.message) from error

    def finish(self, heads: PackedHeads, *, earlier_gone: bool) -> PartitionState:
        """Return the partition's state, once the last record was fed.

        Arguments:
            heads: The ends of its chains.
            earlier_gone: Whether the first record that was fed is the first that is left of more.

        Raises:
            HeadsDiffer: A chain does not end where its head says.
        """
        for name, (seq, seal) in self._ends.items():
            link = heads.get(name)
            if link is None or (link.seq, link.hash) != (seq + 1, entry_hash(seal)):
                raise self._differs(f"chain {name.decode()} does not end at seq {seq} as its head says")
        if earlier_gone:
            first = self._first
            if first is None:
                self._window.lacks(self._head.last_offset + 1, self._head.last_received)
            elif not self.reaches_back(first):
                self._window.lacks(first.offset, first.received)
        head = self._head
        return PartitionState(self._partition, heads, self._window, head.position, head.last_offset, head.last_received)

    def _differs(self, message: str) -> HeadsDiffer:
        return HeadsDiffer(f"audit.chained, partition {self._partition}: {message}", hint=REBUILD_HINT)
