"""What the servers of the stack have in common: one child process with an address, started and ended on demand."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sealstream.deploy.stack.account import Account
from sealstream.deploy.stack.errors import StackError
from sealstream.deploy.stack.processes import Identity, end, identify, is_running, spawn, tail
from sealstream.deploy.stack.waiting import Wait

READY_SECONDS_MAX = 90.0
_REAP_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a server needs from the stack that it is part of.

    Arguments:
        called_off: Set when the stack gives up starting.
        report: Told what the server is doing.
        note: Called whenever the server's process has changed, to write down what runs.
    """

    called_off: threading.Event = field(default_factory=threading.Event)
    report: Callable[[str], None] = lambda _text: None
    note: Callable[[], None] = lambda: None


class Server:
    """One server process.

    Arguments:
        name: Its name for people.
        surroundings: The stack's part.
        stop_steps: Signals that stop it in order, each with the seconds that it is given.
    """

    def __init__(
        self, name: str, surroundings: Surroundings, *, stop_steps: Sequence[tuple[signal.Signals, float]]
    ) -> None:
        self.name = name
        self.identity: Identity | None = None
        self._surroundings = surroundings
        self._stop_steps = stop_steps
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, command: Sequence[str | Path], *, directory: Path, log: Path, account: Account | None) -> None:
        """Start the process.

        Raises:
            StackError: It runs already, or cannot be started.
        """
        if self.identity is not None and is_running(self.identity):
            raise StackError(f"{self.name} is running already")
        self._process = spawn(command, directory=directory, log=log, account=account)
        # If we are killed right here, the process is not in the state file: the next start fails on the lock that the
        # server itself holds on its data, and its log names the reason.
        self.identity = identify(self._process.pid)
        self._surroundings.note()

    def wait_until(self, is_ready: Callable[[], bool], *, logs: Sequence[Path]) -> None:
        """Wait until the server does its work.

        Arguments:
            is_ready: Asks it; False means not yet.
            logs: Its log files, for the error.

        Raises:
            StackError: It ended instead, or did not get ready in time.
        """
        wait = Wait(f"{self.name} to get ready", seconds=READY_SECONDS_MAX, called_off=self._surroundings.called_off)
        while not is_ready():
            self._check_alive(logs)
            try:
                wait.pause()
            except StackError as error:
                raise StackError(error.message, hint=error.hint, log_tail=tail(*logs)) from error
        # Something else might have answered on its port.
        self._check_alive(logs)

    def stop(self) -> None:
        """Stop the server in order; does nothing if it does not run.

        Raises:
            StackError: It does not end even when killed.
        """
        self._end(self._stop_steps)

    def kill(self) -> None:
        """Kill the server as a crash would (SIGKILL); does nothing if it does not run.

        Raises:
            StackError: It does not end.
        """
        self._end(())

    def _end(self, steps: Sequence[tuple[signal.Signals, float]]) -> None:
        if self.identity is None:
            return
        end(self.identity, steps=steps, what=self.name)
        if self._process is not None:
            self._process.wait(_REAP_SECONDS)  # reaps it, so that no zombie stays
        self.identity = self._process = None
        self._surroundings.note()

    def _check_alive(self, logs: Sequence[Path]) -> None:
        if self._process is not None and self._process.poll() is not None:
            code = self._process.returncode
            self.identity = self._process = None
            raise StackError(f"{self.name} ended with code {code} instead of getting ready", log_tail=tail(*logs))
