"""CPU time of processes, as a course over time: what a stretch of a run has cost is read off it afterwards."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

import psutil

_SAMPLE_SECONDS: Final = 0.1
"""So often for a run of a few seconds. To look at a process and its descendants takes 2 to 3 ms of CPU time."""


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time that a process, its ended children and its living descendants have taken so far."""
    try:
        own = process.cpu_times()
        total = own.user + own.system + own.children_user + own.children_system
        for child in process.children(recursive=True):
            try:
                times = child.cpu_times()
            except psutil.NoSuchProcess:
                continue  # it ended just now, and counts with its parent
            total += times.user + times.system
    except psutil.NoSuchProcess:
        return 0.0
    return total


class CpuCourse:
    """Notes, again and again, how much CPU time some processes have taken; as a context manager.

    Arguments:
        pids: The processes, by their names.
        every_seconds: How often.
    """

    def __init__(self, pids: Mapping[str, int], *, every_seconds: float = _SAMPLE_SECONDS) -> None:
        self._every_seconds = every_seconds
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._times: list[float] = []
        self._taken: dict[str, list[float]] = {name: [] for name in pids}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cpu-course", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def between(self, first: float, last: float) -> dict[str, float]:
        """Return the CPU seconds that each process took between two moments.

        Arguments:
            first: A moment in seconds since the Unix epoch.
            last: A later one.
        """
        return {name: self._at(name, last) - self._at(name, first) for name in self._taken}

    def _at(self, name: str, moment: float) -> float:
        """Return the CPU time taken up to a moment, interpolated between samples."""
        times, taken = self._times, self._taken[name]
        right = bisect.bisect_left(times, moment)
        if right == 0:
            return taken[0]
        if right == len(times):
            return taken[-1]
        share = (moment - times[right - 1]) / (times[right] - times[right - 1])
        return taken[right - 1] + share * (taken[right] - taken[right - 1])

    def _run(self) -> None:
        self._sample()
        while not self._end.wait(self._every_seconds):
            self._sample()
        self._sample()

    def _sample(self) -> None:
        taken = {name: cpu_seconds(process) for name, process in self._processes.items()}
        for name, seconds in taken.items():
            # A process that has ended keeps what it had taken.
            before = self._taken[name][-1] if self._taken[name] else 0.0
            self._taken[name].append(max(seconds, before))
        self._times.append(time.time())
