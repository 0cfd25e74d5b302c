"""``sealstream bench end-to-end``: everything at once on this machine, servers included.

An application's process logs events at a steady rate; processor, sink and verifier run as production runs them. Once a
second each stage's lag behind the source is taken down. A rate is held if no stage's lag grows. Without a rate the
highest one is searched by short trials, and then held for the whole time.

Before anything counts, a rate is held until Java has compiled what of Kafka is hot, as in a broker that has run for a
while. That takes about 30 s of CPU time once, a quarter of the machine over the first minutes; what it leaves behind is
worked off first.
"""

from __future__ import annotations

import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psycopg
from confluent_kafka import Consumer, TopicPartition

from bench.common import Figure, Machine, Options, Result
from bench.contest import Contest, Launch, process
from bench.servers import Servers, serve
from bench.usage import CpuCourse, Warmth, java_time
from sealstream.sinks.store.migrate import migrate
from support.processing import wait_ready
from support.providers import fresh_database
from support.workers import Pipeline, Worker, wait_for

EVENTS: Final = 1_000
"""How many events go through before anything is measured."""

ROLES: Final = ("processor", "sink", "verifier")
FIRST_RATE: Final = 8_000.0
TRIAL_SECONDS: Final = 15.0
_SETTLE_SECONDS: Final = 5.0
_TRIALS_MAX: Final = 6
_STEP: Final = 1.5
_CLOSE_ENOUGH: Final = 1.1
_SAMPLE_SECONDS: Final = 1.0
"""How often lags and CPU time are taken down: more often would take a share of the two cores that is worth naming."""
_GROWTH_MAX: Final = 0.02
"""How much a lag may grow, in seconds a second: what a trial of a few seconds cannot tell from none."""

_LAG_SECONDS_MAX: Final = 5.0
_DRAIN_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """How far everything was at one moment.

    Arguments:
        at: When, in seconds since the Unix epoch.
        published: Events in the source.
        lags: By role, how many events it is behind.
    """

    at: float
    published: int
    lags: dict[str, int]


@dataclass(frozen=True, slots=True)
class Trial:
    """How a rate was held.

    Arguments:
        rate: Events a second that were offered.
        samples: What was taken down, once a second.
        cpu: Cores that each process took, by its name.
    """

    rate: float
    samples: Sequence[Sample]
    cpu: dict[str, float]

    @property
    def published_per_second(self) -> float:
        """Events a second that got into the source."""
        first, last = self.samples[0], self.samples[-1]
        return (last.published - first.published) / (last.at - first.at)

    @property
    def cpu_microseconds(self) -> dict[str, float]:
        """CPU time that each process took for an event, by its name: what other load on the machine distorts least."""
        return {name: cores / self.published_per_second * 1e6 for name, cores in self.cpu.items()}

    def lag_seconds(self, role: str) -> list[float]:
        """Return a role's lags, in seconds of the offered rate."""
        return [sample.lags[role] / self.rate for sample in self.samples]

    def growth(self, role: str) -> float:
        """Return by how much a role's lag grew, in seconds a second."""
        return statistics.linear_regression([sample.at for sample in self.samples], self.lag_seconds(role)).slope

    @property
    def is_flat(self) -> bool:
        """Whether the rate was held: all of it published, no lag that grew, and none that was long."""
        if self.published_per_second < self.rate * (1 - _GROWTH_MAX):
            return False
        return all(
            self.growth(role) <= _GROWTH_MAX and max(self.lag_seconds(role)) <= _LAG_SECONDS_MAX for role in ROLES
        )


def run(options: Options) -> Result:
    """Run the benchmark."""
    machine = Machine.describe()
    name = f"bench-{secrets.token_hex(4)}"
    with (
        serve(database=True) as servers,
        fresh_database(servers.database) as database,
        tempfile.TemporaryDirectory(prefix="sealstream-bench-") as directory,
    ):
        pipeline = Pipeline(servers.kafka, name, Path(directory), database_url=database, partitions=options.partitions)
        try:
            pipeline.create_topics()
            migrate(database, partitions=options.partitions)
            everything = _Everything(servers, pipeline, options)
            trial, tried = everything.run()
        finally:
            pipeline.close()
            Contest(servers, name, progress=options.progress).delete_all()
    ours = {
        "events_per_second": trial.published_per_second,
        "flat": float(trial.is_flat),
        **{f"{role}_lag_seconds_max": max(trial.lag_seconds(role)) for role in ROLES},
        **{f"{process_name}_cores": cores for process_name, cores in trial.cpu.items()},
        **{f"{name}_cpu_microseconds_per_event": cost for name, cost in trial.cpu_microseconds.items()},
        "cpu_microseconds_per_event": sum(trial.cpu_microseconds.values()),
    }
    notes = [*everything.notes]
    notes += [f"{one.rate:,.0f} events a second: {'held' if one.is_flat else 'not held'}" for one in tried]
    if not servers.pids:
        notes.append("the servers were given, so their CPU time is not known")
    return Result(
        name="end-to-end",
        options=replace(options, rate=trial.rate),
        ours={figure: Figure.of([value]) for figure, value in ours.items()},
        peers={},
        ratios={},
        machine=replace(machine, versions=dict(machine.versions) | servers.versions),
        notes=tuple(notes),
    )


class _Everything:
    """The workers, and trials of rates."""

    def __init__(self, servers: Servers, pipeline: Pipeline, options: Options) -> None:
        self._servers = servers
        self._pipeline = pipeline
        self._options = options
        self._workers: dict[str, Worker] = {}
        self._contest = Contest(servers, pipeline.topics.prefix.rstrip("."), progress=options.progress)
        self._tried: list[Trial] = []
        self.notes: list[str] = []
        self._places = [TopicPartition(pipeline.topics.events, n) for n in range(options.partitions)]
        self._consumer = Consumer({"bootstrap.servers": servers.kafka, "group.id": "bench-never-commits"})
        self._store = psycopg.connect(pipeline.database_url, autocommit=True)

    def run(self) -> tuple[Trial, list[Trial]]:
        """Return the trial that counts, and all that were made."""
        self._workers = {role: self._pipeline.start(role) for role in ROLES}
        for worker in self._workers.values():
            wait_ready(worker, timeout_seconds=120)
        try:
            if self._options.warmup_seconds:
                self._warm_up()
            rate = self._options.rate or self._search()
            trial = self._try(rate, self._options.seconds)
            # Short trials flatter: the store grows, and what lags a little lags more in the end.
            while not trial.is_flat and self._options.rate is None and len(self._tried) < 2 * _TRIALS_MAX:
                trial = self._try(trial.rate / _CLOSE_ENOUGH, self._options.seconds)
        finally:
            self._consumer.close()
            self._store.close()
        return trial, self._tried

    def _warm_up(self) -> None:
        """Hold a rate until Java has compiled what is hot in Kafka, for a bounded time."""
        pid, bound = self._servers.pids.get("kafka"), self._options.warmup_seconds
        warmth = Warmth(lambda: None if pid is None else java_time(pid))
        trial = self._offer(self._options.rate or FIRST_RATE, bound, enough=warmth.is_reached)
        seconds = trial.samples[-1].at - trial.samples[0].at
        end = "until Kafka was warm" if seconds < bound else "which may not have been enough to warm Kafka"
        self.notes.append(f"before that, {trial.rate:,.0f} events a second were offered for {seconds:.0f} s, {end}")

    def _search(self) -> float:
        """Return the highest rate that short trials held: up or down in large steps, then halving in between."""
        rate, held, failed = FIRST_RATE, 0.0, float("inf")
        for _ in range(_TRIALS_MAX):
            if self._try(rate, TRIAL_SECONDS).is_flat:
                held = rate
            else:
                failed = rate
            if held and failed / held < _CLOSE_ENOUGH:
                break
            rate = rate * _STEP if failed == float("inf") else rate / _STEP if not held else (held + failed) / 2
        return held or rate

    def _try(self, rate: float, seconds: float) -> Trial:
        """Offer a rate, and keep how that went."""
        trial = self._offer(rate, seconds)
        self._tried.append(trial)
        return trial

    def _offer(self, rate: float, seconds: float, *, enough: Callable[[], bool] = lambda: False) -> Trial:
        """Offer a rate for a while, and wait until everything that it left has been done."""
        task = {
            "kafka": self._servers.kafka,
            "prefix": self._pipeline.topics.prefix,
            "instance": self._pipeline.genesis.instance,
            "tenants": self._options.tenants,
            "rate": rate,
        }
        launch = Launch((sys.executable, "-m", "bench.offer", json.dumps(task)), group="")
        with process(launch, self._pipeline.directory / "offer.log") as publisher:
            pids = {role: worker.process.pid for role, worker in self._workers.items()}
            everyone = {**self._servers.pids, **pids, "publisher": publisher.pid}
            with CpuCourse(everyone, every_seconds=_SAMPLE_SECONDS) as course:
                before = self._sample().published
                wait_for(
                    lambda: self._sample().published >= before + EVENTS,
                    timeout_seconds=120,
                    what="the first events to be published",
                )
                time.sleep(_SETTLE_SECONDS)
                samples = self._watch(rate, seconds, publisher, enough)
        cpu = course.between(samples[0].at, samples[-1].at)
        taken = samples[-1].at - samples[0].at
        trial = Trial(rate, samples, {name: seconds / taken for name, seconds in cpu.items()})
        wait_for(
            lambda: max(self._sample().lags.values()) == 0,
            timeout_seconds=_DRAIN_SECONDS,
            what="all stages to be through",
        )
        return trial

    def _watch(
        self, rate: float, seconds: float, publisher: subprocess.Popen[bytes], enough: Callable[[], bool]
    ) -> list[Sample]:
        samples = [self._sample()]
        while samples[-1].at < samples[0].at + seconds and not enough():
            time.sleep(_SAMPLE_SECONDS)
            samples.append(self._sample())
            for name, running in (("publisher", publisher), *((w.role, w.process) for w in self._workers.values())):
                assert running.poll() is None, f"the {name} ended"
            lags = ", ".join(f"{role} {lag:,}" for role, lag in samples[-1].lags.items())
            self._options.progress(f"{rate:,.0f} events a second; behind: {lags}")
        return samples

    def _sample(self) -> Sample:
        """Take down how far everything is; the stages first, so that no lag is negative."""
        instance, topic, count = self._pipeline.genesis.instance, self._pipeline.topics.events, len(self._places)
        at = {
            "processor": sum(self._contest.committed(f"{instance}-processor", topic, count)),
            "sink": self._stored(),
            "verifier": sum(self._contest.committed(f"{instance}-verifier", topic, count)),
        }
        published = sum(self._consumer.get_watermark_offsets(place, timeout=15)[1] for place in self._places)
        return Sample(time.time(), published, {role: published - place for role, place in at.items()})

    def _stored(self) -> int:
        """Return how many source records have their entries, payloads and search rows in the store."""
        row = self._store.execute("SELECT sum(next_offset) FROM sealstream.search_positions").fetchone()
        return int(row[0] or 0) if row else 0
