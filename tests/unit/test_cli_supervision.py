"""Worker processes under supervision: started apart, watched, ended, found again. No server is needed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import psutil
import pytest

from sealstream.deploy.interruption import Interrupted, Interruption
from sealstream.deploy.stack.errors import StackError
from sealstream.deploy.supervision import STATE_NAME, WorkerEnded, Workers, end_left_running, refuse_running
from support.workers import wait_for

_OBEDIENT = "import time; print('started', flush=True); time.sleep(600)"
_STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {_OBEDIENT}"
_FAILING = "import sys; print('the reason of the failure'); sys.exit(1)"
_TELLING = f"import os; print(sorted(n for n in os.environ if n.startswith('SEALSTREAM_')), flush=True); {_OBEDIENT}"

MakeWorkers = Callable[[str], Workers]


@pytest.fixture
def make_workers(tmp_path: Path) -> Generator[MakeWorkers]:
    """Make workers that run a small program instead of a role; whatever still runs is killed with the test."""
    made: list[Workers] = []

    def make(program: str) -> Workers:
        environment = {"SEALSTREAM_KAFKA": "127.0.0.1:1", "SEALSTREAM_DATABASE": "postgresql://nobody@127.0.0.1:1/x"}
        workers = Workers(tmp_path, environment, command=lambda _role: [sys.executable, "-c", program])
        made.append(workers)
        return workers

    yield make
    for workers in made:
        for worker in workers.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.identity.pid, signal.SIGKILL)
            worker.process.wait(10)


def _await_output(workers: Workers, text: str) -> None:
    def all_said_it() -> bool:
        return all(text in worker.log.read_text() for worker in workers.running)

    wait_for(all_said_it, timeout_seconds=30, what=text)


def test_workers_run_apart_and_end_together(make_workers: MakeWorkers, tmp_path: Path) -> None:
    """Each worker is a session of its own, so Ctrl-C in the terminal does not reach it; stop() ends all of them."""
    workers = make_workers(_OBEDIENT)
    workers.start()
    pids = [worker.identity.pid for worker in workers.running]

    assert [worker.role for worker in workers.running] == ["processor", "sink", "verifier"]
    assert [os.getsid(pid) for pid in pids] == pids
    assert len({worker.web_port for worker in workers.running}) == 3
    workers.check()
    workers.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not (tmp_path / STATE_NAME).exists()


def test_each_worker_gets_what_it_needs(make_workers: MakeWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the surrounding shell reaches a worker by accident, and the database's URL only the sink."""
    monkeypatch.setenv("SEALSTREAM_SURPRISE", "yes")
    workers = make_workers(_TELLING)
    workers.start()
    _await_output(workers, "started")

    common = ["SEALSTREAM_KAFKA", "SEALSTREAM_LOG_FORMAT", "SEALSTREAM_WEB_HOST", "SEALSTREAM_WEB_PORT"]
    told = {worker.role: worker.log.read_text().splitlines()[0] for worker in workers.running}
    assert told == {
        "processor": str(common),
        "sink": str(sorted([*common, "SEALSTREAM_DATABASE"])),
        "verifier": str(common),
    }


def test_a_worker_that_ends_is_noticed_with_its_log(make_workers: MakeWorkers) -> None:
    """Whoever watches learns which worker ended, how, and what it said last."""
    workers = make_workers(_FAILING)
    workers.start(["sink"])
    workers.running[0].process.wait(30)

    with pytest.raises(WorkerEnded, match=r"the sink ended with exit code 1") as caught:
        workers.check()

    assert "the reason of the failure" in caught.value.log_tail
    assert str(workers.running[0].log) in caught.value.hint
    assert workers.readiness() == {"sink": "ended with exit code 1"}


def test_a_worker_that_does_not_obey_is_killed(make_workers: MakeWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    """stop() waits a bounded time for a worker, and then kills it."""
    monkeypatch.setattr("sealstream.deploy.supervision._STOP_STEPS", ((signal.SIGTERM, 0.3),))
    workers = make_workers(_STUBBORN)
    workers.start(["sink"])
    _await_output(workers, "started")
    pid = workers.running[0].identity.pid

    workers.stop()

    assert not psutil.pid_exists(pid)


def test_workers_of_a_killed_starter_are_found_and_ended(tmp_path: Path) -> None:
    """If whoever started the workers was killed, `sealstream down` still finds and ends them."""
    program = (
        "import sys, time; from pathlib import Path; from sealstream.deploy.supervision import Workers;"
        f"w = Workers(Path(sys.argv[1]), {{}}, command=lambda _role: [sys.executable, '-c', {_OBEDIENT!r}]);"
        "w.start(); print(*(x.identity.pid for x in w.running), flush=True); time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    pids: list[int] = []
    try:
        with starter:
            assert starter.stdout is not None
            pids = [int(pid) for pid in starter.stdout.readline().split()]
            try:
                with pytest.raises(StackError, match="are running"):
                    refuse_running(tmp_path)
            finally:
                starter.kill()
        assert all(psutil.pid_exists(pid) for pid in pids)

        ended = end_left_running(tmp_path)

        assert ended == ("processor", "sink", "verifier")
        assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)
        assert end_left_running(tmp_path) == ()
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_damaged_note_of_the_workers_is_an_error(tmp_path: Path) -> None:
    """A state file that is not ours is named, and nothing is guessed from it."""
    (tmp_path / STATE_NAME).write_text("[]")

    with pytest.raises(StackError, match=STATE_NAME):
        end_left_running(tmp_path)


def test_a_signal_waits_for_a_safe_place() -> None:
    """A signal is noted where it could do harm, and raised at the next place where it cannot."""
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        reached = True  # nothing was raised here
        with pytest.raises(Interrupted) as caught:
            interruption.check()

    assert reached
    assert caught.value.exit_code == 128 + signal.SIGTERM


def test_a_signal_ends_what_allows_it_at_once() -> None:
    """A long wait that can clean up after itself ends as soon as the signal comes, and handlers are put back."""
    before = signal.getsignal(signal.SIGINT)
    start = time.monotonic()
    with Interruption() as interruption:
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(Interrupted) as caught:
            interruption.pause(60)
        timer.join()

    assert caught.value.exit_code == 130
    assert time.monotonic() - start < 10
    assert signal.getsignal(signal.SIGINT) == before
