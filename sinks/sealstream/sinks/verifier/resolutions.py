"""What people have resolved, read from audit.violations beside the violations themselves."""

from __future__ import annotations

from typing import Final

from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

from sealstream.kafka.client import KafkaConnection
from sealstream.schemas.errors import FormatError
from sealstream.schemas.resolution import Resolution
from sealstream.sinks.verifier.clients import reader
from sealstream.sinks.verifier.records import Chain
from sealstream.sinks.verifier.source import is_passing
from sealstream.worker.logs import logger

READ_RECORDS: Final = 1_000


class Resolutions:
    """Follows audit.violations from its beginning and knows which violations are resolved.

    Arguments:
        connection: How to reach Kafka.
        topic: The name of audit.violations.
        client_id: The client's name in the brokers' logs.
    """

    def __init__(self, connection: KafkaConnection, topic: str, *, client_id: str) -> None:
        self._consumer = reader(connection, f"{client_id}-resolutions")
        self._consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        self._resolved: set[str] = set()

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def poll(self) -> bool:
        """Take in what has arrived, without waiting, and return whether a resolution was among it."""
        found = False
        for message in self._consumer.consume(READ_RECORDS, 0):
            error, value = message.error(), message.value()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    is_passing(error)
            elif value is not None:
                resolution = _resolution(value)
                if resolution is not None:
                    self._resolved.add(resolution.violation_id)
                    found = True
        return found

    def apply(self, chain: Chain) -> bool:
        """Close a chain's violations that are resolved, and return whether there were any."""
        still = [violation for violation in chain.open if violation not in self._resolved]
        if len(still) == len(chain.open):
            return False
        chain.open = still
        if not still:
            chain.unreported = 0
            logger().info("all violations resolved, the verified feed goes on", tenant=chain.name.decode())
        return True


def _resolution(value: bytes) -> Resolution | None:
    """Return the resolution that a record holds; ``None`` if it is a violation, or nothing of ours."""
    try:
        return Resolution.decode(value)
    except FormatError:
        return None
