"""A batch of a few records of one tenant, for tests that run the processor's own transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from confluent_kafka import Message

from sealstream.kafka.partition import partition_of
from sealstream.processors.batch import Batch
from sealstream.processors.chaining import PartitionState, Rules
from sealstream.schemas.entry import Genesis
from support.model import SourceRecord
from support.publish import event_value
from support.records import MessageLike

TOPIC_ID = bytes(range(16))
TENANT = next(name for name in (f"t{n}" for n in range(20)) if partition_of(name.encode(), 2) == 0)
RECORDS = [SourceRecord(0, n, TENANT.encode(), event_value(TENANT, f"e{n}"), 1) for n in range(6)]
RULES = Rules(Genesis("test.example/p", 2), TOPIC_ID)


def make_batch(states: dict[int, PartitionState], records: Sequence[SourceRecord]) -> Batch:
    """Return the batch that holds these records."""
    batch = Batch(1, count=len(records))
    for record in records:
        batch.records.setdefault(record.partition, []).append(cast("Message", MessageLike(record)))
        batch.ends[record.partition] = record.offset + 1
    batch.starts = {partition: states[partition].position for partition in batch.records}
    return batch
