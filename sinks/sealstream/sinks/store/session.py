"""A worker's session with the store: no wait in it is without an end, and another thread can end it."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

import psycopg

from sealstream.sinks.store.database import Connection, connect, translated
from sealstream.sinks.store.migrate import require_current

_CONNECT_SECONDS_MAX: Final = 5.0
_LOCK_TIMEOUT_SECONDS: Final = 5.0
_IDLE_TIMEOUT_SECONDS: Final = 20.0
"""A worker that stopped within a transaction loses it after so long, and with it the lock on its positions."""
_CANCEL_SECONDS: Final = 1.0


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
        database_url, application=application, timeout_seconds=min(_CONNECT_SECONDS_MAX, timeout_seconds)
    )
    try:
        require_current(connection)
        with translated():
            for name, seconds in (
                ("statement_timeout", timeout_seconds),
                ("lock_timeout", min(_LOCK_TIMEOUT_SECONDS, timeout_seconds)),
                ("idle_in_transaction_session_timeout", _IDLE_TIMEOUT_SECONDS),
            ):
                connection.execute("SELECT set_config(%s, %s, false)", (name, f"{round(seconds * 1000)}ms"))
    except BaseException:
        connection.close()
        raise
    return connection


def close_session(connection: Connection | None) -> None:
    """Close a connection, whatever its state."""
    if connection is not None:
        with contextlib.suppress(psycopg.Error):
            connection.close()


def abort_session(connection: Connection | None) -> None:
    """End whatever another thread waits for: what it is at fails as :class:`Unreachable`."""
    if connection is None or connection.closed:
        return
    with contextlib.suppress(psycopg.Error, OSError):
        connection.cancel_safe(timeout=_CANCEL_SECONDS)
    # The server may not answer at all. Without its socket nothing waits for it any longer.
    with contextlib.suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)
