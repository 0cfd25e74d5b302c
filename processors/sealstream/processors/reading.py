"""Reads one partition of a topic from a place on to its present end, as a reader of committed records sees it."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Final, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from sealstream.kafka.topics import SEAL_ENTRY_HEADER
from sealstream.kafka.watermarks import watermarks
from sealstream.processors.failures import classify
from sealstream.schemas.errors import Unreachable, UnsafeState

REQUEST_SECONDS: Final = 3.0
READ_SECONDS: Final = 0.2
READ_RECORDS: Final = 5_000


class LogReader:
    """Reads assigned partitions, one after the other.

    Arguments:
        consumer: A consumer with ``enable.partition.eof`` that is in no group's membership.
        patience_seconds: How long Kafka may send nothing.
    """

    def __init__(self, consumer: Consumer, *, patience_seconds: float) -> None:
        self._consumer = consumer
        self._patience_seconds = patience_seconds
        self._topic = ""
        self._known: set[str] = set()
        self._at_end = False  # librdkafka tells the end of a partition once, and again only behind new records

    def assign(self, topic: str, partition: int, offset: int = OFFSET_BEGINNING) -> None:
        """Read this partition from now on, from an offset on.

        Raises:
            Unreachable: No answer in time.
        """
        if topic not in self._known:
            # librdkafka looks once a second for the leaders of topics that it did not know: measured, 1.0 s a topic. To
            # be asked for offsets it looks at once.
            self.bounds(topic, partition)
            self._known.add(topic)
        self._consumer.assign([TopicPartition(topic, partition, offset)])
        self._topic, self._at_end = topic, False

    def to_end(self) -> Generator[list[Message]]:
        """Read to the present end, in pieces, of which some are empty; call it again to read what came since.

        Raises:
            Unreachable: Kafka sends neither records nor the end.
            SealstreamError: The place is gone, or cannot be read.
        """
        quiet_since = time.monotonic()
        while True:
            first = self._consumer.poll(READ_SECONDS)  # consume() alone would wait for all that it was asked for
            found = [] if first is None else [first, *self._consumer.consume(READ_RECORDS, 0)]
            messages = [message for message in found if not self._is_end(message)]
            if messages:
                self._at_end = found[-1].error() is not None
            yield messages
            if self._at_end:
                return
            if messages:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since >= self._patience_seconds:
                raise Unreachable(f"Kafka sends nothing of {self._topic}", hint="check that the brokers run")

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Return the first offset of a partition and the one behind the last that a committed reader may see.

        Raises:
            Unreachable: No answer in time.
        """
        try:
            return watermarks(self._consumer, topic, partition, timeout_seconds=REQUEST_SECONDS)
        except KafkaException as exception:
            raise classify(exception.args[0], f"ask for the offsets of {topic}") from exception

    def _is_end(self, message: Message) -> bool:
        """Return whether a message only says that a partition ended; raise what else it says besides records."""
        error = message.error()
        if error is None:
            return False
        if error.code() != KafkaError._PARTITION_EOF:
            raise classify(error, f"read {self._topic}")
        self._at_end = True
        return True


def seal_of(message: Message) -> bytes:
    """Return the seal of a record of audit.chained.

    Raises:
        UnsafeState: It has none.
    """
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    for name, value in headers:
        if name == SEAL_ENTRY_HEADER and value is not None:
            return value
    raise UnsafeState(
        f"{message.topic()} partition {message.partition()} offset {message.offset()} has no seal",
        hint="somebody but the processor writes to audit.chained: take the right away from them",
    )
