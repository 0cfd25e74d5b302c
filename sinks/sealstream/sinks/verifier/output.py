"""What the verifier writes: what holds, what does not, and how far it has come, in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, TopicPartition

from sealstream.kafka.patience import HANG_SECONDS, call_within
from sealstream.kafka.topics import (
    CE_ID_HEADER,
    SEAL_HASH_HEADER,
    SEAL_PREV_HEADER,
    SEAL_SEQ_HEADER,
    TopicNames,
)
from sealstream.kafka.transactions import ProducerFatal, TransactionError, produce_waiting, transactional_call
from sealstream.schemas.violation import Violation
from sealstream.sinks.verifier.clients import producer
from sealstream.sinks.verifier.records import Header, Outcome, Published
from sealstream.sinks.verifier.source import Interrupted
from sealstream.sinks.verifier.state import Position, chain_key, pack_chain, partition_key
from sealstream.worker.logs import logger
from sealstream.worker.settings import Settings

T = TypeVar("T")

CALL_SECONDS: Final = 1.0
"""How long one call blocks before it is repeated, so that a stop is noticed."""
STOP_GRACE_SECONDS: Final = 4.0
"""How long a transaction may still take once the worker was told to stop; then it is left to be aborted."""
ABORT_SECONDS: Final = 2.0


class Change(NamedTuple):
    """What one transaction changes in one partition.

    Arguments:
        partition: The partition.
        outcome: What was found.
        position: How far it is verified behind that.
    """

    partition: int
    outcome: Outcome
    position: Position


class Output:
    """Writes transactions, one after the other.

    Arguments:
        settings: The worker's settings.
        stopping: Whether the worker was told to stop.
    """

    def __init__(self, settings: Settings, *, stopping: Callable[[], bool]) -> None:
        self._topics: TopicNames = settings.topics()
        self._stopping = stopping
        self._stop_seen: float | None = None
        self._timeout_seconds = settings.transaction_timeout_seconds
        self._init_seconds = settings.request_timeout_seconds
        self._producer = producer(settings)
        self._hangs = False

    def open(self) -> None:
        """Take over from whoever wrote under this name before, and end what it left open.

        Raises:
            AbortRequired, ProducerFatal: It could not be done in time.
            Interrupted: The worker was told to stop.
        """
        self._call("init", lambda: self._producer.init_transactions(CALL_SECONDS), self._init_seconds)

    def commit(self, changes: Sequence[Change], consumer: Consumer) -> None:
        """Write what changed, and the group's offsets, in one transaction.

        Arguments:
            changes: What changed, by partition.
            consumer: The group's member that read it: if the group has moved on, nothing is committed.

        Raises:
            AbortRequired: The transaction must be aborted; the same work can be done again from the committed state.
            ProducerFatal: The producer is at its end, or the outcome is not known.
            Interrupted: The worker was told to stop, and Kafka did not finish the transaction in time.
        """
        self._producer.begin_transaction()
        for change in changes:
            self._write(change)
        offsets = [
            TopicPartition(topic, change.partition, offset)
            for change in changes
            for topic, offset in (
                (self._topics.chained, change.position.chained),
                (self._topics.events, change.position.source),
            )
        ]
        metadata = consumer.consumer_group_metadata()
        self._send_offsets(partial(self._producer.send_offsets_to_transaction, offsets, metadata, CALL_SECONDS))
        # Dying before this call leaves nothing: the brokers abort, and the next owner reads the same records again.
        self._call("commit", lambda: self._producer.commit_transaction(CALL_SECONDS), self._timeout_seconds)
        # Dying behind it repeats nothing: feed, violations, state and offsets have moved on together.

    def abort(self) -> None:
        """End an open transaction at once, so that no reader waits for it to time out."""
        if self._hangs:  # a call of it hangs, and no other may be made; the next init ends the transaction
            return
        try:
            self._producer.abort_transaction(ABORT_SECONDS)
        except Exception as error:  # noqa: BLE001  # whatever it is, the next init ends the transaction just the same
            logger().debug("transaction left to be aborted by its successor", error=str(error))

    def _write(self, change: Change) -> None:
        partition, outcome = change.partition, change.outcome
        self._publish(partition, outcome.published)
        for violation in outcome.violations:
            self._report(violation)
        for name, chain in outcome.touched.items():
            self._produce(self._topics.verifier, partition, chain_key(partition, name), pack_chain(chain))
        self._produce(self._topics.verifier, partition, partition_key(partition), change.position.pack())

    def _publish(self, partition: int, records: Sequence[Published]) -> None:
        topic, produce = self._topics.verified, self._producer.produce
        for key, value, seal, seq, digest, prev, event_id, traceparent in records:
            headers: list[Header] = [
                seal, (SEAL_SEQ_HEADER, str(seq)), (SEAL_HASH_HEADER, digest.hex()), (SEAL_PREV_HEADER, prev.hex()),
                (CE_ID_HEADER, event_id), *traceparent,
            ]  # fmt: skip
            try:
                # By place: that takes a sixth less than by name. Between them are two callbacks and the time.
                produce(topic, value, key, partition, None, None, 0, headers)
            except BufferError:
                self._produce(topic, partition, key, value, headers=headers)

    def _report(self, violation: Violation) -> None:
        self._produce(self._topics.violations, 0, violation.tenant.encode(), violation.encode())

    def _produce(self, topic: str, partition: int, key: bytes | None, value: bytes | None, **more: Any) -> None:
        try:
            self._producer.produce(topic, value, key, partition, **more)
        except BufferError:
            produce_waiting(
                self._producer,
                lambda: self._producer.produce(topic, value, key, partition, **more),
                timeout_seconds=self._timeout_seconds,
            )

    def _call(self, step: str, call: Callable[[], T], timeout_seconds: float) -> T:
        return transactional_call(step, lambda: self._unless_stopped(call), timeout_seconds=timeout_seconds)

    def _send_offsets(self, send: Callable[[], object]) -> None:
        """Send the group's offsets; if librdkafka does not come back from it, leave the producer to that call."""

        def within() -> object:
            return call_within(send, timeout_seconds=HANG_SECONDS, give_up=self._must_stop)

        try:
            self._call("send_offsets", within, self._timeout_seconds)
        except TimeoutError as error:
            self._hangs = True
            if self._must_stop():
                raise Interrupted from error
            raise ProducerFatal("send_offsets", KafkaError(KafkaError._TIMED_OUT)) from error

    def _unless_stopped(self, call: Callable[[], T]) -> T:
        if self._must_stop():
            raise Interrupted
        return call()

    def _must_stop(self) -> bool:
        """Return whether the worker was told to stop so long ago that the transaction is left to be aborted."""
        if not self._stopping():
            return False
        self._stop_seen = self._stop_seen or time.monotonic()
        return time.monotonic() > self._stop_seen + STOP_GRACE_SECONDS


def is_connectivity(error: TransactionError) -> bool:
    """Return whether a failed transaction says no more than that Kafka cannot be reached at the moment."""
    return error.is_connectivity and not error.error.fatal()
