"""Migrations: numbered SQL files, applied once each, in order, forward only.

Run them as a role that may create roles and a schema; the tables belong to ``sealstream_owner``, and no worker needs
to be that. Workers and readers log in as roles of the operator's own that are granted ``sealstream_writer`` or
``sealstream_reader``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from typing import Final

from psycopg import sql

from sealstream.schemas.errors import StoreError
from sealstream.sinks.store.database import MIGRATE_HINT, connect, translated
from sealstream.worker.migrations import Migration, pending_migrations, shipped_migrations
from sealstream.worker.postgres_session import Connection

MONTHS_AHEAD: Final = 3
"""How many months of payload and search partitions are made, from the one before the present on."""

_LOCK: Final = int.from_bytes(hashlib.sha256(b"sealstream migrate").digest()[:8], "big", signed=True)
_PARTITIONS_MAX: Final = 100_000
_PACKAGE: Final = "sealstream.sinks.store"


def migrations() -> tuple[Migration, ...]:
    """Return the migrations that this version ships, in order."""
    return shipped_migrations(_PACKAGE)


def migrate(database_url: str, *, partitions: int, timeout_seconds: float = 30.0) -> list[Migration]:
    """Bring a store to this version; safe to run again, and by several at the same time.

    Arguments:
        database_url: The store, as a role that may create roles and a schema in it.
        partitions: Number of source partitions that the store must take; more than before adds, fewer changes nothing.
        timeout_seconds: How long to wait for the server, and for a lock that another migration holds.

    Returns:
        The migrations that were applied now.

    Raises:
        ConfigError: The URL cannot be understood.
        StoreError: An applied file was changed since, the store is newer than this version, or PostgreSQL refuses.
        Unreachable: PostgreSQL does not answer.
    """
    if not 0 < partitions <= _PARTITIONS_MAX:
        raise StoreError(f"a store of {partitions} partitions cannot be made", hint=f"1 to {_PARTITIONS_MAX}")
    with (
        connect(database_url, application="sealstream-migrate", timeout_seconds=timeout_seconds) as connection,
        translated(),
        _locked(connection, timeout_seconds),
    ):
        _prepare(connection)
        done = _applied(connection)
        fresh = pending_migrations(done, migrations(), database="the store")
        for migration in fresh:
            _apply(connection, migration)
        _make_partitions(connection, partitions)
        return fresh


def require_current(connection: Connection) -> None:
    """Refuse a store that lacks a migration of this version.

    Raises:
        StoreError: The store was not migrated, or not far enough.
        Unreachable: PostgreSQL does not answer.
    """
    with translated():
        if connection.execute("SELECT to_regclass('sealstream.migrations')").fetchone() == (None,):
            raise StoreError("the database has no store", hint=MIGRATE_HINT)
        row = connection.execute("SELECT max(number) FROM sealstream.migrations").fetchone()
    require_number(row)


def require_number(row: tuple[object, ...] | None) -> None:
    """Refuse a store whose newest migration, as selected, is older than this version's.

    Raises:
        StoreError: It is.
    """
    newest, needed = (row[0] if row else None), migrations()[-1].number
    if not isinstance(newest, int) or newest < needed:
        raise StoreError(f"the store is at migration {newest or 0}, and this version needs {needed}", hint=MIGRATE_HINT)


def make_months(connection: Connection) -> list[str]:
    """Make the partitions of the coming months where they are missing, and return their names.

    Raises:
        StoreError: The role may not.
        Unreachable: PostgreSQL does not answer.
    """
    with translated():
        rows = connection.execute(
            "SELECT sealstream.make_months(%s, %s)", (datetime.now(UTC).date(), MONTHS_AHEAD + 1)
        ).fetchall()
    return [str(name) for (name,) in rows]


@contextmanager
def _locked(connection: Connection, timeout_seconds: float) -> Generator[None]:
    """Hold the lock that only one migration of a database can hold."""
    connection.execute(
        sql.SQL("SET lock_timeout = {}").format(sql.Literal(f"{round(timeout_seconds * 1000)}ms")),
    )
    connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
    try:
        yield
    finally:
        if not connection.broken:
            connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def _prepare(connection: Connection) -> None:
    """Make what the numbered files stand on. A crash within leaves what the next run finds and completes."""
    roles = files(_PACKAGE).joinpath("migrations", "roles.sql").read_bytes()
    with connection.transaction():
        connection.execute(roles)
        connection.execute("SET LOCAL ROLE sealstream_owner")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS sealstream.migrations ("
            " number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )


def _applied(connection: Connection) -> dict[int, tuple[str, str]]:
    with connection.transaction():
        connection.execute("SET LOCAL ROLE sealstream_owner")
        rows = connection.execute("SELECT number, name, checksum FROM sealstream.migrations").fetchall()
    return {number: (name, checksum) for number, name, checksum in rows}


def _apply(connection: Connection, migration: Migration) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL ROLE sealstream_owner")
        connection.execute(migration.text)
        connection.execute(
            "INSERT INTO sealstream.migrations (number, name, checksum) VALUES (%s, %s, %s)",
            (migration.number, migration.name, migration.checksum),
        )
    # A crash before the commit applies nothing of the file; behind it, the file counts as applied.


def _make_partitions(connection: Connection, partitions: int) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL ROLE sealstream_owner")
        connection.execute("SELECT sealstream.make_entry_partitions(%s)", (partitions,))
        make_months(connection)
