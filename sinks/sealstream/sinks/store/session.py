"""A worker's session with the store, of this version, in which no wait is without an end."""

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
