"""A job's file: what an import has done so far, so that it can go on after any end, and be checked later.

It is a SQLite database of one process at a time. It holds the secret that the salts of the job's events are made from,
so it is readable by its owner alone; keep it for as long as :mod:`~sealstream.producers.importer.check` is to work.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from sealstream.producers.importer.rows import Position
from sealstream.schemas.codec import schema_fingerprint
from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.errors import ConfigError

FORMAT: Final = "sealstream/import1"
SECRET_BYTES: Final = 32
_SUFFIX_BYTES: Final = 4
_NAME_CHARACTERS_MAX: Final = 40
_NOT_IN_NAMES: Final = re.compile("[^A-Za-z0-9_-]+")
_LOCK_SECONDS: Final = 0.2


class Stage(StrEnum):
    """How far a job is."""

    ROWS = "rows"
    """Rows are read and published."""
    CLOSING = "closing"
    """All rows are published; the ends are being marked."""
    DONE = "done"
    """Everything is published."""


@dataclass(slots=True)
class Chain:
    """What a job has brought into one chain.

    Arguments:
        begun: Whether its beginning is marked there.
        ended: Whether its end is.
        leaves: The hashes of its rows.
    """

    begun: bool = False
    ended: bool = False
    leaves: CompactRange = field(default_factory=CompactRange)


@dataclass(slots=True)
class Progress:
    """What one step of a job writes into its file at once.

    Arguments:
        stage: How far the job is.
        position: The last row that is done.
        rows: How many rows were read, bad ones included.
        imported: How many of them are published.
        quarantined: How many are not, because they are bad.
        quarantine_bytes: The size of the quarantine file with these.
        floors: By partition, the offset from which what was on its way at the last step can stand in the log.
        ended_at: When the end was reached; the same for all marks of it.
    """

    stage: Stage = Stage.ROWS
    position: Position = ()
    rows: int = 0
    imported: int = 0
    quarantined: int = 0
    quarantine_bytes: int = 0
    floors: dict[int, int] = field(default_factory=dict[int, int])
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """What must stay the same for as long as a job runs.

    Arguments:
        instance: The instance that is imported into.
        topic: Its source topic.
        source: The source's description.
        mapping: SHA-256 of the mapping, in hex.
        schema: The fingerprint of the events' schema, in hex: another one would make other bytes of the same row.
        schema_id: Its id in the registry that was configured when the job began; ``None`` if none was.
    """

    instance: str
    topic: str
    source: str
    mapping: str
    schema: str = ""
    schema_id: int | None = None

    def __post_init__(self) -> None:
        """Fill in the schema that events are written with."""
        object.__setattr__(self, "schema", self.schema or schema_fingerprint("AuditEvent").hex())


class Job:
    """An open job file.

    Arguments:
        path: Where it is.

    Raises:
        ConfigError: There is none, it is no job's file, or another process has it open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise ConfigError(f"there is no job {path}", hint="sealstream import run makes one")
        self._database = _open(path)
        try:
            self._read()
        except (sqlite3.DatabaseError, KeyError, ValueError) as error:
            self.close()
            raise ConfigError(f"{path} is no file of an import's job: {type(error).__name__}") from error

    @classmethod
    def create(cls, path: Path, identity: Identity, mapping: str, floors: dict[int, int]) -> Job:
        """Return a new job. Its name is the file's and a random one, so that none is ever used twice.

        Arguments:
            path: Where its file is to be.
            identity: What must stay the same.
            mapping: The mapping's text.
            floors: By partition, where the log ends before the job begins.

        Raises:
            ConfigError: The file is there already, or cannot be written.
        """
        stem = _NOT_IN_NAMES.sub("-", path.stem)[:_NAME_CHARACTERS_MAX].strip("-") or "job"
        name = f"{stem}-{secrets.token_hex(_SUFFIX_BYTES)}"
        # Made whole beside its place: a file that is there is a job. If we die here, the unfinished one is left over,
        # and the next run makes another; nothing has been published.
        made = path.with_name(f".{path.name}.{secrets.token_hex(_SUFFIX_BYTES)}")
        try:
            os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            database = _open(made)
            try:
                _fill(database, name, identity, mapping, floors)
            finally:
                database.close()
            os.link(made, path)
            made.unlink()
            _sync_directory(path.parent)
        except FileExistsError:
            raise ConfigError(f"{path} is there already") from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be made: {error.strerror}", hint="choose another --job") from error
        return cls(path)

    def check(self, identity: Identity) -> None:
        """Refuse to go on with another source, mapping, instance or schema than the job began with.

        Raises:
            ConfigError: One differs; says which.
        """
        for name in Identity.__slots__:
            before, now = getattr(self.identity, name), getattr(identity, name)
            if before != now:
                raise ConfigError(
                    f"job {self.name} began with the {name} {before}, and now it is {now}",
                    hint="go on with what it began with, or begin another job: --job FILE",
                )

    def chain(self, tenant: str) -> Chain:
        """Return what the job has brought into a chain so far."""
        found = self._database.execute("SELECT begun, ended, leaves FROM chains WHERE tenant = ?", (tenant,)).fetchone()
        return Chain() if found is None else Chain(bool(found[0]), bool(found[1]), CompactRange.from_state(found[2]))

    def chains(self, after: str = "", limit: int = 1_000) -> list[tuple[str, Chain]]:
        """Return chains by their name, behind one."""
        rows = self._database.execute(
            "SELECT tenant, begun, ended, leaves FROM chains WHERE tenant > ? ORDER BY tenant LIMIT ?", (after, limit)
        ).fetchall()
        return [(row[0], Chain(bool(row[1]), bool(row[2]), CompactRange.from_state(row[3]))) for row in rows]

    def chain_count(self) -> int:
        """Return how many chains the job has begun."""
        return int(self._database.execute("SELECT count(*) FROM chains").fetchone()[0])

    def save(self, progress: Progress, chains: Iterable[tuple[str, Chain]] = ()) -> None:
        """Write a step: all of it, or nothing.

        If we die before its end, the step before it stands: what was published since is found in the log by the next
        run (:mod:`~sealstream.producers.importer.landed`), and what is in the quarantine file beyond its size is cut.
        """
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(
                "INSERT INTO chains VALUES (?, ?, ?, ?) ON CONFLICT (tenant) DO UPDATE"
                " SET begun = excluded.begun, ended = excluded.ended, leaves = excluded.leaves",
                [(tenant, chain.begun, chain.ended, chain.leaves.state()) for tenant, chain in chains],
            )
            self._database.execute("UPDATE job SET value = ? WHERE name = 'progress'", (_pack(progress),))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _read(self) -> None:
        values = dict(self._database.execute("SELECT name, value FROM job"))
        if values["format"] != FORMAT:
            raise ValueError(values["format"])
        self.name = str(values["job"])
        self.secret = bytes.fromhex(values["secret"])
        self.identity = Identity(**json.loads(values["identity"]))
        self.mapping = str(values["mapping"])
        self.started_at = datetime.fromisoformat(values["started_at"])
        self.progress = _unpack(values["progress"])


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_LOCK_SECONDS, isolation_level=None)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("BEGIN EXCLUSIVE")  # takes the lock, which the mode keeps
        database.execute("COMMIT")
    except sqlite3.OperationalError as error:
        database.close()
        raise ConfigError(
            f"job {path} is open in another process, or cannot be written: {error}", hint="wait for its end"
        ) from error
    except sqlite3.DatabaseError as error:
        database.close()
        raise ConfigError(f"{path} is no file of an import's job: {error}") from error
    return database


def _fill(database: sqlite3.Connection, name: str, identity: Identity, mapping: str, floors: dict[int, int]) -> None:
    with database:
        database.execute("BEGIN IMMEDIATE")
        database.execute("CREATE TABLE job (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID")
        database.execute(
            "CREATE TABLE chains (tenant TEXT PRIMARY KEY, begun INTEGER NOT NULL, ended INTEGER NOT NULL,"
            " leaves BLOB NOT NULL) STRICT, WITHOUT ROWID"
        )
        values = {
            "format": FORMAT,
            "job": name,
            "secret": secrets.token_hex(SECRET_BYTES),
            "identity": json.dumps({key: getattr(identity, key) for key in Identity.__slots__}),
            "mapping": mapping,
            "started_at": datetime.now(UTC).isoformat(),
            "progress": _pack(Progress(floors=floors)),
        }
        database.executemany("INSERT INTO job VALUES (?, ?)", values.items())


def _pack(progress: Progress) -> str:
    values: dict[str, Any] = {name: getattr(progress, name) for name in Progress.__slots__}
    ended_at = progress.ended_at
    return json.dumps(values | {"ended_at": None if ended_at is None else ended_at.isoformat()})


def _unpack(text: str) -> Progress:
    values: dict[str, Any] = json.loads(text)
    ended_at = values["ended_at"]
    values["stage"] = Stage(values["stage"])
    values["position"] = tuple(values["position"])
    values["floors"] = {int(partition): offset for partition, offset in values["floors"].items()}
    values["ended_at"] = None if ended_at is None else datetime.fromisoformat(ended_at)
    return Progress(**values)


def _sync_directory(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
