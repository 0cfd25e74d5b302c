"""Fixtures of the fault tests: a broker that may be killed, and an instance of its own for each case."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from support.attacks.recorded import Copies, Recorded, record
from support.brokers import FaultBroker, fault_broker
from support.faults import BATCH_RECORDS_MAX, SESSION_SECONDS, TRANSACTION_SECONDS
from support.workers import Pipeline

MakePipeline = Callable[..., Pipeline]


@pytest.fixture(scope="session")
def recorded(
    kafka_bootstrap: str, database_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recorded]:
    """An instance that has run, and that nobody works on any more."""
    with record(kafka_bootstrap, database_server, tmp_path_factory.mktemp("recorded")) as found:
        yield found


@pytest.fixture
def copies(recorded: Recorded, tmp_path: Path) -> Iterator[Copies]:
    """Copies of its databases and files, for one attack."""
    with recorded.copies(tmp_path) as found:
        yield found


@pytest.fixture(scope="session")
def shared_broker() -> Iterator[FaultBroker]:
    """The fault tests' broker; each process that runs tests has its own, since some of them kill it."""
    with fault_broker() as broker:
        yield broker


@pytest.fixture
def broker(shared_broker: FaultBroker) -> FaultBroker:
    """The broker, running, whatever the test before did to it."""
    shared_broker.proxy.let_go()
    shared_broker.proxy.mend()
    if not shared_broker.runs:
        shared_broker.start()
    return shared_broker


@pytest.fixture
def make_pipeline(broker: FaultBroker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MakePipeline]:
    """Make an instance with topics of its own and short timeouts; its workers and topics go with the test."""
    made: list[Pipeline] = []

    def make(**settings: Any) -> Pipeline:
        short: dict[str, Any] = {
            "session_timeout_seconds": SESSION_SECONDS,
            "transaction_timeout_seconds": TRANSACTION_SECONDS,
            "batch_records_max": BATCH_RECORDS_MAX,
        }
        pipeline = Pipeline(broker.address, f"f-{uuid.uuid4().hex[:8]}", tmp_path, **short | settings)
        pipeline.create_topics()
        made.append(pipeline)
        return pipeline

    yield make
    for pipeline in made:
        pipeline.close()
        request.node.add_report_section("teardown", "workers", pipeline.logs())
        if broker.runs:
            client = AdminClient({"bootstrap.servers": broker.address, "log_level": 0})
            topics = [name for name in client.list_topics(timeout=15).topics if name.startswith(pipeline.topics.prefix)]
            with contextlib.suppress(KafkaException, TimeoutError):  # the next test has topics of its own
                for deleted in cast("dict[str, Future[None]]", client.delete_topics(topics)).values():
                    deleted.result(15)
