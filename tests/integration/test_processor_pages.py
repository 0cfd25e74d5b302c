"""What a processor shows of itself on a real Kafka: each partition's place, and the one that is stuck."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from sealstream.kafka.partition import partition_of
from sealstream.processors.ends import Ends
from sealstream.processors.engine import Engine
from sealstream.processors.status import Status
from sealstream.worker.settings import PREFIX, load_settings
from support.processing import PARTITIONS, TENANTS, committed, load, publish
from support.publish import RawRecord, event_value
from support.workers import Pipeline, Worker, wait_for

MakePipeline = Callable[..., Pipeline]
DEADLINE_SECONDS = 90.0


def page_of(worker: Worker) -> dict[str, Any]:
    """Return what the worker shows of its partitions."""
    status, text = worker.get("/partitions")
    assert status == 200
    page: dict[str, Any] = json.loads(text)
    return page


def test_each_partition_is_shown_with_its_place(make_pipeline: MakePipeline) -> None:
    """Position, end, lag, number of chains and last commit of each partition stand on one page, and in the metrics; the
    positions are those that the group has committed.
    """
    pipeline = make_pipeline(store=False)
    worker = pipeline.start("processor")
    load(pipeline, "e", 500)
    pipeline.harness().check()
    wait_for(
        lambda: all(one["lag"] == 0 for one in page_of(worker)["partitions"].values()),
        timeout_seconds=30,
        what="a lag of 0 on the page",
    )
    page = page_of(worker)
    shown = page["partitions"]

    assert (page["ready"], page["connected"], page["topic"]) == (True, True, pipeline.topics.events)
    assert {int(number): one["position"] for number, one in shown.items()} == committed(pipeline)
    for number, one in shown.items():
        assert one["end"] == one["position"]
        assert one["chains"] == sum(partition_of(tenant.encode(), PARTITIONS) == int(number) for tenant in TENANTS)
        assert (one["state"], one["waiting_for"]) == ("chaining", "")
        since = datetime.now(UTC) - datetime.fromisoformat(one["last_commit"])
        assert abs(since.total_seconds()) < DEADLINE_SECONDS
    metrics = worker.get("/metrics")[1]
    for number, one in shown.items():
        assert f'sealstream_processor_position_offsets{{partition="{number}"}} {float(one["position"])}' in metrics
        assert f'sealstream_processor_held_chains{{partition="{number}"}} {float(one["chains"])}' in metrics
        assert f'sealstream_processor_last_commit_timestamp_seconds{{partition="{number}"}}' in metrics
    assert "sealstream_processor_stuck_partitions 0.0" in metrics
    assert 'sealstream_processor_web_requests_total{status="200"}' in metrics
    for name in ("agent", "loop_delay"):
        line = next(
            text for text in metrics.splitlines() if text.startswith(f"sealstream_processor_{name}_seconds_count")
        )
        assert float(line.split()[1]) > 0


class Runner:
    """A worker within this process, without Faust around it, and who asks for its partitions' ends.

    Arguments:
        pipeline: The instance.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        settings = load_settings(pipeline.environment | {f"{PREFIX}WORKER_ID": "engine"})
        self.status = Status(pipeline.topics.events)
        self.engine = Engine(settings, self.status)
        self._ends = Ends(settings.connection(), "ends", self.status)

    def run_until(self, condition: Callable[[], bool], what: str) -> None:
        """Run until a condition holds, which is looked at after the ends were told."""
        deadline, ask_at = time.monotonic() + DEADLINE_SECONDS, 0.0
        while True:
            assert time.monotonic() < deadline, f"waited in vain for {what}; the worker says {self.status.ready()[1]}"
            batch = self.engine.step()
            if batch is not None:
                self.engine.process(batch)
            if time.monotonic() >= ask_at:
                ask_at = time.monotonic() + 0.5
                asyncio.run(self._ends.ask())
                if condition():
                    return


def test_a_stuck_partition_is_named(make_pipeline: MakePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the records of one partition do not come, while others do, readiness names the partition and its lag, because
    its end is asked for apart from its records; once they come, the worker is ready again by itself.
    """
    monkeypatch.setattr("sealstream.processors.status.STUCK_SECONDS", 3.0)
    pipeline = make_pipeline(store=False)
    tenants = {partition_of(tenant.encode(), PARTITIONS): tenant for tenant in TENANTS}
    stuck, other = sorted(tenants)[:2]
    runner = Runner(pipeline)
    try:
        runner.run_until(lambda: runner.status.ready()[0], "readiness")
        place = [TopicPartition(pipeline.topics.events, stuck)]
        runner.engine._source.consumer.pause(place)  # pyright: ignore[reportPrivateUsage]
        for number in range(3):
            for partition in (stuck, other):
                tenant = tenants[partition]
                publish(pipeline, RawRecord(tenant.encode(), event_value(tenant, f"e-{number}")))
        named = f"partition {stuck}: its records: 3 offsets behind"
        runner.run_until(lambda: named in runner.status.ready()[1], "the stuck partition")
        ready, words = runner.status.ready()
        assert not ready
        assert f"partition {other}" not in words
        runner.engine._source.consumer.resume(place)  # pyright: ignore[reportPrivateUsage]
        runner.run_until(lambda: runner.status.ready()[0], "readiness")
        assert runner.status.describe()["partitions"][str(stuck)]["lag"] == 0
    finally:
        runner.engine.close()
    pipeline.harness().check()
