"""Workers as processes of their own, for the demonstration and ``sealstream up``: started, watched, ended, never lost.

In production Kubernetes or systemd does this. Which processes run is noted in the stack's directory, by pid and start
time, so that ``sealstream down`` can end them even if whoever started them was killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sealstream.deploy.stack.errors import StackError
from sealstream.deploy.stack.ports import LOOPBACK, free_port
from sealstream.deploy.stack.processes import Identity, end, identify, is_running, spawn, tail
from sealstream.deploy.stack.state import write_private

ROLES: Final = ("processor", "sink", "verifier")
LOG_FOLDER: Final = "logs"
STATE_NAME: Final = "workers.json"
# Workers promise to end within 10 s of SIGTERM.
_STOP_STEPS: Final = ((signal.SIGTERM, 15.0),)
_REAP_SECONDS: Final = 5.0
# A starter may have servers to stop, Kafka within 30 s, after its workers.
_OWNER_SECONDS: Final = 90.0
_POLL_SECONDS: Final = 0.1
_ANSWER_SECONDS: Final = 1.0
_ANSWER_BYTES_MAX: Final = 1_000
_PREFIX: Final = "SEALSTREAM_"
_NEEDS_DATABASE: Final = frozenset({"sink"})
_DATABASE_VARIABLE: Final = "SEALSTREAM_DATABASE"  # and with _FILE


class WorkerEnded(StackError):
    """A worker ended by itself; carries the last lines of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One running worker.

    Arguments:
        role: ``processor``, ``sink`` or ``verifier``.
        process: The child.
        identity: The same by pid and start time.
        log: Where its output goes.
        web_port: Where it answers ``/readyz`` and ``/metrics``, on loopback.
    """

    role: str
    process: subprocess.Popen[bytes]
    identity: Identity
    log: Path
    web_port: int


class Workers:
    """One worker of each role, in sessions of their own, so that Ctrl-C reaches us and we end them in order.

    Arguments:
        directory: The stack's directory; logs go to its folder ``logs``.
        environment: The settings of all workers, by their names in the environment. Nothing else that begins with
            ``SEALSTREAM_`` reaches them, and the database's URL reaches only those that need it.
        command: What starts a role; the command line of this installation by default.
    """

    def __init__(
        self, directory: Path, environment: Mapping[str, str], *, command: Callable[[str], list[str]] | None = None
    ) -> None:
        self._directory = directory
        self._environment = dict(environment)
        self._command = command or _own_command
        self.running: list[Worker] = []

    def start(self, roles: Iterable[str] = ROLES) -> None:
        """Start workers, all at the same time.

        Raises:
            StackError: A process cannot be started.
        """
        logs = self._directory / LOG_FOLDER
        logs.mkdir(mode=0o700, exist_ok=True)
        ports: set[int] = {worker.web_port for worker in self.running}
        for role in roles:
            port = free_port(taken=frozenset(ports))
            ports.add(port)
            log = logs / f"{role}.log"
            process = spawn(
                self._command(role),
                directory=self._directory,
                log=log,
                environment=self._environment_of(role, port),
            )
            # If we are killed right here, this one process is not noted, and nobody ends it.
            identity = identify(process.pid)
            self.running.append(Worker(role=role, process=process, identity=identity, log=log, web_port=port))
            self._note()

    def check(self) -> None:
        """Go on only if all workers run.

        Raises:
            WorkerEnded: One has ended; carries the end of its log.
        """
        for worker in self.running:
            code = worker.process.poll()
            if code is not None:
                raise WorkerEnded(
                    f"the {worker.role} ended with {_exit_words(code)}",
                    hint=f"its log is {worker.log}",
                    log_tail=tail(worker.log),
                )

    def readiness(self) -> dict[str, str]:
        """Return what each worker says of itself, in a few words: for the text of a wait that was in vain."""
        return {worker.role: _readiness(worker) for worker in self.running}

    def stop(self) -> None:
        """End all workers in order, at the same time; one that does not end in time is killed.

        Raises:
            StackError: One does not end even when killed.
        """
        _end_all([(worker.role, worker.identity) for worker in self.running])
        for worker in self.running:
            worker.process.wait(_REAP_SECONDS)  # reaps it, so that no zombie stays
        self.running.clear()
        (self._directory / STATE_NAME).unlink(missing_ok=True)

    def _environment_of(self, role: str, port: int) -> dict[str, str]:
        foreign = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIX)}
        own = {
            name: value
            for name, value in self._environment.items()
            if role in _NEEDS_DATABASE or not name.startswith(_DATABASE_VARIABLE)
        }
        web = {f"{_PREFIX}WEB_HOST": LOOPBACK, f"{_PREFIX}WEB_PORT": str(port), f"{_PREFIX}LOG_FORMAT": "json"}
        return foreign | own | web

    def _note(self) -> None:
        write_private(
            self._directory / STATE_NAME,
            json.dumps(
                {
                    "owner": asdict(identify(os.getpid())),
                    "workers": [{"role": worker.role, **asdict(worker.identity)} for worker in self.running],
                },
                indent=1,
            )
            + "\n",
        )


def _own_command(role: str) -> list[str]:
    return [sys.executable, "-m", "sealstream.deploy", role]


def end_left_running(directory: Path) -> tuple[str, ...]:
    """End the workers of a directory, whether whoever started them still lives or was killed.

    A starter that still lives is asked to end all that it started (SIGTERM).

    Returns:
        The roles of the workers that still ran.

    Raises:
        StackError: Something does not end, belongs to another user, or the note of it cannot be read.
    """
    note = _read_note(directory / STATE_NAME)
    if note is None:
        return ()
    left = [(role, identity) for role, identity in note.workers if is_running(identity)]
    if note.owner.pid != os.getpid() and is_running(note.owner):
        _ask_owner(note.owner)
    _end_all([(role, identity) for role, identity in left if is_running(identity)])
    (directory / STATE_NAME).unlink(missing_ok=True)
    return tuple(role for role, _ in left)


def refuse_running(directory: Path) -> None:
    """Refuse a directory whose workers somebody is watching over at the moment.

    Raises:
        StackError: Somebody is.
    """
    note = _read_note(directory / STATE_NAME)
    if note is not None and is_running(note.owner):
        raise StackError(
            f"workers of {directory} are running (started by process {note.owner.pid})",
            hint="end them with `sealstream down`, or use another directory with --dir",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    owner: Identity
    workers: tuple[tuple[str, Identity], ...]


def _read_note(path: Path) -> _Note | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return _Note(
            owner=_identity(document["owner"]),
            workers=tuple((str(item["role"]), _identity(item)) for item in document["workers"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StackError(
            f"{path} cannot be read: {error}", hint="end what still runs by hand, and remove the file"
        ) from error


def _identity(value: Mapping[str, Any]) -> Identity:
    return Identity(pid=int(value["pid"]), started_seconds=float(value["started_seconds"]))


def _ask_owner(owner: Identity) -> None:
    try:
        os.kill(owner.pid, signal.SIGTERM)
    except ProcessLookupError:
        return  # it ended just now
    except PermissionError as error:
        raise StackError(
            f"the workers belong to process {owner.pid} of another user", hint="end them as the user who started them"
        ) from error
    deadline = time.monotonic() + _OWNER_SECONDS
    while is_running(owner):
        if time.monotonic() > deadline:
            raise StackError(
                f"process {owner.pid}, which started the workers, does not end", hint="end it, then try again"
            )
        time.sleep(_POLL_SECONDS)


def _end_all(processes: list[tuple[str, Identity]]) -> None:
    if not processes:
        return
    with ThreadPoolExecutor(len(processes), thread_name_prefix="end") as pool:
        futures = [pool.submit(end, identity, steps=_STOP_STEPS, what=role) for role, identity in processes]
    for future in futures:
        future.result()


def _readiness(worker: Worker) -> str:
    code = worker.process.poll()
    if code is not None:
        return f"ended with {_exit_words(code)}"
    try:
        with urllib.request.urlopen(  # our own worker's port on loopback
            f"http://{LOOPBACK}:{worker.web_port}/readyz", timeout=_ANSWER_SECONDS
        ) as answer:
            return f"ready ({_text(answer.read(_ANSWER_BYTES_MAX))})"
    except urllib.error.HTTPError as error:
        with error:
            return f"not ready ({_text(error.read(_ANSWER_BYTES_MAX))})"
    except OSError as error:
        return f"does not answer ({error})"


def _text(body: bytes) -> str:
    return " ".join(body.decode(errors="replace").split())


def _exit_words(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
