"""The transactional cycle: chain, begin, produce, send offsets, commit. One batch, one transaction.

The end of a transaction waits for brokers, about as long as chaining half of its batch takes. So it runs beside the
caller, who may read the next batch and begin to chain it meanwhile: nothing of that leaves the process before the
transaction has ended. A batch is chained slice by slice, so that librdkafka and brokers work on one beside the next.

Entries, heads, dead letters and the source position become visible together or not at all. Whatever happens in between,
the recovery is one and the same: a reader of committed records sees the state of the last commit, and whoever owns the
partition next goes on from there and makes the same bytes again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from sealstream.kafka.patience import HANG_SECONDS, call_beside, call_within
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

SLICE_RECORDS: Final = 1_000
"""So many records are chained, then produced."""


class StopRequested(SealstreamError):
    """The worker was told to stop, and the brokers did not let it finish; the coordinator aborts what is open."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a committed transaction held.

    Arguments:
        kinds: Number of entries by kind.
        records: Number of source records.
        seconds: From the begin of the transaction to the end of its commit.
        oldest_ms: The least append time of its records in milliseconds since the epoch; 0 for none.
        heads: By partition, how far it is chained now.
    """

    kinds: list[int]
    records: int
    seconds: float
    oldest_ms: int
    heads: Mapping[int, PartitionHead]


@dataclass(slots=True)
class Grown:
    """What a batch made of one partition's chains.

    Arguments:
        kinds: Number of entries by kind.
        links: The ends of the chains that grew, by name.
        head: How far the partition is chained with it; none before all of it is chained.
    """

    kinds: list[int] = field(default_factory=lambda: [0] * len(Kind))
    links: dict[bytes, Link] = field(default_factory=dict[bytes, Link])
    head: PartitionHead | None = None

    def add(self, chained: Chained) -> None:
        """Add what a further slice made."""
        self.kinds = [before + more for before, more in zip(self.kinds, chained.kinds, strict=True)]
        self.links |= {link.name: link for link in chained.links}


class Transaction:
    """A transaction that ends beside its owner: all of its records are produced.

    Arguments:
        batch: What it covers.
        end: Sends the offsets and commits.
    """

    def __init__(self, batch: Batch, end: Callable[[], Outcome]) -> None:
        self.batch = batch
        self.ended_at: float | None = None
        self._outcome = call_beside(partial(self._run, end), name="commit")

    def _run(self, end: Callable[[], Outcome]) -> Outcome:
        try:
            return end()
        finally:
            self.ended_at = time.monotonic()

    def wait(self, timeout_seconds: float | None = None) -> None:
        """Wait until it has ended, one way or the other; without a timeout as long as its own calls may take."""
        wait([self._outcome], timeout=timeout_seconds)

    def outcome(self) -> Outcome:
        """Wait until it has ended, and return what was committed.

        Raises:
            AbortRequired: It was aborted; after a reload the same records can be done again.
            ProducerFatal: The producer is at its end, or the outcome is unknown; the committed offset tells it.
            StopRequested: The worker was told to stop, and could not finish; nothing is known of the outcome.
        """
        return self._outcome.result()


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
        """Chain a batch and commit it, with nothing beside: :class:`Draft` and :meth:`Transaction.outcome`."""
        draft = self.draft(batch, states)
        while draft.chain():
            draft.produce()
        return draft.end().outcome()

    def draft(self, batch: Batch, states: Mapping[int, PartitionState]) -> Draft:
        """Return the way of a batch into a transaction, to be gone step by step.

        Arguments:
            batch: The batch; it begins where the states end.
            states: The states of its partitions. They are moved first, so whatever is raised, throw them away.
        """
        return Draft(self, batch, states)

    def begin(self) -> None:
        """Begin a transaction. No other call of the producer may be under way."""
        self.opened_at = time.monotonic()
        self._call("begin", self._producer.begin_transaction)
        # Nothing has left the process. A crash here leaves no trace.
        self._before_produce()

    def produce(self, partition: int, chained: Chained) -> None:
        """Produce entries and dead letters, explicitly to their source's partition."""
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

    def produce_heads(self, grown: Mapping[int, Grown]) -> None:
        """Produce heads: the chains first, their partition last, so that whoever has read it has read all of them."""
        self._after_produce()
        produce, topic = self._producer.produce, self._topics.heads
        for partition, result in grown.items():
            prefix = chain_key(partition, b"")
            for name, link in result.links.items():
                key, value = prefix + name, pack_link(link)
                try:
                    produce(topic, value, key, partition)
                except BufferError:
                    self._produce_one(topic, value, key, partition, [])
            assert result.head is not None, "all of the batch is chained"
            self._produce_one(topic, result.head.pack(), partition_key(partition), partition, [])
        self._after_heads()
        # A crash from the first record on leaves records without a commit: invisible to every reader of committed
        # records. The successor's init_transactions aborts them, or the coordinator after the transaction's timeout.

    def end(self, batch: Batch, grown: Mapping[int, Grown]) -> Transaction:
        """Let the transaction end beside the caller: send offsets, commit."""
        # The membership under which the batch was read: its generation fences a worker that lost its partitions.
        membership = self._consumer.consumer_group_metadata()
        heads = {partition: result.head for partition, result in grown.items() if result.head is not None}
        return Transaction(batch, partial(self._end, batch, heads, grown, membership))

    def abort(self) -> None:
        """Abort the transaction."""
        self._call("abort", lambda: self._producer.abort_transaction(CALL_SECONDS))
        # A crash here: nothing is open any more, and the successor begins from the last commit.

    def chain(self, state: PartitionState, batch: Batch, grown: Grown) -> Generator[Chained]:
        """Chain the records of one partition, slice by slice."""
        if state.gap is not None:  # the engine gives it a transaction of its own, without records
            yield self._grow(grown, chain_gap(self._rules, state, state.gap))
        records = batch.records.get(state.partition, [])
        for start in range(0, len(records), SLICE_RECORDS):
            chained = chain(self._rules, state, records[start : start + SLICE_RECORDS], self._chain_ordinary)
            yield self._grow(grown, chained)
        # What lies between the last record and the end of what was read are no records: aborted ones and markers.
        state.position = max(state.position, batch.ends.get(state.partition, 0))
        grown.head = PartitionHead.of(state, self._rules)

    @staticmethod
    def _grow(grown: Grown, chained: Chained) -> Chained:
        grown.add(chained)
        return chained

    def _end(
        self, batch: Batch, heads: Mapping[int, PartitionHead], grown: Mapping[int, Grown], membership: object
    ) -> Outcome:
        try:
            self._send_offsets(heads, membership)
            self._after_send_offsets()
            # A crash here: as before; the coordinator knows the offsets, but has not committed them.
            self._call("commit", self._commit)
            self._after_commit()
            # A crash during the commit: if it is decided, the coordinator completes it, and the successor's committed()
            # waits for that; if not, it is aborted. A crash after it loses nothing but this memory.
        except AbortRequired:
            self.abort()
            raise
        kinds = [sum(column) for column in zip(*(result.kinds for result in grown.values()), strict=True)]
        firsts = [records[0].timestamp()[1] for records in batch.records.values() if records]
        seconds = time.monotonic() - self.opened_at
        return Outcome(kinds, batch.count, seconds, min(firsts, default=0), heads)

    def _produce_one(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int, headers: Headers
    ) -> None:
        call = partial(self._producer.produce, topic, value, key, partition, headers=headers)
        produce_waiting(self._producer, call, timeout_seconds=self._timeout_seconds)

    def _send_offsets(self, heads: Mapping[int, PartitionHead], membership: object) -> None:
        """Send the positions; the group's generation in the membership fences a worker that lost its partitions."""
        positions = [
            TopicPartition(self._topics.events, partition, head.position, self._pin)
            for partition, head in heads.items()
        ]
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


class Draft:
    """A batch on its way into a transaction.

    Arguments:
        cycle: What does it.
        batch: The batch.
        states: The states of its partitions.
    """

    def __init__(self, cycle: Cycle, batch: Batch, states: Mapping[int, PartitionState]) -> None:
        self.batch = batch
        self.is_begun = False
        self._cycle = cycle
        self._grown = {partition: Grown() for partition in batch.starts}
        self._waiting: list[tuple[int, Chained]] = []
        self._slices = ((n, chained) for n in batch.starts for chained in cycle.chain(states[n], batch, self._grown[n]))

    def chain(self) -> bool:
        """Chain a slice, in memory only; return whether there was one left.

        Raises:
            PositionDiffers: The batch does not follow the states. If a transaction was begun, it is aborted.
            WindowIncomplete: A record may repeat one that is gone. Likewise.
            ProducerFatal: The producer is at its end, found by aborting.
        """
        try:
            chained = next(self._slices, None)
        except (PositionDiffers, WindowIncomplete):
            self._abort()
            raise
        if chained is not None:
            self._waiting.append(chained)
        return chained is not None

    def produce(self) -> None:
        """Produce what is chained so far; at first, begin a transaction. None may be under way.

        Raises:
            AbortRequired: The transaction was aborted; after a reload the same records can be done again.
            ProducerFatal: The producer is at its end.
            StopRequested: The worker was told to stop, and could not finish.
        """
        if not self.is_begun:
            self._cycle.begin()
            self.is_begun = True
        with self._errors():
            for partition, chained in self._waiting:
                self._cycle.produce(partition, chained)
        self._waiting.clear()

    def end(self) -> Transaction:
        """Produce what is left, and heads; the end of the transaction goes on beside the caller.

        Raises:
            AbortRequired: As :meth:`produce`, and so the others.
            ProducerFatal: Likewise.
            StopRequested: Likewise.
        """
        self.produce()
        with self._errors():
            self._cycle.produce_heads(self._grown)
        return self._cycle.end(self.batch, self._grown)

    @contextmanager
    def _errors(self) -> Generator[None]:
        """Say what an error of ``produce`` means for the transaction, and abort it if it must be."""
        try:
            yield
        except KafkaException as exception:
            error: KafkaError = exception.args[0]
            if error.fatal():
                raise ProducerFatal("produce", error) from exception
            self._abort()
            raise AbortRequired("produce", error) from exception
        except AbortRequired:
            self._abort()
            raise

    def _abort(self) -> None:
        if self.is_begun:
            self._cycle.abort()


def pin(rules: Rules) -> str:
    """Return what stands in the metadata of each committed offset: what the partition was chained with, in short.

    Any worker can read it for all partitions with one request, so that a worker which owns none of the old partitions
    notices a changed partition count as well.
    """
    return f"{PIN_PREFIX}{rules.topic_id.hex()} {rules.genesis_digest.hex()}"


PIN_PREFIX: Final = "sealstream1 "
