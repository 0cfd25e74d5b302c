"""Runs one contestant over a source topic, and takes down how it did."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Final, cast

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from bench.bare_loop import Task
from bench.output import Output, read_output
from bench.servers import Servers
from bench.usage import CpuCourse
from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicNames, topic_table
from sealstream.schemas.entry import Genesis
from sealstream.worker.settings import PREFIX
from support.workers import wait_for

RUN_SECONDS: Final = 900.0
_POLL_SECONDS: Final = 0.2
_STOP_SECONDS: Final = 20.0
_TICK_SECONDS: Final = 0.001  # of the broker's append times
_LOG_TAIL: Final = 4_000
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Launch:
    """How a contestant is started.

    Arguments:
        command: The command.
        environment: Variables besides those of this process; none that begins with ``SEALSTREAM_`` is handed on.
        group: Its consumer group, whose committed offsets tell when it is through.
        topics: The beginnings of the names of topics that it makes for itself.
    """

    command: Sequence[str]
    group: str
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    topics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entrant:
    """Who takes part.

    Arguments:
        name: Its name in the result.
        launch: Tells how to start it on a task.
        chained: The topic that it writes, if that is not its own to choose.
        heads: Likewise.
    """

    name: str
    launch: Callable[[Task], Launch]
    chained: str = ""
    heads: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A published source topic.

    Arguments:
        topic: Its name.
        topic_id: Its UUID.
        counts: How many records each partition has.
    """

    topic: str
    topic_id: bytes
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """What one run of a contestant gave.

    Arguments:
        measured: Figures by name, units included.
        output: What it made.
    """

    measured: dict[str, float]
    output: Output


class Contest:
    """The topics of one benchmark, and the runs over them.

    Arguments:
        servers: Kafka.
        name: Begins the names of all topics and groups.
        progress: Told what happens.
        directory: Where the contestants' logs go.
    """

    def __init__(
        self, servers: Servers, name: str, *, progress: Callable[[str], None], directory: Path | None = None
    ) -> None:
        self._servers = servers
        self._name = name
        self._directory = directory or Path(tempfile.gettempdir())
        self._progress = progress
        self._connection = KafkaConnection(servers.kafka)
        self._topics = TopicAdmin(self._connection)
        self._admin = AdminClient({"bootstrap.servers": servers.kafka})
        self.names = TopicNames(prefix=f"{name}.")

    def create_source(self, topic: str, genesis: Genesis) -> bytes:
        """Create a source topic, and the processor's dead letters beside it; return its UUID."""
        self._create(topic, self.names.events, genesis)
        self._create(self.names.deadletter, self.names.deadletter, genesis)
        wait_for(lambda: topic in self._topics.describe([topic]), timeout_seconds=30, what=f"the topic {topic}")
        return self._topics.describe([topic])[topic].topic_id

    def run(self, entrant: Entrant, source: Source, genesis: Genesis, *, warmup_events: int) -> Score:
        """Run a contestant over the whole source, and measure what comes after the warm-up."""
        task = Task(
            bootstrap=self._servers.kafka,
            source=source.topic,
            chained=entrant.chained or f"{self._name}.{entrant.name}.chained",
            heads=entrant.heads or f"{self._name}.{entrant.name}.heads",
            group=f"{genesis.instance.replace('/', '-')}-{entrant.name}",
            topic_id=source.topic_id.hex(),
            genesis=genesis.payload().decode(),
            partitions=genesis.partitions,
            window_offsets=genesis.window_offsets,
            window_seconds=genesis.window_seconds,
        )
        self._create(task.chained, self.names.chained, genesis, **{"message.timestamp.type": "LogAppendTime"})
        self._create(task.heads, self.names.heads, genesis)
        launch = entrant.launch(task)
        try:
            course = self._measure(entrant.name, launch, source)
            output = read_output(self._servers.kafka, task.chained, genesis.partitions, progress=self._progress)
        finally:
            self.delete(task.chained, task.heads, *launch.topics)
        return Score(_measured(output, course, warmup_events), output)

    def delete(self, *beginnings: str) -> None:
        """Delete the topics whose names begin so, and wait until they are gone."""

        def mine() -> list[str]:
            return [name for name in self._admin.list_topics(timeout=15).topics if name.startswith(beginnings)]

        found = mine()
        if beginnings and found:
            futures = cast("dict[str, Future[None]]", self._admin.delete_topics(found, operation_timeout=30))
            for future in futures.values():
                future.result()
            wait_for(lambda: not mine(), timeout_seconds=60, what="topics to be deleted")

    def delete_all(self) -> None:
        """Delete every topic of the benchmark."""
        self.delete(f"{self._name}.")

    def wait_through(self, group: str, source: Source, running: Callable[[], None]) -> None:
        """Wait until a group has committed the whole source.

        Arguments:
            group: The consumer group.
            source: The source.
            running: Raises if there is no use in waiting.
        """
        total, deadline = sum(source.counts), time.monotonic() + RUN_SECONDS
        while True:
            done = sum(self.committed(group, source.topic, len(source.counts)))
            if done >= total:
                return
            running()
            assert time.monotonic() < deadline, f"{group} has come to {done} of {total} records"
            self._progress(f"{group}: {done:,} of {total:,} events")
            time.sleep(_POLL_SECONDS)

    def committed(self, group: str, topic: str, partitions: int) -> list[int]:
        """Return a group's committed offsets; 0 where there is none yet."""
        places = [TopicPartition(topic, n) for n in range(partitions)]
        asked = cast(
            "dict[str, Future[ConsumerGroupTopicPartitions]]",
            self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)]),
        )
        try:
            found = asked[group].result().topic_partitions or []
        except KafkaException:
            return [0]  # the group's coordinator is on its way
        return [max(place.offset, 0) for place in found]

    def _measure(self, name: str, launch: Launch, source: Source) -> CpuCourse:
        log = self._directory / f"{name}.log"
        with process(launch, log) as contestant:

            def running() -> None:
                code = contestant.poll()
                assert code is None, f"{name} ended with {code}:\n{log.read_text(errors='replace')[-_LOG_TAIL:]}"

            with CpuCourse({"contestant": contestant.pid} | self._servers.pids) as course:
                self.wait_through(launch.group, source, running)
        return course

    def _create(self, topic: str, like: str, genesis: Genesis, **settings: str) -> None:
        table = topic_table(self.names, partitions=genesis.partitions, window_seconds=genesis.window_seconds)
        [spec] = [spec for spec in table if spec.name == like]
        self._topics.create([replace(spec, name=topic, config=spec.config | settings)])


def arguments(task: Task) -> dict[str, str]:
    """Return a task's fields as text."""
    return {name: str(value) for name, value in asdict(task).items()}


def as_json(task: Task) -> str:
    """Return a task as one argument of a command."""
    return json.dumps(asdict(task))


def _measured(output: Output, course: CpuCourse, warmup_events: int) -> dict[str, float]:
    begin, end, records = output.course.after(warmup_events)
    taken = course.between(begin, end)
    records = max(records, 1)  # in a run so small that one transaction took all of it, no figure means anything
    measured = {
        "events_per_second": records / max(end - begin, _TICK_SECONDS),
        "events_per_cpu_second": records / max(taken["contestant"], _TICK_SECONDS),
        "cpu_microseconds_per_event": taken["contestant"] / records * _MICROSECONDS,
        "events_per_transaction_and_partition": output.events_per_marker,
    }
    if "kafka" in taken:
        measured["broker_cpu_microseconds_per_event"] = taken["kafka"] / records * _MICROSECONDS
    return measured


@contextlib.contextmanager
def process(launch: Launch, log: Path) -> Generator[subprocess.Popen[bytes]]:
    """Run a process, and end it as an operator does."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    clean.pop("PYTHONDONTWRITEBYTECODE", None)
    clean["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    file: IO[bytes]
    with log.open("wb") as file:
        started = subprocess.Popen(
            launch.command, env=clean | dict(launch.environment), stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
        try:
            yield started
        finally:
            started.send_signal(signal.SIGTERM)
            try:
                started.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()
