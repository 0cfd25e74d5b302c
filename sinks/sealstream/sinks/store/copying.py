"""Binary COPY of rows into the tables right below the roots, as row-level security on the roots demands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from psycopg import sql

from sealstream.sinks.store.binary import COPY_HEADER, COPY_TRAILER, packer
from sealstream.sinks.store.rows import (
    ENTRY_COLUMNS,
    EVENT_COLUMNS,
    PAYLOAD_COLUMNS,
    RETENTION_CLASS,
    EventRow,
)
from sealstream.worker.postgres_session import Connection

pack_entry_row = packer(tuple(ENTRY_COLUMNS.values()))
pack_payload_row = packer(tuple(PAYLOAD_COLUMNS.values()))
pack_event_row = packer(tuple(EVENT_COLUMNS.values()))


def add_rows(connection: Connection, entries: Mapping[int, Iterable[bytes]], payloads: Iterable[bytes]) -> None:
    """Add packed rows by COPY, within the caller's transaction.

    Arguments:
        connection: The store.
        entries: Rows of ``entries`` by their source partition, one by one or many together.
        payloads: Rows of ``payloads``, likewise.

    Raises:
        psycopg.errors.UniqueViolation: One of them is there already.
    """
    for partition, rows in entries.items():
        _copy(connection, f"entries_p{partition}", ENTRY_COLUMNS, rows)
    _copy(connection, f"payloads_{RETENTION_CLASS}", PAYLOAD_COLUMNS, payloads)


def add_events(connection: Connection, rows: Sequence[EventRow]) -> None:
    """Add search rows by COPY, within the caller's transaction, each to the tables of its retention class.

    Raises:
        psycopg.errors.UniqueViolation: One of them is there already.
    """
    by_class: dict[str, list[bytes]] = {}
    for row in rows:
        by_class.setdefault(row.retention_class, []).append(pack_event_row(row))
    add_packed_events(connection, by_class)


def add_missing_events(connection: Connection, rows: Sequence[EventRow]) -> None:
    """Add search rows one by one, but leave alone those that are there already."""
    by_class: dict[str, list[EventRow]] = {}
    for row in rows:
        by_class.setdefault(row.retention_class, []).append(row)
    for name, found in by_class.items():
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
            sql.Identifier("sealstream", f"events_{name}"),
            sql.SQL(", ").join(map(sql.Identifier, EVENT_COLUMNS)),
            sql.SQL(", ").join([sql.SQL("%s::jsonb" if kind == "jsonb" else "%s") for kind in EVENT_COLUMNS.values()]),
        )
        with connection.cursor() as cursor:
            cursor.executemany(statement, found)


def add_packed_events(connection: Connection, rows: Mapping[str, Iterable[bytes]]) -> None:
    """Add packed search rows by their retention class, otherwise as :func:`add_events`."""
    for name, found in rows.items():
        _copy(connection, f"events_{name}", EVENT_COLUMNS, (b"".join(found),))


def _copy(connection: Connection, table: str, columns: Iterable[str], rows: Iterable[bytes]) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier("sealstream", table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(COPY_HEADER)
        for row in rows:
            copy.write(row)
        copy.write(COPY_TRAILER)
