"""A batch: what one SQL transaction stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from sealstream.sinks.store.records import ChainedRecord, read_record

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]


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
    """

    records: Mapping[int, Sequence[ChainedRecord]]
    starts: Mapping[int, int]
    ends: Mapping[int, int]

    def __len__(self) -> int:
        return sum(len(records) for records in self.records.values())

    def all(self) -> list[ChainedRecord]:
        """Return all records, partition by partition."""
        return [record for partition in sorted(self.records) for record in self.records[partition]]


def batch_of(messages: Iterable[ConsumedRecord], positions: Mapping[int, int], *, topic: str, instance: str) -> Batch:
    """Return the batch that records make, each checked against its seal, without what lies before the positions.

    Arguments:
        messages: Records of partitions that have a position, each partition's in the log's order.
        positions: The offset from which on each partition is stored.
        topic: The topic's name, for errors.
        instance: The instance that the chains must belong to.

    Raises:
        SealInvalid: A record is not what its seal says.
        InstanceDiffers: A chain belongs to another instance.
    """
    records: dict[int, list[ChainedRecord]] = {}
    ends: dict[int, int] = {}
    for message in messages:
        partition, offset = message.partition(), message.offset()
        if partition is None or offset is None or offset < ends.get(partition, positions[partition]):
            continue
        headers: Headers = message.headers() or []
        record = read_record(topic, partition, offset, message.key(), message.value(), headers, instance=instance)
        records.setdefault(partition, []).append(record)
        ends[partition] = offset + 1
    return Batch(records, {partition: positions[partition] for partition in ends}, ends)
