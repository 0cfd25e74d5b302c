"""Takes what PostgreSQL copies out, in blocks of bounded size, with a time limit on every answer."""

from __future__ import annotations

import select
from collections.abc import Generator
from typing import Final

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus

from sealstream.schemas.errors import Unreachable
from sealstream.sinks.notary.postgres import STORE
from sealstream.sinks.notary.stored_rows import CopyRow
from sealstream.worker.postgres_session import Connection

BLOCK_ROWS_MAX: Final = 1_000
BLOCK_BYTES: Final = 1024 * 1024
"""A block is handed out at this size, whatever its number of rows: one row can have a megabyte."""

_HEADER_BYTES: Final = 19
"""Signature, flags and the size of an extension that does not exist: in front of the first row."""
_TRAILER: Final = b"\xff\xff"
_ENDED: Final = -1


def copy_rows(connection: Connection, query: sql.Composed, *, timeout_seconds: float) -> Generator[list[CopyRow]]:
    """Yield the rows of a query in blocks. Nothing else can be asked of the connection until all are taken.

    They are taken from libpq as they come: psycopg's wait around each row would cost more than the row's check.

    Arguments:
        connection: A connection in a transaction.
        query: What to read, its values filled in.
        timeout_seconds: How long the server may be silent.

    Raises:
        Unreachable: It was silent for longer, or the connection was lost.
        StoreError: The server refuses.
    """
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)").format(query)
    with STORE.translated(), connection.cursor() as cursor, cursor.copy(statement) as copy:
        try:
            yield from _blocks(connection, timeout_seconds)
            copy.read()  # behind the last row: psycopg sees the end
        except BaseException:
            # The rest is on its way, and psycopg would wait for all of it.
            connection.close()
            raise


def _blocks(connection: Connection, timeout_seconds: float) -> Generator[list[CopyRow]]:
    libpq, waiting = connection.pgconn, select.poll()
    waiting.register(libpq.socket, select.POLLIN)
    block: list[CopyRow] = []
    block_bytes, skipped = 0, _HEADER_BYTES
    while True:
        size, data = libpq.get_copy_data(1)
        if size == 0:
            if not waiting.poll(timeout_seconds * 1_000):
                raise Unreachable(f"{STORE} has not answered for {timeout_seconds:g} s")
            libpq.consume_input()
            continue
        if size == _ENDED:
            result = libpq.get_result()
            if result is not None and result.status == ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result, encoding="utf-8")
            raise psycopg.OperationalError("the copy ended before its end")
        row = bytes(data)[skipped:]
        skipped = 0
        if row == _TRAILER:
            break
        block.append(row)
        block_bytes += size
        if block_bytes >= BLOCK_BYTES or len(block) >= BLOCK_ROWS_MAX:
            yield block
            block, block_bytes = [], 0
    if block:
        yield block
