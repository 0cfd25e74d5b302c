"""The stop signal: SIGTERM and SIGINT become a flag, and nothing is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from sealstream.worker.stop import StopSignal


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    """Leave the process's signal handlers as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_set_the_flag(number: signal.Signals) -> None:
    """Either signal sets the flag, however often it comes, and raises nothing into the worker's loop."""
    stop = StopSignal()
    stop.install()
    assert not stop.is_set()
    os.kill(os.getpid(), number)
    os.kill(os.getpid(), number)
    assert stop.wait(5)
    assert stop.is_set()


def test_a_worker_that_hangs_is_ended_all_the_same() -> None:
    """A worker that does not come to its end after a signal is ended when its time is over, with 0 and one log line."""
    program = (
        "import os, signal, threading\n"
        "from sealstream.worker.logs import configure\n"
        "from sealstream.worker.stop import StopSignal\n"
        "configure('sink', format='json')\n"
        "StopSignal().install(end_within_seconds=0.2)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "threading.Event().wait()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 0
    assert "ended before everything was closed" in ended.stderr


def test_wait_ends_with_the_flag() -> None:
    """Whoever waits for the flag goes on as soon as it is set."""
    stop = StopSignal()
    timer = threading.Timer(0.05, stop.set)
    began = time.monotonic()
    timer.start()
    assert stop.wait(10)
    assert time.monotonic() - began < 5
    timer.join()


def test_wait_is_bounded() -> None:
    """Without the flag a wait ends when its time is over."""
    assert not StopSignal().wait(0.01)
