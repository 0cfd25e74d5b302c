"""``sealstream bench verify``: the verifier, publishing audit.verified and checking only.

The real processor chains the events once. Then, in every run, a verifier of its own process, which has verified nothing
yet, reads both topics and publishes what holds; the peer reads both and publishes the same, and checks nothing. And the
verifier's checks alone are measured over the records of both topics as Kafka's client hands them out, in memory.
"""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final, cast

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient, ConsumerGroupDescription, ConsumerGroupListing, ListConsumerGroupsResult

from bench.bare_verifying import Task
from bench.common import Machine, Options, Result, collect
from bench.contest import Launch, process
from bench.output import Output, read_output
from bench.servers import Servers, serve
from bench.source import chain_events
from bench.usage import CpuCourse
from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.client import consumer_config
from sealstream.kafka.topics import topic_table
from sealstream.sinks.verifier.partition import PartitionVerifier
from sealstream.sinks.verifier.records import SourceMessage
from sealstream.sinks.verifier.rules import Rules
from sealstream.worker import memory
from support.verifying import MemorySource
from support.workers import Pipeline, wait_for

EVENTS: Final = 300_000
PEER: Final = "bare_loop"
_RUN_SECONDS: Final = 900.0
_ASK_SECONDS: Final = 0.5
_READ_SECONDS: Final = 2.0
_CHECK_RECORDS: Final = 2_500  # what a worker's batch has of one of four partitions
_TICK_SECONDS: Final = 0.001  # of the broker's append times
_RATE: Final = "entries_per_second"
_CPU_RATE: Final = "entries_per_cpu_second"
_NOTES: Final = (
    "checking only is the rules over records in memory: nothing is read from Kafka or written there meanwhile",
    "the bare loop reads both topics and writes what the verifier writes, in transactions, and checks nothing",
)


class OutputDiffers(AssertionError):
    """The peer did not write what the verifier wrote: it does other work."""


def run(options: Options) -> Result:
    """Run the benchmark.

    Raises:
        OutputDiffers: The peer's output is not the verifier's.
    """
    machine = Machine.describe()
    memory.tune()  # as the worker does, for the checks that run in this process
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    with serve() as servers, tempfile.TemporaryDirectory(prefix="sealstream-bench-") as directory:
        pipeline = Pipeline(
            servers.kafka, f"bench-{secrets.token_hex(4)}", Path(directory), partitions=options.partitions
        )
        round_ = _Round(pipeline, servers, options)
        try:
            chain_events(pipeline, options)
            for number in range(options.runs):
                options.progress(f"run {number + 1} of {options.runs}")
                mine, output = round_.publish()
                ours.append(mine | round_.check())
                theirs, other = round_.bare()
                bare.append(theirs)
                if output.digests != other.digests:
                    raise OutputDiffers("the bare loop wrote other keys, values or entries")
        finally:
            pipeline.close()
            round_.delete_topics()
    own, peer = collect(ours), collect(bare)
    return Result(
        name="verify",
        options=options,
        ours=own,
        peers={PEER: peer},
        ratios={PEER: own[_RATE].over(peer[_RATE]), f"{PEER}_per_cpu_second": own[_CPU_RATE].over(peer[_CPU_RATE])},
        machine=replace(machine, versions=dict(machine.versions) | servers.versions),
        notes=_NOTES,
    )


class _Round:
    """One instance, its chained events, and who reads them."""

    def __init__(self, pipeline: Pipeline, servers: Servers, options: Options) -> None:
        self._pipeline = pipeline
        self._servers = servers
        self._options = options
        self._admin = AdminClient({"bootstrap.servers": pipeline.bootstrap})
        self._group = f"{pipeline.genesis.instance}-verifier"

    def publish(self) -> tuple[dict[str, float], Output]:
        """Let a worker that has verified nothing yet verify everything."""
        self._forget()
        worker = self._pipeline.start("verifier", worker_id="verifier-0")
        wanted = f'sealstream_verifier_entries_total{{kind="event"}} {float(self._options.events)}\n'

        deadline = time.monotonic() + _RUN_SECONDS
        with CpuCourse({"own": worker.process.pid}) as course:
            while wanted not in worker.get("/metrics")[1]:
                assert worker.process.poll() is None, worker.log()[-3000:]
                assert time.monotonic() < deadline, "not everything was verified in time"
                time.sleep(_ASK_SECONDS)  # each answer costs what is measured
        worker.terminate(timeout_seconds=30)
        return self._measured(course)

    def bare(self) -> tuple[dict[str, float], Output]:
        """Let the bare loop write everything."""
        self._forget()
        topics, options = self._pipeline.topics, self._options
        task = Task(
            bootstrap=self._pipeline.bootstrap,
            events=topics.events,
            chained=topics.chained,
            verified=topics.verified,
            group=f"{self._group}-bare",
            partitions=options.partitions,
            records=options.events,
        )
        launch = Launch((sys.executable, "-m", "bench.bare_verifying", json.dumps(asdict(task))), group=task.group)
        log = self._pipeline.directory / "bare.log"
        with process(launch, log) as loop, CpuCourse({"own": loop.pid}) as course:
            assert loop.wait(_RUN_SECONDS) == 0, log.read_text(errors="replace")[-3000:]
        return self._measured(course)

    def check(self) -> dict[str, float]:
        """Measure the checks alone, partition by partition."""
        topic_id = self._pipeline.topic_id(self._pipeline.topics.events)
        assert topic_id is not None
        checked, taken_seconds = 0, 0.0
        for number in range(self._options.partitions):
            source, chained = (
                self._read(topic, number) for topic in (self._pipeline.topics.events, self._pipeline.topics.chained)
            )
            verifier = PartitionVerifier(Rules(self._pipeline.genesis, topic_id, number), _Read(source))
            begin = time.thread_time()
            for start in range(0, len(chained), _CHECK_RECORDS):
                outcome = verifier.check(chained[start : start + _CHECK_RECORDS], list, latest=time.time_ns() // 1_000)
                checked += outcome.records
                assert not outcome.violations, outcome.violations[:3]
            taken_seconds += time.thread_time() - begin
        return {"checked_entries_per_cpu_second": checked / max(taken_seconds, _TICK_SECONDS)}

    def delete_topics(self) -> None:
        """Delete every topic of the instance."""
        beginning = self._pipeline.topics.prefix
        self._delete([name for name in self._admin.list_topics(timeout=15).topics if name.startswith(beginning)])

    def _read(self, topic: str, number: int) -> list[Message]:
        """Return all records of a partition as Kafka's client hands them out."""
        consumer = Consumer(
            consumer_config(self._pipeline.connection, client_id="bench", group="bench-never-commits")
            | {"enable.partition.eof": True}
        )
        messages: list[Message] = []
        deadline = time.monotonic() + _RUN_SECONDS
        try:
            consumer.assign([TopicPartition(topic, number, 0)])
            while time.monotonic() < deadline:
                found = consumer.consume(_CHECK_RECORDS, _READ_SECONDS)
                messages += [message for message in found if message.error() is None]
                errors = [error for message in found if (error := message.error()) is not None]
                if errors:
                    assert errors[0].code() == KafkaError._PARTITION_EOF, errors
                    return messages
        finally:
            consumer.close()
        raise AssertionError(f"{topic} partition {number} was not read to its end in time")

    def _measured(self, course: CpuCourse) -> tuple[dict[str, float], Output]:
        output = read_output(
            self._pipeline.bootstrap,
            self._pipeline.topics.verified,
            self._options.partitions,
            progress=self._options.progress,
        )
        assert output.course.records == self._options.events
        begin, end, records = output.course.after(self._options.warmup_events)
        taken_seconds, records = max(course.between(begin, end)["own"], _TICK_SECONDS), max(records, 1)
        return {
            _RATE: records / max(end - begin, _TICK_SECONDS),
            _CPU_RATE: records / taken_seconds,
            "cpu_microseconds_per_entry": taken_seconds / records * 1_000_000,
            "entries_per_transaction_and_partition": output.events_per_marker,
        }, output

    def _forget(self) -> None:
        """Let everything be as if nothing had been verified: no state, no feed, no group."""

        def left() -> bool:
            futures = cast(
                "dict[str, Future[ConsumerGroupDescription]]", self._admin.describe_consumer_groups([self._group])
            )
            return not futures[self._group].result().members

        wait_for(left, timeout_seconds=60, what="the verifier to leave its group")
        listed = cast("Future[ListConsumerGroupsResult]", self._admin.list_consumer_groups()).result()
        if self._group in {group.group_id for group in cast("list[ConsumerGroupListing]", listed.valid)}:
            cast("dict[str, Future[None]]", self._admin.delete_consumer_groups([self._group]))[self._group].result()
        topics = self._pipeline.topics
        self._delete([topics.verified, topics.verifier])
        table = topic_table(topics, partitions=self._options.partitions, window_seconds=86_400)
        own = [spec for spec in table if spec.name in {topics.verified, topics.verifier}]
        stamped = {"message.timestamp.type": "LogAppendTime"}  # the measure of time
        TopicAdmin(self._pipeline.connection).create([replace(spec, config=spec.config | stamped) for spec in own])

    def _delete(self, names: Sequence[str]) -> None:
        futures = cast("dict[str, Future[None]]", self._admin.delete_topics(list(names), operation_timeout=30))
        for future in futures.values():
            future.result()
        wait_for(
            lambda: not set(names) & set(self._admin.list_topics(timeout=15).topics),
            timeout_seconds=60,
            what="topics to be deleted",
        )


class _Read(MemorySource):
    """A source partition that was read before."""

    def __init__(self, messages: Sequence[Message]) -> None:
        super().__init__(())
        self._messages: deque[SourceMessage] = deque(messages)
