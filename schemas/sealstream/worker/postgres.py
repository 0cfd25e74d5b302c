"""PostgreSQL, the store's, the notary's or others': connections whose errors name the setting at fault."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sealstream.schemas.errors import ConfigError, StoreError, Unreachable
from sealstream.worker.postgres_session import CONNECT_SECONDS_MAX, Connection, bound_session

_CONNECT_SECONDS_MIN: Final = 2  # libpq waits no shorter
_TRANSIENT_CLASSES: Final = frozenset({"08", "40", "53", "55", "57", "58"})
"""SQLSTATE classes that a later attempt may not meet: connection, rollback, resources, locks, shutdown, system."""
_TRANSIENT_STATES: Final = frozenset(
    {errors.ReadOnlySqlTransaction.sqlstate, errors.IdleInTransactionSessionTimeout.sqlstate}
)
"""A standby, until the failover is through; and a session that was ended while its worker slept."""
_ABSENT: Final = (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction, errors.InvalidSchemaName)


@dataclass(frozen=True, slots=True)
class Database:
    """One database: where its URL comes from, and what to do where it is not as it must be.

    Arguments:
        setting: The setting with the URL, or what else errors shall call the database.
        absent_hint: What to do where a table is missing.
        rights_hint: What to do where the login may not do what it must.
        unique_passes: Whether a unique violation is raised as psycopg's: who adds rows knows what it means.
    """

    setting: str
    absent_hint: str
    rights_hint: str
    unique_passes: bool = False

    def conninfo(self, url: str, *, application: str, timeout_seconds: float, connect_seconds: float) -> str:
        """Return what libpq connects with.

        Arguments:
            url: A PostgreSQL URL; what it says itself stands.
            application: The name under which the server shows the connection.
            timeout_seconds: How long sent data may stay unanswered.
            connect_seconds: How long connecting may take.

        Raises:
            ConfigError: The URL cannot be understood.
        """
        defaults = {
            "application_name": application,
            "connect_timeout": str(max(_CONNECT_SECONDS_MIN, round(connect_seconds))),
            "tcp_user_timeout": str(round(timeout_seconds * 1000)),
        }
        try:
            return make_conninfo(url, **{**defaults, **conninfo_to_dict(url)})
        except psycopg.ProgrammingError:  # its message would repeat the URL, password included
            raise ConfigError(
                f"{self.setting} is no PostgreSQL URL", hint="give postgresql://user@host:5432/database"
            ) from None

    def connect(self, url: str, *, application: str, timeout_seconds: float) -> Connection:
        """Return a new connection in autocommit mode; transactions are begun explicitly, and no wait is endless.

        Arguments:
            url: A PostgreSQL URL; what it says itself stands.
            application: The name under which the server shows the connection.
            timeout_seconds: How long each statement may take, and how long sent data may stay unanswered.

        Raises:
            ConfigError: The URL cannot be understood.
            Unreachable: The server does not answer, or refuses the connection; says why.
            StoreError: The server refuses what every session begins with.
        """
        info = self.conninfo(
            url,
            application=application,
            timeout_seconds=timeout_seconds,
            connect_seconds=min(CONNECT_SECONDS_MAX, timeout_seconds),
        )
        with self.translated():
            connection = psycopg.connect(info, autocommit=True)
            try:
                bound_session(connection, timeout_seconds=timeout_seconds)
            except BaseException:
                connection.close()
                raise
        return connection

    @contextmanager
    def translated(self) -> Generator[None]:
        """Raise PostgreSQL's errors as this project's.

        Raises:
            Unreachable: The server is away, or cannot do it now; trying again later may help.
            StoreError: The server refuses, and will refuse again.
        """
        try:
            yield
        except psycopg.Error as error:
            if self.unique_passes and isinstance(error, errors.UniqueViolation):
                raise
            raise self.translate(error) from error

    def translate(self, error: psycopg.Error) -> Unreachable | StoreError:
        """Return PostgreSQL's error as this project's."""
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        state = error.sqlstate or ""
        if isinstance(error, _ABSENT):
            return StoreError(f"{self.setting} is not as this version needs it: {text}", hint=self.absent_hint)
        if isinstance(error, errors.InsufficientPrivilege):
            return StoreError(f"{self.setting} refuses: {text}", hint=self.rights_hint)
        if isinstance(error, errors.QueryCanceled):
            return Unreachable(f"{self.setting} did not finish in time: {text}", hint="it may be overloaded")
        if not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return Unreachable(
                f"{self.setting} does not answer: {text}", hint=f"check {self.setting} and that PostgreSQL runs"
            )
        if state[:2] in _TRANSIENT_CLASSES or state in _TRANSIENT_STATES:
            return Unreachable(
                f"{self.setting} cannot do it now: {text}", hint=f"check {self.setting} and that PostgreSQL runs"
            )
        return StoreError(f"{self.setting} refuses: {text}")
