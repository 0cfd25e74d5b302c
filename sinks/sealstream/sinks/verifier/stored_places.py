"""What a comparison with published roots asks of the store beside the rows that are verified: places and sums."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from psycopg import sql

from sealstream.schemas.coverage import OffsetRange
from sealstream.schemas.entry import SOURCELESS_KINDS, Kind
from sealstream.sinks.verifier.copying import Connection
from sealstream.sinks.verifier.root_log import Place

_ROWS_FETCHED: Final = 2_000
_SOURCED: Final = sql.SQL("kind NOT IN ({})").format(sql.SQL(", ").join(map(sql.Literal, map(int, SOURCELESS_KINDS))))

_ENTRIES: Final = sql.SQL(
    "SELECT seq, entry FROM sealstream.entries WHERE tenant = %s AND seq <= %s ORDER BY seq, partition"
)
_AT: Final = sql.SQL(
    'SELECT w.tenant, e.entry, e.topic_id, e.partition, e."offset"'
    " FROM unnest(%s::text[], %s::bigint[]) AS w (tenant, seq)"
    ' CROSS JOIN LATERAL (SELECT * FROM sealstream.entries AS e WHERE e.tenant = w.tenant COLLATE "C"'
    " AND e.seq = w.seq ORDER BY e.partition LIMIT 1) AS e"
)
_COUNTS: Final = sql.SQL(
    "SELECT kind, count(*) FROM sealstream.entries"
    ' WHERE topic_id = %s AND partition = %s AND "offset" < %s GROUP BY kind'
)
_LAST: Final = sql.SQL(
    'SELECT max("offset") FROM sealstream.entries'
    ' WHERE topic_id = %s AND partition = %s AND "offset" < %s AND {sourced}'
).format(sourced=_SOURCED)
_OFFSETS: Final = sql.SQL(
    'SELECT "offset" FROM sealstream.entries'
    ' WHERE topic_id = %s AND partition = %s AND "offset" < %s AND {sourced} ORDER BY "offset"'
).format(sourced=_SOURCED)
_WITHIN: Final = sql.SQL(
    "SELECT true FROM unnest(%s::bigint[], %s::bigint[]) AS r (first, last) CROSS JOIN LATERAL ("
    "SELECT true FROM sealstream.entries AS e WHERE e.topic_id = %s AND e.partition = %s"
    ' AND e."offset" BETWEEN r.first AND r.last AND {sourced} LIMIT 1) AS e LIMIT 1'
).format(sourced=_SOURCED)
_SEES_ALL: Final = sql.SQL(
    "SELECT NOT row_security_active('sealstream.entries') OR pg_has_role(current_user, 'sealstream_writer', 'MEMBER')"
    " OR EXISTS (SELECT FROM sealstream.reader_tenants WHERE tenant = '*')"
)


class StorePlaces:
    """Asks one snapshot of the store.

    Arguments:
        connection: A connection in a repeatable-read transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def sees_all(self) -> bool:
        """Return whether this login sees every tenant's chain."""
        row = self._connection.execute(_SEES_ALL).fetchone()
        return row is not None and bool(row[0])

    def entries_of(self, chain: str, last: int) -> Iterator[tuple[int, bytes]]:
        """Yield a chain's entries up to a seq, with their seqs, in their order."""
        with self._connection.cursor("compared", binary=True) as rows:
            rows.itersize = _ROWS_FETCHED
            rows.execute(_ENTRIES, (chain, last))
            yield from ((seq, entry) for seq, entry in rows)

    def entries_at(self, seqs: Mapping[str, int]) -> dict[str, tuple[bytes, Place, int]]:
        """Return of some chains the entry at one seq each, with its source partition and offset; none where none is."""
        rows = self._connection.execute(_AT, (list(seqs), list(seqs.values())), binary=True)
        return {name: (entry, (topic_id, partition), offset) for name, entry, topic_id, partition, offset in rows}

    def counts(self, place: Place, end: int) -> list[int]:
        """Return the number of entries of each kind that stand for offsets of a source partition before an end."""
        counts = [0] * len(Kind)
        with self._without_limit():
            for kind, count in self._connection.execute(_COUNTS, (*place, end)):
                counts[kind] = count
        return counts

    def position(self, place: Place, end: int) -> int:
        """Return the offset behind the last one, before an end, of which there is an entry; 0 if there is none."""
        with self._without_limit():
            row = self._connection.execute(_LAST, (*place, end)).fetchone()
        return 0 if row is None or row[0] is None else row[0] + 1

    def offsets(self, place: Place, end: int) -> Iterator[int]:
        """Yield the offsets before an end of which there are entries, rising."""
        with self._without_limit(), self._connection.cursor("offsets", binary=True) as rows:
            rows.itersize = _ROWS_FETCHED
            rows.execute(_OFFSETS, (*place, end))
            yield from (offset for (offset,) in rows)

    def any_within(self, place: Place, ranges: Sequence[OffsetRange]) -> bool:
        """Return whether there is an entry of an offset in one of these ranges."""
        firsts, lasts = [one.first for one in ranges], [one.last for one in ranges]
        return self._connection.execute(_WITHIN, (firsts, lasts, *place)).fetchone() is not None

    @contextmanager
    def _without_limit(self) -> Generator[None]:
        """Sums over a whole partition take as long as its rows are many; the server's silence is still limited."""
        row = self._connection.execute("SELECT current_setting('statement_timeout')").fetchone()
        self._connection.execute("SET LOCAL statement_timeout = 0")
        yield
        self._connection.execute("SELECT set_config('statement_timeout', %s, true)", (row and row[0],))
