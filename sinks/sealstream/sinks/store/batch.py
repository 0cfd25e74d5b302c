"""A batch: what one SQL transaction stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sealstream.sinks.store.records import ChainedRecord


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
