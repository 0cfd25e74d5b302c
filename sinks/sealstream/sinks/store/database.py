"""Connections to PostgreSQL, and its errors in this project's own terms."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sealstream.schemas.errors import ConfigError, StoreError, Unreachable

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

MIGRATE_HINT: Final = "run sealstream migrate"
_REACH_HINT: Final = "check SEALSTREAM_DATABASE and that PostgreSQL runs"
_CONNECT_SECONDS_MIN: Final = 2  # libpq waits no shorter
_TRANSIENT_CLASSES: Final = frozenset({"08", "40", "53", "55", "57", "58"})
"""SQLSTATE classes that a later attempt may not meet: connection, rollback, resources, locks, shutdown, system."""
_STANDBY: Final = errors.ReadOnlySqlTransaction.sqlstate  # until the failover is through
_UNMIGRATED: Final = (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction, errors.InvalidSchemaName)


def conninfo(database_url: str, *, application: str, timeout_seconds: float) -> str:
    """Return what libpq connects with.

    Arguments:
        database_url: A PostgreSQL URL; what it says itself stands.
        application: The name under which the server shows the connection.
        timeout_seconds: How long connecting may take, and how long sent data may stay unanswered.

    Raises:
        ConfigError: The URL cannot be understood.
    """
    defaults = {
        "application_name": application,
        "connect_timeout": str(max(_CONNECT_SECONDS_MIN, round(timeout_seconds))),
        "tcp_user_timeout": str(round(timeout_seconds * 1000)),
    }
    try:
        return make_conninfo(database_url, **{**defaults, **conninfo_to_dict(database_url)})
    except psycopg.ProgrammingError:
        # libpq's own message would repeat the URL, password included.
        raise ConfigError(
            "SEALSTREAM_DATABASE is no PostgreSQL URL", hint="give postgresql://user@host:5432/database"
        ) from None


def connect(database_url: str, *, application: str, timeout_seconds: float = 10.0) -> Connection:
    """Return a new connection in autocommit mode; transactions are begun explicitly.

    Raises:
        ConfigError: The URL cannot be understood.
        Unreachable: The server does not answer, or refuses the connection; says why.
    """
    info = conninfo(database_url, application=application, timeout_seconds=timeout_seconds)
    with translated():
        return psycopg.connect(info, autocommit=True)


@contextmanager
def translated() -> Generator[None]:
    """Raise PostgreSQL's errors as this project's.

    Unique violations pass as they are: who adds rows knows what they mean.

    Raises:
        Unreachable: The server is away, or cannot do it now; trying again later may help.
        StoreError: The server refuses, and will refuse again.
    """
    try:
        yield
    except errors.UniqueViolation:
        raise
    except psycopg.Error as error:
        raise translate(error) from error


def translate(error: psycopg.Error) -> Unreachable | StoreError:
    """Return PostgreSQL's error as this project's."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    state = error.sqlstate or ""
    if isinstance(error, _UNMIGRATED):
        return StoreError(f"the store is not as this version needs it: {text}", hint=MIGRATE_HINT)
    if isinstance(error, errors.InsufficientPrivilege):
        return StoreError(f"PostgreSQL refuses: {text}", hint="grant the login sealstream_writer or sealstream_reader")
    if isinstance(error, errors.QueryCanceled):
        return Unreachable(f"PostgreSQL did not finish in time: {text}", hint="it may be overloaded")
    if not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Unreachable(f"PostgreSQL does not answer: {text}", hint=_REACH_HINT)
    if state[:2] in _TRANSIENT_CLASSES or state == _STANDBY:
        return Unreachable(f"PostgreSQL cannot do it now: {text}", hint=_REACH_HINT)
    return StoreError(f"PostgreSQL refuses: {text}")
