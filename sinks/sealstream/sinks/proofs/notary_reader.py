"""The notary's database, read: what it says is a hint, and is held to what was signed by whoever uses it."""

from __future__ import annotations

import threading
import time
from typing import Any, Final
from weakref import WeakKeyDictionary

import psycopg
from psycopg import sql
from psycopg_pool import ConnectionPool

from sealstream.worker.postgres import Database

_CONNECTIONS_MAX: Final = 4
_WAITING_MAX: Final = 100
_TRUSTED_SECONDS: Final = 1.0  # a proof asks several questions, and each check is a round trip as long as a question's
_APPLICATION: Final = "sealstream-proofs"
_NOTARY: Final = Database(
    "SEALSTREAM_NOTARY_DATABASE",
    absent_hint="run sealstream migrate-notary, if this is its database",
    rights_hint="grant the login sealstream_notary_reader",
)

Row = tuple[Any, ...]


class NotaryReader:
    """Asks the notary's database, read-only and from several threads; connections are opened when they are needed.

    Arguments:
        database_url: A PostgreSQL URL.
        timeout_seconds: How long to wait for the server, for a free connection, and for an answer.

    Raises:
        ConfigError: The URL cannot be understood.
    """

    def __init__(self, database_url: str, *, timeout_seconds: float = 10.0) -> None:
        self._lock = threading.Lock()
        self._opened = False
        self._used_at: WeakKeyDictionary[psycopg.Connection[Row], float] = WeakKeyDictionary()
        self._conninfo = _NOTARY.conninfo(
            database_url, application=_APPLICATION, timeout_seconds=timeout_seconds, connect_seconds=timeout_seconds
        )
        timeout = sql.Literal(f"{round(timeout_seconds * 1000)}ms")
        session = sql.SQL("SET statement_timeout = {}; SET default_transaction_read_only = on").format(timeout)

        def configure(connection: psycopg.Connection[Row]) -> None:
            connection.autocommit = (
                True  # each question is one statement: begin and commit would treble its round trips
            )
            connection.execute(session)

        self._pool: ConnectionPool[psycopg.Connection[Row]] = ConnectionPool(
            self._conninfo,
            min_size=0,
            max_size=_CONNECTIONS_MAX,
            max_waiting=_WAITING_MAX,
            timeout=timeout_seconds,
            reconnect_timeout=timeout_seconds,
            configure=configure,
            check=self._check,
            reset=self._returned,
            open=False,
        )

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def rows(self, query: sql.SQL, *arguments: object) -> list[Row]:
        """Return the rows of an answer.

        Raises:
            StoreError: PostgreSQL refuses, or the database is not the notary's.
            Unreachable: PostgreSQL does not answer, or did not finish in time.
        """
        with _NOTARY.translated():
            self._open()
            with self._pool.connection() as connection:
                return connection.execute(query, arguments, binary=True).fetchall()

    def _returned(self, connection: psycopg.Connection[Row]) -> None:
        self._used_at[connection] = time.monotonic()

    def _check(self, connection: psycopg.Connection[Row]) -> None:
        """Refuse a connection that broke while nobody used it; one that answered just now is not asked."""
        if time.monotonic() - self._used_at.get(connection, 0.0) > _TRUSTED_SECONDS:
            ConnectionPool.check_connection(connection)

    def _open(self) -> None:
        """Open the pool at the first use, behind a connection that says in words why it cannot be had."""
        with self._lock:
            if not self._opened:
                psycopg.connect(self._conninfo).close()
                self._pool.open()
                self._opened = True
