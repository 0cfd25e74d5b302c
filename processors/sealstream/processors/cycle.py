"""The transactional cycle: begin, chain and produce, send offsets, commit. One batch, one transaction.

Entries, heads, dead letters and the source position become visible together or not at all. Whatever happens in between,
the recovery is one and the same: a reader of committed records sees the state of the last commit, and whoever owns the
partition next goes on from there and makes the same bytes again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from sealstream.kafka.patience import HANG_SECONDS, call_within
from sealstream.kafka.topics import SEAL_ENTRY_HEADER, TRACEPARENT_HEADER, TopicNames
from sealstream.kafka.transactions import AbortRequired, ProducerFatal, produce_waiting, transactional_call
from sealstream.processors.batch import Batch
from sealstream.processors.chaining import Chained, Link, PartitionState, PositionDiffers, Rules, chain
from sealstream.processors.deadletter import Headers, headers_of, key_of, value_of
from sealstream.processors.gaps import chain_gap
from sealstream.processors.heads import PartitionHead, chain_key, pack_link, partition_key
from sealstream.processors.ordinary import ChainOrdinary, chain_ordinary
from sealstream.processors.points import Point
from sealstream.processors.window import WindowIncomplete
from sealstream.schemas.entry import Kind
from sealstream.schemas.errors import SealstreamError
from sealstream.worker.failpoints import OFF, Failpoints

CALL_SECONDS: Final = 1.0
"""How long one call of librdkafka may block, so that a stop is noticed in between."""

SLICE_RECORDS: Final = 2_500
"""So many records are chained, then produced: librdkafka and the broker work on one slice beside the next one."""


class StopRequested(SealstreamError):
    """The worker was told to stop, and the brokers did not let it finish; the coordinator aborts what is open."""


@dataclass(slots=True)
class Outcome:
    """What a committed transaction held.

    Arguments:
        kinds: Number of entries by kind.
        records: Number of source records.
        seconds: From the begin of the transaction to the end of its commit.
        oldest_ms: The least append time of its records in milliseconds since the epoch; 0 for none.
    """

    kinds: list[int] = field(default_factory=lambda: [0] * len(Kind))
    records: int = 0
    seconds: float = 0.0
    oldest_ms: int = 0


@dataclass(slots=True)
class Grown:
    """What a batch made of one partition's chains.

    Arguments:
        kinds: Number of entries by kind.
        links: The ends of the chains that grew, by name.
    """

    kinds: list[int] = field(default_factory=lambda: [0] * len(Kind))
    links: dict[bytes, Link] = field(default_factory=dict[bytes, Link])

    def add(self, chained: Chained) -> None:
        """Add what a further slice made."""
        self.kinds = [before + more for before, more in zip(self.kinds, chained.kinds, strict=True)]
        self.links |= {link.name: link for link in chained.links}


class Cycle:
    """Puts batches through transactions.

    Arguments:
        producer: The transactional producer, initialised.
        consumer: The consumer of the source; its membership fences a zombie's commit (KIP-447).
        topics: The instance's topics.
        rules: What every entry depends on.
        timeout_seconds: The transaction's timeout.
        stopping: Whether the worker must stop now, finished or not.
        failpoints: Where a test makes it fail.
        chain_ordinary: What chains ordinary records.

    ``opened_at`` is when the last transaction was begun (monotonic seconds).
    """

    def __init__(
        self,
        producer: Producer,
        consumer: Consumer,
        topics: TopicNames,
        rules: Rules,
        *,
        timeout_seconds: float,
        stopping: Callable[[], bool],
        failpoints: Failpoints = OFF,
        chain_ordinary: ChainOrdinary = chain_ordinary,
    ) -> None:
        self._producer = producer
        self._consumer = consumer
        self._topics = topics
        self._rules = rules
        self._timeout_seconds = timeout_seconds
        self._stopping = stopping
        self._pin = pin(rules)
        self._chain_ordinary = chain_ordinary
        self._commit = failpoints.during(Point.DURING_COMMIT, partial(producer.commit_transaction, CALL_SECONDS))
        self._before_produce = failpoints.at(Point.BEFORE_PRODUCE)
        self._after_produce = failpoints.at(Point.AFTER_PRODUCE)
        self._after_heads = failpoints.at(Point.AFTER_HEADS)
        self._after_send_offsets = failpoints.at(Point.AFTER_SEND_OFFSETS)
        self._after_commit = failpoints.at(Point.AFTER_COMMIT)
        self.opened_at = 0.0

    def run(self, batch: Batch, states: Mapping[int, PartitionState]) -> Outcome:
        """Chain a batch and commit it.

        Arguments:
            batch: The batch; it begins where the states end.
            states: The states of its partitions. They are moved first, so whatever this raises, throw them away.

        Raises:
            PositionDiffers: The batch does not follow the states. The transaction was aborted.
            WindowIncomplete: A record may repeat one that is gone. The transaction was aborted.
            AbortRequired: The transaction was aborted; after a reload the same records can be done again.
            ProducerFatal: The producer is at its end, or the outcome is unknown; the committed offset tells it.
            StopRequested: The worker was told to stop, and could not finish; nothing is known of the outcome.
        """
        self.opened_at = time.monotonic()
        self._call("begin", self._producer.begin_transaction)
        # Nothing has left the process. A crash here leaves no trace.
        try:
            self._before_produce()
            grown = self._produce(batch, states)
            self._after_heads()
            # A crash from here on leaves records without a commit: invisible to every reader of committed records. The
            # successor's init_transactions aborts them, or else the coordinator after the transaction's timeout.
            self._send_offsets(states, grown)
            self._after_send_offsets()
            # A crash here: as above; the coordinator knows the offsets, but has not committed them.
            self._call("commit", self._commit)
            self._after_commit()
            # A crash during the commit: if it is decided, the coordinator completes it, and the successor's committed()
            # waits for that; if not, it is aborted. A crash after it loses nothing but this memory.
        except (AbortRequired, PositionDiffers, WindowIncomplete):
            self._call("abort", lambda: self._producer.abort_transaction(CALL_SECONDS))
            # A crash here: nothing is open any more, and the successor begins from the last commit.
            raise
        return self._outcome(batch, grown, time.monotonic() - self.opened_at)

    def _produce(self, batch: Batch, states: Mapping[int, PartitionState]) -> dict[int, Grown]:
        """Produce entries, dead letters and heads, each explicitly to its source's partition."""
        try:
            grown = {partition: self._chain(states[partition], batch) for partition in batch.starts}
            self._after_produce()
            self._produce_heads(grown, states)
        except KafkaException as exception:
            error: KafkaError = exception.args[0]
            raise (ProducerFatal if error.fatal() else AbortRequired)("produce", error) from exception
        return grown

    def _chain(self, state: PartitionState, batch: Batch) -> Grown:
        """Chain and produce the records of one partition, slice by slice."""
        grown, records = Grown(), batch.records.get(state.partition, [])
        if state.gap is not None:  # the engine gives it a transaction of its own, without records
            self._produce_entries(state.partition, chain_gap(self._rules, state, state.gap), grown)
            return grown
        for start in range(0, len(records), SLICE_RECORDS):
            chained = chain(self._rules, state, records[start : start + SLICE_RECORDS], self._chain_ordinary)
            self._produce_entries(state.partition, chained, grown)
        # What lies between the last record and the end of what was read are no records: aborted ones and markers.
        state.position = max(state.position, batch.ends.get(state.partition, 0))
        return grown

    def _produce_entries(self, partition: int, chained: Chained, grown: Grown) -> None:
        grown.add(chained)
        produce, topic = self._producer.produce, self._topics.chained
        for key, value, entry, trace in chained.sealed:
            headers: Headers = [(SEAL_ENTRY_HEADER, entry)]
            if trace is not None:
                headers.append((TRACEPARENT_HEADER, trace))
            try:
                produce(topic, value, key, partition, headers=headers)
            except BufferError:
                self._produce_one(topic, value, key, partition, headers)
        for letter in chained.letters:
            headers = headers_of(letter, topic=self._topics.events, topic_id=self._rules.topic_id, partition=partition)
            self._produce_one(self._topics.deadletter, value_of(letter), key_of(letter), partition, headers)

    def _produce_heads(self, grown: Mapping[int, Grown], states: Mapping[int, PartitionState]) -> None:
        """Produce heads: the chains first, their partition last, so that whoever has read it has read all of them."""
        produce, topic = self._producer.produce, self._topics.heads
        for partition, result in grown.items():
            prefix = chain_key(partition, b"")
            for name, link in result.links.items():
                key, value = prefix + name, pack_link(link)
                try:
                    produce(topic, value, key, partition)
                except BufferError:
                    self._produce_one(topic, value, key, partition, [])
            head = PartitionHead.of(states[partition], self._rules)
            self._produce_one(topic, head.pack(), partition_key(partition), partition, [])

    def _produce_one(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int, headers: Headers
    ) -> None:
        call = partial(self._producer.produce, topic, value, key, partition, headers=headers)
        produce_waiting(self._producer, call, timeout_seconds=self._timeout_seconds)

    def _send_offsets(self, states: Mapping[int, PartitionState], grown: Mapping[int, Grown]) -> None:
        """Send the positions; the group's generation in the membership fences a worker that lost its partitions."""
        positions = [
            TopicPartition(self._topics.events, partition, states[partition].position, self._pin) for partition in grown
        ]
        membership = self._consumer.consumer_group_metadata()
        call = partial(self._producer.send_offsets_to_transaction, positions, membership, CALL_SECONDS)
        try:
            self._call("send_offsets", lambda: call_within(call, timeout_seconds=HANG_SECONDS, give_up=self._stopping))
        except TimeoutError as error:
            if self._stopping():
                raise StopRequested("stopped in the transaction's step send_offsets") from error
            # The producer is left to the call that hangs; a new one's start aborts its transaction and fences it.
            raise ProducerFatal("send_offsets", KafkaError(KafkaError._TIMED_OUT)) from error

    def _call(self, step: str, call: Callable[[], object]) -> None:
        """Make one call of the transaction under the policy of librdkafka's errors, until the timeout or a stop."""

        def guarded() -> object:
            if self._stopping():
                raise StopRequested(f"stopped in the transaction's step {step}")
            return call()

        transactional_call(step, guarded, timeout_seconds=self._timeout_seconds)

    @staticmethod
    def _outcome(batch: Batch, grown: Mapping[int, Grown], seconds: float) -> Outcome:
        kinds = [sum(column) for column in zip(*(result.kinds for result in grown.values()), strict=True)]
        firsts = [records[0].timestamp()[1] for records in batch.records.values() if records]
        return Outcome(kinds, batch.count, seconds, min(firsts, default=0))


def pin(rules: Rules) -> str:
    """Return what stands in the metadata of each committed offset: what the partition was chained with, in short.

    Any worker can read it for all partitions with one request, so that a worker which owns none of the old partitions
    notices a changed partition count as well.
    """
    return f"{PIN_PREFIX}{rules.topic_id.hex()} {rules.genesis_digest.hex()}"


PIN_PREFIX: Final = "sealstream1 "
