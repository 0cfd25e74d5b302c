"""The verifier's connection to Kafka, from one loss of it to the next: assignment, batches, transactions.

Everything kept in memory is thrown away with the session, and read again by the next one from what was committed: there
is one way to come back, and every start takes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final, cast

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.replacement import Replaced
from sealstream.schemas.errors import InstanceDiffers, Unreachable
from sealstream.sinks.verifier.assigned import Assigned, Restorer
from sealstream.sinks.verifier.clients import member, member_name
from sealstream.sinks.verifier.counting import count
from sealstream.sinks.verifier.loading import Loader
from sealstream.sinks.verifier.output import Change, Output
from sealstream.sinks.verifier.records import Outcome
from sealstream.sinks.verifier.resolutions import Resolutions
from sealstream.sinks.verifier.runs import fitting, runs
from sealstream.sinks.verifier.source import Interrupted, LogCut, SourceReader, is_passing
from sealstream.worker import metrics
from sealstream.worker.logs import logger
from sealstream.worker.settings import Settings

POLL_SECONDS: Final = 0.1
MORE_SECONDS: Final = 0.5
"""How long more records of a partition are waited for where a doubt needs them to be decided."""
ADMIN_SECONDS: Final = 4.0
IDENTITY_SECONDS: Final = 10.0
"""How often the topics' UUIDs are compared: a topic made anew may be as long as the old one was."""
IDLE_SECONDS: Final = 5.0
"""After so long without records a position moves over what no reader sees."""
MEASURE_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 3.0
CLOCK_TOLERANCE_SECONDS: Final = 300


class _Revoked(Exception):
    """The group took the partitions away while a batch was checked; the batch is its next owner's."""


class Session:
    """One session.

    Arguments:
        settings: The worker's settings.
        stopping: Whether the worker was told to stop.
        report: Called with whether the worker does its work, and in words what it waits for.
    """

    def __init__(
        self, settings: Settings, *, stopping: Callable[[], bool], report: Callable[[bool, str], None]
    ) -> None:
        self._settings = settings
        self._stopping = stopping
        self._report = report
        self._topics = settings.topics()
        self._connection = settings.connection()
        self._output = Output(settings, stopping=stopping)
        self._closing = ExitStack()
        self._topic_ids: dict[str, bytes] = {}
        self._assigned: dict[int, Assigned] = {}
        self._standing: set[int] = set()  # partitions that a violation stops as a whole
        self._to_load: list[int] | None = None
        self._fatal: KafkaError | None = None
        self._generation = 0
        self._waiting: dict[int, list[Message]] = {}
        self._identity_due = self._measure_due = 0.0

    # -- beginning and end ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect, take over from whoever ran under this name before, and join the group.

        Raises:
            InstanceDiffers: A topic has another number of partitions than this worker is set up for.
            Unreachable, TransactionError: Kafka does not answer, or a topic is not there yet.
        """
        settings, stopping = self._settings, self._stopping
        name, wait_seconds = member_name(settings), settings.request_timeout_seconds
        self._report(False, "connecting to Kafka")
        self._admin = TopicAdmin(self._connection, timeout_seconds=ADMIN_SECONDS)
        self._check_topics()
        self._output.open()
        self._loader = Loader(
            self._connection, self._topics, client_id=name, stopping=stopping, timeout_seconds=wait_seconds
        )
        self._closing.callback(self._loader.close)
        self._source = SourceReader(
            self._connection,
            self._topics.events,
            client_id=f"{name}-source",
            stopping=stopping,
            patience_seconds=wait_seconds / 3,
            gather_seconds=settings.gather_seconds,
        )
        self._closing.callback(self._source.close)
        self._resolutions = Resolutions(self._connection, self._topics.violations, client_id=name)
        self._closing.callback(self._resolutions.close)
        self._consumer = member(settings, self._on_error)
        self._closing.callback(self._consumer.close)
        self._consumer.subscribe(
            [self._topics.chained, self._topics.events],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )
        self._report(False, "waiting for partitions")

    def close(self) -> None:
        """Close what is open, in bounded time: a client that waits for a broker which is away is left behind."""
        thread = threading.Thread(target=self._closing.close, name="close", daemon=True)
        thread.start()
        thread.join(CLOSE_SECONDS)
        if thread.is_alive():
            logger().warning("connections to Kafka did not close in time", timeout_seconds=CLOSE_SECONDS)

    def abort(self) -> None:
        """Abort a transaction that is open."""
        self._output.abort()

    # -- one step ------------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Take in what has arrived, check it, and commit what came of it.

        Returns:
            Whether anything was committed.

        Raises:
            AbortRequired, ProducerFatal, Unreachable, Replaced: The session is at its end; another one can take its
                place.
            UnsafeState: Going on would not be safe.
            Interrupted: The worker was told to stop.
        """
        try:
            if self._to_load is not None:
                self._load(self._to_load)
            if time.monotonic() >= self._identity_due:
                self._check_topics()
            return self._verify(self._take())
        except LogCut as cut:
            # The next session holds the logs against what was committed, and finds whether that is a violation.
            raise Unreachable(str(cut), hint="its bounds are compared with what was verified") from cut
        except _Revoked:
            logger().info("partitions were taken away during a batch; it is their next owner's")
            return False

    def _take(self) -> dict[int, list[Message]]:
        """Return the next records by partition, bounded in number and bytes."""
        waiting, self._waiting = self._waiting, {}
        messages = [message for several in waiting.values() for message in several] or self._poll(POLL_SECONDS)
        taken: dict[int, list[Message]] = {}
        records, size_bytes = self._settings.batch_records_max, self._settings.batch_bytes_max
        for number, several in runs(messages):
            if number not in self._assigned:
                continue
            count = fitting(several, records, size_bytes)
            taken.setdefault(number, []).extend(several[:count])
            if count < len(several):
                self._waiting.setdefault(number, []).extend(several[count:])
            records -= count
            size_bytes -= sum(map(len, several[:count]))
        return {number: several for number, several in taken.items() if several}

    def _poll(self, timeout_seconds: float) -> list[Message]:
        """Return the records of audit.chained that have arrived, waiting at most so long for the first.

        Raises:
            LogCut: A partition does not have the offset that is to be read next.
            Replaced: The group gave this worker's membership to another one.
        """
        first = self._consumer.poll(timeout_seconds)
        if self._fatal is not None:
            raise Replaced(f"the group refuses this worker: {self._fatal.str()}")
        messages = [] if first is None else [first, *self._consumer.consume(self._settings.batch_records_max, 0)]
        records = [message for message in messages if message.error() is None]
        if len(records) < len(messages):
            self._heed(messages)
        return records

    def _heed(self, messages: Sequence[Message]) -> None:
        """Take note of what is no record, but an end or an error.

        Raises:
            LogCut: A partition does not have the offset that is to be read next.
            Replaced: The group gave this worker's membership to another one.
        """
        for message in messages:
            error, number = message.error(), cast("int", message.partition())
            if error is None:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                if number in self._assigned:
                    self._assigned[number].end = cast("int", message.offset())
            elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                raise LogCut(self._topics.chained, number)
            else:
                is_passing(error)

    def _more(self, number: int) -> list[Message]:
        """Return records that follow on a partition, if any come soon; what comes of others is kept for later."""
        deadline = time.monotonic() + MORE_SECONDS + 2 * self._settings.gather_seconds
        generation = self._generation
        while not self._waiting.get(number) and time.monotonic() < deadline:
            for other, several in runs(self._poll(POLL_SECONDS)):
                self._waiting.setdefault(other, []).extend(several)
            if generation != self._generation:
                raise _Revoked
            if self._stopping():
                raise Interrupted
        return self._waiting.pop(number, [])

    def _verify(self, batches: dict[int, list[Message]]) -> bool:
        """Check the batches and commit what came of them, together with what was resolved in the meantime."""
        latest = (time.time_ns() // 1_000) + CLOCK_TOLERANCE_SECONDS * 1_000_000
        outcomes = {
            number: self._assigned[number].verifier.check(records, partial(self._more, number), latest=latest)
            for number, records in batches.items()
        }
        resolved = self._resolutions.poll()
        if not batches:
            self._source.fill(0)  # so that the ends of quiet partitions are known
        for number, assigned in self._assigned.items():
            if number in outcomes:
                assigned.idle_since = time.monotonic()
            outcome = outcomes.setdefault(number, Outcome())
            outcome.add(assigned.found)
            assigned.found = Outcome()
            if resolved:
                unsound = assigned.verifier.chains.unsound()
                outcome.touched |= {chain.name: chain for chain in unsound if self._resolutions.apply(chain)}
            if outcome.is_empty and not self._is_overdue(assigned):
                del outcomes[number]
        if outcomes:
            self._commit(outcomes)
        elif time.monotonic() >= self._measure_due:
            self._measure()
        return bool(outcomes)

    @staticmethod
    def _is_overdue(assigned: Assigned) -> bool:
        """Return whether a quiet partition's position is to be moved over what no reader sees."""
        quiet = time.monotonic() - assigned.idle_since > IDLE_SECONDS
        return quiet and assigned.position_now() != assigned.position

    def _commit(self, outcomes: dict[int, Outcome]) -> None:
        changes = [Change(n, outcome, self._assigned[n].position_now()) for n, outcome in outcomes.items()]
        began = time.monotonic()
        self._output.commit(changes, self._consumer)
        metrics.VERIFIER_TRANSACTION_SECONDS.observe(time.monotonic() - began)
        for change in changes:
            self._assigned[change.partition].position = change.position
        count(changes)
        if time.monotonic() >= self._measure_due or any(change.outcome.violations for change in changes):
            self._measure()

    def _measure(self) -> None:
        self._measure_due = time.monotonic() + MEASURE_SECONDS
        for number, assigned in self._assigned.items():
            _, end = self._consumer.get_watermark_offsets(TopicPartition(self._topics.chained, number), cached=True)
            metrics.VERIFIER_LAG.labels(number).set(max(0, end - assigned.position_now().chained))
        stopped = sum(chain.stopped for a in self._assigned.values() for chain in a.verifier.chains.unsound())
        metrics.VERIFIER_STOPPED.set(stopped)
        metrics.VERIFIER_STANDING.set(len(self._standing))

    def _on_error(self, error: KafkaError) -> None:
        """Take note of an error that ends the membership: it may be reported here alone, while records go on coming."""
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._fatal = error

    # -- assignment ----------------------------------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Note what was assigned; it is loaded between two polls, where waiting and errors are ours to handle."""
        self._forget()
        chained, source = (
            sorted(p.partition for p in partitions if p.topic == topic)
            for topic in (self._topics.chained, self._topics.events)
        )
        if chained != source:
            raise InstanceDiffers(
                f"{self._topics.chained} and {self._topics.events} were not assigned alike: {chained} and {source}",
                hint="both need the same number of partitions: sealstream topics check",
            )
        self._to_load = chained
        consumer.assign([])

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        del partitions
        self._forget()
        consumer.unassign()

    def _forget(self) -> None:
        """Drop what is known of the partitions: whoever has them next reads it from what was committed."""
        self._generation += 1
        self._assigned.clear()
        self._standing.clear()
        self._waiting.clear()
        self._to_load = None
        self._report(False, "waiting for partitions")

    def _load(self, numbers: list[int]) -> None:
        """Bring the partitions' verifiers to where they were committed, and read on from there."""
        self._report(False, f"loading {len(numbers)} partitions")
        restorer = Restorer(
            self._settings,
            self._consumer,
            self._loader,
            self._source,
            self._resolutions,
            topic_ids=self._topic_ids,
            stopping=self._stopping,
        )
        self._assigned = restorer.restore(numbers)
        if restorer.damaged:
            self._output.commit(restorer.damaged, self._consumer)
            count(restorer.damaged)
        self._standing = set(numbers) - self._assigned.keys()
        self._to_load = None
        places = [TopicPartition(self._topics.chained, n, a.position.chained) for n, a in self._assigned.items()]
        self._consumer.assign(places)
        logger().info("partitions loaded", partitions=sorted(self._assigned), standing_still=sorted(self._standing))
        self._report(True, f"verifying {len(self._assigned)} partitions")

    def _check_topics(self) -> None:
        """Compare the topics with what this worker is set up for, and with what they were when it began."""
        self._identity_due = time.monotonic() + IDENTITY_SECONDS
        topics = self._topics
        counts = dict.fromkeys(
            (topics.chained, topics.events, topics.verified, topics.verifier), self._settings.partitions
        ) | {topics.violations: 1}
        states = self._admin.describe(counts)
        for name, partitions in counts.items():
            if name not in states:
                raise Unreachable(f"the topic {name} does not exist", hint="sealstream topics create")
            if states[name].partitions != partitions:
                raise InstanceDiffers(
                    f"{name} has {states[name].partitions} partitions, and this worker is set up for {partitions}",
                    hint="set SEALSTREAM_PARTITIONS to what genesis pins; more partitions need a new epoch",
                )
        ids = {name: state.topic_id for name, state in states.items()}
        if self._topic_ids and ids != self._topic_ids:
            raise Unreachable("a topic was deleted and made anew", hint="it is compared with what was verified")
        self._topic_ids = ids
