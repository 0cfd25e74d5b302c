"""Settings of Kafka clients: the ones that decide whether data can get lost, and that librdkafka takes all of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer

from sealstream.kafka.client import (
    GATHERED_BYTES,
    KAFKA_LOG,
    KafkaConnection,
    consumer_config,
    transactional_producer_config,
)

ROOT = Path(__file__).parents[2]
CONNECTION = KafkaConnection("127.0.0.1:1", username="writer", password="p", sasl_mechanism="PLAIN")
CONSUMER = consumer_config(CONNECTION, client_id="reader", group="readers")
PRODUCER = transactional_producer_config(
    CONNECTION, client_id="writer", transactional_id="writer-0", transaction_timeout_seconds=12.5
)


def test_consumer_reads_what_is_committed_and_never_skips() -> None:
    """No aborted record is read, no lost position is passed over, no offset is committed by a timer."""
    assert CONSUMER["isolation.level"] == "read_committed"
    assert CONSUMER["auto.offset.reset"] == "error"
    assert CONSUMER["enable.auto.commit"] is False
    assert CONSUMER["enable.auto.offset.store"] is False
    assert CONSUMER["group.id"] == "readers"


def test_records_are_answered_at_once_unless_they_shall_gather() -> None:
    """A broker holds records back for those alone who ask for it, and then for no longer than they say."""
    gathering = consumer_config(CONNECTION, client_id="reader", group="readers", gather_seconds=0.25)

    assert "fetch.min.bytes" not in CONSUMER
    assert (gathering["fetch.wait.max.ms"], gathering["fetch.min.bytes"]) == (250, GATHERED_BYTES)
    assert CONSUMER.items() - gathering.items() == {("fetch.wait.max.ms", 100)}


def test_producer_is_exact() -> None:
    """Every record is acknowledged by all replicas, once, within a transaction of the time given."""
    assert (PRODUCER["enable.idempotence"], PRODUCER["acks"]) == (True, "all")
    assert (PRODUCER["transactional.id"], PRODUCER["transaction.timeout.ms"]) == ("writer-0", 12_500)
    assert PRODUCER["partitioner"] == "murmur2_random"


def test_what_was_measured_is_kept() -> None:
    """Two defaults of librdkafka that cost a factor are replaced."""
    assert CONSUMER["fetch.queue.backoff.ms"] == 2
    assert PRODUCER["retry.backoff.ms"] == 5


def test_largest_records_fit_both() -> None:
    """What a topic takes, the clients take."""
    assert PRODUCER["message.max.bytes"] == CONSUMER["fetch.message.max.bytes"] == 2 * 1024 * 1024


def test_librdkafka_takes_them() -> None:
    """Every setting exists in the client library, with that value."""
    silent: dict[str, Any] = {"log_level": 0}
    consumer = Consumer(CONSUMER | silent)
    Consumer(consumer_config(CONNECTION, client_id="reader", group="readers", gather_seconds=1.0) | silent).close()
    producer = Producer(PRODUCER | silent)
    assert isinstance(producer.poll(0), int)
    consumer.close()


def test_unknown_settings_are_refused() -> None:
    """The test above would see a setting that the client library does not know."""
    with pytest.raises(KafkaException, match="No such configuration property"):
        Consumer(CONSUMER | {"no.such.setting": 1})


@pytest.mark.parametrize("name", ["sasl.mechanism", "ssl.ca.location", "ssl.key.location"])
def test_what_is_not_given_is_not_set(name: str) -> None:
    """An empty setting is left to the library's default."""
    assert name not in KafkaConnection("127.0.0.1:1").config("reader")


def test_repr_shows_no_secret() -> None:
    """A connection in a log line or a traceback shows where it leads, not how to get in."""
    shown = repr(KafkaConnection("kafka:9092", username="writer", password="s3cr3t"))
    assert "kafka:9092" in shown
    assert "s3cr3t" not in shown


def test_all_roles_send_librdkafkas_words_to_one_logger() -> None:
    """No client is made with a logger of another name, so that one line silences or shows them all."""
    named = re.compile(r'getLogger\("(librdkafka|sealstream\.kafka)"\)')
    roots = [ROOT / role / "sealstream" for role in ("schemas", "producers", "processors", "sinks", "deploy")]
    found = [path for root in roots for path in root.rglob("*.py") if named.search(path.read_text())]

    assert KAFKA_LOG.name == "sealstream.kafka"
    assert [path.name for path in found] == ["client.py"]
