"""Errors as the processor classifies them, each provoked on a real Kafka and seen to end as it must.

What passes by itself (brokers away, a coordinator that moves) costs a worker nothing but its readiness; the errors that
end a worker are provoked in ``tests/integration/test_processor_errors.py``, for they need no broker of their own.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sealstream.deploy.stack import LocalStack
from sealstream.processors.points import Point
from sealstream.schemas.entry import Kind
from sealstream.sinks.store.migrate import migrate
from support.aftermath import finish, wait_for_progress
from support.brokers import FaultBroker
from support.cluster import Cluster, cluster
from support.faults import SESSION_SECONDS, TRANSACTION_SECONDS, Place, Scene
from support.load import Load
from support.processing import load, wait_ready
from support.workers import Pipeline, Worker, wait_for

MakePipeline = Callable[..., Pipeline]
STATES = (
    Point.BEFORE_PRODUCE,
    Point.AFTER_PRODUCE,
    Point.AFTER_HEADS,
    Point.AFTER_SEND_OFFSETS,
    Point.DURING_COMMIT,
    Point.AFTER_COMMIT,
)
ROLES = ("processor", "sink", "verifier")
LONG_SECONDS = 300.0
LOOK_SECONDS = 1.0


def errors_of(worker: Worker) -> list[dict[str, object]]:
    """Return the worker's log lines that say what ended it."""
    return [event for event in worker.events() if "hint" in event]


@pytest.mark.fault
@pytest.mark.parametrize("point", STATES)
def test_a_broker_that_stops_in_any_state_of_a_transaction_is_waited_for(
    broker: FaultBroker, make_pipeline: MakePipeline, tmp_path: Path, point: Point
) -> None:
    """With its broker stopped in order for longer than a transaction may take, wherever its transaction is, the worker
    says that it is not ready, stays, and goes on by itself when the broker is back.
    """
    pipeline = make_pipeline()
    scene = Scene(broker, pipeline, Place(point, 3), "same worker", tmp_path)
    with Load(pipeline) as running:
        scene.come_to_the_point("pause")
        broker.stop()
        scene.let_go()
        scene.wait_red()
        time.sleep(TRANSACTION_SECONDS + 1)  # until the transaction is too old, nothing can be awaited but time
        assert scene.victim.process.poll() is None, scene.victim.log()[-3000:]
        assert scene.victim.get("/healthz")[0] == 200
        broker.start()
        wait_ready(scene.victim)
        finish(pipeline, running, [scene.victim])
    assert errors_of(scene.victim) == []


@pytest.fixture
def two_brokers() -> Iterator[Cluster]:
    """Two brokers that replicate everything."""
    with cluster() as made:
        yield made


@pytest.mark.fault
@pytest.mark.timeout(600)
def test_a_coordinator_that_moves_costs_nothing(two_brokers: Cluster, tmp_path: Path) -> None:
    """The coordinator of the worker's transactions moves to another broker, because its own stops, and back to it,
    while both run: the worker follows it under load, each time, and no record is lost or doubled.
    """
    name = f"f-{uuid.uuid4().hex[:8]}"
    pipeline = Pipeline(
        two_brokers.address,
        name,
        tmp_path,
        session_timeout_seconds=SESSION_SECONDS,
        transaction_timeout_seconds=TRANSACTION_SECONDS,
    )
    try:
        pipeline.create_topics()
        worker, transactional_id = _start_on_second(two_brokers, pipeline)
        with Load(pipeline) as running:
            for _ in range(2):
                two_brokers.stop_second()
                wait_for(lambda: two_brokers.coordinator(transactional_id) == 1, timeout_seconds=60, what="the move")
                wait_for_progress(pipeline, [worker])
                two_brokers.start_second()
                wait_for(lambda: two_brokers.coordinator(transactional_id) == 2, timeout_seconds=60, what="the return")
                wait_for_progress(pipeline, [worker])
            finish(pipeline, running, [worker])
        assert errors_of(worker) == []
    finally:
        pipeline.close()
        print(pipeline.logs())  # noqa: T201 - shown with a failure


def _start_on_second(brokers: Cluster, pipeline: Pipeline) -> tuple[Worker, str]:
    """Start a worker whose transactions the second broker coordinates, as its transactional id decides; return both."""
    first = pipeline.start("processor", worker_id="w-0")
    wait_ready(first)  # now there is a transaction log
    assert first.terminate() == 0
    prefix = f"{pipeline.genesis.instance}-processor-"
    number = next(n for n in range(1_000) if brokers.coordinator(f"{prefix}w-{n}") == 2)
    worker = pipeline.start("processor", worker_id=f"w-{number}")
    wait_ready(worker)
    return worker, f"{prefix}w-{number}"


@pytest.fixture
def stack(own_stack: Callable[[], LocalStack]) -> LocalStack:
    """A private Kafka and PostgreSQL that the test may stop and start."""
    return own_stack()


@pytest.mark.fault
@pytest.mark.timeout(900)
def test_five_minutes_without_a_broker(stack: LocalStack, tmp_path: Path) -> None:
    """Killed under load and away for five minutes, the broker is waited for by every role: all the time they stay, are
    alive and not ready, say little; then they go on by themselves, and nothing is missing.
    """
    pipeline = Pipeline(stack.kafka, "outage", tmp_path, database_url=stack.database)
    try:
        pipeline.create_topics()
        migrate(stack.database, partitions=pipeline.genesis.partitions)
        workers = [pipeline.start(role) for role in ROLES]
        load(pipeline, "before", 3_000)
        for worker in workers:
            wait_ready(worker)
        stack.kafka_kill()
        for worker in workers:
            wait_ready(worker, ready=False)
        until = time.monotonic() + LONG_SECONDS
        while time.monotonic() < until:
            for worker in workers:
                assert worker.process.poll() is None, worker.log()[-3000:]
                assert (worker.get("/readyz")[0], worker.get("/healthz")[0]) == (503, 200), worker.role
            time.sleep(LOOK_SECONDS)
        stack.kafka_start()
        load(pipeline, "after", 500)
        result = pipeline.harness().check("stored", "verified", timeout_seconds=120)
        assert result.kinds == {Kind.GENESIS: 10, Kind.EVENT: 3_500}
        for worker in workers:
            wait_ready(worker)
            lines = len(worker.log().splitlines())
            assert lines < LONG_SECONDS * 20, f"{worker.role} logged {lines} lines"
            assert worker.terminate() == 0
    finally:
        pipeline.close()
        print(pipeline.logs())  # noqa: T201 - shown with a failure
