"""Workers come, go, die and are restarted for a minute under load: nothing is lost, doubled, or left standing."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

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
        """Stop a worker as an operator does."""
        assert self.workers.pop(name).terminate() == 0

    def kill(self, name: str) -> None:
        """Stop a worker as a power cut does."""
        self.workers.pop(name).kill()

    def restart(self, name: str) -> None:
        """Stop a worker and start it again: one step of a rolling restart."""
        self.remove(name)
        self.add(name)


def changes(crew: Crew) -> Iterator[Callable[[], None]]:
    """Yield the changes of the minute, again and again; each leaves at least two workers."""
    return itertools.cycle(
        [
            lambda: crew.add("c"),
            lambda: crew.remove("a"),
            lambda: crew.add("d"),
            lambda: crew.kill("b"),
            lambda: crew.add("a"),
            lambda: crew.remove("d"),
            lambda: crew.add("b"),
            *(lambda name=name: crew.restart(name) for name in ("a", "b", "c")),
            lambda: crew.remove("c"),
        ]
    )


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
        for change in changes(crew):
            if time.monotonic() >= end:
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
