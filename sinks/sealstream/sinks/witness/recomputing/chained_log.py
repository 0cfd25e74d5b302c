"""audit.chained as it is read for a round: each partition from where it was cut, by one consumer, bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final, cast

from confluent_kafka import KafkaError, Message, TopicPartition

from sealstream.kafka.assigning import assign_anew
from sealstream.kafka.client import KafkaConnection
from sealstream.schemas.errors import SourceExpired
from sealstream.sinks.witness.recomputing.clients import (
    FETCH_RECORDS,
    LOG_CUT_CODES,
    POLL_SECONDS,
    bounds,
    pass_over,
    reader,
)

_PART_RECORDS: Final = 5_000


class ChainedLog:
    """Reads audit.chained.

    Arguments:
        connection: How to reach Kafka.
        topic: The name of audit.chained.
        client_id: The client's name in the brokers' logs.
    """

    def __init__(self, connection: KafkaConnection, topic: str, *, client_id: str) -> None:
        self.topic = topic
        self._consumer = reader(connection, f"{client_id}-chained")
        self._waiting: dict[int, deque[Message]] = {}
        self._seen: dict[int, int] = {}  # the offset up to which all records have come
        self._paused: set[int] = set()

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def start(self, partition: int) -> int:
        """Return the first offset that a partition still has.

        Raises:
            Unreachable: Kafka does not answer.
        """
        return bounds(self._consumer, self.topic, partition)[0]

    def end(self, partition: int) -> int:
        """Return the offset behind the last record that a read_committed reader sees.

        Raises:
            Unreachable: Kafka does not answer.
        """
        return bounds(self._consumer, self.topic, partition)[1]

    def read(self, positions: Mapping[int, int]) -> None:
        """Read these partitions from these offsets on, and no others."""
        self._waiting = {number: deque() for number in positions}
        self._seen = dict(positions)
        self._paused = set()
        assign_anew(self._consumer, (TopicPartition(self.topic, number, at) for number, at in positions.items()))

    def waiting(self, partition: int) -> list[Message]:
        """Return records that have come and were not taken, in their order, as many as go well together."""
        return list(islice(self._waiting[partition], _PART_RECORDS))

    def take(self, partition: int, count: int) -> None:
        """Let go of so many of them."""
        queue = self._waiting[partition]
        for _ in range(count):
            queue.popleft()

    def has_come_to(self, partition: int, limit: int) -> bool:
        """Return whether all records before an offset have come."""
        return self._seen[partition] >= limit

    def fill(self, wanted: Iterable[int]) -> None:
        """Wait a moment for more records of these partitions; others that have some already are not read on.

        Raises:
            SourceExpired: Records that are to be read are gone.
            Unreachable: The topic cannot be read.
        """
        needed = set(wanted)
        resume = [number for number in self._paused & needed if not self._waiting[number]]
        if resume:
            self._consumer.resume([TopicPartition(self.topic, number) for number in resume])
            self._paused -= set(resume)
        for message in self._consumer.consume(FETCH_RECORDS, POLL_SECONDS):
            self._take_in(message)
        full = [n for n, queue in self._waiting.items() if queue and n not in needed and n not in self._paused]
        if full:
            self._consumer.pause([TopicPartition(self.topic, number) for number in full])
            self._paused |= set(full)

    def _take_in(self, message: Message) -> None:
        error, number = message.error(), cast("int", message.partition())
        if error is None:
            if number in self._waiting:
                self._waiting[number].append(message)
                self._seen[number] = cast("int", message.offset()) + 1
        elif error.code() == KafkaError._PARTITION_EOF:
            if number in self._seen:
                self._seen[number] = max(self._seen[number], cast("int", message.offset()))
        elif error.code() in LOG_CUT_CODES:
            raise SourceExpired(
                f"{self.topic} partition {number} no longer has what the witness has to read next",
                hint="it expired before it was recomputed; keep the witness running, and retention longer",
            )
        else:
            pass_over(error, self.topic)
