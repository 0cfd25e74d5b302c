"""The worker that fills the store: audit.chained -> PostgreSQL.

One thread takes a batch, stores it in one SQL transaction together with the position behind it, and takes the next.
The position in the store is the only one that counts. So there is one way to recover, whatever happened, an unknown
outcome of a commit included: claim the assigned partitions anew and read on from where the store says.
"""

from __future__ import annotations

import gc
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from confluent_kafka import Message

from sealstream.kafka.admin import TopicAdmin
from sealstream.schemas.codec import EventReader
from sealstream.schemas.errors import InstanceDiffers, SealstreamError, SourceGap, Unreachable
from sealstream.sinks.store.batch import batch_of
from sealstream.sinks.store.derive import Deriver
from sealstream.sinks.store.registry import connect_registry
from sealstream.sinks.store.report import ViolationReporter
from sealstream.sinks.store.source import ChainedSource
from sealstream.sinks.store.writer import StoreWriter
from sealstream.worker import logs, metrics
from sealstream.worker.logs import logger
from sealstream.worker.settings import Settings, load_settings
from sealstream.worker.stop import END_SECONDS, StopSignal
from sealstream.worker.web import WorkerWeb

ADMIN_TIMEOUT_SECONDS: Final = 4.0
PAUSE_SECONDS_MIN: Final = 0.2
PAUSE_SECONDS_MAX: Final = 5.0
IDLE_SECONDS: Final = 0.1
PROBE_SECONDS: Final = 5.0
"""How often the log's ends are asked for: the lag, and whether Kafka still answers."""
MONTHS_SECONDS: Final = 21_600.0
BEHIND_SECONDS: Final = 30.0
"""A new leader may for a moment not know of everything that its predecessor showed."""
STOP_GRACE_SECONDS: Final = 5.0
STUCK_SECONDS: Final = 120.0
GARBAGE_OBJECTS: Final = 100_000


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
        registry = connect_registry(settings) if settings.registry else None
        self._writer = StoreWriter(
            settings.database_url(),
            topic=self._topic,
            instance=settings.instance,
            writer=f"{settings.worker_id}/{secrets.token_hex(8)}",
            derive=Deriver(
                EventReader(schema_by_id=registry), count=lambda reason: metrics.SINK_UNDECODED.labels(reason).inc()
            ),
            report=ViolationReporter(connection, topic=settings.topics().violations, worker_id=settings.worker_id),
            timeout_seconds=settings.request_timeout_seconds,
        )
        self._source = ChainedSource(
            connection,
            topic=self._topic,
            group=f"{settings.instance}-sink",
            worker_id=settings.worker_id,
            session_timeout_seconds=settings.session_timeout_seconds,
        )
        self._pause_seconds = 0.0
        self._behind_since: float | None = None
        self._probed_at = self._months_at = float("-inf")
        self._done = threading.Event()
        # Read by the web port's threads.
        self._alive_at = time.monotonic()
        self._ready, self._words = False, "waiting for the group"

    def run(self) -> None:
        """Work until the stop signal.

        Raises:
            UnsafeState: Going on could damage the store.
            StoreError: The store refuses.
            ConfigError: Kafka refuses.
        """
        threading.Thread(target=self._end_waiting, name="stop", daemon=True).start()
        while not self._stop.is_set():
            self._alive_at = time.monotonic()
            try:
                self._step()
            except Unreachable as error:
                self._wait(error)
        # What was taken and not committed comes again: nothing is lost by leaving between two batches.
        self._done.set()

    def close(self) -> None:
        """Close all connections."""
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
            self._words = source.trouble or ("no partition assigned" if source.joined else "waiting for the group")
            return
        if frozenset(source.reading) != source.assigned:
            self._claim()
        messages = source.take(
            records_max=self._settings.batch_records_max,
            bytes_max=self._settings.batch_bytes_max,
            age_seconds=self._settings.batch_age_seconds,
        )
        if messages:
            self._store(messages)
        if time.monotonic() - self._probed_at > PROBE_SECONDS:
            self._probe(idle=not messages)

    def _claim(self) -> None:
        """Become the writer of what is assigned, and read on from where the store says."""
        topic_id = self._topic_id()
        bounds = {partition: self._source.bounds(partition) for partition in sorted(self._source.assigned)}
        positions = self._writer.claim({n: low for n, (low, _) in bounds.items()}, topic_id=topic_id)
        self._check_ends(positions, {n: high for n, (_, high) in bounds.items()})
        if time.monotonic() - self._months_at > MONTHS_SECONDS:
            self._make_months()
        self._source.read_from(positions)
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

    def _store(self, messages: Sequence[Message]) -> None:
        batch = batch_of(messages, self._source.reading, topic=self._topic, instance=self._settings.instance)
        if not batch.ends:
            return
        begun = time.monotonic()
        written = self._writer.write(batch)
        metrics.SINK_TRANSACTION_SECONDS.observe(time.monotonic() - begun)
        metrics.SINK_BATCH_RECORDS.observe(len(batch))
        self._source.advance(batch.ends)
        for kind, count in Counter(record.entry.kind for record in batch.all()).items():
            metrics.SINK_ENTRIES.labels(kind.name.lower()).inc(count)
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
        self._writer.close()
        self._source.stand_still()
        until = time.monotonic() + self._pause_seconds
        while not self._stop.is_set() and (left := until - time.monotonic()) > 0:
            self._source.idle(min(left, IDLE_SECONDS))

    def _end_waiting(self) -> None:
        """Let the transaction in flight finish when the worker shall stop, but not for ever."""
        while not self._stop.wait(1.0):
            if self._done.is_set():
                return
        if not self._done.wait(STOP_GRACE_SECONDS):
            # The server rolls back; what it held comes again to whoever claims the partitions next.
            logger().warning("stopping: the transaction in flight is given up")
            self._writer.abort()


def run(settings: Settings) -> int:
    """Run the worker until SIGTERM or SIGINT.

    Returns:
        0 after an orderly stop; 1 after an error that needs a person, which stands in the log with what to do.
    """
    logs.configure("sink", level=settings.log_level, format=settings.log_format)
    stop = StopSignal()
    stop.install(end_within_seconds=END_SECONDS)
    try:
        sink = Sink(settings, stop)
        web = WorkerWeb(settings.web_host, settings.web_port, healthy=sink.healthy, ready=sink.ready)
    except SealstreamError as error:
        logger().error("not started", error=type(error).__name__, reason=error.message, hint=error.hint)
        return 1
    web.start()
    # A batch makes and drops some hundred thousand objects without cycles: looking for cycles among them after every
    # 700 costs a tenth of the worker's time.
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)
    try:
        sink.run()
    except SealstreamError as error:
        logger().error("stopped", error=type(error).__name__, reason=error.message, hint=error.hint)
        return 1
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
        return 1
    return run(settings)
