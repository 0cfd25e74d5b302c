"""The notary's database, brought to this version: numbered SQL files, applied once each, in order, forward only.

It is made by a command and never by the worker: a database without tables is a new log or a lost memory, and only a
person knows which.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from sealstream.schemas.errors import StoreError
from sealstream.sinks.notary.postgres import APPLICATION, NOTARY
from sealstream.worker.migrations import Migration, pending_migrations, shipped_migrations
from sealstream.worker.postgres_session import Connection

_LOCK: Final = int.from_bytes(hashlib.sha256(b"sealstream migrate-notary").digest()[:8], "big", signed=True)
_PACKAGE: Final = "sealstream.sinks.notary"


def migrations() -> tuple[Migration, ...]:
    """Return the migrations that this version ships, in order."""
    return shipped_migrations(_PACKAGE)


def migrate(url: str, *, timeout_seconds: float = 30.0) -> list[Migration]:
    """Bring the notary's database to this version; safe to run again, and by several at the same time.

    Arguments:
        url: The database, as a role that may create roles and a schema in it.
        timeout_seconds: How long each statement may take, the wait for another migration included.

    Returns:
        The migrations that were applied now.

    Raises:
        ConfigError: The URL cannot be understood.
        StoreError: An applied file was changed since, the database is newer than this version, or PostgreSQL refuses.
        Unreachable: PostgreSQL does not answer.
    """
    with (
        NOTARY.connect(url, application=APPLICATION, timeout_seconds=timeout_seconds) as connection,
        NOTARY.translated(),
        connection.transaction(),
    ):
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        fresh = _prepare(connection)
        for migration in fresh:
            connection.execute(migration.text)
            connection.execute(
                "INSERT INTO sealstream_notary.migrations (number, name, checksum) VALUES (%s, %s, %s)",
                (migration.number, migration.name, migration.checksum),
            )
    # A crash before the commit applies nothing; behind it, all of it counts as applied.
    return fresh


def require_current(connection: Connection) -> None:
    """Refuse a database that lacks a migration of this version.

    Raises:
        StoreError: It was not migrated, or not far enough.
        Unreachable: PostgreSQL does not answer.
    """
    with NOTARY.translated():
        row = connection.execute("SELECT max(number) FROM sealstream_notary.migrations").fetchone()
    newest, needed = (row[0] if row else None), migrations()[-1].number
    if not isinstance(newest, int) or newest < needed:
        raise StoreError(
            f"the notary's database is at migration {newest or 0}, and this version needs {needed}",
            hint="run sealstream migrate-notary",
        )


def _prepare(connection: Connection) -> list[Migration]:
    """Make what the numbered files stand on, and return those that are still to be applied."""
    roles = files(_PACKAGE).joinpath("migrations", "roles.sql").read_bytes()
    connection.execute(roles)
    connection.execute("SET LOCAL ROLE sealstream_notary_owner")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS sealstream_notary.migrations ("
        " number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT now())"
    )
    rows = connection.execute("SELECT number, name, checksum FROM sealstream_notary.migrations").fetchall()
    done = {number: (name, checksum) for number, name, checksum in rows}
    return pending_migrations(done, migrations(), database="the notary's database")
