"""The slow path: a batch that meets rows which are there already, or that does not go on where the chains end.

Each record is compared with what is stored in its place, and with what is stored of its source record. What is missing
is added, what is equal is left alone, what differs is reported and left alone too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg import sql

from sealstream.schemas.entry import SOURCELESS_KINDS
from sealstream.schemas.violation import Violation
from sealstream.sinks.store.batch import Batch
from sealstream.sinks.store.compare import compare_entries, compare_payloads
from sealstream.sinks.store.continuity import NO_HEAD, Head, discontinuity
from sealstream.sinks.store.copying import add_rows
from sealstream.sinks.store.database import Connection
from sealstream.sinks.store.rows import ENTRY_COLUMNS, EVENT_COLUMNS, RETENTION_CLASS, EntryRow, EventRow, Rows

_SELECT_ENTRIES = sql.SQL("SELECT {} FROM sealstream.entries AS e").format(
    sql.SQL(", ").join(sql.Identifier("e", name) for name in ENTRY_COLUMNS)
)
_INSERT_EVENT = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
    sql.Identifier("sealstream", f"events_{RETENTION_CLASS}"),
    sql.SQL(", ").join(map(sql.Identifier, EVENT_COLUMNS)),
    sql.SQL(", ").join([sql.SQL("%s::jsonb" if kind == "jsonb" else "%s") for kind in EVENT_COLUMNS.values()]),
)


class _Stored:
    """What the store has in the places of a batch, and what the batch has added to it so far."""

    def __init__(self, entries: Sequence[EntryRow], payloads: Mapping[tuple[str, int], bytes]) -> None:
        self._by_place: dict[tuple[str, int], EntryRow] = {}
        self._by_source: dict[tuple[int, bytes, int], EntryRow] = {}
        self.payloads = dict(payloads)
        for row in entries:
            self.add(row)

    def add(self, row: EntryRow) -> None:
        self._by_place.setdefault((row.tenant, row.seq), row)
        if row.kind not in SOURCELESS_KINDS:
            self._by_source.setdefault((row.partition, row.topic_id, row.offset), row)

    def find(self, row: EntryRow) -> EntryRow | None:
        """Return what is stored in a row's place; else what is stored of its source record."""
        found = self._by_place.get((row.tenant, row.seq))
        if found is None and row.kind not in SOURCELESS_KINDS:
            found = self._by_source.get((row.partition, row.topic_id, row.offset))
        return found


def compare_and_complete(
    connection: Connection,
    batch: Batch,
    rows: Mapping[int, Sequence[Rows]],
    heads: Mapping[str, Head],
    *,
    instance: str,
) -> tuple[int, list[Violation]]:
    """Compare a batch with the store and add what is missing, within the caller's transaction.

    Returns:
        How many records were added, and what is wrong.
    """
    together = [row for partition in sorted(rows) for row in rows[partition]]
    stored = _Stored(
        _stored_entries(connection, [row.entry for row in together]),
        _stored_payloads(connection, [row.entry for row in together]),
    )
    violations: list[Violation] = []
    missing: dict[int, list[Rows]] = {}
    events: list[EventRow] = []
    running = dict(heads)
    for record, row in zip(batch.all(), together, strict=True):
        known, place = stored.find(row.entry), (row.entry.tenant, row.entry.seq)
        found = _judge(known, row, stored.payloads.get(place), instance)
        if known != row.entry:  # what is stored already needs no place in its chain to be believed
            broken = discontinuity(running.get(row.entry.tenant, NO_HEAD), record, instance=instance)
            found = [broken, *found] if broken is not None else found
        violations.extend(found)
        running[row.entry.tenant] = Head(row.entry.seq, row.entry.hash)
        if known is None:
            stored.add(row.entry)
            payload = row.payload if place not in stored.payloads else None
            missing.setdefault(row.entry.partition, []).append(Rows(row.entry, payload, None))
            if row.event is not None:
                events.append(row.event)
    add_rows(connection, missing)
    _add_events(connection, events)
    return sum(len(found) for found in missing.values()), violations


def _judge(known: EntryRow | None, row: Rows, payload: bytes | None, instance: str) -> list[Violation]:
    """Return how the stored row and payload differ from the log's."""
    logged = None if row.payload is None else row.payload.bytes
    found = [None if known is None else compare_entries(known, row.entry, instance=instance)]
    if known is None or known.entry == row.entry.entry:
        found.append(compare_payloads(payload, logged, row.entry, instance=instance))
    return [violation for violation in found if violation is not None]


def _stored_entries(connection: Connection, rows: Sequence[EntryRow]) -> list[EntryRow]:
    by_place = connection.execute(
        _SELECT_ENTRIES
        + sql.SQL(" JOIN unnest(%s::text[], %s::bigint[]) AS s (tenant, seq) ON e.tenant = s.tenant AND e.seq = s.seq"),
        ([row.tenant for row in rows], [row.seq for row in rows]),
        binary=True,
    ).fetchall()
    sourced = [row for row in rows if row.kind not in SOURCELESS_KINDS]
    by_source = connection.execute(
        _SELECT_ENTRIES
        + sql.SQL(
            " JOIN unnest(%s::integer[], %s::bytea[], %s::bigint[]) AS s (partition, topic_id, source_offset)"
            ' ON e.partition = s.partition AND e.topic_id = s.topic_id AND e."offset" = s.source_offset'
            " WHERE e.kind NOT IN (0, 7, 8)"
        ),
        ([row.partition for row in sourced], [row.topic_id for row in sourced], [row.offset for row in sourced]),
        binary=True,
    ).fetchall()
    return [EntryRow(*row) for row in (*by_place, *by_source)]


def _stored_payloads(connection: Connection, rows: Sequence[EntryRow]) -> dict[tuple[str, int], bytes]:
    found = connection.execute(
        "SELECT p.tenant, p.seq, p.bytes FROM sealstream.payloads AS p"
        " JOIN unnest(%s::text[], %s::bigint[]) AS s (tenant, seq) ON p.tenant = s.tenant AND p.seq = s.seq",
        ([row.tenant for row in rows], [row.seq for row in rows]),
        binary=True,
    ).fetchall()
    return {(tenant, seq): content for tenant, seq, content in found}


def _add_events(connection: Connection, rows: Sequence[EventRow]) -> None:
    """Add derived rows where there are none: a rebuild may have been quicker, and they are no evidence."""
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(_INSERT_EVENT, rows)
