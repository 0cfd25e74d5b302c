"""What Kafka's client says, in words that help."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from sealstream.producers.delivery_errors import delivery_error
from sealstream.schemas.errors import DeliveryError

WHERE = "event acme/ev-1 to topic audit.events"


def translated(code: int, *, connection: str = "") -> DeliveryError:
    """Return the error for one of librdkafka's codes."""
    return delivery_error(KafkaError(code), WHERE, 30.0, connection)


@pytest.mark.parametrize(
    ("code", "name", "retriable", "hint"),
    [
        (KafkaError._MSG_TIMED_OUT, "_MSG_TIMED_OUT", True, "within 30 s"),
        (KafkaError._PURGE_QUEUE, "_PURGE_QUEUE", True, "more time"),
        (KafkaError._PURGE_INFLIGHT, "_PURGE_INFLIGHT", True, "may have arrived"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "UNKNOWN_TOPIC_OR_PART", False, "topics create"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "TOPIC_AUTHORIZATION_FAILED", False, "Write"),
        (KafkaError.MSG_SIZE_TOO_LARGE, "MSG_SIZE_TOO_LARGE", False, "max.message.bytes"),
        (KafkaError.NOT_ENOUGH_REPLICAS, "NOT_ENOUGH_REPLICAS", True, "replicas"),
    ],
)
def test_a_cause_is_named_and_has_a_way_out(code: int, name: str, retriable: bool, hint: str) -> None:
    """An error says which event, what Kafka said, whether to send again, and what to do."""
    error = translated(code)

    assert error.message.startswith(WHERE)
    assert (error.code, error.retriable) == (name, retriable)
    assert hint in error.hint


def test_a_time_out_says_what_was_wrong_with_the_connection() -> None:
    """A time-out alone explains nothing; the last connection error does."""
    assert "refused" in translated(KafkaError._MSG_TIMED_OUT, connection="b1:9092: connection refused").hint


def test_a_fatal_error_asks_for_another_log() -> None:
    """A client that can never send again says so, whatever the cause."""
    error = delivery_error(KafkaError(KafkaError._MSG_TIMED_OUT, "broken", True), WHERE, 30.0, "")

    assert not error.retriable
    assert "open another" in error.hint
