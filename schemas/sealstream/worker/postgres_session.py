"""A worker's session with PostgreSQL: no wait in it is without an end, and another thread can end it."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any, Final, TypeAlias

import psycopg

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

CONNECT_SECONDS_MAX: Final = 5.0
_LOCK_TIMEOUT_SECONDS: Final = 5.0
_IDLE_TIMEOUT_SECONDS: Final = 20.0
"""A worker that stopped within a transaction loses it after so long, and with it the locks that it held."""
_CANCEL_SECONDS: Final = 1.0


def bound_session(connection: Connection, *, timeout_seconds: float) -> None:
    """Bound every wait of a connection.

    Arguments:
        connection: A connection in autocommit mode.
        timeout_seconds: How long each statement may take.

    Raises:
        psycopg.Error: The server is away, or refuses; to be translated by whoever knows which database it is.
    """
    for name, seconds in (
        ("statement_timeout", timeout_seconds),
        ("lock_timeout", min(_LOCK_TIMEOUT_SECONDS, timeout_seconds)),
        ("idle_in_transaction_session_timeout", _IDLE_TIMEOUT_SECONDS),
    ):
        connection.execute("SELECT set_config(%s, %s, false)", (name, f"{round(seconds * 1000)}ms"))


def close_session(connection: Connection | None) -> None:
    """Close a connection, whatever its state."""
    if connection is not None:
        with contextlib.suppress(psycopg.Error):
            connection.close()


def abort_session(connection: Connection | None) -> None:
    """End whatever another thread waits for: what it is at fails as if the server were away."""
    if connection is None or connection.closed:
        return
    with contextlib.suppress(psycopg.Error, OSError):
        connection.cancel_safe(timeout=_CANCEL_SECONDS)
    # The server may not answer at all. Without its socket nothing waits for it any longer.
    with contextlib.suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)
