"""Ending, and erasing, a stack from outside: by what its directory says."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from sealstream.deploy.stack.errors import StackError
from sealstream.deploy.stack.locations import directory_unusable
from sealstream.deploy.stack.postgresql import outside_home
from sealstream.deploy.stack.processes import end, is_running
from sealstream.deploy.stack.state import DirectoryLock, StackState, read_state, remove_state

# PostgreSQL last, so that whatever still writes to it can.
STOP_ORDER = ("registry", "kafka", "database")
# The signals that stop them gently.
_STOP_SIGNALS = {"registry": signal.SIGTERM, "kafka": signal.SIGTERM, "database": signal.SIGINT}
_STOP_SECONDS = 30.0
_OWNER_SECONDS = 60.0
_POLL_SECONDS = 0.1
_OURS = (*STOP_ORDER, "ports.json", "stack.json", "stack.json.new", "ports.json.new", "lock")


def stop_left_running(directory: Path) -> tuple[str, ...]:
    """End the stack of a directory, whether its starter still lives or was killed.

    A starter that still holds the directory is asked to stop it in order (SIGTERM). Processes are known by pid and
    start time: one that merely got the same pid is never touched.

    Arguments:
        directory: The directory of the stack.

    Returns:
        The names of what was ended, of ``owner``, ``registry``, ``kafka`` and ``database``; empty if nothing ran.

    Raises:
        StackError: Something does not end, or belongs to another user, or the state cannot be read.
    """
    if not directory.is_dir():
        return ()
    ended: list[str] = []
    state = read_state(directory)
    if state is not None and _ask_owner(directory, state):
        ended.append("owner")
    lock = DirectoryLock(directory)
    lock.acquire()
    try:
        state = read_state(directory)
        if state is not None:
            ended += end_servers(state)
            remove_state(directory)
    finally:
        lock.release()
    return tuple(ended)


def end_servers(state: StackState) -> list[str]:
    """End those of a stack's servers that still run, and give their names.

    Raises:
        StackError: One does not end, or belongs to another user.
    """
    ended: list[str] = []
    for name in STOP_ORDER:
        identity = state.servers.get(name)
        if identity is not None and is_running(identity):
            end(identity, steps=((_STOP_SIGNALS[name], _STOP_SECONDS),), what=name)
            ended.append(name)
    return ended


def erase(directory: Path) -> None:
    """Remove what stacks have put into a directory, and the directory itself if nothing else is in it.

    Arguments:
        directory: The directory of a stack that does not run.

    Raises:
        StackError: A stack is running in it, or something cannot be removed.
    """
    if not directory.is_dir():
        return
    lock = DirectoryLock(directory)
    lock.acquire()
    try:
        state = read_state(directory)
        if state is not None and any(is_running(identity) for identity in state.servers.values()):
            raise StackError(f"servers are running in {directory}", hint="end them with `sealstream down`")
        outside = outside_home(directory / "database")
        for path in (outside, *(directory / name for name in _OURS)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if not any(directory.iterdir()):
            directory.rmdir()
    except OSError as error:
        raise directory_unusable(directory, error) from error
    finally:
        lock.release()


def _ask_owner(directory: Path, state: StackState) -> bool:
    if state.owner.pid == os.getpid() or not is_running(state.owner) or _is_unlocked(directory):
        return False
    try:
        os.kill(state.owner.pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise StackError(f"the stack in {directory} belongs to another user") from error
    deadline = time.monotonic() + _OWNER_SECONDS
    while not _is_unlocked(directory):
        if time.monotonic() > deadline:
            raise StackError(
                f"process {state.owner.pid}, which started the stack in {directory}, does not stop it",
                hint="end that process, then try again",
            )
        time.sleep(_POLL_SECONDS)
    return True


def _is_unlocked(directory: Path) -> bool:
    lock = DirectoryLock(directory)
    try:
        lock.acquire()
    except StackError:
        return False
    lock.release()
    return True
