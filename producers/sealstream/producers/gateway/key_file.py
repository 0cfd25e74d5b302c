"""The file of API keys on disk: written as a whole, under a lock, and read again when it has changed."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sealstream.producers.gateway.api_keys import ApiKeys
from sealstream.schemas.errors import ConfigError
from sealstream.worker.logs import logger

FILE_BYTES_MAX: Final = 16_000_000
LOOK_SECONDS: Final = 1.0
"""How often a gateway looks whether its file has changed: so long a revoked key may still be taken."""
_MODE: Final = 0o640  # no secret in it, but who could write to it could make keys
_LOCK_SUFFIX: Final = ".lock"
_NEW_SUFFIX: Final = ".new"


def read_keys(path: Path) -> ApiKeys:
    """Return the keys in a file.

    Raises:
        ConfigError: It cannot be read, or others than its owner may write to it, or it is no such file.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(
            f"the API keys {path} cannot be read: {error.strerror}", hint="sealstream gateway-keys new makes the file"
        ) from error
    if status.st_mode & 0o022:
        raise ConfigError(f"others may write to the API keys {path}", hint=f"chmod go-w {path}")
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"the API keys {path} have more than {FILE_BYTES_MAX} bytes")
    try:
        return ApiKeys.parse(data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from None


def edit_keys(path: Path, edit: Callable[[ApiKeys], ApiKeys]) -> ApiKeys:
    """Change the keys in a file, which is made if it is not there, and return the new ones.

    Raises:
        ConfigError: The file cannot be read or written, or is no such file; it is as it was.
    """
    try:
        with _locked(path):
            keys = edit(read_keys(path) if path.exists() else ApiKeys())
            _write(path, keys.format())
    except OSError as error:
        raise ConfigError(f"the API keys {path} cannot be written: {error.strerror}") from error
    return keys


class WatchedKeys:
    """The keys in a file, as it is now.

    Arguments:
        path: The file.
        now: Returns the time in seconds; never goes back.

    Raises:
        ConfigError: It cannot be read.
    """

    def __init__(self, path: Path, *, now: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._now = now
        self._seen = _state(path)
        self._looked_seconds = now()
        self._keys = read_keys(path)
        self.problem = ""

    def keys(self) -> ApiKeys:
        """Return the keys; those of before while the file cannot be read, which :attr:`problem` then says."""
        now = self._now()
        if now - self._looked_seconds >= LOOK_SECONDS:
            self._looked_seconds = now
            self._look()
        return self._keys

    def _look(self) -> None:
        seen = _state(self._path)
        if seen == self._seen and seen is not None:
            return
        try:
            self._keys = read_keys(self._path)
        except ConfigError as error:
            if self.problem != error.message:
                logger().error(error.message, hint=error.hint)
            self.problem = error.message
            return
        self._seen, self.problem = seen, ""
        logger().info("API keys read", keys=len(self._keys))


def _state(path: Path) -> tuple[int, int, int] | None:
    """Return what tells a file's content from what it was; ``None`` if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Keep others from changing the file; the lock is a file of its own, because the other one is replaced."""
    descriptor = os.open(f"{path}{_LOCK_SUFFIX}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> None:
    new = Path(f"{path}{_NEW_SUFFIX}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    # If we die before this, the file is as it was, and the next edit writes over what is left.
    new.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
