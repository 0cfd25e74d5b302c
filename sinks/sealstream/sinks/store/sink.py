"""The worker that fills the store: audit.chained -> PostgreSQL.

Each batch is stored in one SQL transaction together with the position behind it, while the next one is gathered. The
position in the store is the only one that counts. So there is one way to recover, whatever happened, an unknown outcome
of a commit included: claim the assigned partitions anew and read on from where the store says. What is searched is
derived from the store by a thread of its own (:mod:`~sealstream.sinks.store.follower`), which nothing waits for.
"""

from __future__ import annotations

import gc
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Final

from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.replacement import Replaced, SecondChance
from sealstream.schemas.codec import EventReader
from sealstream.schemas.entry import Kind
from sealstream.schemas.errors import ConfigError, InstanceDiffers, SealstreamError, SourceGap, Unreachable
from sealstream.sinks.store.batch import Gathering
from sealstream.sinks.store.derive import Deriver
from sealstream.sinks.store.flight import Flight
from sealstream.sinks.store.follower import SearchFollower
from sealstream.sinks.store.quick import QuickReader
from sealstream.sinks.store.report import ViolationReporter
from sealstream.sinks.store.source import POLL_SECONDS, ChainedSource
from sealstream.sinks.store.writer import StoreWriter
from sealstream.worker import logs, metrics
from sealstream.worker.logs import logger
from sealstream.worker.registry import connect_registry
from sealstream.worker.settings import Settings, load_settings
from sealstream.worker.stop import END_SECONDS, StopSignal
from sealstream.worker.web import WorkerWeb

ADMIN_TIMEOUT_SECONDS: Final = 4.0
PAUSE_SECONDS_MIN: Final = 0.2
PAUSE_SECONDS_MAX: Final = 5.0
IDLE_SECONDS: Final = 0.1
SLICE_RECORDS: Final = 2_000
"""So many records are taken and checked at a time, while the batch before them is stored."""
GATHER_SECONDS: Final = 0.005
"""How long to wait for more records at a time, while there are some."""
PROBE_SECONDS: Final = 5.0
"""How often the log's ends are asked for: the lag, and whether Kafka still answers."""
MONTHS_SECONDS: Final = 21_600.0
BEHIND_SECONDS: Final = 30.0
"""A new leader may for a moment not know of everything that its predecessor showed."""
STOP_GRACE_SECONDS: Final = 5.0
STUCK_SECONDS: Final = 120.0
GARBAGE_OBJECTS: Final = 100_000
SWITCH_SECONDS: Final = 0.0005
"""How long a thread may keep the others from running: PostgreSQL waits while the one that feeds it does."""


class Sink:
    """The worker.

    Arguments:
        settings: Its settings.
        stop: Says when to stop.

    Raises:
        ConfigError: A setting is missing or cannot be used.
    """

    def __init__(self, settings: Settings, stop: StopSignal) -> None:
        connection = settings.connection()
        self._settings = settings
        self._stop = stop
        self._topic = settings.topics().chained
        self._admin = TopicAdmin(connection, timeout_seconds=ADMIN_TIMEOUT_SECONDS)
        database_url = settings.database_url()
        self._writer = StoreWriter(
            database_url,
            topic=self._topic,
            instance=settings.instance,
            writer=f"{settings.worker_id}/{secrets.token_hex(8)}",
            derive=_deriver(settings),
            report=ViolationReporter(connection, topic=settings.topics().violations, worker_id=settings.worker_id),
            timeout_seconds=settings.request_timeout_seconds,
        )
        self._flight = Flight(self._writer.write)
        self._source = ChainedSource(
            connection,
            topic=self._topic,
            group=f"{settings.instance}-sink",
            worker_id=settings.member(),
            session_timeout_seconds=settings.session_timeout_seconds,
            gather_seconds=settings.gather_seconds,
            on_leave=self._flight.settle,
        )
        self._search = SearchFollower(
            database_url,
            derive=_deriver(settings),
            evidence_waits=lambda: self._full,
            timeout_seconds=settings.request_timeout_seconds,
        )
        self._second_chance = SecondChance()
        self._gathering: Gathering | None = None
        self._readers: dict[int, QuickReader] = {}
        self._begun_at = 0.0
        self._drained = False
        # Whether the last batch was as large as one may be, and more came behind it; read by the search's thread.
        self._full = False
        self._pause_seconds = 0.0
        self._behind_since: float | None = None
        self._probed_at = self._months_at = float("-inf")
        self._done = threading.Event()
        # Read by the web port's threads.
        self._alive_at = time.monotonic()
        self._ready, self._words = False, "waiting for Kafka's group"

    def run(self) -> None:
        """Work until the stop signal.

        Raises:
            UnsafeState: Going on could damage the store.
            StoreError: The store refuses.
            ConfigError: Kafka refuses.
        """
        threading.Thread(target=self._end_waiting, name="stop", daemon=True).start()
        self._search.start()
        while not self._stop.is_set():
            self._alive_at = time.monotonic()
            self._search.check()
            try:
                try:
                    self._step()
                except Unreachable as error:
                    self._wait(error)
            except Replaced as error:
                self._join_again(error)
        # What was taken and not committed comes again: nothing is lost by leaving between two batches.
        try:
            self._land()
        except Unreachable as error:
            logger().warning("the last batch was not stored", reason=error.message)
        self._done.set()

    def close(self) -> None:
        """Close all connections."""
        self._search.close()
        if not self._flight.done:
            self._writer.abort()
        self._flight.settle()
        self._flight.close()
        self._done.set()
        self._writer.close()
        self._source.close()

    def healthy(self) -> bool:
        """Return whether the loop is alive."""
        return time.monotonic() - self._alive_at < STUCK_SECONDS

    def ready(self) -> tuple[bool, str]:
        """Return whether the worker stores what is assigned to it, and in words what it does or waits for."""
        return self._ready, self._words

    def _step(self) -> None:
        source = self._source
        if not source.assigned:
            source.idle(IDLE_SECONDS)
            metrics.SINK_ASSIGNED.set(0)
            self._ready = source.joined and not source.trouble
            waiting = "no partition assigned" if source.joined else "waiting for Kafka's group"
            self._words = f"Kafka: {source.trouble}" if source.trouble else waiting
            return
        if frozenset(source.reading) != source.assigned:
            self._claim()
        if self._flight.batch is not None and (self._flight.done or self._is_full()):
            self._land()
        idle = not self._gather()
        if self._flight.batch is None and self._is_ripe():
            self._launch()
        if time.monotonic() - self._probed_at > PROBE_SECONDS:
            self._probe(idle=idle and self._gathering is None and self._flight.batch is None)

    def _gather(self) -> bool:
        """Add what waits on the log to the batch that is gathered, and return whether there was anything."""
        had = self._gathering.records if self._gathering is not None else 0
        if self._is_full():
            return True
        messages = self._source.take(
            records_max=min(SLICE_RECORDS, self._settings.batch_records_max - had),
            bytes_max=self._settings.batch_bytes_max,
            wait_seconds=GATHER_SECONDS if had else POLL_SECONDS,
        )
        self._drained = len(messages) < min(SLICE_RECORDS, self._settings.batch_records_max - had)
        if not messages:
            self._full = self._full and bool(had)
            return False
        if self._gathering is None:
            self._gathering, self._begun_at = self._new_batch(), time.monotonic()
        self._gathering.add(messages)
        return True

    def _new_batch(self) -> Gathering:
        positions = dict(self._source.reading)
        if self._flight.batch is not None:
            positions |= self._flight.batch.ends
        return Gathering(positions, topic=self._topic, instance=self._settings.instance, readers=self._readers)

    def _is_full(self) -> bool:
        gathering = self._gathering
        return gathering is not None and (
            gathering.records >= self._settings.batch_records_max
            or gathering.size_bytes >= self._settings.batch_bytes_max
        )

    def _is_ripe(self) -> bool:
        """Return whether the batch that is gathered should be stored: more would have to be waited for, too long."""
        if self._gathering is None or not self._gathering.records:
            return False
        aged = time.monotonic() - self._begun_at >= self._settings.batch_age_seconds
        return self._is_full() or (self._drained and aged)

    def _launch(self) -> None:
        gathering, self._gathering = self._gathering, None
        assert gathering is not None
        self._full = gathering.records >= self._settings.batch_records_max
        self._flight.launch(gathering.batch())

    def _claim(self) -> None:
        """Become the writer of what is assigned, and read on from where the store says."""
        self._land()
        self._gathering = None
        topic_id = self._topic_id()
        bounds = {partition: self._source.bounds(partition) for partition in sorted(self._source.assigned)}
        positions = self._writer.claim({n: low for n, (low, _) in bounds.items()}, topic_id=topic_id)
        self._check_ends(positions, {n: high for n, (_, high) in bounds.items()})
        if time.monotonic() - self._months_at > MONTHS_SECONDS:
            self._make_months()
        self._source.read_from(positions)
        self._search.follow(positions)
        self._pause_seconds = 0.0
        self._ready, self._words = True, f"storing partitions {sorted(positions)}"
        metrics.SINK_ASSIGNED.set(len(positions))
        logger().info("reading", topic=self._topic, positions=positions)

    def _topic_id(self) -> bytes:
        state = self._admin.describe([self._topic]).get(self._topic)
        if state is None:
            raise Unreachable(f"the topic {self._topic} does not exist", hint="run sealstream topics create")
        if state.partitions != self._settings.partitions:
            raise InstanceDiffers(
                f"{self._topic} has {state.partitions} partitions, and the setting is {self._settings.partitions}",
                hint="SEALSTREAM_PARTITIONS is that of the instance's topics; another number is a new epoch",
            )
        return state.topic_id

    def _check_ends(self, positions: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """Refuse a log that ends before what is stored of it.

        Raises:
            Unreachable: It does, but has not for long.
            SourceGap: It does, and stays so.
        """
        short = [n for n, position in positions.items() if position > ends[n]]
        if not short:
            self._behind_since = None
            return
        n, now = short[0], time.monotonic()
        if self._behind_since is None:
            self._behind_since = now
        message = f"{self._topic} partition {n}: the log ends at offset {ends[n]}, and the store is at {positions[n]}"
        if now - self._behind_since < BEHIND_SECONDS:
            raise Unreachable(message)
        raise SourceGap(message, hint="the log lost records that the store has: compare both with sealstream verify")

    def _land(self) -> None:
        """Wait for the batch that is being stored, if there is one, and go on behind it."""
        landed = self._flight.land()
        if landed is None:
            return
        batch, written = landed.batch, landed.written
        metrics.SINK_TRANSACTION_SECONDS.observe(landed.seconds)
        metrics.SINK_BATCH_RECORDS.observe(len(batch))
        self._source.advance(batch.ends)
        self._search.wake(batch.ends)
        for kind, count in Counter(record.kind for record in batch.all()).items():
            metrics.SINK_ENTRIES.labels(Kind(kind).name.lower()).inc(count)
        if written.compared:
            metrics.SINK_SLOW_BATCHES.inc()
            logger().warning(
                "batch compared with the store",
                records=len(batch),
                added=written.added,
                violations=len(written.violations),
            )

    def _probe(self, *, idle: bool) -> None:
        """Measure the lag, which shows at the same time whether Kafka answers; and do what has time."""
        self._probed_at = time.monotonic()
        for partition in list(self._source.reading):
            end = self._source.bounds(partition)[1]
            metrics.SINK_LAG.labels(str(partition)).set(self._source.lag(partition, end))
        if idle:
            self._pass()
        if self._probed_at - self._months_at > MONTHS_SECONDS:
            self._land()
            self._make_months()

    def _pass(self) -> None:
        """Move positions over what holds no records, such as the ends of transactions."""
        passed = self._source.passed()
        if passed:
            self._writer.skip({partition: self._source.reading[partition] for partition in passed}, passed)
            self._source.advance(passed)

    def _make_months(self) -> None:
        made = self._writer.make_months()
        self._months_at = time.monotonic()
        if made:
            logger().info("partitions made", names=made)

    def _wait(self, error: Unreachable) -> None:
        """Drop what is known of positions, and stay in the group until it is time to try again."""
        self._ready, self._words = False, str(error)
        self._pause_seconds = min(PAUSE_SECONDS_MAX, max(PAUSE_SECONDS_MIN, self._pause_seconds * 2))
        logger().warning("waiting", reason=error.message, hint=error.hint, pause_seconds=self._pause_seconds)
        self._drop()
        self._source.stand_still()
        until = time.monotonic() + self._pause_seconds
        while not self._stop.is_set() and (left := until - time.monotonic()) > 0:
            self._source.idle(min(left, IDLE_SECONDS))

    def _join_again(self, error: Replaced) -> None:
        """Join the group as a new member under the same name, and claim what it assigns, as after a start.

        Raises:
            WriterConflict: That was tried a moment ago: another worker runs under this one's name.
        """
        self._second_chance.take(error)
        self._ready, self._words = False, "joining the group again"
        logger().warning("joining the group again", reason=error.message)
        self._drop()
        self._source.renew()

    def _drop(self) -> None:
        """Let the batch in flight end, one way or the other, and forget what was gathered: it comes again."""
        try:
            self._land()
        except Unreachable as error:
            logger().warning("a batch was not stored", reason=error.message)
        self._gathering, self._full = None, False
        self._writer.close()

    def _end_waiting(self) -> None:
        """Let the transaction in flight finish when the worker shall stop, but not for ever."""
        while not self._stop.wait(1.0):
            if self._done.is_set():
                return
        if not self._done.wait(STOP_GRACE_SECONDS):
            # The server rolls back; what it held comes again to whoever claims the partitions next.
            logger().warning("stopping: the transaction in flight is given up")
            self._writer.abort()


def _deriver(settings: Settings) -> Deriver:
    """Return what derives search rows, for one thread."""
    registry = connect_registry(settings) if settings.registry else None
    return Deriver(EventReader(schema_by_id=registry), count=lambda reason: metrics.SINK_UNDECODED.labels(reason).inc())


def run(settings: Settings) -> int:
    """Run the worker until SIGTERM or SIGINT.

    Returns:
        0 after an orderly stop; 1 after an error that needs a person, 2 where the settings are at fault. The error
        stands in the log with what to do.
    """
    logs.configure("sink", level=settings.log_level, format=settings.log_format)
    stop = StopSignal()
    stop.install(end_within_seconds=END_SECONDS)
    try:
        sink = Sink(settings, stop)
        web = WorkerWeb(settings.web_host, settings.web_port, healthy=sink.healthy, ready=sink.ready)
    except SealstreamError as error:
        logger().error("not started", error=type(error).__name__, reason=error.message, hint=error.hint)
        return _exit_code(error)
    web.start()
    # A batch makes and drops some hundred thousand objects without cycles: looking for cycles among them after every
    # 700 costs a tenth of the worker's time.
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        sink.run()
    except SealstreamError as error:
        logger().error("stopped", error=type(error).__name__, reason=error.message, hint=error.hint)
        return _exit_code(error)
    finally:
        sink.close()
        web.stop()
    logger().info("stopped in order")
    return 0


def main() -> int:
    """Run the worker with the settings that the environment gives, and return its exit code."""
    try:
        settings = load_settings()
    except SealstreamError as error:
        sys.stderr.write(f"{error}\n")
        return _exit_code(error)
    return run(settings)


def _exit_code(error: SealstreamError) -> int:
    return 2 if isinstance(error, ConfigError) else 1
