"""Rebuilds the search rows from the entries and payloads: after a schema became known, or because they may be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from sealstream.schemas.codec import EventReader
from sealstream.schemas.entry import parse, payload_digest
from sealstream.schemas.errors import EntryInvalid
from sealstream.sinks.store.compare import holds_together
from sealstream.sinks.store.copying import add_events
from sealstream.sinks.store.database import connect, translated
from sealstream.sinks.store.derive import Deriver, Stored
from sealstream.sinks.store.migrate import require_current
from sealstream.sinks.store.rows import ENTRY_COLUMNS, SEARCHED_KINDS, EntryRow, EventRow
from sealstream.worker.postgres_session import Connection

CHUNK_ENTRIES: Final = 5_000
"""How many entries of a tenant one transaction covers."""

_SELECT: Final = sql.SQL(
    "SELECT {}, p.bytes, p.retention_class FROM sealstream.entries AS e JOIN sealstream.payloads AS p"
    " ON p.tenant = e.tenant AND p.seq = e.seq AND p.received = e.received"
    " WHERE e.tenant = %(tenant)s AND e.seq BETWEEN %(first)s AND %(last)s AND e.kind = ANY(%(kinds)s)"
    " ORDER BY e.seq"
).format(sql.SQL(", ").join(sql.Identifier("e", name) for name in ENTRY_COLUMNS))


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did.

    Arguments:
        events: How many search rows there are now, of the tenants that were rebuilt.
        undecoded: How many of them only say why they could not be decoded.
        damaged: Entries, as (tenant, seq), that do not hold together and so have no row; only the first of very many.
    """

    events: int
    undecoded: int
    damaged: tuple[tuple[str, int], ...]


class _Count:
    """Counts while a rebuild goes on."""

    DAMAGED_MAX: Final = 1_000

    def __init__(self) -> None:
        self.events = self.undecoded = 0
        self.damaged: list[tuple[str, int]] = []


def rebuild_events(
    database_url: str,
    *,
    tenant: str | None = None,
    reader: EventReader | None = None,
    on_progress: Callable[[str, int], None] | None = None,
    timeout_seconds: float = 30.0,
) -> Rebuilt:
    """Make the search rows anew, chunk by chunk, while the sink goes on and searches are served.

    Arguments:
        database_url: The store, as a role that is a member of ``sealstream_owner``.
        tenant: The only tenant to rebuild; all of them if not given.
        reader: Decodes payloads; without one, only what was written with the shipped schema.
        on_progress: Told tenant and seq behind each chunk.
        timeout_seconds: How long connecting may take.

    Raises:
        StoreError: The store refuses.
        Unreachable: PostgreSQL does not answer.
    """
    count = _Count()

    def undecoded(_reason: str) -> None:
        count.undecoded += 1

    derive = Deriver(reader or EventReader(), count=undecoded)
    with (
        connect(database_url, application="sealstream-rebuild", timeout_seconds=timeout_seconds) as connection,
        translated(),
    ):
        require_current(connection)
        connection.execute("SET ROLE sealstream_owner")
        for name, last in _heads(connection, tenant):
            for first in range(0, last + 1, CHUNK_ENTRIES):
                end = min(last, first + CHUNK_ENTRIES - 1)
                _rebuild_chunk(connection, name, first, end, derive, count)
                if on_progress is not None:
                    on_progress(name, end)
    return Rebuilt(count.events, count.undecoded, tuple(count.damaged))


def _heads(connection: Connection, tenant: str | None) -> Iterator[tuple[str, int]]:
    """Return the chains and where they end now; what the sink adds later needs no rebuild."""
    rows = connection.execute(
        "SELECT tenant, seq FROM sealstream.tenant_heads WHERE tenant = coalesce(%(tenant)s, tenant) ORDER BY 1",
        {"tenant": tenant},
    ).fetchall()
    yield from rows


def _rebuild_chunk(connection: Connection, tenant: str, first: int, last: int, derive: Deriver, count: _Count) -> None:
    place = {"tenant": tenant, "first": first, "last": last, "kinds": [int(kind) for kind in SEARCHED_KINDS]}
    with connection.transaction():
        # Whoever derives rows beside us waits, or finds ours: both at the same place at once would fail.
        connection.execute("SELECT FROM sealstream.search_positions FOR UPDATE")
        found = connection.execute(_SELECT, place, binary=True).fetchall()
        rows = [row for row in (_derive(values, derive, count) for values in found) if row is not None]
        connection.execute(
            "DELETE FROM sealstream.events WHERE tenant = %(tenant)s AND seq BETWEEN %(first)s AND %(last)s", place
        )
        add_events(connection, rows)
    # Dying behind the commit leaves old rows in later chunks: run it again.
    count.events += len(rows)


def _derive(values: Sequence[Any], derive: Deriver, count: _Count) -> EventRow | None:
    row, payload, retention_class = EntryRow(*values[:-2]), values[-2], values[-1]
    try:
        entry = parse(row.entry)
    except EntryInvalid:
        entry = None
    if entry is None or not holds_together(row) or payload_digest(payload) != entry.payload:
        if len(count.damaged) < count.DAMAGED_MAX:
            count.damaged.append((row.tenant, row.seq))
        return None
    return derive(
        Stored(entry.tenant, entry.seq, int(entry.kind), entry.event_id, entry.received, payload, retention_class)
    )
