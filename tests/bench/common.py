"""What every benchmark is given, what it gives back, and what machine it ran on.

A benchmark is a module of this folder with ``EVENTS``, its usual number of events, and ``run``, which takes
:class:`Options` and returns a :class:`Result`. ``sealstream bench NAME`` runs it.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, Final

import confluent_kafka

_GIBIBYTE: Final = 1 << 30
_LIBRARIES: Final = ("confluent-kafka", "faust-streaming", "fastavro", "psycopg")


def silent(_text: str) -> None:
    """Take a word of progress and do nothing with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is measured, and how often.

    Arguments:
        events: Number of events of one run.
        tenants: Number of tenants that they belong to.
        partitions: Number of partitions.
        runs: How often everything is measured, peers included; a figure is the median.
        warmup: How many events of each run come before those that count; half of them if not given.
        rate: Events a second that are offered, where a benchmark offers a rate; it searches the highest if not given.
        seconds: How long a rate is held.
        warmup_seconds: For how long at most a rate is held before that, where a benchmark offers one to everything.
        without: Peers that are left out.
        json: Whether the result is for a program.
        progress: Told in a few words what happens.
    """

    events: int
    tenants: int = 100
    partitions: int = 4
    runs: int = 3
    warmup: int | None = None
    rate: float | None = None
    seconds: float = 60.0
    warmup_seconds: float = 180.0
    without: frozenset[str] = frozenset()
    json: bool = False
    progress: Callable[[str], None] = field(default=silent, repr=False)

    @property
    def warmup_events(self) -> int:
        """How many events of each run come before those that count."""
        return self.events // 2 if self.warmup is None else self.warmup

    def to_json(self) -> dict[str, Any]:
        """Return the options as plain values."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in {"json", "progress"}}
        return values | {"without": sorted(self.without), "warmup": self.warmup_events}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity over all runs; its unit stands in the name that it is given.

    Arguments:
        runs: What each run measured, in their order; at least one.
    """

    runs: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Figure:
        """Return the figure of these runs."""
        return cls(tuple(values))

    @property
    def median(self) -> float:
        """The median of the runs."""
        return statistics.median(self.runs)

    def over(self, other: Figure) -> float:
        """Return the median of the ratios to another figure, run by run: what both suffered cancels out.

        Raises:
            ValueError: The figures have different numbers of runs.
        """
        return statistics.median(mine / theirs for mine, theirs in zip(self.runs, other.runs, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return median and spread as plain values."""
        return {
            "median": rounded(self.median),
            "least": rounded(min(self.runs)),
            "most": rounded(max(self.runs)),
            "runs": [rounded(value) for value in self.runs],
        }


Measured = Mapping[str, Figure]
"""What was measured of one contestant: figures by their names, units included, such as ``events_per_second``."""


def collect(runs: Sequence[Mapping[str, float]]) -> dict[str, Figure]:
    """Return figures out of what single runs measured, each with the same names."""
    return {name: Figure.of(run[name] for run in runs) for name in runs[0]} if runs else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where a benchmark ran.

    Arguments:
        cores: Cores that this process may use.
        cpu: The processor's model.
        memory_gib: Main memory.
        load_average: Of the last 1, 5 and 15 minutes, before anything was started.
        system: The kernel.
        versions: Versions of what takes part, by name.
    """

    cores: int
    cpu: str
    memory_gib: float
    load_average: tuple[float, float, float]
    system: str
    versions: Mapping[str, str]

    @classmethod
    def describe(cls, **versions: str) -> Machine:
        """Return this machine; call it first, for the load average.

        Arguments:
            versions: Versions of what is no Python package, such as ``kafka="4.1.0"``.
        """
        known = {"python": platform.python_version(), "librdkafka": confluent_kafka.libversion()[0]}
        for name in _LIBRARIES:
            try:
                known[name] = version_of(name)
            except PackageNotFoundError:  # a peer whose package is not installed cannot take part
                continue
        return cls(
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            cpu=_cpu_model(),
            memory_gib=rounded(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIBIBYTE),
            load_average=os.getloadavg(),
            system=f"{platform.system()} {platform.release()} {platform.machine()}",
            versions=known | versions,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the machine as plain values."""
        return {
            "cores": self.cores,
            "cpu": self.cpu,
            "memory_gib": self.memory_gib,
            "load_average": [rounded(load) for load in self.load_average],
            "system": self.system,
            "versions": dict(self.versions),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a benchmark found.

    Arguments:
        name: The benchmark.
        options: What it was asked.
        ours: What was measured of Sealstream.
        peers: What was measured of each peer, by its name.
        ratios: Ours to a peer's, by the peer's name: above 1 is better.
        machine: Where it ran.
        notes: What a reader must know, such as which peer was left out and why.
    """

    name: str
    options: Options
    ours: Measured
    peers: Mapping[str, Measured]
    ratios: Mapping[str, float]
    machine: Machine
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {
            "name": self.name,
            "options": self.options.to_json(),
            "ours": _measured_to_json(self.ours),
            "peers": {name: _measured_to_json(measured) for name, measured in self.peers.items()},
            "ratios": {name: rounded(ratio) for name, ratio in self.ratios.items()},
            "machine": self.machine.to_json(),
            "notes": list(self.notes),
        }


def rounded(value: float) -> float:
    """Return a measured value without digits that mean nothing: at most five that count."""
    return float(f"{value:.5g}")


def _measured_to_json(measured: Measured) -> dict[str, Any]:
    return {name: figure.to_json() for name, figure in measured.items()}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []  # no Linux
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "unknown"
