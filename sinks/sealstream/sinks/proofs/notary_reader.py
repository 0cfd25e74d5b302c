"""The notary's database, read: what it says is a hint, and is held to what was signed by whoever uses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakKeyDictionary

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from sealstream.schemas.errors import ConfigError, StoreError, Unreachable

_CONNECTIONS_MAX: Final = 4
_WAITING_MAX: Final = 100
_TRUSTED_SECONDS: Final = 1.0  # a proof asks several questions, and each check is a round trip as long as a question's
_CONNECT_SECONDS_MIN: Final = 2  # libpq waits no shorter
_TRANSIENT_CLASSES: Final = frozenset({"08", "40", "53", "55", "57", "58"})
_UNMIGRATED: Final = (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName)
_REACH_HINT: Final = "check SEALSTREAM_NOTARY_DATABASE and that PostgreSQL runs"

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
        self._conninfo = _conninfo(database_url, timeout_seconds)
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
        with _translated():
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


def _conninfo(database_url: str, timeout_seconds: float) -> str:
    defaults = {
        "application_name": "sealstream-proofs",
        "connect_timeout": str(max(_CONNECT_SECONDS_MIN, round(timeout_seconds))),
        "tcp_user_timeout": str(round(timeout_seconds * 1000)),
    }
    try:
        return make_conninfo(database_url, **{**defaults, **conninfo_to_dict(database_url)})
    except psycopg.ProgrammingError:
        # libpq's own message would repeat the URL, password included.
        raise ConfigError(
            "SEALSTREAM_NOTARY_DATABASE is no PostgreSQL URL", hint="give postgresql://user@host:5432/database"
        ) from None


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except psycopg.Error as error:
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        state = error.sqlstate or ""
        if isinstance(error, _UNMIGRATED):
            raise StoreError(
                f"the notary's database is not as this version needs it: {text}",
                hint="run sealstream migrate-notary, if this is its database",
            ) from error
        lost = not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        if lost or isinstance(error, PoolTimeout) or state[:2] in _TRANSIENT_CLASSES:
            raise Unreachable(f"the notary's database does not answer: {text}", hint=_REACH_HINT) from error
        raise StoreError(f"the notary's database refuses: {text}") from error
