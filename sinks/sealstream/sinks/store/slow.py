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
from sealstream.sinks.store.copying import add_missing_events, add_rows, pack_entry_row, pack_payload_row
from sealstream.sinks.store.derive import Derive, stored_from
from sealstream.sinks.store.rows import ENTRY_COLUMNS, EntryRow, EventRow, entry_row, payload_row
from sealstream.worker.postgres_session import Connection

_SELECT_ENTRIES = sql.SQL("SELECT {} FROM sealstream.entries AS e").format(
    sql.SQL(", ").join(sql.Identifier("e", name) for name in ENTRY_COLUMNS)
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
    heads: Mapping[str, Head],
    derive: Derive,
    *,
    instance: str,
) -> tuple[int, list[Violation]]:
    """Compare a batch with the store and add what is missing, within the caller's transaction.

    Returns:
        How many records were added, and what is wrong.
    """
    records = batch.all()
    rows = [entry_row(record) for record in records]
    stored = _Stored(_stored_entries(connection, rows), _stored_payloads(connection, rows))
    violations: list[Violation] = []
    missing: dict[int, list[bytes]] = {}
    payloads: list[bytes] = []
    events: list[EventRow] = []
    running = dict(heads)
    for record, row in zip(records, rows, strict=True):
        known, place = stored.find(row), (row.tenant, row.seq)
        found = _judge(known, row, stored.payloads.get(place), record.payload, instance)
        if known != row:  # what is stored already needs no place in its chain to be believed
            broken = discontinuity(running.get(row.tenant, NO_HEAD), record, instance=instance)
            found = [broken, *found] if broken is not None else found
        violations.extend(found)
        running[row.tenant] = Head(row.seq, row.hash)
        if known is None:
            stored.add(row)
            missing.setdefault(row.partition, []).append(pack_entry_row(row))
            payload, event = payload_row(record), derive(stored_from(record))
            if payload is not None and place not in stored.payloads:
                payloads.append(pack_payload_row(payload))
            if event is not None:
                events.append(event)
    add_rows(connection, missing, payloads)
    # The position of the search may be behind these places already: what is added late is made searchable here.
    add_missing_events(connection, events)
    return sum(len(found) for found in missing.values()), violations


def _judge(
    known: EntryRow | None, row: EntryRow, payload: bytes | None, logged: bytes | None, instance: str
) -> list[Violation]:
    """Return how the stored row and payload differ from the log's."""
    found = [None if known is None else compare_entries(known, row, instance=instance)]
    if known is None or known.entry == row.entry:
        found.append(compare_payloads(payload, logged, row, instance=instance))
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
