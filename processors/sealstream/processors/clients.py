"""The processor's Kafka clients: their names, and the settings that decide.

The names are stable over restarts, so that a restart ends what its predecessor left open: a transaction by the
transactional id, a membership by the instance id. Never put a pid or a random number in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, Producer

from sealstream.kafka.client import KAFKA_LOG, KafkaConnection, consumer_config, transactional_producer_config

UNPACKED_BYTES_MAX: Final = 128 * 1024 * 1024
"""What a compressed batch of the source may unpack to; librdkafka refuses a larger one (zstd), and we stop there."""

AHEAD_RECORDS: Final = 20_000
"""How many records of a partition are fetched ahead; librdkafka takes some 300 bytes for each besides the record."""

STATISTICS_SECONDS: Final = 2.0
HEARTBEATS_PER_SESSION: Final = 5
READER_WAIT_MS: Final = 20


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a worker is to the brokers.

    Arguments:
        instance: The instance's name.
        worker_id: The worker's name, stable over restarts and its own among the workers of the instance.
    """

    instance: str
    worker_id: str

    @property
    def group(self) -> str:
        """The consumer group of all workers of the instance."""
        return f"{self.instance}-processor"

    @property
    def member(self) -> str:
        """The worker's transactional id and group instance id."""
        return f"{self.group}-{self.worker_id}"


@dataclass(frozen=True, slots=True)
class Clients:
    """Makes the clients of one worker.

    Arguments:
        connection: How to reach the cluster.
        identity: Who the worker is.
        transaction_timeout_seconds: After this the coordinator aborts a transaction.
        session_timeout_seconds: After this the group takes a silent worker's partitions away.
    """

    connection: KafkaConnection
    identity: Identity
    transaction_timeout_seconds: float
    session_timeout_seconds: float

    def consumer(self, *, on_statistics: Callable[[str], None]) -> Consumer:
        """Return the consumer of audit.events; it hands on its statistics, as JSON, every two seconds."""
        session_ms = int(self.session_timeout_seconds * 1000)
        settings: dict[str, Any] = dict(self._consumer())
        settings |= {
            "group.instance.id": self.identity.member,
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": session_ms // HEARTBEATS_PER_SESSION,
            # The end of a partition tells how far its log is passed over even where the last offsets are no records.
            "enable.partition.eof": True,
            "check.crcs": True,
            "queued.min.messages": AHEAD_RECORDS,
            "receive.message.max.bytes": UNPACKED_BYTES_MAX,
            "statistics.interval.ms": int(STATISTICS_SECONDS * 1000),
            "stats_cb": on_statistics,
        }
        return Consumer(settings, logger=KAFKA_LOG)

    def reader(self) -> Consumer:
        """Return a consumer that reads assigned partitions to their end; it neither joins the group nor commits."""
        settings: dict[str, Any] = dict(self._consumer())
        settings |= {
            "enable.partition.eof": True,
            "fetch.wait.max.ms": READER_WAIT_MS,
            "queued.min.messages": AHEAD_RECORDS,
            "receive.message.max.bytes": UNPACKED_BYTES_MAX,
        }
        return Consumer(settings, logger=KAFKA_LOG)

    def producer(self) -> Producer:
        """Return the transactional producer."""
        settings: dict[str, Any] = dict(
            transactional_producer_config(
                self.connection,
                client_id=self.identity.member,
                transactional_id=self.identity.member,
                transaction_timeout_seconds=self.transaction_timeout_seconds,
            )
        )
        settings |= {"delivery.report.only.error": True}
        return Producer(settings, logger=KAFKA_LOG)

    def _consumer(self) -> dict[str, str | int | float | bool]:
        return consumer_config(self.connection, client_id=self.identity.member, group=self.identity.group)
