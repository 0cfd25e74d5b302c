"""Connections to the store."""

from __future__ import annotations

from typing import Final

import psycopg

from sealstream.worker.postgres import Database
from sealstream.worker.postgres_session import Connection

MIGRATE_HINT: Final = "run sealstream migrate"
STORE: Final = Database(
    "SEALSTREAM_DATABASE",
    absent_hint=MIGRATE_HINT,
    rights_hint="grant the login sealstream_writer or sealstream_reader",
    unique_passes=True,
)
translated = STORE.translated
translate = STORE.translate


def conninfo(database_url: str, *, application: str, timeout_seconds: float) -> str:
    """Return what libpq connects with.

    Arguments:
        database_url: A PostgreSQL URL; what it says itself stands.
        application: The name under which the server shows the connection.
        timeout_seconds: How long connecting may take, and how long sent data may stay unanswered.

    Raises:
        ConfigError: The URL cannot be understood.
    """
    return STORE.conninfo(
        database_url, application=application, timeout_seconds=timeout_seconds, connect_seconds=timeout_seconds
    )


def connect(database_url: str, *, application: str, timeout_seconds: float = 10.0) -> Connection:
    """Return a new connection in autocommit mode, whose statements may take as long as they do.

    Raises:
        ConfigError: The URL cannot be understood.
        Unreachable: The server does not answer, or refuses the connection; says why.
    """
    info = conninfo(database_url, application=application, timeout_seconds=timeout_seconds)
    with STORE.translated():
        return psycopg.connect(info, autocommit=True)
