"""Objects as files of a directory, written so that a reader sees the whole file or the one before."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final

from sealstream.schemas.errors import ConfigError, ObjectMissing, StoreError, Unreachable
from sealstream.worker.objects import LISTED_MAX, OBJECT_BYTES_MAX, check_path, check_prefix, get_each

_MODE: Final = 0o644
_WRITERS: Final = 4
"""Files that are written at the same time where there are many."""

_BLOCK_FILES: Final = 64
"""Files that a writer is given at once."""

_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_PASSING: Final = frozenset(
    {
        errno.EDQUOT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EIO,
        errno.ENODEV,
        errno.ENOSPC,
        errno.ENOTCONN,
        errno.ENXIO,
        errno.EROFS,
        errno.ESHUTDOWN,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
"""What is over once a disk is back, or has space again: whoever writes waits for it, as for any other server."""


class DirectoryObjects:
    """A directory. It has to be there: one that is missing is more likely a disk that was not mounted than a new log.

    Arguments:
        directory: The directory.

    Raises:
        ConfigError: It is none.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise ConfigError(f"the storage {directory} is no directory", hint=f"mkdir {directory}, or mount it")
        self._root = str(directory.resolve())

    def get(self, path: str, *, bytes_max: int = OBJECT_BYTES_MAX) -> bytes:
        """Return a file's bytes: :meth:`sealstream.worker.objects.Objects.get`."""
        check_path(path)
        try:
            descriptor = os.open(f"{self._root}/{path}", _READ)
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectMissing(f"{self._root} has no {path}") from None
        except OSError as error:
            raise self._refused("read", path, error) from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ObjectMissing(f"{self._root} has no file {path}")
            return self._read(descriptor, path, status.st_size, bytes_max)
        except OSError as error:
            raise self._refused("read", path, error) from error
        finally:
            os.close(descriptor)

    def get_many(self, paths: Iterable[str], *, bytes_max: int = OBJECT_BYTES_MAX) -> Iterator[bytes | None]:
        """Yield the bytes of many files: :meth:`sealstream.worker.objects.Objects.get_many`."""
        return get_each(self, paths, bytes_max)

    def put(self, path: str, data: bytes) -> None:
        """Write one file: :meth:`sealstream.worker.objects.Objects.put`."""
        check_path(path)
        final = f"{self._root}/{path}"
        folder, _, name = final.rpartition("/")
        # A name that no path can have, and that no other writer uses. A process that dies leaves it behind: nobody
        # reads it, and it does not take the place of anything.
        temporary = f"{folder}/.{name}.{os.getpid()}-{threading.get_ident()}"
        try:
            descriptor = self._create(temporary, folder, _WRITE)
            try:
                _write_all(descriptor, data)
            finally:
                os.close(descriptor)
            os.rename(temporary, final)  # noqa: PTH104  # as below: this is done for each of many files
        except OSError as error:
            _remove(temporary)
            raise self._refused("write", path, error) from error
        # A process that dies here has written the file. A power cut may still take it away, cut it or empty it, until
        # sync() has returned: whoever puts files that others rely on syncs before he lets them know.

    def put_many(self, files: Iterable[tuple[str, bytes]], *, write_once: bool = False) -> None:
        """Write many files: :meth:`sealstream.worker.objects.Objects.put_many`."""
        put = self._put_new if write_once else self.put

        def put_each(block: list[tuple[str, bytes]]) -> None:
            for path, data in block:
                put(path, data)

        rest = iter(files)
        first = list(islice(rest, _BLOCK_FILES))
        if len(first) < _BLOCK_FILES:
            put_each(first)
            return
        # Most of it is the file system's time, and it makes files in several folders at the same time.
        waiting: deque[Future[None]] = deque()
        with ThreadPoolExecutor(_WRITERS, thread_name_prefix="objects") as writers:
            try:
                block = first
                while block:
                    waiting.append(writers.submit(put_each, block))
                    if len(waiting) > 2 * _WRITERS:
                        waiting.popleft().result()
                    block = list(islice(rest, _BLOCK_FILES))
                while waiting:
                    waiting.popleft().result()
            finally:
                writers.shutdown(cancel_futures=True)

    def delete_many(self, paths: Iterable[str]) -> None:
        """Delete files, and leave their folders: :meth:`sealstream.worker.objects.Objects.delete_many`."""
        for path in paths:
            check_path(path)
            try:
                os.unlink(f"{self._root}/{path}")  # noqa: PTH108  # as above: many files
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._refused("delete", path, error) from error

    def delete_below(self, prefix: str) -> None:
        """Delete a folder with all that is in it: :meth:`sealstream.worker.objects.Objects.delete_below`."""
        path = check_prefix(prefix)
        check_path(path)
        try:
            shutil.rmtree(f"{self._root}/{path}")  # follows no link
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._refused("delete", path, error) from error

    def sync(self) -> None:
        """Write to the disk what the file system still holds in memory: :meth:`sealstream.worker.objects.Objects.sync`.

        One call for the whole file system (Linux' syncfs, which reports what could not be written) instead of one for
        each of some ten thousand files and their directories. A power cut before it leaves any part of what was put,
        files that are cut or empty included: the notary makes a round's files again from the leaves that its database
        has, with the same bytes, and a reader verifies what it reads.
        """
        try:
            descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._refused("sync", "it", error) from error
        try:
            _sync_file_system(descriptor)
        except OSError as error:
            raise self._refused("sync", "it", error) from error
        finally:
            os.close(descriptor)

    def list(self, prefix: str) -> list[str]:
        """Return the paths of the files below a path: :meth:`sealstream.worker.objects.Objects.list`."""
        path = check_prefix(prefix)
        found: list[str] = []
        for folder, folders, names in os.walk(f"{self._root}/{path}" if path else self._root, onerror=self._unlisted):
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = folder[len(self._root) + 1 :]
            found.extend(f"{below}/{name}" if below else name for name in names if not name.startswith("."))
            if len(found) > LISTED_MAX:
                raise StoreError(f"{self._root} has more than {LISTED_MAX} files below {path!r}")
        return sorted(found)

    def _put_new(self, path: str, data: bytes) -> None:
        """Write a file in its place, if there is none: a third less work than to write another one and rename it."""
        check_path(path)
        final = f"{self._root}/{path}"
        try:
            descriptor = self._create(final, final.rpartition("/")[0], _NEW)
        except FileExistsError:
            self.put(path, data)  # whole or cut, readers may have it: it is replaced as a whole
            return
        except OSError as error:
            raise self._refused("write", path, error) from error
        try:
            _write_all(descriptor, data)
        except OSError as error:
            _remove(final)
            raise self._refused("write", path, error) from error
        finally:
            os.close(descriptor)
        # A process that dies before this line leaves a file that is cut or empty, of which nobody knows yet. Whoever
        # puts it again finds it in the place, and replaces it.

    def _create(self, file: str, folder: str, flags: int) -> int:
        try:
            return os.open(file, flags, _MODE)
        except FileNotFoundError:
            if not Path(self._root).is_dir():  # unmounted, or removed: nothing is begun in its place
                raise
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103  # ten thousand times: a Path costs more than the call
            return os.open(file, flags, _MODE)

    def _read(self, descriptor: int, path: str, size: int, bytes_max: int) -> bytes:
        """Read a file to its end, one byte more than allowed at most."""
        pieces: list[bytes] = []
        count = 0
        while count <= bytes_max and (piece := os.read(descriptor, min(size, bytes_max) + 1 - min(count, size))):
            pieces.append(piece)
            count += len(piece)
        if count > bytes_max:
            raise StoreError(f"{self._root}/{path} has more than {bytes_max} bytes")
        return b"".join(pieces)

    def _refused(self, what: str, path: str, error: OSError) -> StoreError | Unreachable:
        message = f"the storage {self._root} could not {what} {path}: {error.strerror or error}"
        if error.errno in _PASSING or not Path(self._root).is_dir():
            return Unreachable(message, hint="see whether its disk is mounted, writable, sound, and has space left")
        return StoreError(message)

    def _unlisted(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise self._refused("list", str(error.filename), error)


def _remove(file: str) -> None:
    """Remove what could not be written, if that is possible: where it is not, nobody reads what is left of it."""
    with contextlib.suppress(OSError):  # why the file could not be written is the error to be told
        os.unlink(file)  # noqa: PTH108  # as above


def _write_all(descriptor: int, data: bytes) -> None:
    done = os.write(descriptor, data)
    while done < len(data):
        done += os.write(descriptor, data[done:])


def _sync_file_system(descriptor: int) -> None:
    """Call syncfs(2), or sync(2) where there is none, for the file system of an open directory."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:  # not Linux
        os.sync()
    elif syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
