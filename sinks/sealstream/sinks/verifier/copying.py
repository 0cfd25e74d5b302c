"""Reads what PostgreSQL copies out, many rows at a time, with a time limit on every answer."""

from __future__ import annotations

import select
from collections.abc import Generator, Iterator
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus

from sealstream.schemas.errors import Unreachable
from sealstream.sinks.verifier.stored_copy import HEADER_BYTES, TRAILER, CopyRow

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

MILLISECONDS: Final = 1_000
ROWS_MAX: Final = 1_000
BLOCK_BYTES: Final = 1024 * 1024
"""A block is handed out at this size, whatever its number of rows: one row can have a megabyte."""


def copy_out(connection: Connection, query: sql.Composed, *, timeout_seconds: float) -> Generator[list[CopyRow]]:
    """Yield the rows of a query in blocks. Nothing else can be asked of the connection until all are taken.

    Rows are taken from libpq without psycopg's wait around each of them, which costs more than the row. How long all of
    them take is not limited: that depends on who takes them. How long the server is silent is.

    Arguments:
        connection: A connection in a transaction.
        query: What to read, its values filled in.
        timeout_seconds: How long the server may take for the next rows.

    Raises:
        Unreachable: It took longer.
        psycopg.Error: The server refused, or the connection was lost.
    """
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)").format(query)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        try:
            yield from _blocks(connection, timeout_seconds)
            copy.read()  # behind the last row: lets psycopg see the end
        except BaseException:
            # The rest is on its way: psycopg would wait for it, or for a server that is silent, without a limit.
            connection.close()
            raise


def _blocks(connection: Connection, timeout_seconds: float) -> Iterator[list[CopyRow]]:
    """Yield rows without what stands before the first and behind the last of them."""
    libpq = connection.pgconn
    take, waiting = libpq.get_copy_data, select.poll()
    waiting.register(libpq.socket, select.POLLIN)
    rows: list[CopyRow] = []
    size_bytes, front = 0, HEADER_BYTES
    while True:
        size, data = take(1)
        if size > 0:
            row = bytes(data)
            if front:
                row, front = row[front:], 0
            if row == TRAILER:
                break
            rows.append(row)
            size_bytes += size
            if size_bytes >= BLOCK_BYTES or len(rows) >= ROWS_MAX:
                yield rows
                rows, size_bytes = [], 0
        elif size == 0:
            if not waiting.poll(timeout_seconds * MILLISECONDS):
                raise Unreachable(f"PostgreSQL has not answered for {timeout_seconds:g} s")
            libpq.consume_input()
        else:  # the end, without the trailer: an error
            result = libpq.get_result()
            if result is not None and result.status == ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result, encoding="utf-8")
            raise psycopg.OperationalError("the copy ended before its end")
    if rows:
        yield rows
