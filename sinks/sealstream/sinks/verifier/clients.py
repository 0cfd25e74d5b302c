"""The verifier's Kafka clients: their names, and the settings that decide.

The names are stable over restarts, so that a restart ends what its predecessor left open: a transaction by the
transactional id, a membership by the instance id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, Producer

from sealstream.kafka.client import KAFKA_LOG, KafkaConnection, consumer_config, transactional_producer_config
from sealstream.worker.settings import Settings

UNPACKED_BYTES_MAX: Final = 256 * 1024 * 1024
"""What a compressed batch may unpack to. More than the processor takes, so that it is never we who refuse first."""
QUEUE_KILOBYTES: Final = 65_536


def reader(connection: KafkaConnection, client_id: str, *, gather_seconds: float = 0.0) -> Consumer:
    """Return a consumer that reads assigned partitions to their end; it neither joins a group nor commits."""
    settings: dict[str, Any] = dict(
        consumer_config(connection, client_id=client_id, group=f"{client_id}-unused", gather_seconds=gather_seconds)
    )
    return Consumer(settings | _READING, logger=KAFKA_LOG)


def member(settings: Settings, on_error: Callable[[KafkaError], None]) -> Consumer:
    """Return the consumer of audit.chained: a member of the verifiers' group.

    Arguments:
        settings: The worker's settings.
        on_error: Called, within ``poll``, with errors that belong to no partition; some are reported nowhere else.
    """
    name = member_name(settings)
    config: dict[str, Any] = dict(
        consumer_config(
            settings.connection(), client_id=name, group=group_name(settings), gather_seconds=settings.gather_seconds
        )
    )
    config |= {"group.instance.id": name, "session.timeout.ms": int(settings.session_timeout_seconds * 1000)}
    config |= {"error_cb": on_error}
    return Consumer(config | _READING, logger=KAFKA_LOG)


def producer(settings: Settings) -> Producer:
    """Return the transactional producer."""
    name = member_name(settings)
    config: dict[str, Any] = dict(
        transactional_producer_config(
            settings.connection(),
            client_id=name,
            transactional_id=name,
            transaction_timeout_seconds=settings.transaction_timeout_seconds,
        )
    )
    return Producer(config | _WRITING, logger=KAFKA_LOG)


def group_name(settings: Settings) -> str:
    """Return the consumer group of all verifiers of an instance."""
    return f"{settings.instance}-verifier"


def member_name(settings: Settings) -> str:
    """Return the name under which a worker is known to the brokers; each worker needs its own."""
    return f"{group_name(settings)}-{settings.member()}"


_WRITING: Final[dict[str, Any]] = {"delivery.report.only.error": True}
_READING: Final[dict[str, Any]] = {
    "check.crcs": True,
    "enable.partition.eof": True,
    # A full queue holds a second's work. To look for room in it every 2 ms, as a processor with less in its queues
    # does, took a tenth of this worker's time.
    "fetch.queue.backoff.ms": 50,
    "queued.max.messages.kbytes": QUEUE_KILOBYTES,
    "receive.message.max.bytes": UNPACKED_BYTES_MAX,
}
