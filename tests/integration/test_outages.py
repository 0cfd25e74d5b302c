"""Kafka and PostgreSQL go away and come back, at start and in the middle: workers stay up, say so, and go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from sealstream.deploy.stack import LocalStack
from sealstream.schemas.entry import Kind
from sealstream.sinks.store.migrate import migrate
from support.publish import RawRecord, event_value, publish_raw
from support.workers import Pipeline, Worker, wait_for

ROLES = ("processor", "sink", "verifier")
PARTITIONS = 4
RECOVERY_SECONDS = 120.0


@pytest.fixture
def stack(own_stack: Callable[[], LocalStack]) -> LocalStack:
    """A private Kafka and PostgreSQL that the test may stop and start."""
    return own_stack()


@pytest.fixture
def pipeline(stack: LocalStack, tmp_path: Path) -> Iterator[Pipeline]:
    """An instance on the private servers, prepared, with no worker running yet."""
    made = Pipeline(stack.kafka, "outage", tmp_path, database_url=stack.database, partitions=PARTITIONS)
    made.create_topics()
    migrate(stack.database, partitions=PARTITIONS)
    yield made
    made.close()


def _publish(pipeline: Pipeline, prefix: str, count: int) -> None:
    tenants = [f"tenant-{n % 10}" for n in range(count)]
    records = [RawRecord(tenant.encode(), event_value(tenant, f"{prefix}-{n}")) for n, tenant in enumerate(tenants)]
    publish_raw(pipeline.bootstrap, pipeline.topics.events, records, partitions=PARTITIONS)


def _wait_ready(pipeline: Pipeline, *, ready: bool, roles: tuple[str, ...] = ROLES) -> None:
    for worker in pipeline.workers:
        if worker.role in roles:
            what = f"{worker.role} to be {'ready' if ready else 'not ready'}"
            wait_for(partial(_answers, worker, 200 if ready else 503), timeout_seconds=RECOVERY_SECONDS, what=what)


def _answers(worker: Worker, status: int) -> bool:
    return worker.get("/readyz")[0] == status


def _assert_all_run(pipeline: Pipeline) -> None:
    for worker in pipeline.workers:
        assert worker.process.poll() is None, f"{worker.role} ended:\n{worker.log()[-3000:]}"


def test_workers_started_before_their_servers_wait_for_them(stack: LocalStack, pipeline: Pipeline) -> None:
    """With Kafka and PostgreSQL down, workers start, stay up with readiness red, and begin by themselves."""
    stack.kafka_stop()
    stack.database_stop()
    for role in ROLES:
        pipeline.start(role)
    _wait_ready(pipeline, ready=False)
    _assert_all_run(pipeline)
    stack.kafka_start()
    stack.database_start()
    _wait_ready(pipeline, ready=True)
    _publish(pipeline, "first", 200)

    result = pipeline.harness().check("stored", "verified", timeout_seconds=RECOVERY_SECONDS)

    assert result.kinds == {Kind.GENESIS: 10, Kind.EVENT: 200}
    _assert_all_run(pipeline)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_kafka_goes_away_in_the_middle(stack: LocalStack, pipeline: Pipeline, how: str) -> None:
    """A broker that is stopped or killed under load and comes back costs no event, and no worker its life."""
    for role in ROLES:
        pipeline.start(role)
    _publish(pipeline, "before", 3000)
    (stack.kafka_stop if how == "stopped" else stack.kafka_kill)()
    _wait_ready(pipeline, ready=False)
    _assert_all_run(pipeline)
    stack.kafka_start()
    _publish(pipeline, "after", 500)

    result = pipeline.harness().check("stored", "verified", timeout_seconds=RECOVERY_SECONDS)

    assert result.kinds == {Kind.GENESIS: 10, Kind.EVENT: 3500}
    _wait_ready(pipeline, ready=True)
    _assert_all_run(pipeline)


def test_postgresql_goes_away_in_the_middle(stack: LocalStack, pipeline: Pipeline) -> None:
    """A database that goes away under load and comes back costs no row; the other workers do not even notice."""
    for role in ROLES:
        pipeline.start(role)
    load = threading.Thread(target=_publish, args=(pipeline, "before", 3000))
    load.start()
    stack.database_stop()
    load.join()
    _wait_ready(pipeline, ready=False, roles=("sink",))
    pipeline.harness().check("verified", timeout_seconds=RECOVERY_SECONDS)
    stack.database_start()
    _publish(pipeline, "after", 500)

    result = pipeline.harness().check("stored", "verified", timeout_seconds=RECOVERY_SECONDS)

    assert result.kinds == {Kind.GENESIS: 10, Kind.EVENT: 3500}
    _assert_all_run(pipeline)
