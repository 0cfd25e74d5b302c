"""Binary COPY of rows into the tables right below the roots, as row-level security on the roots demands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from psycopg import sql

from sealstream.sinks.store.database import Connection
from sealstream.sinks.store.rows import ENTRY_COLUMNS, EVENT_COLUMNS, PAYLOAD_COLUMNS, RETENTION_CLASS, EventRow, Rows

_JSONB_VERSION: Final = b"\x01"  # PostgreSQL's binary form of jsonb: a version byte and the text
_JSON_PLACES: Final = tuple(place for place, kind in enumerate(EVENT_COLUMNS.values()) if kind == "jsonb")


def add_rows(connection: Connection, rows: Mapping[int, Sequence[Rows]]) -> None:
    """Add rows by COPY, within the caller's transaction.

    Raises:
        psycopg.errors.UniqueViolation: One of them is there already.
    """
    for partition, found in rows.items():
        _copy(connection, f"entries_p{partition}", ENTRY_COLUMNS, (row.entry for row in found))
    together = [row for found in rows.values() for row in found]
    payloads = [row.payload for row in together if row.payload is not None]
    if payloads:
        _copy(connection, f"payloads_{RETENTION_CLASS}", PAYLOAD_COLUMNS, payloads)
    add_events(connection, [row.event for row in together if row.event is not None])


def add_events(connection: Connection, rows: Sequence[EventRow]) -> None:
    """Add search rows by COPY, within the caller's transaction, each to the tables of its retention class.

    Raises:
        psycopg.errors.UniqueViolation: One of them is there already.
    """
    by_class: dict[str, list[EventRow]] = {}
    for row in rows:
        by_class.setdefault(row.retention_class, []).append(row)
    for name, found in by_class.items():
        _copy(connection, f"events_{name}", EVENT_COLUMNS, map(_binary_json, found))


def _copy(connection: Connection, table: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier("sealstream", table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    types = ["bytea" if kind == "jsonb" else kind for kind in columns.values()]
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)


def _binary_json(row: Sequence[Any]) -> list[Any]:
    values = list(row)
    for place in _JSON_PLACES:
        if values[place] is not None:
            values[place] = _JSONB_VERSION + values[place].encode()
    return values
