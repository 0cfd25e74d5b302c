"""The judge's Kafka consumers: assigned, read_committed, without a group's offsets, and never skipping silently."""

from __future__ import annotations

from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException

from sealstream.kafka.client import KAFKA_LOG, KafkaConnection, consumer_config
from sealstream.kafka.watermarks import watermarks
from sealstream.schemas.errors import ConfigError, Unreachable

ASK_SECONDS: Final = 4.0
"""How long a call that cannot be interrupted waits for an answer."""
POLL_SECONDS: Final = 0.1
FETCH_RECORDS: Final = 5_000
LOG_CUT_CODES: Final = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)

_READING: Final[dict[str, Any]] = {
    "check.crcs": True,
    "enable.partition.eof": True,
    "fetch.queue.backoff.ms": 50,  # as the verifier: a full queue holds a second's work
    "queued.max.messages.kbytes": 65_536,
    "receive.message.max.bytes": 256 * 1024 * 1024,  # what a compressed batch may unpack to
}


def reader(connection: KafkaConnection, client_id: str) -> Consumer:
    """Return a consumer that reads assigned partitions to their end."""
    config: dict[str, Any] = dict(consumer_config(connection, client_id=client_id, group=f"{client_id}-unused"))
    return Consumer(config | _READING, logger=KAFKA_LOG)


def bounds(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """Return the first offset of a partition, and the one behind the last that a read_committed reader sees.

    Raises:
        Unreachable: Kafka does not answer.
    """
    try:
        return watermarks(consumer, topic, partition, timeout_seconds=ASK_SECONDS)
    except KafkaException as exception:
        raise Unreachable(f"the bounds of {topic} cannot be read: {exception.args[0].str()}") from exception


def pass_over(error: KafkaError, topic: str) -> None:
    """Return where an error is one that the library deals with by itself.

    Raises:
        ConfigError: The brokers do not let us read.
        Unreachable: The topic is not there at the moment.
    """
    if error.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED):
        raise ConfigError(f"Kafka refuses to let the witness read {topic}: {error.str()}", hint="grant it READ")
    if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION) or error.fatal():  # noqa: SLF001
        raise Unreachable(f"{topic} cannot be read: {error.str()}", hint="sealstream topics check")
