"""What a witness remembers: one SQLite file, owned by one process, that never goes back.

All that a witness is worth lies here. A lost file is no failure that heals itself: whoever starts it anew says where it
begins, and that stays in the file.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import ConfigError, InstanceDiffers, StoreError, TreeDiffers, Unreachable
from sealstream.schemas.key_history import KeyHistory
from sealstream.schemas.note_key import VerifierKey
from sealstream.sinks.witness.protocol import Remembered

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x5365_616C
"""What SQLite writes into the file's header, so that a file of something else is not taken for ours."""

BUSY_SECONDS: Final = 5.0
"""How long one writer of the file waits for another: the judge writes there too."""

FORKS_MAX: Final = 100
"""So many proofs of a log's two histories are kept; one is enough."""

_SCHEMA: Final = """
CREATE TABLE witness (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    key TEXT NOT NULL,
    made_seconds INTEGER NOT NULL
);
CREATE TABLE logs (
    origin TEXT PRIMARY KEY,
    size INTEGER NOT NULL CHECK (typeof(size) = 'integer' AND size >= 0),
    root BLOB NOT NULL CHECK (typeof(root) = 'blob' AND length(root) = 32),
    time_seconds INTEGER NOT NULL CHECK (typeof(time_seconds) = 'integer'),
    note BLOB NOT NULL,
    began TEXT NOT NULL CHECK (began IN ('beginning', 'checkpoint', 'first-use')),
    began_size INTEGER NOT NULL,
    began_seconds INTEGER NOT NULL
);
CREATE TABLE forks (
    origin TEXT NOT NULL,
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    remembered_root BLOB NOT NULL,
    note BLOB NOT NULL,
    seen_seconds INTEGER NOT NULL,
    PRIMARY KEY (origin, size, root)
);
CREATE TRIGGER never_back BEFORE UPDATE ON logs
WHEN NEW.size < OLD.size OR (NEW.size = OLD.size AND NEW.root <> OLD.root) OR NEW.time_seconds < OLD.time_seconds
    OR NEW.origin <> OLD.origin OR NEW.began <> OLD.began OR NEW.began_size <> OLD.began_size
BEGIN SELECT RAISE(ABORT, 'a witness never goes back'); END;
CREATE TRIGGER never_forgotten BEFORE DELETE ON logs
BEGIN SELECT RAISE(ABORT, 'a witness does not forget a log'); END;
"""


class Began(StrEnum):
    """Where a witness began with a log."""

    BEGINNING = "beginning"
    """With the empty log: nothing of it is older than what the witness saw."""
    CHECKPOINT = "checkpoint"
    """With a checkpoint that its operator gave it."""
    FIRST_USE = "first-use"
    """With whatever the log showed first."""


@dataclass(frozen=True, slots=True)
class LogState:
    """What is remembered of one log.

    Arguments:
        origin: Which log.
        remembered: The latest checkpoint.
        time_seconds: The time in its cosignature, since the Unix epoch; 0 if it was never cosigned here.
        note: The checkpoint with the log's signature and, once cosigned, the witness's.
        began: Where the witness began.
        began_size: The size that it began with.
        began_seconds: When, in seconds since the Unix epoch.
    """

    origin: str
    remembered: Remembered
    time_seconds: int
    note: bytes
    began: Began
    began_size: int
    began_seconds: int


class Turn:
    """One transaction: what is read in it is still so when it writes.

    Arguments:
        connection: The open transaction's; a judge may write there too.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def log(self, origin: str) -> LogState | None:
        """Return what is remembered of a log; ``None`` for nothing."""
        row = self.connection.execute(
            "SELECT origin, size, root, time_seconds, note, began, began_size, began_seconds FROM logs "
            "WHERE origin = ?",
            (origin,),
        ).fetchone()
        return None if row is None else _state(row)

    def latest_seconds(self) -> int:
        """Return the latest time that this witness ever stated, of whatever log; 0 if it never did."""
        (latest,) = self.connection.execute("SELECT coalesce(max(time_seconds), 0) FROM logs").fetchone()
        return int(latest)

    def begin(self, checkpoint: Checkpoint, note: bytes, how: Began, *, time_seconds: int, now_seconds: int) -> None:
        """Begin to remember a log.

        Arguments:
            checkpoint: Where.
            note: The same with its signatures.
            how: Why there.
            time_seconds: The time in its cosignature by this witness; 0 if there is none.
            now_seconds: What time it is.
        """
        self.connection.execute(
            "INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                checkpoint.origin,
                checkpoint.size,
                checkpoint.root,
                time_seconds,
                note,
                str(how),
                checkpoint.size,
                now_seconds,
            ),
        )

    def advance(self, checkpoint: Checkpoint, note: bytes, *, time_seconds: int) -> None:
        """Remember a log's next checkpoint.

        Raises:
            TreeDiffers: It is smaller than the one remembered, or another one of the same size: the decision before
                this was wrong.
        """
        try:
            self.connection.execute(
                "UPDATE logs SET size = ?, root = ?, time_seconds = ?, note = ? WHERE origin = ?",
                (checkpoint.size, checkpoint.root, time_seconds, note, checkpoint.origin),
            )
        except sqlite3.IntegrityError as error:
            raise TreeDiffers(
                f"{checkpoint.origin} at size {checkpoint.size}: {error}", hint="this is a defect: please report it"
            ) from error

    def keep_fork(self, checkpoint: Checkpoint, remembered: Remembered, note: bytes, *, now_seconds: int) -> bool:
        """Keep the proof that a log tells two histories, and return whether it is a new one.

        Arguments:
            checkpoint: What the log has signed.
            remembered: What it had signed before, of the same size.
            note: The checkpoint with the log's signature.
            now_seconds: What time it is.
        """
        (kept,) = self.connection.execute("SELECT count(*) FROM forks").fetchone()
        if kept >= FORKS_MAX:
            return False
        row = (checkpoint.origin, checkpoint.size, checkpoint.root, remembered.root, note, now_seconds)
        return self.connection.execute("INSERT OR IGNORE INTO forks VALUES (?, ?, ?, ?, ?, ?)", row).rowcount > 0


class Memory:
    """The file. Whoever opens it owns it until :meth:`close` or the end of the process.

    Arguments:
        path: The file; made if it is not there, beside a file ``<path>.lock``. On a local disk: SQLite's log and the
            lock do not work over a network.
        key: The key that this witness cosigns with.
        history: Which key followed which; a file made under an older key is taken over.
        now_seconds: What time it is.

    Raises:
        ConfigError: Another process owns the file, it cannot be opened, or it is no memory of a witness.
        InstanceDiffers: It is another witness's.
    """

    def __init__(self, path: Path, *, key: VerifierKey, history: KeyHistory, now_seconds: int) -> None:
        self.path = path
        self._lock_file = _own(path)
        self._mutex = threading.Lock()
        try:
            self._connection = _connect(path)
            try:
                self._prepare(key, history, now_seconds)
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            self._lock_file.close()
            raise ConfigError(
                f"{path} cannot be used as a witness's memory: {error}",
                hint="it must be on a local disk with room, writable, and no file of something else",
            ) from error
        except BaseException:
            self._lock_file.close()
            raise

    @contextmanager
    def turn(self) -> Generator[Turn, None, None]:
        """Give one transaction, which is committed unless its block raises; one at a time.

        When this returns, what was written survives a power cut. Nothing that follows from it may leave before.

        Raises:
            Unreachable: Another writer of the file does not end. Nothing was written.
            StoreError: The file cannot be written. Whether the transaction is in it is unknown: only opening the file
                again tells.
        """
        with self._mutex:
            self._begin()
            try:
                yield Turn(self._connection)
                self._connection.execute("COMMIT")
                # If we die before this, nothing is remembered and nothing has left: the log asks again. If we die after
                # it, the checkpoint is remembered and its cosignature lost: the log asks again from this size on, and
                # the same checkpoint is cosigned once more.
            except sqlite3.Error as error:
                raise StoreError(
                    f"{self.path} cannot be written: {error}",
                    hint="look at the disk; the witness reads the file again when it starts",
                ) from error
            finally:
                if self._connection.in_transaction:
                    with suppress(sqlite3.Error):  # what made it fail is on its way; a transaction never outlives us
                        self._connection.execute("ROLLBACK")

    def _begin(self) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise Unreachable(f"{self.path} is not to be written at the moment: {error}", hint="ask again") from error

    def log(self, origin: str) -> LogState | None:
        """Return what is remembered of a log; ``None`` for nothing.

        Raises:
            StoreError: The file cannot be read.
        """
        try:
            with self._mutex:
                return Turn(self._connection).log(origin)
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} cannot be read: {error}", hint="look at the disk") from error

    def origins(self) -> frozenset[str]:
        """Return the logs of which something is remembered.

        Raises:
            StoreError: The file cannot be read.
        """
        try:
            with self._mutex:
                return frozenset(origin for (origin,) in self._connection.execute("SELECT origin FROM logs"))
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} cannot be read: {error}", hint="look at the disk") from error

    def close(self) -> None:
        """Close the file and let go of it."""
        with self._mutex:
            self._connection.close()
            self._lock_file.close()

    def _prepare(self, key: VerifierKey, history: KeyHistory, now_seconds: int) -> None:
        """Make the tables, or look whose they are."""
        application, version = (
            int(self._connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("application_id", "user_version")
        )
        if (application, version) == (0, 0) and not self._connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            self._make(key, now_seconds)
        elif application != APPLICATION_ID:
            raise ConfigError(f"{self.path} is no memory of a witness", hint="name another file")
        elif version != SCHEMA_VERSION:
            raise ConfigError(
                f"{self.path} has the form {version}, and this version reads {SCHEMA_VERSION}",
                hint="run the version that wrote it, or a newer one",
            )
        self._check_owner(key, history)

    def _make(self, key: VerifierKey, now_seconds: int) -> None:
        self._connection.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {SCHEMA_VERSION};"
        )
        self._connection.execute("INSERT INTO witness VALUES (1, ?, ?)", (str(key), now_seconds))
        self._connection.execute("COMMIT")
        # If we die before this, the file is empty and made again; after it, an empty memory is there, which accepts no
        # log until it is told where to begin.
        _sync_directory(self.path.parent)

    def _check_owner(self, key: VerifierKey, history: KeyHistory) -> None:
        """Refuse another witness's file, and take over one that was made under a key before this one."""
        (text,) = self._connection.execute("SELECT key FROM witness").fetchone()
        known = VerifierKey.parse(text)
        if known == key:
            return
        lineage = [dated.key for dated in history.lineage(known)]
        if key not in lineage[lineage.index(known) :]:
            raise InstanceDiffers(
                f"{self.path} is the memory of {known.name}+{known.key_id.hex()}, and this witness's key is "
                f"{key.name}+{key.key_id.hex()}",
                hint="name this witness's own file; if its key was rotated, give the record in SEALSTREAM_ROTATIONS",
            )
        self._connection.execute("UPDATE witness SET key = ?", (str(key),))


def _own(path: Path) -> IO[bytes]:
    """Take the lock of a memory. It is on a file of its own: closing the memory's file would drop SQLite's locks."""
    try:
        file = Path(f"{path}.lock").open("ab")  # noqa: SIM115  # held until the memory is closed
    except OSError as error:
        raise ConfigError(
            f"{path}.lock cannot be opened: {error.strerror}", hint="SEALSTREAM_WITNESS_PATH names a file to be written"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ConfigError(
            f"{path} is in use by another witness process", hint="one process owns a memory: stop the other one"
        ) from error
    return file


def _connect(path: Path) -> sqlite3.Connection:
    # Transactions are begun by hand; threads take turns by the memory's own lock.
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except BaseException:
        connection.close()
        raise
    if mode != "wal":
        connection.close()
        raise ConfigError(f"{path} cannot have SQLite's write-ahead log", hint="it must be on a local disk")
    return connection


def _state(row: tuple[str, int, bytes, int, bytes, str, int, int]) -> LogState:
    origin, size, root, time_seconds, note, began, began_size, began_seconds = row
    return LogState(origin, Remembered(size, root), time_seconds, note, Began(began), began_size, began_seconds)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
