"""What is known of open violations: read from audit.violations when a round may reach one."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

from sealstream.kafka.client import KafkaConnection
from sealstream.schemas.errors import FormatError, Unreachable
from sealstream.schemas.violation import Violation
from sealstream.sinks.witness.recomputing.clients import FETCH_RECORDS, POLL_SECONDS, pass_over, reader

READ_SECONDS: Final = 10.0


class OpenViolations:
    """Looks violations up by their ids.

    Arguments:
        connection: How to reach Kafka.
        topic: The name of audit.violations.
        client_id: The client's name in the brokers' logs.
    """

    def __init__(self, connection: KafkaConnection, topic: str, *, client_id: str) -> None:
        self._topic = topic
        self._consumer = reader(connection, f"{client_id}-violations")
        self._found: dict[str, Violation] = {}

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def find(self, ids: Collection[str]) -> dict[str, Violation]:
        """Return the violations with these ids, as far as they are recorded.

        Raises:
            Unreachable: They cannot be read in time.
        """
        if any(key not in self._found for key in ids):
            self._found = {key: found for key, found in self._found.items() if key in ids}
            self._read(ids)
        return {key: found for key, found in self._found.items() if key in ids}

    def _read(self, ids: Collection[str]) -> None:
        """Read the topic from its beginning to its end; it has a record for each finding, and no more."""
        self._consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
        deadline = time.monotonic() + READ_SECONDS
        try:
            while time.monotonic() < deadline:
                for message in self._consumer.consume(FETCH_RECORDS, POLL_SECONDS):
                    error = message.error()
                    if error is None:
                        self._take(message.value() or b"", ids)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        return
                    else:
                        pass_over(error, self._topic)
        finally:
            self._consumer.unassign()
        raise Unreachable(f"{self._topic} cannot be read to its end", hint="check the brokers")

    def _take(self, value: bytes, ids: Collection[str]) -> None:
        try:
            violation = Violation.decode(value)
        except FormatError:  # a resolution, or nothing of ours
            return
        if violation.id in ids:
            self._found[violation.id] = violation
