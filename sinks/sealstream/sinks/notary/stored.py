"""Reads the store back, with SQL of the notary's own, in one snapshot that no later change reaches."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final, NamedTuple

import psycopg
from psycopg import sql

from sealstream.schemas.errors import StoreError
from sealstream.sinks.notary.copying import copy_rows
from sealstream.sinks.notary.postgres import APPLICATION, STORE
from sealstream.sinks.notary.stored_rows import CopyRow, Link, RowReader
from sealstream.worker.postgres_session import Connection, abort_session, close_session

LOOKED_UP_MAX: Final = 5_000
"""So many places are looked up by one statement."""

_COLUMNS: Final = (
    'e.seq, e.kind, e.partition, e.received, e.topic_id, e."offset", e.hash, e.tenant, e.event_id, e.entry, p.bytes'
)
# A payload stands in the month of its entry's time: one that does not is as good as missing. OFFSET 0 keeps the planner
# from any other way than to look each one up: it may have no idea yet how many rows a new table has.
_PAYLOADS: Final = (
    "LEFT JOIN LATERAL (SELECT p.bytes FROM sealstream.payloads AS p"
    " WHERE p.tenant = e.tenant AND p.seq = e.seq AND p.received = e.received OFFSET 0) AS p ON true"
)
_SOURCED: Final = sql.SQL(
    f"SELECT {_COLUMNS} FROM ("  # noqa: S608 - made of constants
    "SELECT * FROM sealstream.entries WHERE partition = {partition} AND topic_id = {topic_id}"
    ' AND "offset" >= {begin} AND kind NOT IN (0, 7, 8) ORDER BY "offset" LIMIT {count}'
    f') AS e {_PAYLOADS} ORDER BY e."offset"'
)
_AT: Final = sql.SQL(
    f"SELECT {_COLUMNS} FROM unnest({{tenants}}::text[], {{seqs}}::bigint[]) AS w (tenant, seq)"  # noqa: S608 - as above
    " CROSS JOIN LATERAL (SELECT * FROM sealstream.entries AS e"
    ' WHERE e.tenant = w.tenant COLLATE "C" AND e.seq = w.seq AND e.partition = {partition} OFFSET 0) AS e'
    f" {_PAYLOADS}"
)
_SOURCELESS: Final = sql.SQL(
    f"SELECT {_COLUMNS} FROM sealstream.entries AS e {_PAYLOADS}"  # noqa: S608 - as above
    " WHERE e.tenant = {tenant} AND e.seq >= {begin} AND e.seq < {end} AND e.partition = {partition}"
    " AND e.topic_id = {topic_id} AND e.kind IN (0, 7, 8) ORDER BY e.seq"
)
_LAST_GAP: Final = sql.SQL(
    f"SELECT {_COLUMNS} FROM sealstream.entries AS e {_PAYLOADS}"  # noqa: S608 - as above
    " WHERE e.tenant = {tenant} AND e.partition = {partition} AND e.topic_id = {topic_id} AND e.kind = 7"
    " ORDER BY e.seq DESC LIMIT 1"
)
_RANGES: Final = sql.SQL(
    "SELECT e.tenant, e.seq, e.hash, e.entry"
    " FROM unnest({tenants}::text[], {begins}::bigint[], {ends}::bigint[]) AS w (tenant, first, last)"
    " CROSS JOIN LATERAL (SELECT e.tenant, e.seq, e.hash, e.entry FROM sealstream.entries AS e"
    ' WHERE e.tenant = w.tenant COLLATE "C" AND e.seq >= w.first AND e.seq < w.last OFFSET 0) AS e'
)
# A loose index scan: one look-up a topic, not one a row.
_TOPICS: Final = """
WITH RECURSIVE found AS (
  (SELECT topic_id FROM sealstream.entries WHERE partition = %(n)s AND kind NOT IN (0, 7, 8) ORDER BY topic_id LIMIT 1)
  UNION ALL
  SELECT (SELECT e.topic_id FROM sealstream.entries AS e
    WHERE e.partition = %(n)s AND e.kind NOT IN (0, 7, 8) AND e.topic_id > found.topic_id ORDER BY e.topic_id LIMIT 1)
  FROM found WHERE found.topic_id IS NOT NULL
) SELECT topic_id FROM found WHERE topic_id IS NOT NULL
"""
_LAST_OFFSET: Final = (
    'SELECT max("offset") FROM sealstream.entries WHERE partition = %s AND topic_id = %b AND kind NOT IN (0, 7, 8)'
)
_FIRST_TIME: Final = (
    "SELECT received FROM sealstream.entries WHERE partition = %s AND topic_id = %b AND kind NOT IN (0, 7, 8)"
    ' AND "offset" >= %s AND received > 0 ORDER BY "offset" LIMIT 1'
)
_GAP_TOPICS: Final = (
    "SELECT DISTINCT topic_id FROM sealstream.entries"
    " WHERE tenant = %s AND seq >= %s AND seq < %s AND partition = %s AND kind = 7"
)
_LAST_ENTRIES: Final = (
    "SELECT w.tenant, e.hash, e.entry FROM unnest(%b::text[], %b::bigint[]) AS w (tenant, seq)"
    " LEFT JOIN LATERAL (SELECT e.hash, e.entry FROM sealstream.entries AS e"
    ' WHERE e.tenant = w.tenant COLLATE "C" AND e.seq = w.seq OFFSET 0) AS e ON true'
)
_ENDS: Final = (
    "SELECT w.tenant, COALESCE((SELECT e.seq + 1 FROM sealstream.entries AS e"
    ' WHERE e.tenant = w.tenant COLLATE "C" AND e.seq < w.size ORDER BY e.seq DESC LIMIT 1), 0)'
    " FROM unnest(%b::text[], %b::bigint[]) AS w (tenant, size)"
)


class ChainRange(NamedTuple):
    """Entries of a chain.

    Arguments:
        chain: The chain.
        begin: The seq of the first one.
        end: The seq behind the last one.
    """

    chain: str
    begin: int
    end: int


class StoredEntry(NamedTuple):
    """An entry as it stands in the store, unchecked.

    Arguments:
        chain: The chain that it stands in.
        seq: Its place in its chain.
        hash: What stands there as its hash.
        entry: Its bytes.
    """

    chain: str
    seq: int
    hash: bytes
    entry: bytes


class Store:
    """The store, over one connection that is opened when it is first needed, and anew after it was lost.

    Arguments:
        url: The store, as a login that is granted ``sealstream_reader`` and all tenants.
        instance: The instance that it must be of.
        timeout_seconds: How long the store may take for an answer.
    """

    def __init__(self, url: str, *, instance: str, timeout_seconds: float) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._rows = RowReader(instance)
        self._connection: Connection | None = None

    def close(self) -> None:
        """Close the connection; the next snapshot opens another one."""
        close_session(self._connection)
        self._connection = None

    def abort(self) -> None:
        """End whatever another thread waits for: its call fails as :class:`Unreachable`."""
        abort_session(self._connection)

    @contextmanager
    def snapshot(self) -> Generator[Snapshot]:
        """Open a snapshot.

        Raises:
            StoreError: The store is not migrated, or does not let this login read all of it.
            Unreachable: It does not answer.
        """
        try:
            if self._connection is None or self._connection.closed:
                self._connection = STORE.connect(
                    self._url, application=APPLICATION, timeout_seconds=self._timeout_seconds
                )
                _require_all(self._connection)
                self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                self._connection.read_only = True
            with STORE.translated(), self._connection.transaction():
                yield Snapshot(self._connection, self._rows, self._timeout_seconds)
        except BaseException:
            self.close()
            raise
        finally:
            self._rows.forget()


class Snapshot:
    """What the store has at one moment.

    Arguments:
        connection: A connection in a repeatable-read transaction.
        rows: Reads its rows.
        timeout_seconds: How long the store may take for an answer.
    """

    def __init__(self, connection: Connection, rows: RowReader, timeout_seconds: float) -> None:
        self._connection = connection
        self._rows = rows
        self._timeout_seconds = timeout_seconds
        # Few rows of many are wanted, in the order of an index: a hash or a sort would read all of a table.
        for method in ("hashjoin", "mergejoin", "seqscan", "bitmapscan"):
            connection.execute(sql.SQL("SET LOCAL {} = off").format(sql.Identifier(f"enable_{method}")))

    def partitions(self) -> list[int]:
        """Return the source partitions that the store has room for, in order."""
        with STORE.translated():
            rows = self._connection.execute(
                "SELECT c.relname FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid"
                " WHERE i.inhparent = 'sealstream.entries'::regclass"
            ).fetchall()
        names = [str(name) for (name,) in rows]
        numbers = [name.removeprefix("entries_p") for name in names]
        if other := [name for name, number in zip(names, numbers, strict=True) if not number.isdecimal()]:
            raise StoreError(f"the store has the partition {other[0]}, which sealstream migrate did not make")
        return sorted(map(int, numbers))

    def topics(self, partition: int) -> list[bytes]:
        """Return the UUIDs of the source topics that a partition has entries of."""
        with STORE.translated():
            rows = self._connection.execute(_TOPICS, {"n": partition}, binary=True).fetchall()
        return [topic_id for (topic_id,) in rows]

    def gap_topics(self, partition: int, chain: str, begin: int, *, count: int) -> list[bytes]:
        """Return the UUIDs of the topics of which a partition's own chain has gaps among so many seqs from one on."""
        with STORE.translated():
            rows = self._connection.execute(
                _GAP_TOPICS, (chain, begin, begin + count, partition), binary=True
            ).fetchall()
        return [topic_id for (topic_id,) in rows]

    def last_offset(self, topic_id: bytes, partition: int) -> int:
        """Return the last offset that an entry stands for; -1 if there is none."""
        with STORE.translated():
            row = self._connection.execute(_LAST_OFFSET, (partition, topic_id)).fetchone()
        return -1 if row is None or row[0] is None else int(row[0])

    def first_time(self, topic_id: bytes, partition: int, begin: int = 0) -> int | None:
        """Return when the broker took the first record from an offset on that has a time, in microseconds."""
        with STORE.translated():
            row = self._connection.execute(_FIRST_TIME, (partition, topic_id, begin)).fetchone()
        return None if row is None else int(row[0])

    def sourced(self, topic_id: bytes, partition: int, begin: int, *, count: int) -> Iterator[list[Link]]:
        """Return the entries that stand for source offsets from one on, in their order, in blocks.

        Arguments:
            topic_id: UUID of the source topic.
            partition: The source partition.
            begin: The first offset.
            count: The most entries.

        Raises:
            StoreDamaged: A row is not what its entry and its payload say.
            StoreError: The store refuses.
            Unreachable: It does not answer.
        """
        return self._links(
            _SOURCED.format(
                partition=sql.Literal(partition),
                topic_id=sql.Literal(topic_id),
                begin=sql.Literal(begin),
                count=sql.Literal(count),
            )
        )

    def at(self, partition: int, places: Sequence[tuple[str, int]]) -> Iterator[list[Link]]:
        """Return the entries of a source partition at these chains and seqs, as far as there are any.

        Raises:
            StoreDamaged, StoreError, Unreachable: As :meth:`sourced`.
        """
        for begin in range(0, len(places), LOOKED_UP_MAX):
            part = places[begin : begin + LOOKED_UP_MAX]
            yield from self._links(
                _AT.format(
                    partition=sql.Literal(partition),
                    tenants=sql.Literal([tenant for tenant, _ in part]),
                    seqs=sql.Literal([seq for _, seq in part]),
                )
            )

    def sourceless(
        self, topic_id: bytes, partition: int, chain: str, begin: int, *, count: int
    ) -> Iterator[list[Link]]:
        """Return those entries of a partition's own chain that stand for no offset of their own.

        Arguments:
            topic_id: UUID of the source topic.
            partition: The source partition.
            chain: Its own chain.
            begin: The first seq that is looked at.
            count: How many seqs are looked at.

        Raises:
            StoreDamaged, StoreError, Unreachable: As :meth:`sourced`.
        """
        return self._links(
            _SOURCELESS.format(
                tenant=sql.Literal(chain),
                begin=sql.Literal(begin),
                end=sql.Literal(begin + count),
                partition=sql.Literal(partition),
                topic_id=sql.Literal(topic_id),
            )
        )

    def last_gap(self, topic_id: bytes, partition: int, chain: str) -> Link | None:
        """Return the last entry of a partition's own chain that declares a range of a topic lost.

        Raises:
            StoreDamaged, StoreError, Unreachable: As :meth:`sourced`.
        """
        query = _LAST_GAP.format(
            tenant=sql.Literal(chain), partition=sql.Literal(partition), topic_id=sql.Literal(topic_id)
        )
        return next((link for block in list(self._links(query)) for link in block), None)

    def entries(self, ranges: Iterable[ChainRange]) -> Iterator[StoredEntry]:
        """Return the entries of ranges of chains, unchecked and in no particular order.

        Raises:
            StoreError: The store refuses.
            Unreachable: It does not answer.
        """
        rest = iter(ranges)
        while part := list(islice(rest, LOOKED_UP_MAX)):
            query = _RANGES.format(
                tenants=sql.Literal([one.chain for one in part]),
                begins=sql.Literal([one.begin for one in part]),
                ends=sql.Literal([one.end for one in part]),
            )
            for block in self._copied(query):
                yield from map(_entry, block)

    def last_entries(self, places: Iterable[tuple[str, int]]) -> Iterator[tuple[str, bytes | None, bytes | None]]:
        """Return hash and bytes of the entries at these chains and seqs; ``None`` where there is none.

        Raises:
            StoreError: The store refuses.
            Unreachable: It does not answer.
        """
        rest = list(places)
        for begin in range(0, len(rest), LOOKED_UP_MAX):
            part = rest[begin : begin + LOOKED_UP_MAX]
            with STORE.translated():
                rows = self._connection.execute(
                    _LAST_ENTRIES, ([chain for chain, _ in part], [seq for _, seq in part]), binary=True
                ).fetchall()
            yield from ((chain, digest, entry) for chain, digest, entry in rows)

    def ends(self, sizes: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
        """Return behind which seq each chain ends, if it is looked at up to a size only.

        Raises:
            StoreError: The store refuses.
            Unreachable: It does not answer.
        """
        rest = iter(sizes)
        while part := list(islice(rest, LOOKED_UP_MAX)):
            with STORE.translated():
                rows = self._connection.execute(
                    _ENDS, ([chain for chain, _ in part], [size for _, size in part]), binary=True
                ).fetchall()
            yield from ((chain, int(end)) for chain, end in rows)

    def _links(self, query: sql.Composed) -> Iterator[list[Link]]:
        read = self._rows.read
        for block in self._copied(query):
            yield [read(row) for row in block]

    def _copied(self, query: sql.Composed) -> Iterator[list[CopyRow]]:
        # How long a copy takes depends on who takes the rows; how long the server is silent is limited instead.
        with STORE.translated():
            self._connection.execute("SET LOCAL statement_timeout = 0")
        yield from copy_rows(self._connection, query, timeout_seconds=self._timeout_seconds)
        with STORE.translated():
            self._connection.execute(
                sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(round(self._timeout_seconds * 1000)))
            )


def _entry(row: CopyRow) -> StoredEntry:
    """Return a row of tenant, seq, hash and entry."""
    at = 2
    values: list[bytes] = []
    for _ in StoredEntry._fields:
        size = int.from_bytes(row[at : at + 4], "big", signed=True)
        if size < 0 or at + 4 + size > len(row):
            raise StoreError(f"the store answers with a row of {len(row)} bytes that is none of those asked for")
        values.append(row[at + 4 : at + 4 + size])
        at += 4 + size
    chain, seq, digest, entry = values
    return StoredEntry(chain.decode(errors="replace"), int.from_bytes(seq, "big", signed=True), digest, entry)


def _require_all(connection: Connection) -> None:
    """Refuse a login that cannot see every chain: what it does not see would look as if it were gone.

    Raises:
        StoreError: It cannot.
    """
    with STORE.translated():
        row = connection.execute("SELECT row_security_active('sealstream.entries')").fetchone()
        if row == (False,):
            return
        row = connection.execute("SELECT EXISTS (SELECT FROM sealstream.reader_tenants WHERE tenant = '*')").fetchone()
    if row != (True,):
        raise StoreError(
            "the notary's login may not read all tenants of the store",
            hint="INSERT INTO sealstream.reader_tenants VALUES ('<its role>', '*')",
        )
