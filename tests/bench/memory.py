"""``sealstream bench memory``: what a processor holds for many tenants, and how long it restores them.

One worker chains an event of each tenant out of a backlog, which is where it holds most: heads, window, what librdkafka
has fetched ahead, and what it is about to send. Then a second one takes its place, restores all of it from Kafka, and
chains as much again for a part of the tenants. Memory is the process's own, as Linux counts it.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

import psutil

from bench.common import Figure, Machine, Options, Result
from bench.servers import serve
from bench.source import publish_events
from bench.usage import cpu_seconds
from support.processing import committed
from support.workers import Pipeline, Worker

EVENTS: Final = 1_000_000
MORE_SHARE: Final = 10
"""One tenant of so many speaks again after the restore."""

RUN_SECONDS: Final = 1_800.0
_POLL_SECONDS: Final = 0.5
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
        publish = _publisher(pipeline, options)
        try:
            figures = _chain(pipeline, options, publish(0, events))
            figures |= _restore(pipeline, options, lambda: publish(events, events + events // MORE_SHARE))
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


def _publisher(pipeline: Pipeline, options: Options) -> Callable[[int, int], int]:
    def publish(first: int, last: int) -> int:
        counts = publish_events(
            pipeline.bootstrap,
            pipeline.topics.events,
            first=first,
            last=last,
            tenants=options.tenants,
            partitions=options.partitions,
            progress=options.progress,
        )
        return sum(counts)

    return publish


def _chain(pipeline: Pipeline, options: Options, records: int) -> dict[str, float]:
    """Let a first worker chain the backlog."""
    worker = pipeline.start("processor")
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


def _restore(pipeline: Pipeline, options: Options, publish: Callable[[], int]) -> dict[str, float]:
    """Let a second worker restore everything, and chain some more."""
    options.progress("restoring")
    before = sum(committed(pipeline).values())
    worker = pipeline.start("processor")
    _wait_chaining(worker)
    figures = {
        "restore_seconds": _restore_seconds(worker),
        "restore_cpu_seconds": cpu_seconds(psutil.Process(worker.process.pid)),
        "restore_peak_megabytes": _peak_bytes(worker) / _MEGABYTE,
    }
    _wait_committed(pipeline, before + publish(), options)
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
