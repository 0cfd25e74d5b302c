"""The life of a processor: started in three ways, stopped, killed, joined by others, and without its broker."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.request import urlopen

import pytest

from sealstream.deploy.stack import LocalStack
from sealstream.deploy.stack.ports import free_port
from sealstream.schemas.entry import Kind
from support.processing import PARTITIONS, chained_count, load, verify_chains, wait_ready
from support.workers import Pipeline, wait_for

MakePipeline = Callable[..., Pipeline]
FAUST = [str(Path(sys.executable).with_name("faust")), "-A", "sealstream.processors.app", "worker"]
STARTS = {
    "sealstream processor": (),
    "python -m": [sys.executable, "-m", "sealstream.processors"],
    "faust": FAUST,
}


@pytest.mark.parametrize("command", STARTS.values(), ids=STARTS.keys())
def test_a_processor_starts_in_three_ways_and_stops_in_one(make_pipeline: MakePipeline, command: Sequence[str]) -> None:
    """Sealstream's command, Python's -m and Faust's own command run the same worker, on loopback, with JSON logs; a
    SIGTERM ends it within 10 s with exit code 0.
    """
    pipeline = make_pipeline(store=False)
    worker = pipeline.start("processor", command=command)
    load(pipeline, "e", 100)
    pipeline.harness().check()
    wait_ready(worker)

    assert worker.get("/healthz") == (200, "ok\n")
    assert "chaining partitions [0, 1, 2, 3]" in worker.get("/readyz")[1]
    [listening] = [event for event in worker.events() if event["event"] == "web listening"]
    assert listening["host"] == "127.0.0.1"
    assert worker.terminate(timeout_seconds=10) == 0
    if command is not FAUST:  # its command prints a banner
        assert all(json.loads(line)["role"] == "processor" for line in worker.log().splitlines())


def test_fausts_command_takes_its_own_web_options(make_pipeline: MakePipeline) -> None:
    """What Faust's command is told about the web port counts; without it the settings count, not Faust's default."""
    pipeline = make_pipeline(store=False)
    given = pipeline.start("processor", command=FAUST, web_port=0)
    port = json.loads(next(line for line in _lines(given) if '"web listening"' in line))["port"]
    chosen = free_port(taken=frozenset({port}))
    again = pipeline.start("processor", command=[*FAUST, "--web-port", str(chosen)], worker_id="other")
    wait_ready(again)

    assert json.loads(next(line for line in _lines(again) if '"web listening"' in line))["port"] == chosen
    assert port != 6066


def _lines(worker: object) -> list[str]:
    from support.workers import Worker  # noqa: PLC0415

    assert isinstance(worker, Worker)
    wait_for(lambda: '"web listening"' in worker.log(), timeout_seconds=30, what="the web port")
    return worker.log().splitlines()


def test_the_metrics_tell_what_was_done(make_pipeline: MakePipeline) -> None:
    """Entries by kind, transactions, batches, assigned partitions and the lag of each stand under /metrics."""
    pipeline = make_pipeline(store=False)
    worker = pipeline.start("processor")
    load(pipeline, "e", 500)
    pipeline.harness().check()
    expected = [
        'sealstream_processor_entries_total{kind="event"} 500.0',
        'sealstream_processor_entries_total{kind="genesis"} 10.0',
        "sealstream_processor_assigned_partitions 4.0",
        *(f'sealstream_processor_lag_records{{partition="{n}"}} 0.0' for n in range(PARTITIONS)),
    ]
    wait_for(
        lambda: all(line in worker.get("/metrics")[1] for line in expected), timeout_seconds=15, what=str(expected)
    )
    [listening] = [event for event in worker.events() if event["event"] == "web listening"]
    with urlopen(f"http://127.0.0.1:{listening['port']}/metrics", timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    body = worker.get("/metrics")[1]
    assert "sealstream_processor_transaction_seconds_count" in body
    assert "sealstream_processor_batch_records_bucket" in body


@pytest.mark.slow
def test_kill_after_kill_loses_nothing_and_doubles_nothing(make_pipeline: MakePipeline) -> None:
    """Killed again and again under load, at whatever moment, a worker's successor goes on with the very next byte."""
    pipeline = make_pipeline(store=False)
    stop = threading.Event()

    def publish_until_stopped() -> None:
        for number in range(1_000):
            if stop.is_set():
                return
            load(pipeline, f"round-{number}", 200)
            stop.wait(0.1)

    publisher = threading.Thread(target=publish_until_stopped)
    publisher.start()
    try:
        for _ in range(3):
            before = chained_count(pipeline)
            worker = pipeline.start("processor", worker_id="one")
            while chained_count(pipeline) == before:
                assert worker.process.poll() is None, worker.log()[-3000:]
            worker.kill()
    finally:
        stop.set()
        publisher.join()
    pipeline.start("processor", worker_id="one")

    result = pipeline.harness().check()

    assert result.kinds[Kind.EVENT] == result.events
    verify_chains(pipeline)


def test_sigterm_under_load_ends_in_time(make_pipeline: MakePipeline) -> None:
    """In the middle of a backlog, a stop takes less than 10 s, ends with 0, and the next worker goes on."""
    pipeline = make_pipeline(store=False)
    load(pipeline, "e", 30_000)
    worker = pipeline.start("processor", batch_records_max=500)
    wait_for(lambda: chained_count(pipeline) > 0, timeout_seconds=30, what="the first chained record")

    assert worker.terminate(timeout_seconds=10) == 0
    pipeline.start("processor", worker_id="processor-0")
    assert pipeline.harness().check().kinds == {Kind.GENESIS: 10, Kind.EVENT: 30_000}


@pytest.mark.slow
def test_workers_come_and_go(make_pipeline: MakePipeline) -> None:
    """A second worker takes over some partitions under load, a third finds what the others left; nothing is chained
    twice, whoever owns a partition.
    """
    pipeline = make_pipeline(store=False)
    first = pipeline.start("processor")
    wait_ready(first)
    load(pipeline, "a", 5_000)
    second = pipeline.start("processor")
    wait_for(lambda: "partitions [2, 3]" in second.get("/readyz")[1], timeout_seconds=60, what="two partitions each")
    wait_for(lambda: "partitions [0, 1]" in first.get("/readyz")[1], timeout_seconds=60, what="two partitions each")
    load(pipeline, "b", 5_000)
    assert first.terminate() == 0
    load(pipeline, "c", 5_000)
    wait_for(lambda: "[0, 1, 2, 3]" in second.get("/readyz")[1], timeout_seconds=60, what="all partitions")

    result = pipeline.harness().check()

    assert result.kinds == {Kind.GENESIS: 10, Kind.EVENT: 15_000}
    verify_chains(pipeline)


def test_two_workers_of_one_name_do_not_both_go_on(make_pipeline: MakePipeline) -> None:
    """A second worker under the same name takes the first one's place; the first ends with an error that says so."""
    pipeline = make_pipeline(store=False)
    first = pipeline.start("processor", worker_id="same")
    wait_ready(first)
    second = pipeline.start("processor", worker_id="same")
    assert first.wait(timeout_seconds=60) == 1
    assert "SEALSTREAM_WORKER_ID" in first.log()
    wait_ready(second)
    load(pipeline, "e", 200)

    assert pipeline.harness().check().kinds == {Kind.GENESIS: 10, Kind.EVENT: 200}


@pytest.fixture
def stack(own_stack: Callable[..., LocalStack]) -> LocalStack:
    """A private Kafka that the test may stop and start."""
    return own_stack(database=False)


@pytest.mark.slow
def test_a_processor_outlives_its_broker(stack: LocalStack, tmp_path: Path) -> None:
    """With Kafka down at its start, and gone again under load, a worker stays, is not ready meanwhile, and goes on by
    itself; told to stop while Kafka is away, it ends within 10 s with 0.
    """
    pipeline = Pipeline(stack.kafka, "outage", tmp_path, partitions=PARTITIONS)
    try:
        pipeline.create_topics()
        stack.kafka_stop()
        worker = pipeline.start("processor", transaction_timeout_seconds=3)
        wait_ready(worker, ready=False)
        assert worker.get("/healthz")[0] == 200
        stack.kafka_start()
        wait_ready(worker)
        load(pipeline, "before", 3_000)
        stack.kafka_kill()
        wait_ready(worker, ready=False)
        time.sleep(5)  # longer than a transaction's timeout, so that its coordinator gives it up
        assert worker.process.poll() is None, worker.log()[-3000:]
        stack.kafka_start()
        load(pipeline, "after", 500)
        assert pipeline.harness().check(timeout_seconds=60).kinds == {Kind.GENESIS: 10, Kind.EVENT: 3_500}
        wait_ready(worker)
        stack.kafka_kill()
        wait_ready(worker, ready=False)
        assert worker.terminate(timeout_seconds=10) == 0
    finally:
        pipeline.close()
        print(pipeline.logs())  # noqa: T201 - shown with a failure
