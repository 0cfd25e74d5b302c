"""What the judge has come to, in the witness's SQLite file, in tables of its own.

It is written in the transaction that makes the witness remember the checkpoint. So behind a crash both are there or
neither is, and the same rounds are computed again from what was there before.

judge_log: one row: instance, size, hashes (the tree's range), previous (the last leaf's hash), secret (digest of the
map's secret: under another one every map would differ). judge_chains: a row for each chain. judge_positions: a row for
each source partition. judge_roots: the root at each size.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.errors import InstanceDiffers, StoreError, TreeInvalid
from sealstream.sinks.witness.recomputing.strands import Packed
from sealstream.sinks.witness.recomputing.stretch import Place
from sealstream.sinks.witness.recomputing.trees import Changes, Log

BUSY_SECONDS: Final = 10.0
_SECRET_LABEL: Final = b"sealstream/judge-secret1\n"

_TABLES: Final = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS judge_log (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    instance TEXT NOT NULL,
    size INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    previous BLOB NOT NULL,
    secret BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS judge_chains (
    name BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    state BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS judge_positions (
    topic_id BLOB NOT NULL,
    source_partition INTEGER NOT NULL,
    source_end INTEGER NOT NULL,
    chained INTEGER NOT NULL,
    PRIMARY KEY (topic_id, source_partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS judge_roots (size INTEGER PRIMARY KEY, root BLOB NOT NULL);
COMMIT;
"""


class JudgeMemory:
    """Reads the judge's tables over a connection of its own; writes them over the witness's.

    Arguments:
        path: The witness's SQLite file.
        instance: The instance whose log is judged.
        secret: The map's secret.

    Raises:
        InstanceDiffers: The file is another instance's, or was filled with another secret.
        StoreError: The file cannot be used.
    """

    def __init__(self, path: Path, *, instance: str, secret: bytes) -> None:
        self._instance = instance
        self._secret = hashlib.sha256(_SECRET_LABEL + secret).digest()
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None
            )
            try:
                self._connection.executescript(_TABLES)
                self._check_owner()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise StoreError(f"the witness's memory {path} cannot be used: {error}", hint="look at the disk") from error

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    @property
    def size(self) -> int:
        """The size of the root log that is on disk; 0 if nothing is."""
        row = self._one("SELECT size FROM judge_log")
        return 0 if row is None else int(row[0])

    def log(self) -> Log:
        """Return the root log that is on disk.

        Raises:
            StoreError: The rows do not hold together.
        """
        row = self._one("SELECT size, hashes, previous FROM judge_log")
        if row is None:
            return Log()
        try:
            tree = CompactRange.from_state(row[1])
        except TreeInvalid as error:
            raise StoreError(f"the witness's memory is damaged: {error.message}", hint=_DAMAGED) from error
        if tree.end != row[0]:
            raise StoreError("the witness's memory is damaged: its log's size is not its tree's", hint=_DAMAGED)
        with self._lock:
            rows = self._connection.execute(
                "SELECT topic_id, source_partition, chained, source_end FROM judge_positions"
            ).fetchall()
        places = (Place(*fields) for fields in rows)
        return Log(tree, row[2], {(place.topic_id, place.partition): place for place in places})

    def chain(self, name: bytes) -> Packed | None:
        """Return a chain as it is on disk; ``None`` if it had not begun."""
        row = self._one("SELECT state FROM judge_chains WHERE name = ?", name)
        return None if row is None else Packed.parse(row[0])

    def chains(self) -> Iterator[tuple[bytes, int, bytes]]:
        """Yield name, size and root of each chain on disk."""
        with self._lock:
            yield from self._connection.execute("SELECT name, size, root FROM judge_chains")

    def root(self, size: int) -> bytes | None:
        """Return the root that the log had at a size, if that is on disk."""
        row = self._one("SELECT root FROM judge_roots WHERE size = ?", size)
        return None if row is None else bytes(row[0])

    def write(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Write what has changed within the transaction of a connection; it is the caller who commits.

        Arguments:
            connection: The witness's, in its transaction.
            changes: What has changed.

        Raises:
            StoreError: Another process has written meanwhile.
        """
        log = changes.log
        row = connection.execute("SELECT size FROM judge_log").fetchone()
        if row is not None and row[0] > log.size:
            raise StoreError("another judge writes to the same memory", hint="run one witness with each file")
        # A crash before the caller's commit leaves what was there: the same rounds are computed again. Behind it the
        # checkpoint and all that follows from it are there together.
        trees = ((name, packed, CompactRange.from_state(packed.tree)) for name, packed in changes.chains.items())
        connection.executemany(
            "INSERT INTO judge_chains (name, size, root, state) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET size = excluded.size, root = excluded.root, state = excluded.state",
            ((name, tree.end, tree.root(), packed.pack()) for name, packed, tree in trees),
        )
        connection.executemany(
            "INSERT INTO judge_positions (topic_id, source_partition, source_end, chained) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (topic_id, source_partition)"
            " DO UPDATE SET source_end = excluded.source_end, chained = excluded.chained",
            ((p.topic_id, p.partition, p.end, p.chained) for p in log.places.values()),
        )
        connection.executemany("INSERT OR REPLACE INTO judge_roots (size, root) VALUES (?, ?)", changes.roots.items())
        connection.execute(
            "INSERT INTO judge_log (only, instance, size, hashes, previous, secret) VALUES (1, ?, ?, ?, ?, ?)"
            " ON CONFLICT (only) DO UPDATE SET size = excluded.size, hashes = excluded.hashes,"
            " previous = excluded.previous",
            (self._instance, log.size, log.tree.state(), log.previous, self._secret),
        )

    def _check_owner(self) -> None:
        row = self._one("SELECT instance, secret FROM judge_log")
        if row is None:
            return
        if row[0] != self._instance:
            raise InstanceDiffers(
                f"the witness's memory is of the instance {row[0]}, and this is {self._instance}",
                hint="each instance needs a file of its own: SEALSTREAM_WITNESS_PATH",
            )
        if row[1] != self._secret:
            raise InstanceDiffers(
                "the witness's memory was made with another secret of the tenant map",
                hint="set SEALSTREAM_MAP_SECRET to that of the notary, which never changes",
            )

    def _one(self, sql: str, *arguments: object) -> tuple[Any, ...] | None:
        with self._lock:
            row: tuple[Any, ...] | None = self._connection.execute(sql, arguments).fetchone()
        return row


_DAMAGED: Final = "restore the file from a copy, or begin with an empty one"
