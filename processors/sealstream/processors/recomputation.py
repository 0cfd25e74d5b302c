"""What audit.heads must say, computed anew from audit.chained (pure).

Each chain is verified on the way: from entry to entry its seq goes up by one, and each holds the hash of the one before
it. So what comes out is not only what the last entries say, but what their chains lead to.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from sealstream.processors.chaining import Link, Rules
from sealstream.processors.gaps import end_of_gap
from sealstream.processors.heads import PackedHeads
from sealstream.processors.window import Window
from sealstream.schemas.entry import (
    SOURCELESS_KINDS,
    WINDOW_KINDS,
    ZERO_HASH,
    Entry,
    Kind,
    entry_hash,
    is_tenant,
    parse,
    parse_epoch_payload,
    partition_chain,
)
from sealstream.schemas.errors import EntryInvalid, InstanceDiffers

FAULTS_MAX: Final = 100
"""How many faults of audit.chained are remembered in words; all of them are counted."""


class _Repeatable(NamedTuple):
    """A record that a later one can repeat."""

    tenant: bytes
    event_id: bytes
    offset: int
    received: int
    seq: int
    payload: bytes


class Recomputation:
    """Takes in one partition of audit.chained, from the first record that is left of it to the last.

    Arguments:
        partition: The partition.
        rules: What every entry depends on.
        beginning_gone: Whether the first records have expired, so that chains may begin in their middle.
        carried: Whether chains were carried over from an epoch before.

    ``heads`` is where the chains end, ``last_offset`` and ``last_received`` are those of the last source record.
    ``partial`` tells whether there may be chains of which no entry is left: whose head stands in audit.heads only.
    """

    def __init__(self, partition: int, rules: Rules, *, beginning_gone: bool, carried: bool = False) -> None:
        self.partition = partition
        self._rules = rules
        self._genesis_digest = rules.genesis_digest
        self._window_offsets = rules.genesis.window_offsets
        self._recent: deque[_Repeatable] = deque()
        self._first: tuple[int, int] | None = None
        self._last_sourced = -1
        self.heads = PackedHeads()
        self.entries = 0
        self.last_offset = -1
        self.last_received = 0
        self.beginning_gone = beginning_gone
        self.partial = beginning_gone or carried
        self.faults: list[str] = []
        self.faults_total = 0

    def feed(self, key: bytes | None, seal: bytes, value: bytes | None, *, up_to: int | None = None) -> bool:
        """Take in one record. What is wrong with it is remembered as a fault, and the next one is judged by itself.

        Arguments:
            key: Its key.
            seal: Its seal.
            value: Its value.
            up_to: A source offset behind which nothing is taken in.

        Returns:
            Whether it was taken in.

        Raises:
            InstanceDiffers: It was chained from another topic, or with other settings, than the rules say.
        """
        try:
            entry = parse(seal)
            end = end_of_gap(value) if entry.kind is Kind.GAP else entry.offset
        except EntryInvalid as error:
            self._fault(f"behind source offset {self.last_offset}: {error.message}")
            return True
        if up_to is not None and entry.offset > up_to:
            return False
        self._compare_origin(entry, value)
        name = entry.tenant.encode()
        self._check_place(entry, key)
        self._check_link(entry, name)
        self.heads.put(Link(name, entry.seq + 1, entry_hash(seal)))
        self.entries += 1
        if self._first is None and entry.kind is not Kind.GAP:
            self._first = (entry.offset, entry.received)
        self.last_offset = max(end, self.last_offset)
        if entry.kind not in SOURCELESS_KINDS or entry.kind is Kind.GAP:
            self._last_sourced = self.last_offset
        if entry.kind is not Kind.GAP or entry.received:
            self.last_received = entry.received
        self._remember(entry, name)
        return True

    def window(self, position: int) -> Window:
        """Return the duplicate window of a worker that goes on from a source offset."""
        window, start = self._rules.window(), position - self._window_offsets
        for record in self._recent:
            if record.offset >= start:
                window.restore(*record)
        if self.beginning_gone and self._first is not None and self._first[0] > start:
            window.lacks(*self._first)
        return window

    def _remember(self, entry: Entry, name: bytes) -> None:
        if entry.kind in WINDOW_KINDS:
            event_id = entry.event_id.encode()
            self._recent.append(
                _Repeatable(name, event_id, entry.offset, entry.received, entry.seq, entry.payload),
            )
        while self._recent and self._recent[0].offset < self.last_offset - self._window_offsets:
            self._recent.popleft()

    def _compare_origin(self, entry: Entry, value: bytes | None) -> None:
        if entry.partition == self.partition and entry.topic_id != self._rules.topic_id:
            raise InstanceDiffers(
                f"audit.chained, partition {self.partition}: source offset {entry.offset} was chained from the topic"
                f" {entry.topic_id.hex()}, and the source is the topic {self._rules.topic_id.hex()}",
                hint="sealstream epoch start goes on with another topic",
            )
        same = True
        if entry.kind is Kind.GENESIS:
            same = entry.payload == self._genesis_digest
        elif entry.kind is Kind.EPOCH:
            try:
                same = parse_epoch_payload(value or b"")[0] == self._rules.genesis
            except EntryInvalid as error:
                self._fault(f"source offset {entry.offset}: {error.message}")
        if not same:
            raise InstanceDiffers(
                f"audit.chained, partition {self.partition}: chain {entry.tenant} was begun with other settings",
                hint="compare this command's settings with the workers': sealstream config show",
            )

    def _check_place(self, entry: Entry, key: bytes | None) -> None:
        where = f"source offset {entry.offset}"
        if entry.partition != self.partition:
            self._fault(f"{where}: the entry is of partition {entry.partition}")
        elif entry.offset < self.last_offset:
            self._fault(f"{where} stands behind {self.last_offset}")
        elif entry.offset == self._last_sourced:
            self._fault(f"{where} was chained twice")
        if key != entry.tenant.encode():
            self._fault(f"{where}: the entry of chain {entry.tenant} has another key")
        if not is_tenant(entry.tenant) and entry.tenant != partition_chain(self.partition):
            self._fault(f"{where}: chain {entry.tenant} does not belong to this partition")

    def _check_link(self, entry: Entry, name: bytes) -> None:
        before = self.heads.get(name)
        if before is None:
            begins = entry.seq == 0 and entry.prev == ZERO_HASH
            if not begins and not self.beginning_gone and entry.kind is not Kind.EPOCH:
                self._fault(f"chain {entry.tenant} begins with seq {entry.seq}")
        elif entry.seq != before.seq:
            self._fault(f"chain {entry.tenant}: seq {entry.seq} follows seq {before.seq - 1}")
        elif entry.prev != before.hash:
            self._fault(f"chain {entry.tenant}: seq {entry.seq} does not follow the entry before it")

    def _fault(self, message: str) -> None:
        self.faults_total += 1
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(message)
