"""One process owns a spool, for as long as it has it open."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final
from weakref import WeakSet

from sealstream.schemas.errors import SpoolError, SpoolOwned

LOCK_NAME: Final = "lock"
_MODE: Final = 0o600
_PID_BYTES_MAX: Final = 20


class Ownership:
    """The lock on a spool's directory (``flock``): the system lets it go with the process, however that ends.

    Arguments:
        directory: The spool's directory.

    Raises:
        SpoolOwned: Another process, or another log of this one, has it.
        SpoolError: The directory does not take the lock's file.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / LOCK_NAME
        try:
            self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        except OSError as error:
            raise SpoolError(f"spool {directory} cannot be locked: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = _pid_in(self._file)
            self.release()
            raise SpoolOwned(
                f"spool {directory} is in use by process {pid or 'unknown'}",
                hint="give each process a directory of its own, or end that one",
                pid=pid,
            ) from error
        with suppress(OSError):  # on a full disk: the pid is for people, the lock holds without it
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, str(os.getpid()).encode(), 0)
        _held.add(self)

    def release(self) -> None:
        """Let the spool go. In a forked process only its own copy of the file: the parent keeps the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _pid_in(file: int) -> int:
    with suppress(OSError, ValueError):
        return int(os.pread(file, _PID_BYTES_MAX, 0))
    return 0


_held: Final[WeakSet[Ownership]] = WeakSet()


def _let_go() -> None:
    for ownership in list(_held):
        ownership.release()


# A child that outlives its parent would keep the lock, and nobody else could send what the parent left.
os.register_at_fork(after_in_child=_let_go)
