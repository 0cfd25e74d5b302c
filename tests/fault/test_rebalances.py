"""Workers come, go, die and are restarted for a minute under load: nothing is lost, doubled, or left standing."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest

from support.aftermath import finish
from support.faults import COMMAND
from support.latency import Latency
from support.load import Load
from support.processing import wait_ready
from support.workers import Pipeline, Worker

MakePipeline = Callable[..., Pipeline]
MINUTE_SECONDS = 60.0
CHANGE_SECONDS = 4.0


class Crew:
    """The workers that run at the moment, by name."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.workers: dict[str, Worker] = {}

    def add(self, name: str) -> None:
        """Start a worker under a name that may have been there before."""
        self.workers[name] = self._pipeline.start("processor", command=COMMAND, worker_id=name)

    def remove(self, name: str) -> None:
        """Stop a worker as an operator does; it obeys within 10 s, whatever it is at."""
        worker = self.workers.pop(name)
        assert worker.get("/healthz")[0] == 200  # before it is up, a signal ends it as it ends any process
        assert worker.terminate() == 0

    def kill(self, name: str) -> None:
        """Stop a worker as a power cut does."""
        self.workers.pop(name).kill()

    def restart(self, name: str) -> None:
        """Stop a worker, start it again, and wait until it is ready: one step of a rolling restart."""
        self.remove(name)
        self.add(name)
        wait_ready(self.workers[name])

    def changes(self) -> list[Callable[[], None]]:
        """Return the changes to be made, one after the other; they leave two workers at least, and the first two."""
        return [
            lambda: self.add("c"),
            lambda: self.remove("a"),
            lambda: self.add("d"),
            lambda: self.kill("b"),
            lambda: self.add("a"),
            lambda: self.remove("d"),
            lambda: self.add("b"),
            lambda: self.restart("a"),
            lambda: self.restart("b"),
            lambda: self.restart("c"),
            lambda: self.remove("c"),
        ]


@pytest.mark.fault
@pytest.mark.timeout(600)
def test_workers_come_and_go_for_a_minute_under_load(
    make_pipeline: MakePipeline, record_property: Callable[[str, object], None]
) -> None:
    """Workers are added, stopped, killed and restarted one after the other every few seconds: in the end each record
    has its one entry, no worker ended but those that were told to, and none stopped obeying.

    How long records took meanwhile is written down, and not judged.
    """
    pipeline = make_pipeline()
    crew = Crew(pipeline)
    for name in ("a", "b"):
        crew.add(name)
    for worker in crew.workers.values():
        wait_ready(worker)
    made = 0
    with Latency(pipeline) as latency, Load(pipeline) as load:
        end = time.monotonic() + MINUTE_SECONDS
        for change in itertools.cycle(crew.changes()):
            if time.monotonic() >= end and made >= len(crew.changes()):
                break
            change()
            made += 1
            time.sleep(CHANGE_SECONDS)  # the pace is what is tried, not a condition that is waited for
        finish(pipeline, load, list(crew.workers.values()))
        seconds = latency.seconds(load.sent_at)

    assert len(seconds) > load.count * 0.9
    figures = {
        "changes": made,
        "records": len(seconds),
        "latency_p50_ms": round(seconds[len(seconds) // 2] * 1000),
        "latency_p99_ms": round(seconds[len(seconds) * 99 // 100] * 1000),
        "latency_max_ms": round(seconds[-1] * 1000),
    }
    for name, value in figures.items():
        record_property(name, value)
    print(figures)  # noqa: T201 - the figures are what this run is for
