"""The topic audit.checkpoints: signed notes by their logs' origins, for those who follow them by Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, cast

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from sealstream.kafka.client import KAFKA_LOG, PARTITIONER, KafkaConnection, consumer_config
from sealstream.kafka.watermarks import watermarks
from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import FormatError, StoreError, Unreachable, Untrusted
from sealstream.schemas.note import verify_note
from sealstream.schemas.note_key import VerifierKey

Record = tuple[str, bytes]
"""An origin and a signed note."""

PARTITION: Final = 0
LOOKED_AT_MAX: Final = 4_000_000
"""How many records are looked at for the last root checkpoint: it stands behind those of the chains of its round."""

_FIRST_LOOK: Final = 1_000
_GROWTH: Final = 16
_POLL_SECONDS: Final = 0.5
_READ_TOGETHER: Final = 1_000


class CheckpointTopic:
    """Writes checkpoints, acknowledged by the brokers, and finds the last one of a log. Use it from one thread.

    Arguments:
        connection: How to reach Kafka.
        topic: audit.checkpoints.
        client_id: The client's name in the brokers' logs.
        timeout_seconds: How long the brokers may take: for all records of one call, and for each step of a search.
    """

    def __init__(
        self, connection: KafkaConnection, *, topic: str, client_id: str, timeout_seconds: float = 30.0
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._client_id = client_id
        self._timeout_seconds = timeout_seconds
        self._producer: Producer | None = None

    def send(self, chains: Iterable[Record], root: Record) -> None:
        """Write the checkpoints of chains and then that of the root log: who sees it can see theirs.

        Raises:
            Unreachable: The brokers did not acknowledge all of them in time. Writing them again is harmless.
        """
        deadline = time.monotonic() + self._timeout_seconds
        try:
            self._deliver(chains, deadline)
            # A crash here leaves checkpoints of chains without the root's: all of them are written again.
            self._deliver((root,), deadline)
        except (KafkaException, BufferError) as error:
            raise self._unreachable(str(error)) from error

    def last(self, origin: str, keys: Sequence[VerifierKey]) -> Checkpoint | None:
        """Return the last checkpoint of a log that one of the keys has signed; ``None`` if there is none.

        Where several stand together at the end, it is the largest: whoever may write to the topic could repeat an old
        one. Everything else on it, whoever wrote it, is passed over.

        Arguments:
            origin: The log.
            keys: The keys that have ever signed it.

        Raises:
            StoreError: There is none among the last four million records, and there are more.
            Unreachable: The brokers do not answer in time, or the topic does not exist.
        """
        name = f"{self._client_id}-reader"
        settings = dict(consumer_config(self._connection, client_id=name, group=f"{name}-unused"))
        consumer = Consumer(cast("dict[str, Any]", settings | {"enable.partition.eof": True}), logger=KAFKA_LOG)
        try:
            return self._search(consumer, origin, keys)
        except KafkaException as error:
            raise Unreachable(f"{self._topic} could not be read: {error}", hint="check the brokers") from error
        finally:
            consumer.close()

    def close(self) -> None:
        """Let go of the producer. Nothing is left in it: each call waits for its acknowledgements."""
        self._producer = None

    def _deliver(self, records: Iterable[Record], deadline: float) -> None:
        """Write records, and wait until all of them are acknowledged."""
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failed.append(error)

        producer = self._open()
        for origin, note in records:
            self._produce(producer, origin, note, delivered, deadline)
        left = producer.flush(max(0.0, deadline - time.monotonic()))
        if left or failed:
            raise self._unreachable(failed[0].str() if failed else f"{left} records were not acknowledged in time")

    def _produce(self, producer: Producer, origin: str, note: bytes, delivered: Any, deadline: float) -> None:
        while True:
            try:
                producer.produce(self._topic, note, origin.encode(), PARTITION, on_delivery=delivered)
            except BufferError:  # full: what is in it has to leave first
                if time.monotonic() >= deadline:
                    raise
                producer.poll(_POLL_SECONDS)
            else:
                producer.poll(0)
                return

    def _open(self) -> Producer:
        if self._producer is None:
            config = self._connection.config(self._client_id) | {
                "enable.idempotence": True,
                "acks": "all",
                "partitioner": PARTITIONER,
                "compression.type": "lz4",
                "linger.ms": 5,
                "delivery.timeout.ms": round(self._timeout_seconds * 1000),
            }
            self._producer = Producer(cast("dict[str, Any]", config), logger=KAFKA_LOG)
        return self._producer

    def _unreachable(self, why: str) -> Unreachable:
        # Whatever is still queued must not come late, behind what is published by then.
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
        return Unreachable(f"checkpoints could not be written to {self._topic}: {why}", hint="check the brokers")

    def _search(self, consumer: Consumer, origin: str, keys: Sequence[VerifierKey]) -> Checkpoint | None:
        """Look at the end of the log, and further back as long as nothing is found."""
        low, high = watermarks(consumer, self._topic, PARTITION, timeout_seconds=self._timeout_seconds)
        end, look = high, _FIRST_LOOK
        while end > low:
            if high - end >= LOOKED_AT_MAX:
                raise StoreError(
                    f"{self._topic} has no checkpoint of {origin} among its last {high - end} records",
                    hint="find out who else writes to it",
                )
            begin = max(low, end - look)
            found = [
                checkpoint
                for key, value in self._read(consumer, begin, end)
                if key == origin.encode() and (checkpoint := _verified(value, origin, keys)) is not None
            ]
            if found:
                return max(found, key=lambda one: one.size)
            end, look = begin, look * _GROWTH
        return None

    def _read(self, consumer: Consumer, begin: int, end: int) -> Iterator[tuple[bytes | None, bytes]]:
        """Yield key and value of the records from one offset up to, but not with, another one.

        Raises:
            KafkaException: The brokers do not answer in time.
        """
        consumer.assign([TopicPartition(self._topic, PARTITION, begin)])
        place, deadline = begin, time.monotonic() + self._timeout_seconds
        while place < end:
            if time.monotonic() >= deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            for message in consumer.consume(_READ_TOGETHER, _POLL_SECONDS):
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                offset = message.offset()
                if error is not None or offset is None or offset == OFFSET_INVALID or offset >= end:
                    place = end  # behind the last record that is to be seen
                    break
                place, deadline = offset + 1, time.monotonic() + self._timeout_seconds
                yield message.key(), message.value() or b""


def _verified(note: bytes, origin: str, keys: Sequence[VerifierKey]) -> Checkpoint | None:
    """Return the checkpoint of a record; ``None`` if it is none of this log."""
    try:
        checkpoint = Checkpoint.parse(verify_note(note, keys).text)
    except (FormatError, Untrusted):
        return None
    return checkpoint if checkpoint.origin == origin else None
