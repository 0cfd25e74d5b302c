"""Records and a group's offsets that must become visible together: one transaction, all of it or nothing.

For commands, which write once and end. Workers write one transaction after the other, may be told to stop in between,
and have an answer of their own to each error.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from sealstream.kafka.patience import HANG_SECONDS, call_within
from sealstream.kafka.transactions import ProducerFatal, TransactionError, produce_waiting, transactional_call
from sealstream.schemas.errors import Unreachable

CALL_SECONDS: Final = 1.0
"""How long one call of librdkafka may block before it is made again; a call that takes much longer hangs."""


class Record(NamedTuple):
    """A record to be written.

    Arguments:
        topic: Its topic.
        partition: Its partition.
        key: Its key.
        value: Its value; ``None`` for a tombstone.
    """

    topic: str
    partition: int
    key: bytes
    value: bytes | None


class AtomicWriter:
    """Writes records and offsets in transactions.

    Arguments:
        producer: A transactional producer of its own. After an error other than :class:`AbortRequired` it is at its
            end.
        timeout_seconds: How long each step may take.
    """

    def __init__(self, producer: Producer, *, timeout_seconds: float) -> None:
        self._producer = producer
        self._timeout_seconds = timeout_seconds

    def open(self) -> None:
        """End what a predecessor of the same transactional id left open, and fence it if it still runs.

        Raises:
            Unreachable: Kafka does not answer in time.
            TransactionError: Kafka refuses it.
        """
        with _classified():
            self._call("init", lambda: self._producer.init_transactions(CALL_SECONDS))

    def write(self, records: Iterable[Record], offsets: Sequence[TopicPartition], group: Consumer) -> None:
        """Write records and a group's offsets; when this returns, all of it is visible.

        Arguments:
            records: The records. What their making raises ends the transaction and is raised here.
            offsets: The offsets, with their metadata.
            group: Who commits them. A member of the group is refused once it is none any more (KIP-447); a consumer
                that has not joined is never refused, so make sure of it in another way that no worker runs.

        Raises:
            Unreachable: Kafka does not answer in time. Whether the transaction was committed may not be known; the
                next :meth:`open` under the same transactional id settles it.
            AbortRequired: It was refused, and nothing is visible.
            ProducerFatal: The producer is at its end: another one has taken its place.
        """
        with _classified():
            self._call("begin", self._producer.begin_transaction)
            try:
                for record in records:
                    self._produce(record)
                # A crash up to the commit leaves records that nobody sees; the next open aborts them.
                self._send_offsets(offsets, group)
                self._call("commit", lambda: self._producer.commit_transaction(CALL_SECONDS))
                # A crash in the commit: it is all there or nothing is, and the next open waits until that is decided.
            except ProducerFatal:
                raise
            except BaseException:  # also a Ctrl-C: what stays open would block readers until it times out
                self._abort()
                raise

    def _produce(self, record: Record) -> None:
        call = partial(self._producer.produce, record.topic, record.value, record.key, record.partition)
        produce_waiting(self._producer, call, timeout_seconds=self._timeout_seconds)

    def _send_offsets(self, offsets: Sequence[TopicPartition], group: Consumer) -> None:
        send = partial(
            self._producer.send_offsets_to_transaction, list(offsets), group.consumer_group_metadata(), CALL_SECONDS
        )
        try:
            self._call("send_offsets", lambda: call_within(send, timeout_seconds=HANG_SECONDS, give_up=lambda: False))
        except TimeoutError as error:  # the call still has the producer, so nothing can be aborted either
            raise ProducerFatal("send_offsets", KafkaError(KafkaError._TIMED_OUT)) from error

    def _abort(self) -> None:
        # The error that led here says more than that of an abort; the next open, or the coordinator once the
        # transaction's timeout is over, aborts what could not be aborted now.
        with suppress(TransactionError):
            self._call("abort", lambda: self._producer.abort_transaction(CALL_SECONDS))

    def _call(self, step: str, call: Callable[[], object]) -> None:
        transactional_call(step, call, timeout_seconds=self._timeout_seconds)


@contextmanager
def _classified() -> Generator[None]:
    """Tell a cluster that does not answer from one that refuses."""
    try:
        yield
    except TransactionError as error:
        if error.is_connectivity and not error.error.fatal():
            raise Unreachable(
                f"Kafka does not answer: {error.message}",
                hint="check that the brokers run; doing the same again is safe, and finds out what was written",
            ) from error
        raise
