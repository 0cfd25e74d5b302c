"""The peer of ``sealstream bench sink``: psycopg's binary COPY of the same columns into plain tables, and no more."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psutil
import psycopg
from psycopg import sql

from bench.usage import cpu_seconds
from sealstream.sinks.store.rows import ENTRY_COLUMNS, PAYLOAD_COLUMNS

_MICROSECONDS: Final = 1_000_000
_INDEXES: Final = (
    "CREATE UNIQUE INDEX ON {schema}.entries (tenant, seq, partition)",
    'CREATE UNIQUE INDEX ON {schema}.entries (topic_id, "offset", partition) WHERE kind NOT IN (0, 7, 8)',
    "CREATE INDEX ON {schema}.entries (event_id, tenant) WHERE event_id IS NOT NULL",
    "CREATE INDEX ON {schema}.payloads (tenant, seq)",
)
_READ_ROWS: Final = 10_000

Row = tuple[Any, ...]
Connection = psycopg.Connection[Row]


@dataclass(frozen=True, slots=True)
class Rows:
    """What is copied: by table, columns with their types, and the rows."""

    tables: Mapping[str, tuple[Mapping[str, str], Sequence[Row]]]

    @property
    def entries(self) -> int:
        """How many entries there are."""
        return len(self.tables["entries"][1])


def read_rows(database_url: str) -> Rows:
    """Return what a store holds of entries and payloads, in the order in which it was stored."""
    with psycopg.connect(database_url) as connection:
        return Rows(
            {
                name: (columns, list(_read(connection, name, columns)))
                for name, columns in (("entries", ENTRY_COLUMNS), ("payloads", PAYLOAD_COLUMNS))
            }
        )


def copy_raw(
    database_url: str, rows: Rows, *, warmup: int, batch: int, server: psutil.Process | None, indexed: bool = False
) -> dict[str, float]:
    """Copy rows into tables of their own, one transaction a batch, and measure all batches behind the warm-up.

    Arguments:
        database_url: Where, as somebody who may create a schema.
        rows: What.
        warmup: How many entries come first and do not count.
        batch: How many entries a transaction has.
        server: PostgreSQL's main process, if it is known.
        indexed: Whether the tables get the indexes that the store has.

    Returns:
        Figures by name, per entry.
    """
    schema = sql.Identifier("raw_indexed" if indexed else "raw")
    with psycopg.connect(database_url, autocommit=True) as connection:
        _create(connection, schema, indexed=indexed)
        begun, cpu, server_cpu, counted = 0.0, 0.0, 0.0, 0
        for start in range(0, rows.entries, batch):
            if start >= warmup and not begun:
                begun, cpu, server_cpu = time.perf_counter(), time.process_time(), _taken(server)
            counted += min(batch, rows.entries - start) if begun else 0
            _copy_batch(connection, schema, rows, start, start + batch)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        server_cpu = _taken(server) - server_cpu
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema))
    measured = {
        "entries_per_second": counted / seconds,
        "client_cpu_microseconds_per_entry": cpu / counted * _MICROSECONDS,
    }
    if server is not None:
        measured["postgres_cpu_microseconds_per_entry"] = server_cpu / counted * _MICROSECONDS
    return measured


def _create(connection: Connection, schema: sql.Identifier, *, indexed: bool) -> None:
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
    for table in ("entries", "payloads"):
        connection.execute(
            sql.SQL("CREATE TABLE {0}.{1} AS SELECT * FROM sealstream.{1} LIMIT 0").format(
                schema, sql.Identifier(table)
            )
        )
    for statement in _INDEXES if indexed else ():
        connection.execute(sql.SQL(statement).format(schema=schema))


def _copy_batch(connection: Connection, schema: sql.Identifier, rows: Rows, first: int, last: int) -> None:
    with connection.transaction():
        for table, (columns, values) in rows.tables.items():
            statement = sql.SQL("COPY {}.{} ({}) FROM STDIN (FORMAT BINARY)").format(
                schema, sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
            )
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.set_types(list(columns.values()))
                for row in values[first:last]:
                    copy.write_row(row)


def _read(connection: Connection, table: str, columns: Mapping[str, str]) -> Iterator[Row]:
    statement = sql.SQL("SELECT {} FROM sealstream.{}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(table)
    )
    with connection.cursor(f"read_{table}", binary=True) as cursor:
        cursor.execute(statement)
        while found := cursor.fetchmany(_READ_ROWS):
            yield from found


def _taken(server: psutil.Process | None) -> float:
    return 0.0 if server is None else cpu_seconds(server)
