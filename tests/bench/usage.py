"""CPU time of processes, as a course over time: what a stretch of a run has cost is read off it afterwards."""

from __future__ import annotations

import bisect
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import psutil

_SAMPLE_SECONDS: Final = 0.1
"""So often for a run of a few seconds. To look at a process and its descendants takes 2 to 3 ms of CPU time."""


_COMPILERS: Final = ("C1 CompilerThre", "C2 CompilerThre")
"""The names of Java's compiler threads, as the kernel cuts them."""
COMPILING_SHARE_MAX: Final = 0.1
COMPILING_WINDOW_SECONDS: Final = 10.0


class JavaTime(NamedTuple):
    """CPU time of a Java process.

    Arguments:
        compiling_seconds: What its compiler has taken so far.
        total_seconds: What all of its threads have taken so far.
    """

    compiling_seconds: float
    total_seconds: float


def java_time(pid: int) -> JavaTime | None:
    """Return the CPU time that a Java process has taken; ``None`` where threads have no names to read."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        threads = {thread.id: thread.user_time + thread.system_time for thread in psutil.Process(pid).threads()}
        names = {number: (tasks / str(number) / "comm").read_text().strip() for number in threads}
    except (OSError, psutil.Error):  # no Linux, or a thread that ended just now
        return None
    compiling = sum(seconds for number, seconds in threads.items() if names[number] in _COMPILERS)
    return JavaTime(compiling, sum(threads.values()))


class Warmth:
    """Tells whether Java has compiled what is hot in a process: a broker does so once in its life, not all the time.

    The compiler's share of the process's time tells it, also where other load leaves little time to both.

    Arguments:
        taken: Returns the process's CPU time, or ``None`` if that cannot be seen.
        now: Returns the time in seconds.
    """

    def __init__(self, taken: Callable[[], JavaTime | None], *, now: Callable[[], float] = time.monotonic) -> None:
        self._taken = taken
        self._now = now
        self._seen: deque[tuple[float, JavaTime]] = deque()

    def is_reached(self) -> bool:
        """Look once more, and return whether it has hardly compiled for a while; never, where that cannot be seen."""
        taken, now = self._taken(), self._now()
        if taken is None:
            return False
        self._seen.append((now, taken))
        while len(self._seen) > 1 and self._seen[1][0] <= now - COMPILING_WINDOW_SECONDS:
            self._seen.popleft()
        since, before = self._seen[0]
        compiling = taken.compiling_seconds - before.compiling_seconds
        total = taken.total_seconds - before.total_seconds
        return now - since >= COMPILING_WINDOW_SECONDS and compiling <= COMPILING_SHARE_MAX * total


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
