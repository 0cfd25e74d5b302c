"""The verifier's connection to Kafka, from one loss of it to the next: assignment, batches, transactions.

Everything kept in memory is thrown away with the session, and read again by the next one from what was committed: there
is one way to come back, and every start takes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from sealstream.kafka.admin import TopicAdmin
from sealstream.schemas.errors import ConfigError, InstanceDiffers, Unreachable
from sealstream.sinks.verifier.clients import member, member_name
from sealstream.sinks.verifier.loading import Loader, chained_record
from sealstream.sinks.verifier.output import Change, Output
from sealstream.sinks.verifier.partition import PartitionVerifier
from sealstream.sinks.verifier.records import ChainedRecord, Outcome
from sealstream.sinks.verifier.resolutions import Resolutions
from sealstream.sinks.verifier.restoring import Log, begin_or_go, is_short, log_damage
from sealstream.sinks.verifier.rules import Rules
from sealstream.sinks.verifier.source import (
    ASK_SECONDS,
    Interrupted,
    LogCut,
    SourcePartition,
    SourceReader,
    is_passing,
)
from sealstream.sinks.verifier.state import Position, StateReader
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


@dataclass(slots=True)
class Assigned:
    """A partition that this worker verifies.

    Arguments:
        verifier: Its checks.
        source: Its source.
        position: How far it is verified, as committed.
        found: What was found while it was loaded, to be written with the next transaction.
        end: Where audit.chained ended when its end was reached last; -1 if that has not been since.
        idle_since: When its last record came, on the monotonic clock.
    """

    verifier: PartitionVerifier
    source: SourcePartition
    position: Position
    found: Outcome
    end: int = -1
    idle_since: float = field(default_factory=time.monotonic)

    def position_now(self) -> Position:
        """Return how far it is verified, with what no reader sees behind the last record, such as markers.

        Without that, a log that has expired to its end would look as if it had lost something.
        """
        chained, source = self.verifier.chained_position, self.verifier.source_position
        if self.end >= chained:
            chained = self.end
            if not self.verifier.is_waiting:
                source = max(source, self.source.drained_to() or 0)
        return replace(self.position, chained=chained, source=source, delayed=tuple(self.verifier.delayed))


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
        self._genesis = settings.genesis()
        self._connection = settings.connection()
        self._output = Output(settings, stopping=stopping)
        self._closing = ExitStack()
        self._topic_ids: dict[str, bytes] = {}
        self._assigned: dict[int, Assigned] = {}
        self._standing: set[int] = set()  # partitions that a violation stops as a whole
        self._to_load: list[int] | None = None
        self._generation = 0
        self._waiting: dict[int, list[Message]] = {}
        self._identity_due = self._measure_due = 0.0

    # -- beginning and end ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect, take over from whoever ran under this name before, and join the group.

        Raises:
            ConfigError: A topic does not exist.
            InstanceDiffers: A topic has another number of partitions than this worker is set up for.
            Unreachable, TransactionError: Kafka does not answer.
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
        )
        self._closing.callback(self._source.close)
        self._resolutions = Resolutions(self._connection, self._topics.violations, client_id=name)
        self._closing.callback(self._resolutions.close)
        self._consumer = member(settings)
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
            AbortRequired, ProducerFatal, Unreachable: The session is at its end; another one can take its place.
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

    def _take(self) -> dict[int, list[ChainedRecord]]:
        """Return the next records by partition, bounded in number and bytes."""
        waiting, self._waiting = self._waiting, {}
        messages = [message for several in waiting.values() for message in several] or self._poll(POLL_SECONDS)
        taken: dict[int, list[ChainedRecord]] = {}
        size_bytes = records = 0
        for message in messages:
            number = cast("int", message.partition())
            if records >= self._settings.batch_records_max or size_bytes >= self._settings.batch_bytes_max:
                self._waiting.setdefault(number, []).append(message)
            elif number in self._assigned:
                taken.setdefault(number, []).append(chained_record(message))
                records += 1
                size_bytes += len(message)
        return taken

    def _poll(self, timeout_seconds: float) -> list[Message]:
        """Return the records of audit.chained that have arrived, waiting at most so long for the first.

        Raises:
            LogCut: A partition does not have the offset that is to be read next.
        """
        first = self._consumer.poll(timeout_seconds)
        messages = [] if first is None else [first, *self._consumer.consume(self._settings.batch_records_max, 0)]
        records: list[Message] = []
        for message in messages:
            error, number = message.error(), cast("int", message.partition())
            if error is None:
                records.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                if number in self._assigned:
                    self._assigned[number].end = cast("int", message.offset())
            elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                raise LogCut(self._topics.chained, number)
            else:
                is_passing(error)
        return records

    def _more(self, number: int) -> list[ChainedRecord]:
        """Return records that follow on a partition, if any come soon; what comes of others is kept for later."""
        deadline = time.monotonic() + MORE_SECONDS
        generation = self._generation
        while not self._waiting.get(number) and time.monotonic() < deadline:
            for message in self._poll(POLL_SECONDS):
                self._waiting.setdefault(cast("int", message.partition()), []).append(message)
            if generation != self._generation:
                raise _Revoked
            if self._stopping():
                raise Interrupted
        return [chained_record(message) for message in self._waiting.pop(number, [])]

    def _verify(self, batches: dict[int, list[ChainedRecord]]) -> bool:
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
                outcome.touched |= {n: c for n, c in assigned.verifier.chains.items() if self._resolutions.apply(c)}
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
        _count(changes)
        if time.monotonic() >= self._measure_due or any(change.outcome.violations for change in changes):
            self._measure()

    def _measure(self) -> None:
        self._measure_due = time.monotonic() + MEASURE_SECONDS
        for number, assigned in self._assigned.items():
            _, end = self._consumer.get_watermark_offsets(TopicPartition(self._topics.chained, number), cached=True)
            metrics.VERIFIER_LAG.labels(number).set(max(0, end - assigned.position_now().chained))
        stopped = sum(chain.stopped for a in self._assigned.values() for chain in a.verifier.chains.values())
        metrics.VERIFIER_STOPPED.set(stopped)
        metrics.VERIFIER_STANDING.set(len(self._standing))

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
        states = {number: self._loader.state(number, partial(self._committed, number)) for number in numbers}
        positions = {number: self._judge(number, state) for number, state in states.items()}
        going = {number: position for number, position in positions.items() if position is not None}
        sources = self._source.assign({number: position.source for number, position in going.items()})
        for number, position in going.items():
            self._assigned[number] = self._restore(number, position, states[number], sources[number])
        self._standing = set(numbers) - going.keys()
        self._to_load = None
        self._consumer.assign([TopicPartition(self._topics.chained, n, p.chained) for n, p in going.items()])
        logger().info("partitions loaded", partitions=sorted(going), standing_still=sorted(self._standing))
        self._report(True, f"verifying {len(going)} partitions")

    def _judge(self, number: int, state: StateReader) -> Position | None:
        """Return where to go on with a partition; ``None`` if a violation stops it as a whole.

        Raises:
            UnsafeState: It cannot be gone on with.
        """
        position = state.position
        if position is not None and position.stopped:
            return None
        deadline = time.monotonic() + self._settings.request_timeout_seconds / 3
        while True:
            chained, source = (self._log(topic, number) for topic in (self._topics.chained, self._topics.events))
            if not is_short(position, chained, source) or time.monotonic() >= deadline:
                break
            if self._stopping():
                raise Interrupted
            time.sleep(POLL_SECONDS)
        damage = log_damage(number, position, chained, source, self._genesis)
        if damage is None or position is None:
            return begin_or_go(number, position, chained, source, self._genesis)
        outcome = Outcome(violations=[damage])
        change = Change(number, outcome, replace(position, stopped=(damage.id,)))
        self._output.commit([change], self._consumer)
        _count([change])
        return None

    def _restore(self, number: int, position: Position, state: StateReader, source: SourcePartition) -> Assigned:
        rules = Rules(self._genesis, position.source_topic_id, number)
        verifier = PartitionVerifier(
            rules,
            source,
            chains=state.chains,
            chained_position=position.chained,
            source_position=position.source,
            delayed=position.delayed,
        )
        found = Outcome()
        for finding in self._loader.tail(number, rules, position, state.chains):
            verifier.report(finding, state.chains[finding.tenant.encode()], found)
        self._resolutions.poll()
        found.touched |= {n: c for n, c in state.chains.items() if self._resolutions.apply(c)}
        return Assigned(verifier, source, position, found)

    def _log(self, topic: str, number: int) -> Log:
        return Log(topic, self._topic_ids[topic], *self._loader.bounds(topic, number))

    def _committed(self, number: int) -> int | None:
        try:
            found = self._consumer.committed([TopicPartition(self._topics.chained, number)], timeout=ASK_SECONDS)
        except KafkaException as exception:
            raise Unreachable(f"the group's offsets cannot be read: {exception.args[0].str()}") from exception
        return found[0].offset if found[0].offset >= 0 else None

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
                raise ConfigError(f"the topic {name} does not exist", hint="sealstream topics create")
            if states[name].partitions != partitions:
                raise InstanceDiffers(
                    f"{name} has {states[name].partitions} partitions, and this worker is set up for {partitions}",
                    hint="set SEALSTREAM_PARTITIONS to what genesis pins; more partitions need a new epoch",
                )
        ids = {name: state.topic_id for name, state in states.items()}
        if self._topic_ids and ids != self._topic_ids:
            raise Unreachable("a topic was deleted and made anew", hint="it is compared with what was verified")
        self._topic_ids = ids


def _count(changes: list[Change]) -> None:
    """Add what was committed to the metrics and to the log."""
    metrics.VERIFIER_BATCH_RECORDS.observe(sum(change.outcome.records for change in changes))
    for change in changes:
        for kind, number in change.outcome.kinds.items():
            metrics.VERIFIER_ENTRIES.labels(kind.name.lower()).inc(number)
        for violation in change.outcome.violations:
            metrics.VERIFIER_VIOLATIONS.labels(violation.type.value).inc()
            logger().error(
                "violation",
                tenant=violation.tenant,
                seq=violation.seq,
                partition=violation.partition,
                offset=violation.offset,
                type=violation.type.value,
                severity=violation.severity.value,
                id=violation.id,
                message=violation.message,
            )
