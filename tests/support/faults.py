"""What a case of the crash matrix does: a worker under load comes to a point, a fault happens, somebody goes on."""

from __future__ import annotations

import signal
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, cast

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConsumerGroupDescription

from sealstream.kafka.admin import TopicAdmin
from sealstream.processors.points import Point
from sealstream.schemas.entry import Kind, parse
from support.brokers import FaultBroker
from support.harness import read_log
from support.load import Load
from support.processing import committed, group_of, verify_chains, wait_ready
from support.proxy import END_TXN, Side
from support.workers import Pipeline, Worker, wait_for

Restart = Literal["same worker", "other worker", "two workers"]
RESTARTS: tuple[Restart, ...] = ("same worker", "other worker", "two workers")
WAIT_SECONDS = 60.0
COMMITTED_SECONDS = 30.0
"""Within this, a record behind the last transaction is readable: far more than a transaction's timeout."""

SESSION_SECONDS = 3
TRANSACTION_SECONDS = 4
_POSITION = struct.Struct(">BQ")


@dataclass(frozen=True, slots=True)
class Place:
    """A row of the matrix: where the fault happens.

    Arguments:
        point: The failpoint.
        passage: Which passage of it.
        hold: What the proxy holds of the commit: the request, so that the coordinator has not decided, or the answer,
            so that it has decided and the worker does not know.
        uncommitted: The topic (its short name) that must hold records of the open transaction when the fault happens.
        restarted: Whether the worker is one that came back after a kill, and restores.
        joined: Whether another worker joins, so that partitions are taken back.
    """

    point: Point
    passage: int = 1
    hold: Side | None = None
    uncommitted: str = ""
    restarted: bool = False
    joined: bool = False


class Scene:
    """One case as it goes on.

    Arguments:
        broker: The broker.
        pipeline: The instance.
        place: Where the fault happens.
        restart: Who goes on after it.
        directory: For the failpoint's file.
    """

    def __init__(
        self, broker: FaultBroker, pipeline: Pipeline, place: Place, restart: Restart, directory: Path
    ) -> None:
        self.broker = broker
        self.pipeline = pipeline
        self.place = place
        self.restart = restart
        self.alive: list[Worker] = []
        """Workers that must run in the end."""
        self.victim: Worker
        self.joiner: Worker | None = None
        self._file = directory / "failpoint"

    # -- before the fault ----------------------------------------------------------------------------------------------

    def come_to_the_point(self, action: Literal["kill", "raise", "pause"], *, proxied: bool = False) -> None:
        """Start the worker and wait until it stands at the point, where it does as told once it is let go."""
        place = self.place
        if place.restarted:
            before = self._start("one")
            self.wait_for_progress()
            before.kill()
        if place.hold is not None:
            self.broker.proxy.hold(END_TXN, place.hold, passage=place.passage)
        address = {"kafka": self.broker.proxy.address} if proxied or place.hold is not None else {}
        failpoint = f"{place.point}#{place.passage}={action}@{self._file}"
        self.victim = self._start("one", failpoints=failpoint, **address)
        if place.joined:
            wait_ready(self.victim)
            self.joiner = self._start("joiner")
        self._wait(self._file.exists, f"the point {place.point}")
        if place.hold is not None:
            self._wait(self.broker.proxy.holds, f"the commit's {place.hold} in the proxy")
        if place.uncommitted:
            topic = getattr(self.pipeline.topics, place.uncommitted)
            self._wait(lambda: self._has_uncommitted(topic), f"uncommitted records in {topic}")
        if self.joiner is not None:
            if self.restart == "same worker":
                self.joiner.kill()  # it has done its part
            else:
                self.alive.append(self.joiner)

    # -- the fault and after -------------------------------------------------------------------------------------------

    def let_go(self) -> None:
        """Let the worker go on from the point, to what it was told to do there."""
        self._file.unlink()

    def succeed(self, *, namesake: bool, other: bool) -> None:
        """Start who goes on.

        Arguments:
            namesake: A worker under the victim's name.
            other: A worker under another name, if none is there already.
        """
        if namesake:
            self.alive.append(self._start("one"))
        if other and self.joiner is None:
            self.alive.append(self._start("two"))

    def succeed_victim(self) -> None:
        """Start who goes on where the victim is gone."""
        self.succeed(namesake=self.restart != "other worker", other=self.restart != "same worker")

    def wait_for_progress(self) -> None:
        """Wait until all that is published by now is chained and committed."""
        ends = self._ends()
        self._wait(lambda: all(committed(self.pipeline).get(n, 0) >= end for n, end in ends.items()), "progress")

    def wait_for_expiry(self) -> None:
        """Wait until the group has given up all its members."""
        self._wait(lambda: not self._members(), "the end of the session")

    def wait_red(self) -> None:
        """Wait until the victim says that it is not ready."""
        wait_ready(self.victim, ready=False, timeout_seconds=WAIT_SECONDS)

    def await_victim(self) -> None:
        """Wait for what becomes of a victim that others went on without: it comes back, unless its name was taken."""
        if self.restart == "two workers":
            assert self.victim.wait(timeout_seconds=WAIT_SECONDS) == 1
            assert "SEALSTREAM_WORKER_ID" in self.victim.log()
        else:
            wait_ready(self.victim, timeout_seconds=WAIT_SECONDS)
            self.alive.append(self.victim)

    # -- in the end ----------------------------------------------------------------------------------------------------

    def finish(self, load: Load) -> None:
        """Check all that must hold, whatever happened."""
        self.wait_for_progress()
        load.stop()
        result = self.pipeline.harness().check("chained", timeout_seconds=WAIT_SECONDS)
        assert result.kinds[Kind.DUPLICATE], "the load repeated nothing"
        assert result.kinds[Kind.CONFLICT], "the load forged nothing"
        assert result.kinds[Kind.QUARANTINED], "the load had no bad record"
        verify_chains(self.pipeline)
        check_offsets(self.pipeline)
        self._check_workers()
        check_heads(self.pipeline)
        check_writable(self.pipeline)

    def _check_workers(self) -> None:
        for worker in self.alive:
            assert worker.process.poll() is None, f"a worker ended that should run:\n{worker.log()[-3000:]}"
        for worker in self.alive:
            worker.process.send_signal(signal.SIGTERM)
        for worker in self.alive:
            assert worker.wait(timeout_seconds=10) == 0
        for worker in self.pipeline.workers:
            assert worker.process.poll() is not None, "a worker runs that is thought to have ended"

    # -- looks at Kafka ------------------------------------------------------------------------------------------------

    def _start(self, worker_id: str, **settings: str) -> Worker:
        return self.pipeline.start("processor", worker_id=worker_id, **settings)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        wait_for(condition, timeout_seconds=WAIT_SECONDS, what=f"{what} ({self.place.point}, {self.restart})")

    def _ends(self) -> dict[int, int]:
        return _ends(self.pipeline, self.pipeline.topics.events, "read_committed")

    def _has_uncommitted(self, topic: str) -> bool:
        return _ends(self.pipeline, topic, "read_uncommitted") != _ends(self.pipeline, topic, "read_committed")

    def _members(self) -> int:
        group = group_of(self.pipeline)
        client = AdminClient({"bootstrap.servers": self.pipeline.bootstrap})
        found = cast("ConsumerGroupDescription", client.describe_consumer_groups([group])[group].result())
        return len(found.members or ())


def _ends(pipeline: Pipeline, topic: str, isolation: str) -> dict[int, int]:
    """Return each partition's end as a reader of that isolation sees it."""
    consumer = Consumer(
        {"bootstrap.servers": pipeline.bootstrap, "group.id": "never-commits", "isolation.level": isolation}
    )
    try:
        places = {n: TopicPartition(topic, n) for n in range(pipeline.genesis.partitions)}
        return {n: consumer.get_watermark_offsets(place, timeout=15)[1] for n, place in places.items()}
    finally:
        consumer.close()


def check_offsets(pipeline: Pipeline) -> None:
    """Check that every source offset that a reader of committed records sees became one entry, and nothing else did.

    The harness has compared all bytes already; this says it in the fewest words, with no model in between.
    """
    topic_id = TopicAdmin(pipeline.connection).describe([pipeline.topics.events])[pipeline.topics.events].topic_id
    partitions = pipeline.genesis.partitions
    source = read_log(pipeline.connection, pipeline.topics.events, partitions)
    chained = read_log(pipeline.connection, pipeline.topics.chained, partitions)
    for partition in range(partitions):
        entries = [parse(cast("bytes", record.header("seal-entry"))) for record in chained[partition]]
        offsets = [entry.offset for entry in entries if entry.kind is not Kind.GENESIS]
        assert offsets == [record.offset for record in source[partition]]
        assert {(entry.topic_id, entry.partition) for entry in entries} <= {(topic_id, partition)}


def check_heads(pipeline: Pipeline) -> None:
    """Check that each partition's heads end where the group's committed offset does."""
    offsets = committed(pipeline)
    heads = read_log(pipeline.connection, pipeline.topics.heads, pipeline.genesis.partitions)
    for partition, records in enumerate(heads):
        last = [record.value for record in records if record.key == str(partition).encode()]
        assert last, f"partition {partition} has no head"
        _, position = _POSITION.unpack_from(last[-1] or b"")
        assert position == offsets[partition], (
            f"partition {partition}: heads end at {position}, not {offsets[partition]}"
        )


def check_writable(pipeline: Pipeline) -> None:
    """Check that no transaction was left open: one record behind each output partition's end is readable at once."""
    topics = (pipeline.topics.chained, pipeline.topics.heads, pipeline.topics.deadletter)
    places: list[TopicPartition] = []
    producer = Producer({"bootstrap.servers": pipeline.bootstrap, "enable.idempotence": True})
    for topic in topics:
        for partition in range(pipeline.genesis.partitions):
            producer.produce(
                topic,
                b"written by a test",
                b"test",
                partition,
                on_delivery=lambda error, message: places.append(
                    TopicPartition(message.topic() or "", message.partition() or 0, message.offset() or 0)
                    if error is None
                    else TopicPartition("", 0)
                ),
            )
    assert producer.flush(COMMITTED_SECONDS) == 0
    assert len(places) == len(topics) * pipeline.genesis.partitions
    assert all(place.topic for place in places), "a record could not be written"
    wait_for(partial(_readable, pipeline, places), timeout_seconds=COMMITTED_SECONDS, what="no open transaction")


def _readable(pipeline: Pipeline, places: Sequence[TopicPartition]) -> bool:
    consumer = Consumer(
        {
            "bootstrap.servers": pipeline.bootstrap,
            "group.id": "never-commits",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )
    try:
        consumer.assign(list(places))
        found = consumer.consume(len(places), 5.0)
        return {(m.topic(), m.partition()) for m in found if m.error() is None} == {
            (place.topic, place.partition) for place in places
        }
    finally:
        consumer.close()
