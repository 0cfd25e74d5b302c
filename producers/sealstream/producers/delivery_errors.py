"""What librdkafka says when an event was not published, in words that help."""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError

from sealstream.schemas.errors import DeliveryError

_CLOSED_TOO_EARLY: Final = "the log was closed before Kafka had answered: give close() more time; it may have arrived"
_TOPIC_MISSING: Final = "create the topics with `sealstream topics create`, or set the right prefix"
_NOT_ALLOWED: Final = "the producer needs the operations Write and Describe on the topic"

_HINTS: Final = {
    KafkaError._PURGE_QUEUE: _CLOSED_TOO_EARLY,  # librdkafka's own errors begin so
    KafkaError._PURGE_INFLIGHT: _CLOSED_TOO_EARLY,
    KafkaError._UNKNOWN_TOPIC: _TOPIC_MISSING,  # noqa: SLF001
    KafkaError.UNKNOWN_TOPIC_OR_PART: _TOPIC_MISSING,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: _NOT_ALLOWED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: _NOT_ALLOWED,
    KafkaError.MSG_SIZE_TOO_LARGE: "the topic's max.message.bytes is too small: see `sealstream topics check`",
    KafkaError.NOT_ENOUGH_REPLICAS: "too few replicas are in sync for acks=all: the brokers need care",
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND: "too few replicas are in sync for acks=all: the brokers need care",
}
_RETRIABLE: Final = frozenset(
    {
        KafkaError._MSG_TIMED_OUT,
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._TRANSPORT,
        KafkaError._QUEUE_FULL,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    }
)


def delivery_error(error: KafkaError, where: str, timeout_seconds: float, connection: str) -> DeliveryError:
    """Return the error for an event that was not published.

    Arguments:
        error: What librdkafka says.
        where: Which event, and where to.
        timeout_seconds: How long delivery was tried, for a time-out.
        connection: What librdkafka last said about the connection; empty if nothing was wrong with it.
    """
    hint = _HINTS.get(error.code(), "")
    if error.code() == KafkaError._MSG_TIMED_OUT:
        hint = f"Kafka did not acknowledge it within {timeout_seconds:g} s"
        hint += f"; last seen: {connection}" if connection else "; check that the brokers answer"
    if error.fatal():
        hint = "this log cannot send any more: close it and open another one"
    return DeliveryError(
        f"{where}: {error.str()}",
        hint=hint,
        code=error.name(),
        retriable=not error.fatal() and (error.code() in _RETRIABLE or error.retriable()),
    )
