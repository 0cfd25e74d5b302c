"""Child processes of the stack: started apart from our terminal, known by pid and start time, ended step by step."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from sealstream.deploy.stack.account import Account
from sealstream.deploy.stack.errors import StackError
from sealstream.deploy.stack.waiting import Wait

# The start time that the system reports may shift by a second when its clock is set. A pid is not given again within
# so short a time.
_STARTED_TOLERANCE_SECONDS = 2.0
_POLL_SECONDS = 0.02
_KILLED_WAIT_SECONDS = 10.0
_TAIL_LINES = 20
_TAIL_BYTES = 16_384
_LOG_KEPT_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One process, not merely a number that another process may get later.

    Arguments:
        pid: The process id.
        started_seconds: When it started, in seconds since the epoch.
    """

    pid: int
    started_seconds: float


def identify(pid: int) -> Identity:
    """Note which process has this pid now.

    Raises:
        StackError: There is no such process.
    """
    try:
        return Identity(pid=pid, started_seconds=psutil.Process(pid).create_time())
    except psutil.Error as error:
        raise StackError(f"process {pid} ended before it could be noted") from error


def is_running(identity: Identity) -> bool:
    """Tell whether this very process still runs; one that only waits to be reaped by its parent does not."""
    try:
        process = psutil.Process(identity.pid)
        if abs(process.create_time() - identity.started_seconds) > _STARTED_TOLERANCE_SECONDS:
            return False
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def spawn(
    command: Sequence[str | Path],
    *,
    directory: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
    account: Account | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, so that Ctrl-C in the terminal reaches us and not the child.

    It gets no standard input, a small environment (nothing of ours such as ``JAVA_TOOL_OPTIONS`` or ``PGDATA``), and
    writes to the log file, which is begun anew when it has grown large.

    Arguments:
        command: The program's path and its arguments.
        directory: Its working directory.
        log: The file for its output, created if missing.
        environment: More environment variables.
        account: The account to run under; None for ours.

    Raises:
        StackError: The program cannot be started.
    """
    variables = {"PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC", "HOME": str(directory), **(environment or {})}
    keep = log.exists() and log.stat().st_size < _LOG_KEPT_BYTES
    try:
        with log.open("ab" if keep else "wb") as output:
            return subprocess.Popen(  # noqa: S603 - our own programs and arguments, no shell
                [str(part) for part in command],
                cwd=directory,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=() if account else None,
                umask=0o077,
            )
    except (OSError, subprocess.SubprocessError) as error:
        raise StackError(f"cannot start {command[0]}: {error}") from error


def run_tool(
    command: Sequence[str | Path],
    *,
    what: str,
    directory: Path,
    log: Path,
    wait: Wait,
    account: Account | None = None,
) -> None:
    """Run a program to its end.

    Raises:
        StackError: It failed, or did not end in time; it is ended then.
    """
    process = spawn(command, directory=directory, log=log, account=account)
    try:
        while process.poll() is None:
            wait.pause()
    finally:
        if process.poll() is None:
            _kill_group(process)
    if process.returncode != 0:
        raise StackError(f"{what} failed with exit code {process.returncode}", log_tail=tail(log))


def _kill_group(leader: subprocess.Popen[bytes]) -> None:
    """Kill a program and what it has started: initdb's children would go on writing to a directory being removed.

    They are found by their process group, which `spawn` made for the program alone: a look at its children would miss
    what it starts at that moment.

    Raises:
        StackError: One of them runs on even after SIGKILL.
    """
    with contextlib.suppress(ProcessLookupError):  # they ended just now
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()
    deadline = time.monotonic() + _KILLED_WAIT_SECONDS
    while members := _running_in_group(leader.pid):
        if time.monotonic() > deadline:
            raise StackError(f"processes {members} do not end, not even when killed")
        time.sleep(_POLL_SECONDS)


def _running_in_group(group: int) -> list[int]:
    """Give the pids of a process group's members; those that only wait to be reaped have ended."""
    members: list[int] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
    return members


def end(identity: Identity, *, steps: Sequence[tuple[signal.Signals, float]], what: str) -> None:
    """End a process: send each step's signal and wait its seconds, and kill it after the last.

    An interruption (a second Ctrl-C) kills it at once, so that it is not left behind.

    Arguments:
        identity: The process; if the pid belongs to another one by now, nothing is sent.
        steps: Signals with the seconds that each is given, gentlest first.
        what: Its name for the error.

    Raises:
        StackError: It runs on even after SIGKILL, or is not ours to signal.
    """
    try:
        for number, seconds in steps:
            _signal(identity, number, what)
            if _ended_within(identity, seconds):
                return
    except BaseException:
        _signal(identity, signal.SIGKILL, what)
        raise
    _signal(identity, signal.SIGKILL, what)
    if not _ended_within(identity, _KILLED_WAIT_SECONDS):
        raise StackError(f"{what} (process {identity.pid}) does not end, not even when killed")


def tail(*logs: Path) -> str:
    """Give the last lines of these log files, for an error's text; files that are not there are left out."""
    lines: list[str] = []
    for log in logs:
        try:
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
                text = file.read(_TAIL_BYTES).decode("utf-8", errors="replace")
        except OSError:
            continue  # it is the error that matters, not that its server wrote no log
        lines += [f"  {line}" for line in text.splitlines()[-_TAIL_LINES:]]
    return "\n".join(lines)


def _signal(identity: Identity, number: signal.Signals, what: str) -> None:
    if not is_running(identity):
        return
    with contextlib.suppress(ProcessLookupError):  # it ended just now
        try:
            os.kill(identity.pid, number)
        except PermissionError as error:
            raise StackError(
                f"{what} (process {identity.pid}) belongs to another user", hint="end it as the user who started it"
            ) from error


def _ended_within(identity: Identity, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(identity):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
