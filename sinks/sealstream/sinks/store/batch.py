"""A batch: what one SQL transaction stores. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from sealstream.kafka.topics import SEAL_ENTRY_HEADER
from sealstream.sinks.store.continuity import Run, extend
from sealstream.sinks.store.copying import pack_entry_row, pack_payload_row
from sealstream.sinks.store.quick import QuickReader
from sealstream.sinks.store.records import ChainedRecord, read_record
from sealstream.sinks.store.rows import entry_row, payload_row

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]
_Read: TypeAlias = tuple[ChainedRecord, bytes, bytes | None]


class ConsumedRecord(Protocol):
    """A record as the Kafka client gives it."""

    def partition(self) -> int | None:
        """Return the partition."""

    def offset(self) -> int | None:
        """Return the offset."""

    def key(self) -> Any:
        """Return the key's bytes."""

    def value(self) -> Any:
        """Return the value's bytes."""

    def headers(self) -> Any:
        """Return name and bytes of each header, or nothing."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of some partitions, each partition's in the log's order and from its position on.

    Arguments:
        records: The records by partition.
        starts: The position that each partition's records begin at or behind.
        ends: The position behind them.
        entries: Their rows of ``entries`` by partition, packed for COPY, some together.
        payloads: Their rows of ``payloads``, likewise.
        runs: What they add to each chain.
        unbroken: Whether each goes on where the one before it in its chain ended.
        sources: The source partitions that they come from, by number and the topic's UUID; perhaps more than those.
    """

    records: Mapping[int, Sequence[ChainedRecord]]
    starts: Mapping[int, int]
    ends: Mapping[int, int]
    entries: Mapping[int, Sequence[bytes]] = field(default_factory=dict[int, Sequence[bytes]])
    payloads: Sequence[bytes] = ()
    runs: Mapping[str, Run] = field(default_factory=dict[str, Run])
    unbroken: bool = True
    sources: frozenset[tuple[int, bytes]] = frozenset()

    def __len__(self) -> int:
        return sum(len(records) for records in self.records.values())

    def all(self) -> list[ChainedRecord]:
        """Return all records, partition by partition."""
        return [record for partition in sorted(self.records) for record in self.records[partition]]


class Gathering:
    """A batch that records are still added to, each checked against its seal.

    Arguments:
        positions: The offset from which on each partition is stored.
        topic: The topic's name, for errors.
        instance: The instance that the chains must belong to.
        readers: By partition, what earlier batches learned of its tenants.
    """

    def __init__(
        self, positions: Mapping[int, int], *, topic: str, instance: str, readers: dict[int, QuickReader] | None = None
    ) -> None:
        self._positions = positions
        self._topic = topic
        self._instance = instance
        self._readers = {} if readers is None else readers
        self._records: dict[int, list[ChainedRecord]] = {}
        self._entries: dict[int, list[bytes]] = {}
        self._payloads: list[bytes] = []
        self._runs: dict[str, Run] = {}
        self._unbroken = True
        self._ends: dict[int, int] = {}
        self.records = self.size_bytes = 0

    def add(self, messages: Iterable[ConsumedRecord]) -> None:
        """Add records of partitions that have a position, each partition's in the log's order, from there on.

        Raises:
            SealInvalid: A record is not what its seal says.
            InstanceDiffers: A chain belongs to another instance.
        """
        ends = self._ends
        fresh: list[ChainedRecord] = []
        entries: dict[int, list[bytes]] = {}
        payloads: list[bytes] = []
        for message in messages:
            partition, offset = message.partition(), message.offset()
            if partition is None or offset is None:
                continue
            end = ends.get(partition)
            if end is None:
                end = self._begin(partition)
            if offset < end:
                continue
            record, entry, payload = self._read(partition, offset, message)
            self._records[partition].append(record)
            fresh.append(record)
            entries.setdefault(partition, []).append(entry)
            if payload is not None:
                payloads.append(payload)
            ends[partition] = offset + 1
        self._unbroken = extend(self._runs, fresh) and self._unbroken
        self._put_together(entries, payloads)
        self.records += len(fresh)

    def _put_together(self, entries: Mapping[int, Sequence[bytes]], payloads: Sequence[bytes]) -> None:
        """Make few large blocks of many rows: the thread that sends them has little to do, and PostgreSQL no pauses."""
        for partition, rows in entries.items():
            block = b"".join(rows)
            self._entries[partition].append(block)
            self.size_bytes += len(block)
        if payloads:
            block = b"".join(payloads)
            self._payloads.append(block)
            self.size_bytes += len(block)

    def batch(self) -> Batch:
        """Return what was gathered."""
        some = [partition for partition, records in self._records.items() if records]
        return Batch(
            {partition: self._records[partition] for partition in some},
            {partition: self._positions[partition] for partition in some},
            {partition: self._ends[partition] for partition in some},
            {partition: self._entries[partition] for partition in some},
            self._payloads,
            self._runs,
            self._unbroken,
            frozenset((n, topic_id) for n in some for topic_id in self._readers[n].topic_ids),
        )

    def _begin(self, partition: int) -> int:
        self._records[partition], self._entries[partition] = [], []
        self._readers.setdefault(partition, QuickReader(partition))
        return self._ends.setdefault(partition, self._positions[partition])

    def _read(self, partition: int, offset: int, message: ConsumedRecord) -> _Read:
        key, value = message.key(), message.value()
        headers: Headers = message.headers() or []
        if len(headers) == 1 and headers[0][0] == SEAL_ENTRY_HEADER:
            seal = headers[0][1]
        else:
            seals = [content for name, content in headers if name == SEAL_ENTRY_HEADER]
            seal = seals[0] if len(seals) == 1 else None
        if seal is not None:
            read = self._readers[partition].read(offset, key, value, seal)
            if read is not None:
                return read
        record = read_record(self._topic, partition, offset, key, value, headers, instance=self._instance)
        payload = payload_row(record)
        row = entry_row(record)
        self._readers[partition].topic_ids.add(row.topic_id)
        return record, pack_entry_row(row), None if payload is None else pack_payload_row(payload)


def batch_of(messages: Iterable[ConsumedRecord], positions: Mapping[int, int], *, topic: str, instance: str) -> Batch:
    """Return the batch that records make; arguments and errors as of :class:`Gathering`."""
    gathering = Gathering(positions, topic=topic, instance=instance)
    gathering.add(messages)
    return gathering.batch()
