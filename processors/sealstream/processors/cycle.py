"""The transactional cycle: chain, begin, produce, send offsets, commit. One batch, one transaction.

The end of a transaction waits for brokers, which takes a fifth of the time that chaining its batch takes. So it runs
beside the caller, who may read and chain the next batch meanwhile: what is chained has left the process only when it is
produced, and that waits for the transaction before.

Entries, heads, dead letters and the source position become visible together or not at all. Whatever happens in between,
the recovery is one and the same: a reader of committed records sees the state of the last commit, and whoever owns the
partition next goes on from there and makes the same bytes again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from dataclasses import dataclass
from functools import partial
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from sealstream.kafka.patience import HANG_SECONDS, call_beside, call_within
from sealstream.kafka.topics import SEAL_ENTRY_HEADER, TRACEPARENT_HEADER, TopicNames
from sealstream.kafka.transactions import AbortRequired, ProducerFatal, produce_waiting, transactional_call
from sealstream.processors.batch import Batch
from sealstream.processors.chaining import Chained, PartitionState, Rules, chain
from sealstream.processors.deadletter import Headers, headers_of, key_of, value_of
from sealstream.processors.gaps import chain_gap
from sealstream.processors.heads import PartitionHead, chain_key, pack_link, partition_key
from sealstream.processors.ordinary import ChainOrdinary, chain_ordinary
from sealstream.processors.points import Point
from sealstream.schemas.errors import SealstreamError
from sealstream.worker.failpoints import OFF, Failpoints

CALL_SECONDS: Final = 1.0
"""How long one call of librdkafka may block, so that a stop is noticed in between."""


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


@dataclass(frozen=True, slots=True)
class Made:
    """What a batch made of its partitions' chains; nothing of it has left the process.

    Arguments:
        batch: The batch.
        chained: By partition, its entries.
        heads: By partition, how far it is chained with them.
    """

    batch: Batch
    chained: Mapping[int, Chained]
    heads: Mapping[int, PartitionHead]


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
        """Chain a batch and commit it: :meth:`chain`, :meth:`begin` and :meth:`Transaction.outcome`, as they raise."""
        return self.begin(self.chain(batch, states)).outcome()

    def chain(self, batch: Batch, states: Mapping[int, PartitionState]) -> Made:
        """Chain a batch, in memory only: a transaction may end meanwhile.

        Arguments:
            batch: The batch; it begins where the states end.
            states: The states of its partitions. They are moved first, so whatever this or what follows raises, throw
                them away.

        Raises:
            PositionDiffers: The batch does not follow the states.
            WindowIncomplete: A record may repeat one that is gone.
        """
        chained = {partition: self._chain(states[partition], batch) for partition in batch.starts}
        return Made(batch, chained, {n: PartitionHead.of(states[n], self._rules) for n in batch.starts})

    def begin(self, made: Made) -> Transaction:
        """Begin a transaction and produce what a batch made; sending offsets and commit go on beside the caller.

        No other call of the producer may be made before the transaction has ended.

        Raises:
            AbortRequired: The transaction was aborted; after a reload the same records can be done again.
            ProducerFatal: The producer is at its end.
            StopRequested: The worker was told to stop, and could not finish.
        """
        self.opened_at = time.monotonic()
        self._call("begin", self._producer.begin_transaction)
        # Nothing has left the process. A crash here leaves no trace.
        try:
            self._before_produce()
            self._produce(made)
            self._after_heads()
            # A crash from here on leaves records without a commit: invisible to every reader of committed records. The
            # successor's init_transactions aborts them, or else the coordinator after the transaction's timeout.
        except AbortRequired:
            self._abort()
            raise
        # The membership under which the batch was read: its generation fences a worker that lost its partitions.
        membership = self._consumer.consumer_group_metadata()
        return Transaction(made.batch, partial(self._end, made, membership))

    def _end(self, made: Made, membership: object) -> Outcome:
        try:
            self._send_offsets(made, membership)
            self._after_send_offsets()
            # A crash here: as above; the coordinator knows the offsets, but has not committed them.
            self._call("commit", self._commit)
            self._after_commit()
            # A crash during the commit: if it is decided, the coordinator completes it, and the successor's committed()
            # waits for that; if not, it is aborted. A crash after it loses nothing but this memory.
        except AbortRequired:
            self._abort()
            raise
        return self._outcome(made, time.monotonic() - self.opened_at)

    def _abort(self) -> None:
        self._call("abort", lambda: self._producer.abort_transaction(CALL_SECONDS))
        # A crash here: nothing is open any more, and the successor begins from the last commit.

    def _chain(self, state: PartitionState, batch: Batch) -> Chained:
        """Chain the records of one partition."""
        if state.gap is not None:  # the engine gives it a transaction of its own, without records
            return chain_gap(self._rules, state, state.gap)
        chained = chain(self._rules, state, batch.records.get(state.partition, []), self._chain_ordinary)
        # What lies between the last record and the end of what was read are no records: aborted ones and markers.
        state.position = max(state.position, batch.ends.get(state.partition, 0))
        return chained

    def _produce(self, made: Made) -> None:
        """Produce entries, dead letters and heads, each explicitly to its source's partition."""
        try:
            for partition, chained in made.chained.items():
                self._produce_entries(partition, chained)
            self._after_produce()
            self._produce_heads(made)
        except KafkaException as exception:
            error: KafkaError = exception.args[0]
            raise (ProducerFatal if error.fatal() else AbortRequired)("produce", error) from exception

    def _produce_entries(self, partition: int, chained: Chained) -> None:
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

    def _produce_heads(self, made: Made) -> None:
        """Produce heads: the chains first, their partition last, so that whoever has read it has read all of them."""
        produce, topic = self._producer.produce, self._topics.heads
        for partition, chained in made.chained.items():
            prefix = chain_key(partition, b"")
            for link in chained.links:
                key, value = prefix + link.name, pack_link(link)
                try:
                    produce(topic, value, key, partition)
                except BufferError:
                    self._produce_one(topic, value, key, partition, [])
            self._produce_one(topic, made.heads[partition].pack(), partition_key(partition), partition, [])

    def _produce_one(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int, headers: Headers
    ) -> None:
        call = partial(self._producer.produce, topic, value, key, partition, headers=headers)
        produce_waiting(self._producer, call, timeout_seconds=self._timeout_seconds)

    def _send_offsets(self, made: Made, membership: object) -> None:
        """Send the positions; the group's generation in the membership fences a worker that lost its partitions."""
        positions = [
            TopicPartition(self._topics.events, partition, head.position, self._pin)
            for partition, head in made.heads.items()
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

    @staticmethod
    def _outcome(made: Made, seconds: float) -> Outcome:
        batch = made.batch
        kinds = [sum(column) for column in zip(*(chained.kinds for chained in made.chained.values()), strict=True)]
        firsts = [records[0].timestamp()[1] for records in batch.records.values() if records]
        return Outcome(kinds, batch.count, seconds, min(firsts, default=0), made.heads)


def pin(rules: Rules) -> str:
    """Return what stands in the metadata of each committed offset: what the partition was chained with, in short.

    Any worker can read it for all partitions with one request, so that a worker which owns none of the old partitions
    notices a changed partition count as well.
    """
    return f"{PIN_PREFIX}{rules.topic_id.hex()} {rules.genesis_digest.hex()}"


PIN_PREFIX: Final = "sealstream1 "
