"""A store in memory as the notary reads it, and a source of several topics with holes, gaps and epochs to fill it."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sealstream.schemas.entry import (
    CARRIED_KINDS,
    SOURCELESS_KINDS,
    ZERO_HASH,
    Entry,
    GapReason,
    Genesis,
    Kind,
    Quarantine,
    entry_hash,
    epoch_payload,
    gap_payload,
    pack,
    parse,
    partition_chain,
    payload_digest,
)
from sealstream.sinks.notary.stored_rows import Link, RowReader

INSTANCE = "test.example/memory"
GENESIS = Genesis(INSTANCE, 2)
RECEIVED = 1_700_000_000_000_000


def copy_row(entry: bytes, payload: bytes | None) -> bytes:
    """Return a row as PostgreSQL's binary COPY sends it to the notary."""
    found = parse(entry)
    values = (
        struct.pack(">q", found.seq),
        struct.pack(">h", found.kind),
        struct.pack(">i", found.partition),
        struct.pack(">q", found.received),
        found.topic_id,
        struct.pack(">q", found.offset),
        entry_hash(entry),
        found.tenant.encode(),
        found.event_id.encode() or None,
        entry,
        payload,
    )
    return struct.pack(">h", len(values)) + b"".join(
        b"\xff\xff\xff\xff" if value is None else struct.pack(">i", len(value)) + value for value in values
    )


@dataclass
class Source:
    """Makes the rows of a store in the order in which they were chained."""

    rows: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])  # entry, row
    heads: dict[str, tuple[int, bytes, bytes]] = field(default_factory=dict[str, tuple[int, bytes, bytes]])
    clock: int = RECEIVED

    def fill(self, seed: int, records: int, *, topics: int = 2) -> None:
        """Add records, holes and gaps of several topics, one topic after the other."""
        choice = random.Random(seed)
        for number in range(topics):
            partitions = 2 + number
            offsets = [0] * partitions
            topic_id = bytes([255 - number]) * 16  # the later topic has the smaller UUID
            for _ in range(records):
                partition = choice.randrange(partitions)
                offsets[partition] += choice.choice((0, 0, 0, 1, 3))
                offsets[partition] = self._record(choice, topic_id, partition, partitions, offsets[partition])

    def _record(self, choice: random.Random, topic_id: bytes, partition: int, partitions: int, offset: int) -> int:
        what, own = choice.randrange(10), partition_chain(partition)
        if what == 0:
            last = offset + choice.randrange(3)
            self._add(Kind.GAP, own, topic_id, partition, offset, gap_payload(offset, last), GapReason.EXPIRED)
            return last + 1
        if what == 1:
            self._add(Kind.QUARANTINED, own, topic_id, partition, offset, b"\xff", Quarantine.NO_KEY)
        else:
            tenant = f"t-{choice.randrange(3) * partitions + partition}"
            self._add(Kind.EVENT, tenant, topic_id, partition, offset, b"payload %d" % offset)
        return offset + 1

    def _add(
        self, kind: Kind, chain: str, topic_id: bytes, partition: int, offset: int, payload: bytes, reason: int = 0
    ) -> None:
        self.clock += 1000
        place = (topic_id, partition, offset)
        before = self.heads.get(chain)
        if before is None:
            self._seal(Kind.GENESIS, chain, place, GENESIS.payload())
        elif before[2] != topic_id:
            self._seal(Kind.EPOCH, chain, place, epoch_payload(GENESIS, before[2]))
        self._seal(kind, chain, place, payload, reason)

    def _seal(self, kind: Kind, chain: str, place: tuple[bytes, int, int], payload: bytes, reason: int = 0) -> None:
        seq, prev, _ = self.heads.get(chain, (-1, ZERO_HASH, b""))
        topic_id, partition, offset = place
        entry = pack(
            Entry(
                kind=kind,
                tenant=chain,
                seq=seq + 1,
                prev=prev,
                received=self.clock,
                topic_id=topic_id,
                partition=partition,
                offset=offset,
                event_id=f"ev-{offset}" if kind is Kind.EVENT else "",
                length=len(payload),
                payload=payload_digest(payload),
                reason=reason,
            )
        )
        self.heads[chain] = (seq + 1, entry_hash(entry), topic_id)
        self.rows.append((entry, copy_row(entry, payload if kind in CARRIED_KINDS else None)))


class MemorySnapshot:
    """What the notary asks a snapshot of the store for a round, answered from rows.

    Arguments:
        rows: What the store has at the moment.
    """

    def __init__(self, rows: Sequence[bytes]) -> None:
        reader = RowReader(INSTANCE)
        self._links = [reader.read(row) for row in rows]

    def partitions(self) -> list[int]:
        """Return the source partitions."""
        return sorted({link.partition for link in self._links})

    def topics(self, partition: int) -> list[bytes]:
        """Return the topics of a partition."""
        return sorted({link.topic_id for link in self._sourced(partition)})

    def gap_topics(self, partition: int, chain: str, begin: int, *, count: int) -> list[bytes]:
        """Return the topics of new gaps."""
        found = self._range(chain, begin, begin + count)
        return sorted({link.topic_id for link in found if link.kind == Kind.GAP and link.partition == partition})

    def last_offset(self, topic_id: bytes, partition: int) -> int:
        """Return the last offset."""
        return max((link.offset for link in self._sourced(partition, topic_id)), default=-1)

    def first_time(self, topic_id: bytes, partition: int, begin: int = 0) -> int | None:
        """Return the first time."""
        found = (link for link in self._sourced(partition, topic_id) if link.offset >= begin and link.received)
        return next((link.received for link in found), None)

    def sourced(self, topic_id: bytes, partition: int, begin: int, *, count: int) -> Iterator[list[Link]]:
        """Return entries with offsets."""
        found = [link for link in self._sourced(partition, topic_id) if link.offset >= begin]
        yield found[:count]

    def at(self, partition: int, places: Sequence[tuple[str, int]]) -> Iterator[list[Link]]:
        """Return entries at places."""
        wanted = set(places)
        yield [link for link in self._links if (link.tenant, link.seq) in wanted and link.partition == partition]

    def sourceless(
        self, topic_id: bytes, partition: int, chain: str, begin: int, *, count: int
    ) -> Iterator[list[Link]]:
        """Return entries without offsets."""
        place = (topic_id, partition)
        found = self._range(chain, begin, begin + count)
        yield [link for link in found if link.kind in SOURCELESS_KINDS and (link.topic_id, link.partition) == place]

    def last_gap(self, topic_id: bytes, partition: int, chain: str) -> Link | None:
        """Return the last gap."""
        place = (topic_id, partition)
        found = [link for link in self._range(chain, 0, 2**62) if (link.topic_id, link.partition) == place]
        return next((link for link in reversed(found) if link.kind == Kind.GAP), None)

    def _sourced(self, partition: int, topic_id: bytes = b"") -> list[Link]:
        found = [link for link in self._links if link.partition == partition and link.kind not in SOURCELESS_KINDS]
        return sorted((link for link in found if topic_id in (b"", link.topic_id)), key=lambda link: link.offset)

    def _range(self, chain: str, begin: int, end: int) -> list[Link]:
        found = (link for link in self._links if link.tenant == chain and begin <= link.seq < end)
        return sorted(found, key=lambda link: link.seq)
