"""Runs the processor: connects, restores, reads batches, puts them through transactions, and recovers from errors.

No asyncio here: the log's thread calls :meth:`Engine.step` and :meth:`Engine.process` one after the other, never two at
once. What takes long is a generator that is advanced between two polls, and yields in words what it waits for. There is
one way back from every error: throw the state away, and restore it as after a start.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Final, TypeAlias

from confluent_kafka import Consumer, KafkaException, Producer

from sealstream.kafka.replacement import Replaced, SecondChance, namesake
from sealstream.kafka.transactions import ProducerFatal, TransactionError, transactional_call
from sealstream.processors.batch import Batch
from sealstream.processors.chaining import PartitionState, PositionDiffers
from sealstream.processors.clients import Clients, Identity
from sealstream.processors.cycle import Cycle, Draft, Transaction
from sealstream.processors.failures import classify, is_fenced, is_replaced
from sealstream.processors.instance import Instance
from sealstream.processors.ordinary import chain_ordinary, fastest
from sealstream.processors.points import Point
from sealstream.processors.reading import REQUEST_SECONDS
from sealstream.processors.restore import Restorer
from sealstream.processors.source import POLL_SECONDS, PlaceGone, Source
from sealstream.processors.status import Status
from sealstream.schemas.errors import Unreachable
from sealstream.worker import metrics
from sealstream.worker.failpoints import OFF, Failpoints
from sealstream.worker.logs import logger
from sealstream.worker.settings import Settings

BACKOFF_SECONDS_MIN: Final = 0.2
BACKOFF_SECONDS_MAX: Final = 5.0
STOP_GRACE_SECONDS: Final = 4.0
"""How long a transaction may go on trying after the worker was told to stop."""

LAST_SECONDS: Final = 0.5
"""How long the last transaction may hold up the end of a worker that has given up."""

MARKERS_SECONDS: Final = 0.006
"""How long a broker may go on writing the markers of a transaction after it has answered its commit.

A transaction that begins meanwhile is sent away, and librdkafka tries again after 20 ms: measured at 1,000 events a
second, a median from publishing to the committed record of 43 ms without this pause and of 26 ms with it.
"""

START_SECONDS_MAX: Final = 60.0
"""A producer that has not started by then hangs, as librdkafka may after its coordinator was away."""

Work: TypeAlias = Generator[str, None, None]


class Engine:
    """All of the processor but Faust.

    Arguments:
        settings: The worker's settings.
        status: Where it tells what it is at.
        failpoints: Where a test makes it fail; see :class:`Point`.
    """

    def __init__(self, settings: Settings, status: Status, failpoints: Failpoints = OFF) -> None:
        connection, identity = settings.connection(), Identity(settings.instance, settings.member())
        self._settings = settings
        self._status = status
        self._failpoints = failpoints
        self._during_assignment = failpoints.at(Point.DURING_ASSIGNMENT)
        self._during_revocation = failpoints.at(Point.DURING_REVOCATION)
        self._during_heads_reload = failpoints.at(Point.DURING_HEADS_RELOAD)
        self._topics = settings.topics()
        self._clients = Clients(
            connection,
            identity,
            transaction_timeout_seconds=settings.transaction_timeout_seconds,
            session_timeout_seconds=settings.session_timeout_seconds,
        )
        self._instance = Instance(
            connection,
            identity,
            self._topics,
            settings.genesis(),
            patience_seconds=settings.request_timeout_seconds,
        )
        self._source = Source(
            self._clients,
            self._topics.events,
            status,
            on_assigned=self._on_assigned,
            on_revoked=self._on_revoked,
            records_max=settings.batch_records_max,
            bytes_max=settings.batch_bytes_max,
            age_seconds=settings.batch_age_seconds,
        )
        self._chain_ordinary = fastest(native=settings.native)
        self._producer: Producer | None = None
        self._starting: Producer | None = None  # one whose start has not come to its end
        self._starting_since = 0.0
        self._reader: Consumer | None = None
        self._cycle: Cycle | None = None
        self._transaction: Transaction | None = None  # the one that ends beside what is done here
        self._begin_at = 0.0  # no sooner may the next one begin that is in no hurry
        self._states: dict[int, PartitionState] = {}
        self._kept: dict[int, PartitionState] = {}
        self._work: Work | None = self._connect()
        self._failed: dict[int, int] = {}  # by partition, where a batch began that was aborted and not committed since
        self._backoff_seconds = BACKOFF_SECONDS_MIN
        self._resume_at = 0.0
        self._second_chance = SecondChance()
        self._stop_at: float | None = None

    def stop(self) -> None:
        """Tell the engine, from any thread, that the batch at hand is the last, and may try for a few seconds more."""
        self._stop_at = time.monotonic() + STOP_GRACE_SECONDS

    def close(self) -> None:
        """Leave the group and close the clients. No transaction is open, unless the brokers are away."""
        if self._transaction is not None:
            self._transaction.wait(LAST_SECONDS)
        if self._reader is not None:
            self._reader.close()
        self._source.close()

    def step(self) -> Batch | None:
        """Make one step, of a few seconds at most: go on connecting or restoring, or read the next batch.

        Raises:
            SealstreamError: The worker must stop; says why and the way out.
        """
        self._status.step()
        try:
            if self._transaction is not None and self._transaction.ended_at is not None:
                self.settle()
            if self._work is None:
                return self._take()
            self._advance(self._work)
        except (PlaceGone, Unreachable, Replaced, KafkaException) as error:
            if self.settle():  # else it is answered already, by the same way back
                self._answer(error)
        return None

    def _answer(self, error: PlaceGone | Unreachable | Replaced | KafkaException) -> None:
        """Find the way back from an error outside of a transaction.

        Raises:
            SealstreamError: There is none.
        """
        if isinstance(error, KafkaException):
            meaning = classify(error.args[0], "talk to Kafka")
            if not isinstance(meaning, Unreachable):
                raise meaning from error
            error = meaning
        if isinstance(error, PlaceGone):
            self._reload(error.message, pause_seconds=self._backoff_seconds)
        elif isinstance(error, Replaced):
            self._join_again(error)
        else:
            self._retry(error)

    def process(self, batch: Batch) -> None:
        """Chain a batch and put it into a transaction, which may end beside what is done next; or throw it away.

        Raises:
            SealstreamError: The worker must stop; says why and the way out.
        """
        self._status.step()
        if self._cycle is None or batch.generation != self._source.generation:
            return  # revoked meanwhile: its next owner reads it from the committed offset
        if any(self._states[n].position != start for n, start in batch.starts.items()):
            if self.settle():
                self._reload("a batch got lost on its way to the agent")
            return
        draft = self._cycle.draft(batch, self._states)
        while self._go_on(draft):
            self._status.step()

    def _go_on(self, draft: Draft) -> bool:
        """Chain a slice of a batch, and produce it unless a transaction still ends; return whether to go on."""
        try:
            more = draft.chain()
        except PositionDiffers as error:
            self._status.on_end()
            if self.settle():
                self._reload(error.message)
            return False
        except TransactionError as error:  # of the abort
            self._status.on_end()
            self._recover(error, draft.batch)
            return False
        if more and self._transaction is not None and self._transaction.ended_at is None:
            return True
        if not self.settle():
            return False  # what this batch follows was not committed, so both are read again
        if not draft.is_begun:
            self._status.on_begin()
        try:
            if more:
                draft.produce()
            else:
                self._transaction = draft.end()
        except TransactionError as error:
            self._status.on_end()
            self._recover(error, draft.batch)
            return False
        return more

    def settle(self) -> bool:
        """Wait until the transaction that goes on beside has ended, if there is one, and take in what became of it.

        Returns:
            Whether all is committed that the states hold; if not, they are thrown away, to be restored.

        Raises:
            SealstreamError: The worker must stop; says why and the way out.
        """
        transaction, self._transaction = self._transaction, None
        if transaction is None:
            return True
        try:
            outcome = transaction.outcome()
        except TransactionError as error:
            self._recover(error, transaction.batch)
            return False
        finally:
            self._status.on_end()
        self._begin_at = (transaction.ended_at or 0.0) + MARKERS_SECONDS
        self._failed = {n: start for n, start in self._failed.items() if n not in transaction.batch.starts}
        self._source.grow()
        self._status.on_commit(outcome)
        return True

    def _busy(self) -> bool:
        """Return whether a transaction that began now would have to wait."""
        transaction, begin_at = self._transaction, self._begin_at
        if transaction is not None:
            if transaction.ended_at is None:
                return True
            begin_at = transaction.ended_at + MARKERS_SECONDS
        return time.monotonic() < begin_at

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _take(self) -> Batch | None:
        gaps = {partition: state.position for partition, state in self._states.items() if state.gap is not None}
        if gaps:  # a transaction of their own: they must stand before anything that lies behind them
            return Batch(self._source.generation, starts=gaps, ends=dict(gaps))
        batch = self._source.take(self._busy)
        return batch if self._work is None else None  # else an assignment came within the poll

    def _advance(self, work: Work) -> None:
        """Advance what takes long; serve the group before, which may put other work in its place."""
        pausing = time.monotonic() < self._resume_at
        idle = self._source.joined and not self._source.owned
        self._source.serve(POLL_SECONDS if pausing or idle else 0.0)
        if pausing or self._work is not work:
            return
        try:
            self._status.waiting = next(work)
        except StopIteration:
            self._work = None
            self._status.waiting = ""
            self._backoff_seconds = BACKOFF_SECONDS_MIN

    def _connect(self) -> Work:
        """Wait for Kafka and the topics, then join the group: the rest follows from the assignment."""
        yield "Kafka"
        yield from self._instance.check_topics()
        yield from self._begin_producing()
        self._source.join()
        yield from self._await_assignment()

    @staticmethod
    def _await_assignment() -> Work:
        while True:  # until an assignment puts its own work in this one's place
            yield "an assignment of partitions"

    def _begin_producing(self) -> Work:
        """Make a producer if there is none; its start ends what its predecessor left open, one way or the other."""
        if self._producer is not None:
            return
        # A start that takes long is gone on with. If it were given up for a new producer's, it might reach the
        # coordinator behind that one's, and put it out as a namesake would.
        now = time.monotonic()
        if self._starting is None or now - self._starting_since >= START_SECONDS_MAX:
            self._starting, self._starting_since = self._clients.producer(), now
        producer = self._starting
        yield "the transaction coordinator"
        try:
            transactional_call("init", lambda: producer.init_transactions(REQUEST_SECONDS), timeout_seconds=0)
        except TransactionError as error:
            if not error.error.retriable():
                self._starting = None
            meaning = classify(error.error, "begin producing")
            raise meaning from error
        self._producer, self._starting = producer, None

    def _restore(self) -> Work:
        """Restore the owned partitions, and read them from where their heads end."""
        rules = yield from self._instance.check_topics()
        yield from self._begin_producing()
        assert self._producer is not None
        self._reader = self._reader or self._clients.reader()
        restorer = Restorer(
            self._reader,
            self._topics,
            rules,
            committed=self._committed,
            patience_seconds=self._settings.request_timeout_seconds,
        )
        states: dict[int, PartitionState] = {}
        for partition in self._source.owned:
            states[partition] = yield from restorer.restore(partition, self._kept.pop(partition, None))
        yield "the other partitions' offsets"
        self._instance.check_pins(rules)
        self._reader.close()
        self._reader = None
        self._cycle = Cycle(
            self._producer,
            self._source.consumer,
            self._topics,
            rules,
            timeout_seconds=self._settings.transaction_timeout_seconds,
            stopping=self._must_stop_now,
            failpoints=self._failpoints,
            chain_ordinary=self._chain_ordinary,
        )
        self._kept, self._states = {}, states
        self._source.read_from(self._positions())
        self._status.on_states(states)
        code = "python" if self._chain_ordinary is chain_ordinary else "native"
        logger().info("chaining", positions=self._positions(), topic=self._topics.events, code=code)

    def _committed(self, partition: int) -> int | None:
        offset = self._source.committed(partition)
        self._during_heads_reload()
        return offset

    def _positions(self) -> dict[int, int]:
        return {partition: state.position for partition, state in self._states.items()}

    def _must_stop_now(self) -> bool:
        return self._stop_at is not None and time.monotonic() >= self._stop_at

    # -- called within a poll ------------------------------------------------------------------------------------------

    def _on_assigned(self) -> None:
        self._await_transaction()
        self._status.on_owned(self._source.owned)
        self._during_assignment()
        self._kept = {n: state for n, state in self._kept.items() if n in self._source.owned}
        self._failed = {}
        self._work = self._restore()

    def _on_revoked(self, *, lost: bool) -> None:
        self._during_revocation()
        self._await_transaction()
        if lost:
            # The group thought this worker dead, and librdkafka joins again by itself. Another worker of its name may
            # have come meanwhile, with a producer that has put ours out; see _join_again.
            self._producer = None
        # No batch is chained within a poll, so each state is that of its last transaction. If that was not committed,
        # the state says more than the committed offset does, and no restore takes it over.
        self._kept, self._states = self._states, {}
        self._status.on_owned(())
        self._status.waiting = "an assignment of partitions"
        self._work = self._await_assignment()

    def _await_transaction(self) -> None:
        """Keep the group waiting until the transaction that goes on beside has ended: it holds these partitions."""
        if self._transaction is not None:
            self._transaction.wait()

    # -- errors --------------------------------------------------------------------------------------------------------

    def _recover(self, error: TransactionError, batch: Batch) -> None:
        """Decide what a failed transaction means: again after a reload, or the end of the process.

        Raises:
            SealstreamError: A person is needed, or at least a new process.
        """
        metrics.PROCESSOR_ABORTS.inc()
        passing, overdue = error.is_connectivity or error.error.retriable(), self._overdue()
        if overdue:
            self._source.shrink()
        if isinstance(error, ProducerFatal):
            if is_fenced(error.error) and not passing and not overdue:
                raise namesake(error.message)
            # The outcome is unknown, or the coordinator gave the transaction up for its age, or librdkafka lost count
            # of its messages, as it may when a leader moves. A new producer's start settles all of it, just as a new
            # process' would, and the committed offset then tells what became of it.
            self._producer = None
        elif is_replaced(error.error):
            self._join_again(Replaced(error.message))
            return
        if not passing and not overdue:
            # The second batch is seldom just the first one: more records have come, maybe of other partitions.
            if self._failed.items() & batch.starts.items():
                error.hint = "it would fail for ever; nothing was skipped. sealstream topics check may say why"
                raise error
            self._failed |= batch.starts
        if passing:
            self._retry(Unreachable(error.message, hint="check that the brokers run"))
        else:
            self._reload(error.message)

    def _join_again(self, error: Replaced) -> None:
        """Join the group as a new member under the same name, unless that was tried a moment ago.

        Raises:
            WriterConflict: Another worker runs under this one's name.
        """
        self._second_chance.take(error)
        logger().warning("joining the group again", reason=error.message)
        self._source.renew()
        # Whoever had our membership may have our transactional id as well. Each of two namesakes makes a new producer
        # before it joins, so the last one to join has both; otherwise each could lack one of them, and both would end.
        self._producer = None
        self._again(self._backoff_seconds)
        self._status.waiting = "a new membership in the group"

    def _overdue(self) -> bool:
        """Return whether the transaction took so long that its coordinator may have aborted it."""
        opened_at = self._cycle.opened_at if self._cycle is not None else 0.0
        return time.monotonic() - opened_at >= self._settings.transaction_timeout_seconds

    def _reload(self, reason: str, *, pause_seconds: float = 0.0) -> None:
        """Throw all state away and restore it."""
        logger().warning("reading heads and source again", reason=reason)
        self._again(pause_seconds)
        self._status.waiting = reason

    def _retry(self, error: Unreachable) -> None:
        """Throw all state away, and try again in a while: the cluster is away, and the worker stays."""
        logger().warning("waiting for Kafka", reason=error.message, pause_seconds=round(self._backoff_seconds, 1))
        self._again(self._backoff_seconds)
        self._backoff_seconds = min(self._backoff_seconds * 2, BACKOFF_SECONDS_MAX)
        self._status.waiting = f"Kafka: {error.message}"

    def _again(self, pause_seconds: float) -> None:
        self._states, self._kept, self._cycle = {}, {}, None
        if self._reader is not None:  # it may hold on to a broker that is gone
            self._reader.close()
            self._reader = None
        self._resume_at = time.monotonic() + pause_seconds
        self._status.on_owned(self._source.owned)
        if self._source.owned:
            self._source.read_from({})
            self._work = self._restore()
        else:
            self._work = self._connect()
