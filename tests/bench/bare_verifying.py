"""The ceiling of verifying: one loop that reads both topics and writes the verified feed, and checks nothing.

It makes the same records as the verifier (the seal's headers are read out of the entry and its hash), moves its offsets
in the same transactions, and has the client settings that were found to matter for the verifier.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, cast

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from sealstream.worker import memory

_BATCH_RECORDS: Final = 10_000
_LABEL_BYTES: Final = 12
_EVENT: Final = 1
_SEQ_TO_ID: Final = 8 + 32 + 8 + 16 + 4 + 8 + 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the loop is given, as JSON.

    Arguments:
        bootstrap: The brokers.
        events: The source.
        chained: What was chained of it.
        verified: Where to write.
        group: The consumer group, and what the transactional id begins with.
        partitions: Number of partitions.
        records: How many records to write before ending.
    """

    bootstrap: str
    events: str
    chained: str
    verified: str
    group: str
    partitions: int
    records: int


def run(task: Task) -> None:
    """Write everything once."""
    memory.tune()
    chained, source = _reader(task, task.chained), _reader(task, task.events)
    producer = Producer(
        {
            "bootstrap.servers": task.bootstrap,
            "transactional.id": f"{task.group}-0",
            "transaction.timeout.ms": 10_000,
            "compression.type": "lz4",
            "linger.ms": 100,
            "batch.size": 2_000_000,
            "message.max.bytes": 2_097_152,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 262_144,
            "retry.backoff.ms": 5,
            "delivery.report.only.error": True,
        }
    )
    producer.init_transactions(30)
    written = 0
    while written < task.records:
        messages = chained.consume(_BATCH_RECORDS, 0.1)
        if not messages:
            continue
        _read(source, len(messages))
        producer.begin_transaction()
        written += _write(producer, task.verified, messages)
        ends = {cast("int", message.partition()): cast("int", message.offset()) + 1 for message in messages}
        places = [TopicPartition(task.chained, partition, offset) for partition, offset in ends.items()]
        producer.send_offsets_to_transaction(places, chained.consumer_group_metadata())
        producer.commit_transaction()


def _reader(task: Task, topic: str) -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": task.bootstrap,
            "group.id": task.group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "check.crcs": True,
            "fetch.queue.backoff.ms": 50,
            "queued.min.messages": 100_000,
            "queued.max.messages.kbytes": 65_536,
            "fetch.message.max.bytes": 2_097_152,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(task.partitions)])
    return consumer


def _read(source: Consumer, count: int) -> None:
    """Read so many records of the source, or what there is of them, and look at what a check would look at."""
    while count > 0:
        messages = source.consume(_BATCH_RECORDS, 0.1)
        for message in messages:
            _ = (message.error(), message.partition(), message.offset())
            _ = (message.key(), message.value(), message.timestamp())
        if not messages:
            return
        count -= len(messages)


def _write(producer: Producer, topic: str, messages: list[Message]) -> int:
    produce, written = producer.produce, 0
    for message in messages:
        headers = cast("list[tuple[str, bytes]]", message.headers())
        entry = headers[0][1]
        if entry[_LABEL_BYTES + 1] != _EVENT:
            continue  # the genesis of a chain
        start = _LABEL_BYTES + 4 + entry[_LABEL_BYTES + 3]  # behind the tenant
        id_start = start + _SEQ_TO_ID + 1
        produce(
            topic,
            message.value(),
            message.key(),
            cast("int", message.partition()),
            None,
            None,
            0,
            [
                headers[0],
                ("seal-seq", str(int.from_bytes(entry[start : start + 8], "big"))),
                ("seal-hash", sha256(b"\0" + entry).hexdigest()),
                ("seal-prev", entry[start + 8 : start + 40].hex()),
                ("ce_id", entry[id_start : id_start + entry[id_start - 1]]),
            ],
        )
        written += 1
    return written


if __name__ == "__main__":
    run(Task(**json.loads(sys.argv[1])))
