"""The spool's file: SQLite in WAL mode, one row an event, used by one thread.

What SQLite's pragmas do here (https://www.sqlite.org/pragma.html#pragma_synchronous, https://www.sqlite.org/wal.html):
in WAL mode ``synchronous=NORMAL`` syncs only at checkpoints, so a commit is not durable when it returns; ``FULL`` syncs
the log at each commit, which is what ``batch`` and ``full`` need; ``OFF`` never syncs. ``locking_mode=EXCLUSIVE`` keeps
other programs out, and the index of the log in memory.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar
from weakref import WeakSet

from sealstream.producers.options import Fsync
from sealstream.schemas.errors import SpoolError

FILE_NAME: Final = "spool.sqlite"
APPLICATION_ID: Final = 0x5EA15900
VERSION: Final = 1
ROW_OVERHEAD_BYTES: Final = 64
"""What a row takes beside its value, roughly: number, checksum, lengths, its part of the tree."""

_ROWS_A_STATEMENT_MAX: Final = 256
"""SQLite's wrapper lets go of Python's lock in each step, and may wait long for it: one step takes many rows."""
_NUMBERS_A_STATEMENT_MAX: Final = 500
_RANGE_ROWS_MIN: Final = 8
"""From so many numbers in a row on, a statement for their range costs less than their numbers do."""
_MODE: Final = 0o600  # events are nobody else's; SQLite gives its log the rights of its file
_DATA_LOST: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SCHEMA: Final = """
    CREATE TABLE events (number INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, value BLOB NOT NULL);
    CREATE TABLE refused (
        number INTEGER PRIMARY KEY, refused_at TEXT NOT NULL, reason TEXT NOT NULL, value BLOB NOT NULL
    );
    CREATE TABLE dropped (tenant TEXT PRIMARY KEY, count INTEGER NOT NULL, since TEXT NOT NULL, until TEXT NOT NULL);
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

_T = TypeVar("_T")


class Row(NamedTuple):
    """One event in the spool.

    Arguments:
        number: Its place: the order of ``log()``.
        checksum: Of value and number, against what SQLite does not notice.
        value: The event's final bytes.
    """

    number: int
    checksum: int
    value: bytes

    @property
    def is_sound(self) -> bool:
        """Whether the value is the one that was written at this place."""
        return self.checksum == checksum(self.number, self.value)


DroppedRow: TypeAlias = tuple[str, int, str, str]


class Summary(NamedTuple):
    """What a spool holds.

    Arguments:
        last: The highest number; 0 if there is none.
        events: How many events wait to be sent.
        events_bytes: Their values' bytes.
        refused: How many are set aside.
        refused_bytes: Their values' bytes.
    """

    last: int
    events: int
    events_bytes: int
    refused: int
    refused_bytes: int


class RefusedRow(NamedTuple):
    """An event that Kafka will never have.

    Arguments:
        number: Its place: the order of ``log()``.
        refused_at: When, in ISO 8601.
        reason: Why, in words.
        value: The event's final bytes.
    """

    number: int
    refused_at: str
    reason: str
    value: bytes


class DataLost(SpoolError):
    """The file is not what SQLite wrote: damaged, cut, or another one."""


def checksum(number: int, value: bytes) -> int:
    """Return the checksum of a row (CRC-32, begun with the number)."""
    return zlib.crc32(value, number & 0xFFFFFFFF)


class SpoolFile:
    """An open spool.

    Arguments:
        path: The file.
        fsync: When commits are made durable.
        make: Whether to make it; otherwise an empty file is a damaged one.
        is_damaged: Whether it is opened for reading what is left of it.

    Raises:
        DataLost: The file is damaged, or another program's.
        SpoolError: It cannot be opened or made.
    """

    def __init__(self, path: Path, fsync: Fsync, *, make: bool = False, is_damaged: bool = False) -> None:
        self._path = path
        self._identity = (0, 0)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0), _MODE))
            self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, OSError) as error:
            raise SpoolError(
                f"spool {path} cannot be opened: {error}", hint="see to its rights and its disk"
            ) from error
        self.connection.text_factory = _decode
        _open.add(self)
        try:
            self._call(self._prepare_damaged if is_damaged else lambda: self._prepare(fsync, make=make))
            _sync_directory(path.parent)
            self._identity = _identity(path)
        except BaseException:
            self.close()
            raise

    def _prepare_damaged(self) -> None:
        self.connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        self.connection.execute("PRAGMA writable_schema = ON")  # SQLite then reads a file that is shorter than it says

    def _prepare(self, fsync: Fsync, *, make: bool) -> None:
        execute = self.connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute(f"PRAGMA synchronous = {'OFF' if fsync == 'off' else 'FULL'}")
        execute(f"PRAGMA fullfsync = {int(fsync == 'full')}")  # makes macOS flush the drive's cache as well
        if make:
            execute("PRAGMA auto_vacuum = INCREMENTAL")
            execute("PRAGMA journal_mode = WAL")
            # If we die in here, nothing is committed: the file does not say that it is complete, and is made anew.
            self.connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {VERSION}; COMMIT;"
            )
        found, version = (execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if found != APPLICATION_ID:
            raise DataLost(f"spool {self._path}: it is empty, or another program's database")
        if version != VERSION:
            raise SpoolError(
                f"spool {self._path} is of version {version}", hint="read it with the version that made it"
            )
        execute("PRAGMA journal_mode = WAL")
        execute("BEGIN IMMEDIATE")  # takes the exclusive lock, and so shows now whether the file can be written
        execute("COMMIT")

    def append(self, rows: Sequence[tuple[int, int, bytes]], done: Sequence[int] = ()) -> None:
        """Add rows, and delete those that Kafka has, in one commit: durable, as ``fsync`` says, when this returns.

        Rows that are there already stay as they are.

        Arguments:
            rows: Each a :class:`Row`, or what one consists of.
            done: Numbers of rows.

        Raises:
            SpoolError: Nothing of it is certain to be on the disk.
        """

        def write() -> None:
            self._delete(done)
            start = 0
            while start < len(rows):
                size = min(_ROWS_A_STATEMENT_MAX, 1 << (len(rows) - start).bit_length() - 1)
                self.connection.execute(_INSERTS[size], tuple(chain.from_iterable(rows[start : start + size])))
                start += size

        self._commit(write)

    def read(self, after: int, through: int, limit: int, size_bytes_max: int) -> list[Row]:
        """Return the rows above one number and up to another, in order: at most so many, and about so many bytes.

        Raises:
            SpoolError: They cannot be read.
        """

        def select() -> list[Row]:
            rows: list[Row] = []
            size_bytes = 0
            query = (
                "SELECT number, checksum, value FROM events WHERE number > ? AND number <= ? ORDER BY number LIMIT ?"
            )
            for number, found, value in self.connection.execute(query, (after, through, limit)):
                # In a damaged file a column may hold anything: such a row is one that is not sound.
                rows.append(Row(number, found, value) if isinstance(value, bytes) else Row(number, -1, b""))
                size_bytes += len(rows[-1].value)
                if size_bytes >= size_bytes_max:
                    break
            return rows

        return self._call(select)

    def count(self, after: int, through: int) -> int:
        """Return how many rows there are above one number and up to another."""
        query = "SELECT count(*) FROM events WHERE number > ? AND number <= ?"
        return int(self._call(lambda: self.connection.execute(query, (after, through)).fetchone()[0]))

    def set_aside(self, number: int, value: bytes, reason: str, refused_at: str) -> None:
        """Move an event that Kafka refuses for itself out of the way, in one commit.

        Raises:
            SpoolError: It is where it was.
        """

        def move() -> None:
            self.connection.execute("DELETE FROM events WHERE number = ?", (number,))
            self.connection.execute(
                "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?)", (number, refused_at, reason, value)
            )

        self._commit(move)

    def refused(self, limit: int) -> list[RefusedRow]:
        """Return the events that were set aside, in order: at most so many."""
        query = "SELECT number, refused_at, reason, value FROM refused ORDER BY number LIMIT ?"
        return self._call(lambda: [RefusedRow(*row) for row in self.connection.execute(query, (limit,))])

    def keep_dropped(self, rows: Iterable[DroppedRow]) -> None:
        """Replace the counts of events that found no room."""

        def replace() -> None:
            self.connection.execute("DELETE FROM dropped")
            self.connection.executemany("INSERT INTO dropped VALUES (?, ?, ?, ?)", rows)

        self._commit(replace)

    def dropped(self) -> list[DroppedRow]:
        """Return the counts that :meth:`keep_dropped` kept."""
        return self._call(lambda: self.connection.execute("SELECT tenant, count, since, until FROM dropped").fetchall())

    def summary(self) -> Summary:
        """Return what the spool holds; it reads through the whole of it."""

        def count() -> Summary:
            query = "SELECT ifnull(max(number), 0), count(*), ifnull(sum(length(value)), 0) FROM {}"
            last, events, size = self.connection.execute(query.format("events")).fetchone()
            last_refused, refused, refused_size = self.connection.execute(query.format("refused")).fetchone()
            return Summary(max(last, last_refused), events, size, refused, refused_size)

        return self._call(count)

    def meta(self, name: str) -> str | None:
        """Return a value that :meth:`set_meta` kept."""
        row = self._call(lambda: self.connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone())
        return None if row is None else str(row[0])

    def set_meta(self, name: str, value: str) -> None:
        """Keep a value under a name."""
        self._commit(lambda: self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value)))

    def shrink(self) -> None:
        """Give free pages back to the file system, a few at a time."""
        self._call(lambda: self.connection.execute("PRAGMA incremental_vacuum(1000)").fetchall())

    def is_in_place(self) -> bool:
        """Return whether the path still leads to the open file: one that was deleted takes rows, and keeps none."""
        try:
            return _identity(self._path) == self._identity
        except OSError:
            return False

    def close(self) -> None:
        """Close the file. What was committed stays, whether or not this succeeds."""
        with suppress(sqlite3.Error):
            self.connection.close()

    def _delete(self, numbers: Sequence[int]) -> None:
        if not numbers:
            return
        ordered = sorted(numbers)
        # What one partition has not answered yet makes gaps in between, which move on: most rows go by the range.
        single = list[int]()
        start = 0
        for end in range(1, len(ordered) + 1):
            if end < len(ordered) and ordered[end] == ordered[end - 1] + 1:
                continue
            if end - start >= _RANGE_ROWS_MIN:
                limits = ordered[start], ordered[end - 1]
                self.connection.execute("DELETE FROM events WHERE number BETWEEN ? AND ?", limits)
            else:
                single += ordered[start:end]
            start = end
        for start in range(0, len(single), _NUMBERS_A_STATEMENT_MAX):
            some = single[start : start + _NUMBERS_A_STATEMENT_MAX]
            self.connection.execute(f"DELETE FROM events WHERE number IN ({','.join('?' * len(some))})", some)  # noqa: S608  # only marks

    def _commit(self, work: Callable[[], object]) -> None:
        def transaction() -> None:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                work()
                self.connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may have rolled back itself
                    self.connection.execute("ROLLBACK")
                raise

        self._call(transaction)

    def _call(self, work: Callable[[], _T]) -> _T:
        """Do something with the file, and name what goes wrong.

        Raises:
            DataLost: The file is damaged.
            SpoolError: Anything else: the disk is full, the file system is read-only, a cable is out.
        """
        try:
            return work()
        except sqlite3.Error as error:
            code: Any = getattr(error, "sqlite_errorcode", 0) or 0
            if code & 0xFF in _DATA_LOST:
                raise DataLost(f"spool {self._path}: {error}") from error
            hint = "make room on its disk" if code & 0xFF == sqlite3.SQLITE_FULL else "see to its disk"
            raise SpoolError(f"spool {self._path}: {error}", hint=hint) from error
        except OSError as error:
            raise SpoolError(f"spool {self._path}: {error}", hint="see to its disk") from error

    def keep_for_ever(self) -> None:
        """Keep the file from ever being closed in a forked process.

        Closing it there would take the parent's log into the file, and delete the log, while the parent writes to it.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.connection))


def _insert(rows: int) -> str:
    marks = ", ".join(["(?, ?, ?)"] * rows)
    return f"INSERT OR IGNORE INTO events VALUES {marks}"  # noqa: S608  # only marks


_INSERTS: Final = {1 << power: _insert(1 << power) for power in range(_ROWS_A_STATEMENT_MAX.bit_length())}


def _decode(text: bytes) -> str:
    """Read text that may be damaged: it is compared, and not believed."""
    return text.decode(errors="replace")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _sync_directory(directory: Path) -> None:
    """Make the file's name durable, and not only its bytes."""
    file = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


_open: Final[WeakSet[SpoolFile]] = WeakSet()


def _keep_inherited() -> None:
    for file in list(_open):
        file.keep_for_ever()


os.register_at_fork(after_in_child=_keep_inherited)
