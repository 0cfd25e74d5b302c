"""What the store has of an import: asked by whoever holds an older trail against its chains. Read-only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self, TypeAlias

from psycopg import sql

from sealstream.schemas.entry import Kind, entry_hash, parse
from sealstream.schemas.errors import EntryInvalid, StoreDamaged
from sealstream.sinks.store.compare import columns_at_fault
from sealstream.sinks.store.database import translated
from sealstream.sinks.store.rows import ENTRY_COLUMNS, EntryRow
from sealstream.sinks.store.session import open_reading

_APPLICATION: Final = "sealstream-import"
_STATEMENT_SECONDS: Final = 120.0
_ENTRY: Final = sql.SQL(", ").join(sql.Identifier("e", name) for name in ENTRY_COLUMNS)

_RECORDS: Final = sql.SQL(
    "SELECT {} FROM unnest(%(tenants)s::text[], %(ids)s::text[]) AS w (tenant, event_id)"
    " JOIN sealstream.entries AS e ON e.tenant = w.tenant AND e.event_id = w.event_id"
).format(_ENTRY)
_CONTROLS: Final = sql.SQL(
    "SELECT e.seq, p.bytes FROM sealstream.entries AS e JOIN sealstream.payloads AS p"
    " ON p.tenant = e.tenant AND p.seq = e.seq AND p.received = e.received"
    " WHERE e.tenant = %(tenant)s AND e.event_id = %(event_id)s AND e.kind = %(kind)s ORDER BY e.seq LIMIT 2"
)
_IDS: Final = sql.SQL(
    'SELECT e.event_id FROM sealstream.entries AS e WHERE e.event_id > %(after)s COLLATE "C"'
    ' AND e.event_id < %(end)s COLLATE "C" AND e.tenant = %(tenant)s AND e.kind = %(kind)s'
    ' ORDER BY e.event_id COLLATE "C" LIMIT %(limit)s'
)

StoredRecord: TypeAlias = tuple[str, str, int, Kind, bytes]
"""Tenant, event id, seq, kind, and the payload digest that the entry commits to."""


class ImportStore:
    """Reads what an import has brought into the store.

    Arguments:
        database_url: The store, as a login that sees the tenants in question.
        timeout_seconds: How long to wait for the server.

    Raises:
        ConfigError: The URL cannot be understood.
        StoreError: The store is not migrated, or refuses.
        Unreachable: PostgreSQL does not answer.
    """

    def __init__(self, database_url: str, *, timeout_seconds: float = 10.0) -> None:
        self._connection = open_reading(
            database_url,
            application=_APPLICATION,
            timeout_seconds=timeout_seconds,
            statement_seconds=_STATEMENT_SECONDS,
        )

    def records_of(self, events: Sequence[tuple[str, str]]) -> list[StoredRecord]:
        """Return all records of events, given by tenant and id; none of those that are not there.

        Raises:
            StoreDamaged: A stored row does not hold together; names tenant and seq.
            StoreError, Unreachable: The store cannot be read.
        """
        arguments = {"tenants": [tenant for tenant, _ in events], "ids": [event_id for _, event_id in events]}
        return [_record(row) for row in self._rows(_RECORDS, arguments)]

    def controls_of(self, tenant: str, event_id: str) -> list[tuple[int, bytes]]:
        """Return place and payload of the control events under an id, two at most.

        Raises:
            StoreError, Unreachable: The store cannot be read.
        """
        arguments = {"tenant": tenant, "event_id": event_id, "kind": int(Kind.CONTROL)}
        return [(seq, payload) for seq, payload in self._rows(_CONTROLS, arguments)]

    def imported_ids(self, tenant: str, prefix: str, after: str, limit: int) -> list[str]:
        """Return the ids of a chain's imported events that begin so, by their bytes, behind one.

        Raises:
            StoreError, Unreachable: The store cannot be read.
        """
        arguments = {
            "tenant": tenant,
            "after": after or prefix,
            "end": prefix[:-1] + chr(ord(prefix[-1]) + 1),
            "kind": int(Kind.IMPORTED),
            "limit": limit,
        }
        return [event_id for (event_id,) in self._rows(_IDS, arguments)]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _rows(self, query: sql.Composed | sql.SQL, arguments: dict[str, Any]) -> list[tuple[Any, ...]]:
        with translated():
            return self._connection.execute(query, arguments, binary=True).fetchall()


def _record(values: Sequence[Any]) -> StoredRecord:
    row = EntryRow(*values)
    try:
        entry = parse(row.entry)
    except EntryInvalid as error:
        raise StoreDamaged(row.tenant, row.seq, f"the entry does not parse: {error.message}") from error
    if row.hash != entry_hash(row.entry) or columns_at_fault(row, entry):
        raise StoreDamaged(row.tenant, row.seq, "the stored columns are not those of the entry")
    return row.tenant, entry.event_id, row.seq, entry.kind, entry.payload
