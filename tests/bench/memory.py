"""``sealstream bench memory``: what a processor holds for many tenants, and how long it restores them.

One worker chains an event of each tenant out of a backlog, which is where it holds most: heads, window, what librdkafka
has fetched ahead, and what it is about to send. Then a second one takes its place, restores all of it from Kafka, and
chains as much again for a part of the tenants. Memory is the process's own, as Linux counts it.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

import psutil
from confluent_kafka import Producer

from bench.common import Figure, Machine, Options, Result
from bench.servers import serve
from bench.source import event_maker
from bench.usage import cpu_seconds
from sealstream.kafka.partition import partition_of
from support.processing import committed
from support.workers import Pipeline, Worker

EVENTS: Final = 1_000_000
MORE_SHARE: Final = 10
"""One tenant of so many speaks again after the restore."""

RUN_SECONDS: Final = 1_800.0
_POLL_SECONDS: Final = 0.5
_WORKER_ID: Final = "memory"
"""Of both workers: the second need not wait for the end of the first one's session, and is assigned all at once."""

_REPORT_EVENTS: Final = 100_000
_SALT: Final = bytes(16)
_MEGABYTE: Final = 1_000_000


def run(options: Options) -> Result:
    """Run the benchmark.

    Arguments:
        options: Tenants and partitions; at least one event a tenant is published.
    """
    machine, events = Machine.describe(), max(options.events, options.tenants)
    with serve() as servers, tempfile.TemporaryDirectory(prefix="sealstream-bench-") as directory:
        name = f"bench-{secrets.token_hex(4)}"
        pipeline = Pipeline(servers.kafka, name, Path(directory), partitions=options.partitions)
        pipeline.create_topics()
        try:
            figures = _chain(pipeline, options, _publish(pipeline, options, 0, events))
            figures |= _restore(pipeline, options, events)
        finally:
            pipeline.close()
        versions = dict(machine.versions) | servers.versions
    return Result(
        name="memory",
        options=options,
        ours={name: Figure.of([value]) for name, value in figures.items()},
        peers={},
        ratios={},
        machine=replace(machine, versions=versions),
        notes=(f"{options.tenants:,} tenants and {events:,} events, chained by a processor from a backlog",),
    )


def _publish(pipeline: Pipeline, options: Options, first: int, last: int) -> int:
    """Publish events of these numbers, round the tenants, and return how many they are."""
    names = [b"tenant-%08d" % number for number in range(options.tenants)]
    make, model, places = event_maker(names[0]), names[0], [partition_of(n, options.partitions) for n in names]
    producer = Producer({"bootstrap.servers": pipeline.bootstrap, "enable.idempotence": True, "linger.ms": 20})
    for number in range(first, last):
        index = number % options.tenants
        # All names are of one length, so an event of one tenant becomes another's by its name alone.
        value = make(number, _SALT).replace(model, names[index])
        while True:
            try:
                producer.produce(pipeline.topics.events, value, names[index], places[index])
                break
            except BufferError:
                producer.poll(0.1)
        if not number % _REPORT_EVENTS:
            options.progress(f"publishing: {number - first:,} of {last - first:,} events")
    assert producer.flush(RUN_SECONDS) == 0, "not everything was published in time"
    return last - first


def _chain(pipeline: Pipeline, options: Options, records: int) -> dict[str, float]:
    """Let a first worker chain the backlog."""
    worker = pipeline.start("processor", worker_id=_WORKER_ID)
    idle_bytes = _wait_chaining(worker)
    begin = time.monotonic()
    _wait_committed(pipeline, records, options)
    seconds, rest_bytes = time.monotonic() - begin, _resident_bytes(worker)
    figures = {
        "chaining_peak_megabytes": _peak_bytes(worker) / _MEGABYTE,
        "chaining_seconds": seconds,
        "resting_megabytes": rest_bytes / _MEGABYTE,
        "started_megabytes": idle_bytes / _MEGABYTE,
    }
    assert worker.terminate() == 0
    return figures


def _restore(pipeline: Pipeline, options: Options, events: int) -> dict[str, float]:
    """Let a second worker restore everything, and chain some more."""
    options.progress("restoring")
    before = sum(committed(pipeline).values())
    worker = pipeline.start("processor", worker_id=_WORKER_ID)
    _wait_chaining(worker)
    figures = {
        "restore_seconds": _restore_seconds(worker),
        "restore_cpu_seconds": cpu_seconds(psutil.Process(worker.process.pid)),
        "restore_peak_megabytes": _peak_bytes(worker) / _MEGABYTE,
    }
    more = _publish(pipeline, options, events, events + events // MORE_SHARE)
    _wait_committed(pipeline, before + more, options)
    return figures | {"restored_and_chaining_peak_megabytes": _peak_bytes(worker) / _MEGABYTE}


def _wait_chaining(worker: Worker) -> int:
    """Wait until a worker chains, and return what it holds then."""
    deadline = time.monotonic() + RUN_SECONDS
    while not any(event.get("event") == "chaining" for event in worker.events()):
        assert time.monotonic() < deadline, "the worker does not get to chaining"
        assert worker.process.poll() is None, worker.log()[-2000:]
        time.sleep(_POLL_SECONDS / 10)
    return _resident_bytes(worker)


def _restore_seconds(worker: Worker) -> float:
    """Return the time from the assignment to the first record that could be chained."""
    times = {event["event"]: datetime.fromisoformat(str(event["timestamp"])) for event in worker.events()}
    return (times["chaining"] - times["partitions assigned"]).total_seconds()


def _wait_committed(pipeline: Pipeline, records: int, options: Options) -> None:
    deadline = time.monotonic() + RUN_SECONDS
    while (done := sum(committed(pipeline).values())) < records:
        assert time.monotonic() < deadline, f"only {done} of {records} records were chained in time"
        options.progress(f"chaining: {done:,} of {records:,} events")
        time.sleep(_POLL_SECONDS)


def _resident_bytes(worker: Worker) -> int:
    return int(psutil.Process(worker.process.pid).memory_info().rss)


def _peak_bytes(worker: Worker) -> int:
    """Return the most that a process ever held, as Linux keeps it."""
    lines = Path(f"/proc/{worker.process.pid}/status").read_text(encoding="ascii").splitlines()
    [peak] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peak) * 1024
