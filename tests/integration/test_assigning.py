"""What a consumer that paused partitions reads when it is given partitions anew."""

from __future__ import annotations

import uuid

from confluent_kafka import Consumer, TopicPartition

from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.assigning import assign_anew
from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicSpec
from sealstream.sinks.witness.recomputing.chained_log import ChainedLog
from support.publish import RawRecord, publish_raw
from support.workers import wait_for

RECORDS = 10
WAIT_SECONDS = 60.0


def _topic(bootstrap: str) -> str:
    """Return the name of a new topic with ten records in each of two partitions."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    TopicAdmin(KafkaConnection(bootstrap)).create([TopicSpec(name, 2, {}, {})])
    records = [RawRecord(b"k", b"v", partition=n % 2) for n in range(2 * RECORDS)]
    publish_raw(bootstrap, name, records, partitions=2)
    return name


def test_a_partition_that_was_paused_is_read_when_it_is_assigned_anew(kafka_bootstrap: str) -> None:
    """A pause ends with the assignment, which librdkafka by itself does not see to."""
    topic = _topic(kafka_bootstrap)
    config = KafkaConnection(kafka_bootstrap).config("test") | {"group.id": topic, "auto.offset.reset": "earliest"}
    consumer = Consumer(config)
    places = [TopicPartition(topic, n, 0) for n in range(2)]
    try:
        assign_anew(consumer, places)
        _read_all(consumer)
        consumer.pause([TopicPartition(topic, 0)])

        assign_anew(consumer, places)

        _read_all(consumer)
    finally:
        consumer.close()


def _read_all(consumer: Consumer) -> None:
    found = dict.fromkeys(range(2), 0)

    def is_read() -> bool:
        for message in consumer.consume(100, 0.1):
            if message.error() is None:
                found[message.partition() or 0] += 1
        return set(found.values()) == {RECORDS}

    wait_for(is_read, timeout_seconds=WAIT_SECONDS, what=f"all records, not {found}")


def test_a_witness_reads_a_partition_again_that_it_had_read_too_far(kafka_bootstrap: str) -> None:
    """What was read for one round, and was left waiting, does not keep the next round from reading that partition."""
    log = ChainedLog(KafkaConnection(kafka_bootstrap), _topic(kafka_bootstrap), client_id="test")
    try:
        log.read({0: 0, 1: 0})
        wait_for(lambda: _has_all(log), timeout_seconds=WAIT_SECONDS, what="both partitions")
        log.fill([1])  # partition 0 has records that nobody has asked for: it is not read on

        log.read({0: 0, 1: 0})

        wait_for(lambda: _has_all(log), timeout_seconds=WAIT_SECONDS, what="both partitions again")
    finally:
        log.close()


def _has_all(log: ChainedLog) -> bool:
    log.fill(range(2))
    return all(len(log.waiting(n)) == RECORDS for n in range(2))
