"""Derives search rows from what the store holds: entries and payloads -> events.

Nothing that is evidence waits for this. It follows the entries by a position of its own for each source partition,
which moves in the same transaction as the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from psycopg import errors, sql

from sealstream.sinks.store.copying import add_missing_events, add_packed_events, pack_event_row
from sealstream.sinks.store.derive import Deriver, Stored
from sealstream.sinks.store.quick_events import quick_row
from sealstream.sinks.store.rows import EventRow
from sealstream.worker.postgres_session import Connection

CHUNK_RECORDS: Final = 5_000
CHUNK_BYTES: Final = 16 * 1_048_576
"""How much of a partition one transaction takes in; the bytes are exceeded by one payload at most."""

_LOCK: Final = (
    "SELECT topic_id, next_offset FROM sealstream.search_positions WHERE partition = %s"
    " ORDER BY topic_id FOR UPDATE SKIP LOCKED"
)
# The outer query cuts where the payloads before a row come to the bytes: their sizes are known without fetching them.
_READ: Final = sql.SQL(
    "SELECT tenant, seq, kind, event_id, received, bytes, retention_class, source_offset FROM ("
    'SELECT e.tenant, e.seq, e.kind, e.event_id, e.received, p.bytes, p.retention_class, e."offset" AS source_offset,'
    " sum(octet_length(p.bytes)) OVER ("
    'ORDER BY e."offset" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before'
    " FROM sealstream.entries AS e LEFT JOIN sealstream.payloads AS p"
    " ON p.tenant = e.tenant AND p.seq = e.seq AND p.received = e.received"
    ' WHERE e.partition = %(partition)s AND e.topic_id = %(topic_id)s AND e."offset" >= %(first)s'
    ' AND e.kind NOT IN (0, 7, 8) ORDER BY e."offset" LIMIT %(limit)s'
    ") AS chunk WHERE before IS NULL OR before < %(bytes)s"
)
_MOVE: Final = (
    "UPDATE sealstream.search_positions SET next_offset = %s, received = greatest(received, %s)"
    " WHERE topic_id = %s AND partition = %s"
)
_LAG: Final = (
    'SELECT p.partition, sum(greatest(0, coalesce((SELECT max(e."offset") FROM sealstream.entries AS e'
    " WHERE e.partition = p.partition AND e.topic_id = p.topic_id AND e.kind NOT IN (0, 7, 8)), -1)"
    " + 1 - p.next_offset))::bigint FROM sealstream.search_positions AS p"
    " WHERE p.partition = ANY(%s) GROUP BY p.partition"
)
# Rows are found by their places in indexes, however new and unknown to the planner's statistics a table is.
_SESSION: Final = (
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_sort", "off"),
    ("jit", "off"),
    # What a crash of the server takes back of a commit is position and rows alike: they are derived once more.
    ("synchronous_commit", "off"),
)


class Chunk(NamedTuple):
    """What one step did.

    Arguments:
        rows: How many search rows it added.
        more: Whether there may be more to derive.
    """

    rows: int
    more: bool


def prepare_session(connection: Connection) -> None:
    """Give a connection the settings that deriving needs."""
    for name, value in _SESSION:
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def derive_chunk(
    connection: Connection,
    partition: int,
    derive: Deriver,
    *,
    records_max: int = CHUNK_RECORDS,
    bytes_max: int = CHUNK_BYTES,
) -> Chunk:
    """Derive the next search rows of a source partition, in one transaction.

    What another session derives at this moment is passed over: :func:`search_lag` shows what is left.

    Arguments:
        connection: The store, as a writer, with :func:`prepare_session`.
        partition: The partition.
        derive: Makes rows.
        records_max: How many entries at most.
        bytes_max: How many bytes of payloads.
    """
    rows, more = 0, False
    with connection.transaction():
        places = connection.execute(_LOCK, (partition,), binary=True).fetchall()
        for topic_id, first in places:
            asked = {"partition": partition, "topic_id": topic_id, "first": first}
            found = connection.execute(
                _READ, asked | {"limit": records_max, "bytes": bytes_max}, binary=True
            ).fetchall()
            if not found:
                continue
            stored = [Stored(*row[:-1]) for row in found]
            size = sum(len(one.payload) for one in stored if one.payload is not None)
            more = more or len(found) >= records_max or size >= bytes_max
            rows += _add(connection, stored, derive)
            connection.execute(_MOVE, (found[-1][-1] + 1, found[-1][4], topic_id, partition))
    # Dying before the commit leaves position and rows as they were, and whoever follows the partition next derives
    # them; dying behind it leaves nothing to do.
    return Chunk(rows, more)


def search_lag(connection: Connection, partitions: Iterable[int]) -> dict[int, int]:
    """Return how many source offsets of each partition are stored and cannot be searched yet."""
    return dict(connection.execute(_LAG, (sorted(partitions),)).fetchall())


def _add(connection: Connection, found: Sequence[Stored], derive: Deriver) -> int:
    packed: dict[str, list[bytes]] = {}
    for stored in found:
        row = _packed(stored, derive)
        if row is not None:
            packed.setdefault(stored.retention_class, []).append(row)
    try:
        with connection.transaction():
            add_packed_events(connection, packed)
    except errors.UniqueViolation:
        # Rare: a rebuild, or a batch that was compared row by row, has made some of these rows already.
        plain = [row for row in map(derive, found) if row is not None]
        add_missing_events(connection, plain)
    return sum(map(len, packed.values()))


def _packed(stored: Stored, derive: Deriver) -> bytes | None:
    start = None if stored.payload is None else derive.reader.shipped_body(stored.payload)
    row = None if start is None else quick_row(stored, start)
    if row is not None:
        return row
    plain: EventRow | None = derive(stored)
    return None if plain is None else pack_event_row(plain)
