"""The processor twice over one source, under other batches, kills and owners: the same chained log, byte for byte."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka.admin import AdminClient

from sealstream.kafka.partition import partition_of
from sealstream.processors.points import Point
from support.harness import LogRecord, read_log
from support.processing import PARTITIONS, TENANTS, abort, group_of, publish, wait_ready, wait_until_left
from support.publish import RawRecord, event_value
from support.workers import Pipeline, wait_for

MakePipeline = Callable[..., Pipeline]
Log = list[list[tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]]]
WINDOW_OFFSETS = 40
TRACE = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"


@pytest.mark.slow
def test_two_runs_over_one_source_make_the_same_bytes(make_pipeline: MakePipeline, tmp_path: Path) -> None:
    """A worker that is killed in one transaction after the other, and two workers with large batches of which one is
    killed, make the same keys, values and headers in the same order, dead letters included.
    """
    pipeline = make_pipeline(store=False, window_offsets=WINDOW_OFFSETS)
    _publish_everything(pipeline)
    for point in (Point.AFTER_PRODUCE, Point.DURING_COMMIT, Point.AFTER_COMMIT):
        victim = pipeline.start("processor", worker_id="one", batch_records_max=97, failpoints=f"{point}#3=kill")
        assert victim.wait(timeout_seconds=90) == -signal.SIGKILL
    pipeline.start("processor", worker_id="one", batch_records_max=61)
    pipeline.harness().check()
    first = [_content(pipeline, topic) for topic in (pipeline.topics.chained, pipeline.topics.deadletter)]

    _forget(pipeline)
    here = tmp_path / "here"
    victim = pipeline.start(
        "processor", worker_id="two", batch_records_max=1_000, failpoints=f"{Point.AFTER_SEND_OFFSETS}#1=kill@{here}"
    )
    wait_for(here.exists, timeout_seconds=90, what="a transaction that is not committed")
    wait_ready(pipeline.start("processor", worker_id="three", batch_records_max=333), ready=False)
    here.unlink()
    assert victim.wait(timeout_seconds=90) == -signal.SIGKILL
    pipeline.start("processor", worker_id="two", batch_records_max=1_000)
    pipeline.harness().check()

    assert all(log for log in first[0])
    assert [_content(pipeline, topic) for topic in (pipeline.topics.chained, pipeline.topics.deadletter)] == first


def _publish_everything(pipeline: Pipeline) -> None:
    """Publish events of ten tenants among repeats on both sides of the window, conflicts, rubbish and aborted ones."""
    for part in range(4):
        records: list[RawRecord] = []
        for number in range(part * 300, (part + 1) * 300):
            tenant = TENANTS[number % len(TENANTS)]
            headers = (("traceparent", TRACE),) if number % 3 == 0 else ()
            records.append(RawRecord(tenant.encode(), event_value(tenant, f"e-{number}"), headers=headers))
            if number % 7 == 0:
                again = max(number - (number % 11) * 20, 0)
                tenant = TENANTS[again % len(TENANTS)]
                note = "forged" if number % 2 else ""
                records.append(RawRecord(tenant.encode(), event_value(tenant, f"e-{again}", note=note)))
            if number % 13 == 0:
                records.append(RawRecord(None, b"rubbish", partition=number % PARTITIONS))
                records.append(RawRecord(tenant.encode(), b"\xff", partition=partition_of(tenant.encode(), PARTITIONS)))
        publish(pipeline, *records)
        abort(pipeline, 7)


def _content(pipeline: Pipeline, topic: str) -> Log:
    """Return what a topic holds, without the offsets: they tell of aborted transactions."""

    def content(record: LogRecord) -> tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]:
        return record.key, record.value, record.headers

    return [[content(record) for record in log] for log in read_log(pipeline.connection, topic, PARTITIONS)]


def _forget(pipeline: Pipeline) -> None:
    """Make the instance's outputs and its group anew; the source topic stays as it is, under the same UUID."""
    topic_id = pipeline.topic_id(pipeline.topics.events)
    for worker in pipeline.workers:
        worker.close()
    client = AdminClient({"bootstrap.servers": pipeline.bootstrap})
    wait_until_left(pipeline)
    for deleted in cast("dict[str, Future[None]]", client.delete_consumer_groups([group_of(pipeline)])).values():
        deleted.result()
    outputs = [pipeline.topics.chained, pipeline.topics.heads, pipeline.topics.deadletter]
    for deleted in cast("dict[str, Future[None]]", client.delete_topics(outputs)).values():
        deleted.result()
    wait_for(
        lambda: all(pipeline.topic_id(topic) is None for topic in outputs), timeout_seconds=30, what="the topics to go"
    )
    pipeline.create_topics()
    assert pipeline.topic_id(pipeline.topics.events) == topic_id
