"""Errors that end a processor, each provoked on a real Kafka: it ends with 1, says why, and leaves nothing open."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future
from typing import cast

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from sealstream.schemas.entry import Kind
from support.processing import chained_count, group_of, load, publish, wait_ready
from support.publish import RawRecord, event_value
from support.workers import Pipeline, Worker

MakePipeline = Callable[..., Pipeline]
LARGE_BYTES = 150_000


def _limit(pipeline: Pipeline, size_bytes: int) -> None:
    """Set the largest batch that audit.chained takes."""
    entry = ConfigEntry("max.message.bytes", str(size_bytes), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, pipeline.topics.chained, incremental_configs=[entry])
    client = AdminClient({"bootstrap.servers": pipeline.bootstrap})
    futures = cast("dict[ConfigResource, Future[None]]", client.incremental_alter_configs([resource]))
    for future in futures.values():
        future.result(30)


def _last_error(worker: Worker) -> dict[str, object]:
    [error] = [event for event in worker.events() if "hint" in event]
    return error


def test_a_record_that_the_broker_refuses_ends_the_worker(make_pipeline: MakePipeline) -> None:
    """Where audit.chained takes less than it must, the transaction is aborted, tried once more, and the worker ends and
    says what to look at; nothing is skipped. Once the topic takes it, a worker goes on; nobody is blocked meanwhile.
    """
    pipeline = make_pipeline(store=False)
    worker = pipeline.start("processor", worker_id="one")
    load(pipeline, "before", 100)
    pipeline.harness().check()
    _limit(pipeline, LARGE_BYTES // 3)
    note = random.Random(1).randbytes(LARGE_BYTES // 2).hex()  # compresses to half of it
    publish(pipeline, RawRecord(b"acme", event_value("acme", "large", note=note)))
    load(pipeline, "after", 100)

    assert worker.wait(timeout_seconds=60) == 1
    error = _last_error(worker)
    assert "MSG_SIZE_TOO_LARGE" in str(error["event"])
    assert "sealstream topics check" in str(error["hint"])
    aborts = [event for event in worker.events() if event["event"] == "reading heads and source again"]
    assert len(aborts) == 1
    assert chained_count(pipeline) < 211  # a reader of committed records comes to the end: nothing is left open
    _limit(pipeline, 2 * 1024 * 1024)
    pipeline.start("processor", worker_id="one")
    assert pipeline.harness().check().kinds == {Kind.GENESIS: 11, Kind.EVENT: 201}


def test_a_producer_of_the_same_name_fences_the_worker(make_pipeline: MakePipeline) -> None:
    """Whoever begins transactions under a worker's transactional id puts it out: it ends, names the setting, and has
    committed nothing since; the next worker of that name goes on.
    """
    pipeline = make_pipeline(store=False)
    worker = pipeline.start("processor", worker_id="one")
    load(pipeline, "before", 100)
    pipeline.harness().check()
    name = f"{group_of(pipeline)}-one"
    intruder = Producer({"bootstrap.servers": pipeline.bootstrap, "transactional.id": name})
    intruder.init_transactions(30)
    load(pipeline, "after", 100)

    assert worker.wait(timeout_seconds=60) == 1
    error = _last_error(worker)
    assert error["error"] == "WriterConflict"
    assert "SEALSTREAM_WORKER_ID" in str(error["hint"])
    assert chained_count(pipeline) == 110
    wait_ready(pipeline.start("processor", worker_id="one"))
    assert pipeline.harness().check().kinds == {Kind.GENESIS: 10, Kind.EVENT: 200}
