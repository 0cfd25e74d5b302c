"""PostgreSQL as the notary uses it: connections without an endless wait, and its errors in this project's terms.

Two databases are spoken to, with different rights and in different hands: the store, and the notary's own.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sealstream.schemas.errors import ConfigError, StoreError, Unreachable
from sealstream.worker.postgres_session import CONNECT_SECONDS_MAX, Connection, bound_session

STORE: Final = "SEALSTREAM_DATABASE"
NOTARY: Final = "SEALSTREAM_NOTARY_DATABASE"

_CONNECT_SECONDS_MIN: Final = 2  # libpq waits no shorter
_TRANSIENT_CLASSES: Final = frozenset({"08", "40", "53", "55", "57", "58"})
"""SQLSTATE classes that a later attempt may not meet: connection, rollback, resources, locks, shutdown, system."""
_STANDBY: Final = errors.ReadOnlySqlTransaction.sqlstate  # until the failover is through
_UNMIGRATED: Final = (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction, errors.InvalidSchemaName)
_HINTS: Final = {
    STORE: ("run sealstream migrate", "read the store as a role with sealstream_reader"),
    NOTARY: ("run sealstream migrate-notary", "grant the login sealstream_notary"),
}


def connect(url: str, *, setting: str, timeout_seconds: float) -> Connection:
    """Return a new connection in autocommit mode; transactions are begun explicitly.

    Arguments:
        url: A PostgreSQL URL; what it says itself stands.
        setting: Where the URL comes from, :data:`STORE` or :data:`NOTARY`; errors name it.
        timeout_seconds: How long each statement may take, and how long sent data may stay unanswered.

    Raises:
        ConfigError: The URL cannot be understood.
        Unreachable: The server does not answer, or refuses the connection; says why.
        StoreError: The server refuses what every session begins with.
    """
    defaults = {
        "application_name": "sealstream-notary",
        "connect_timeout": str(min(round(CONNECT_SECONDS_MAX), max(_CONNECT_SECONDS_MIN, round(timeout_seconds)))),
        "tcp_user_timeout": str(round(timeout_seconds * 1000)),
    }
    try:
        info = make_conninfo(url, **{**defaults, **conninfo_to_dict(url)})
    except psycopg.ProgrammingError:  # its message would repeat the URL, password included
        raise ConfigError(f"{setting} is no PostgreSQL URL", hint="give postgresql://user@host:5432/database") from None
    with translated(setting):
        connection = psycopg.connect(info, autocommit=True)
        try:
            bound_session(connection, timeout_seconds=timeout_seconds)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def translated(setting: str) -> Generator[None]:
    """Raise PostgreSQL's errors as this project's. Unique violations pass: who adds rows knows what they mean.

    Arguments:
        setting: Which database is spoken to, :data:`STORE` or :data:`NOTARY`.

    Raises:
        Unreachable: The server is away, or cannot do it now; trying again later may help.
        StoreError: The server refuses, and will refuse again.
    """
    try:
        yield
    except errors.UniqueViolation:
        raise
    except psycopg.Error as error:
        raise _translate(error, setting) from error


def _translate(error: psycopg.Error, setting: str) -> Unreachable | StoreError:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    state = error.sqlstate or ""
    migrate_hint, right_hint = _HINTS[setting]
    if isinstance(error, _UNMIGRATED):
        return StoreError(f"{setting} is not as this version needs it: {text}", hint=migrate_hint)
    if isinstance(error, errors.InsufficientPrivilege):
        return StoreError(f"{setting} refuses: {text}", hint=right_hint)
    if isinstance(error, errors.QueryCanceled):
        return Unreachable(f"{setting} did not finish in time: {text}", hint="it may be overloaded")
    if not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Unreachable(f"{setting} does not answer: {text}", hint=f"check {setting} and that PostgreSQL runs")
    if state[:2] in _TRANSIENT_CLASSES or state == _STANDBY:
        return Unreachable(f"{setting} cannot do it now: {text}", hint=f"check {setting} and that PostgreSQL runs")
    return StoreError(f"{setting} refuses: {text}")
