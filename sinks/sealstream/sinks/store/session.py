"""Sessions with a store of this version in which no wait is without an end: a worker's, and a reader's."""

from __future__ import annotations

from sealstream.sinks.store.database import connect, translated
from sealstream.sinks.store.migrate import require_current
from sealstream.worker.postgres_session import CONNECT_SECONDS_MAX, Connection, bound_session


def open_session(database_url: str, *, application: str, timeout_seconds: float) -> Connection:
    """Return a connection in autocommit mode to a store of this version.

    Arguments:
        database_url: The store, as a login that is granted ``sealstream_writer``.
        application: The name under which the server shows the connection.
        timeout_seconds: How long connecting, and each statement, may take.

    Raises:
        ConfigError: The URL cannot be understood.
        StoreError: The store was not migrated, or refuses.
        Unreachable: PostgreSQL does not answer.
    """
    connection = connect(
        database_url, application=application, timeout_seconds=min(CONNECT_SECONDS_MAX, timeout_seconds)
    )
    try:
        require_current(connection)
        with translated():
            bound_session(connection, timeout_seconds=timeout_seconds)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reading(
    database_url: str, *, application: str, timeout_seconds: float, statement_seconds: float
) -> Connection:
    """Return a connection in autocommit mode for reading a store of this version.

    Arguments:
        database_url: The store, as a login that sees the tenants in question.
        application: The name under which the server shows the connection.
        timeout_seconds: How long connecting may take.
        statement_seconds: After this the server gives up on a statement.

    Raises:
        ConfigError: The URL cannot be understood.
        StoreError: The store was not migrated, or refuses.
        Unreachable: PostgreSQL does not answer.
    """
    connection = connect(database_url, application=application, timeout_seconds=timeout_seconds)
    try:
        with translated():
            connection.read_only = True
            milliseconds = f"{round(statement_seconds * 1000)}ms"
            connection.execute("SELECT set_config('statement_timeout', %s, false)", (milliseconds,))
            require_current(connection)
    except BaseException:
        connection.close()
        raise
    return connection
