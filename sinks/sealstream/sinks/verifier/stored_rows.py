"""The store's rows as the verifier reads them: with SQL of its own, in one snapshot, a bounded part at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sealstream.schemas.entry import Genesis, Kind, parse_epoch_payload
from sealstream.schemas.errors import ConfigError, EntryInvalid, StoreError, Unreachable
from sealstream.sinks.verifier.copying import Connection, copy_out
from sealstream.sinks.verifier.stored_chain import End, StoredChain, StoredRow
from sealstream.sinks.verifier.stored_copy import CopyRow
from sealstream.sinks.verifier.stored_ordinary import OrdinaryRows
from sealstream.sinks.verifier.stored_places import StorePlaces

ENTRIES_FETCHED: Final = 2_000
PAYLOADS_FETCHED_MIN: Final = 16
PAYLOADS_FETCHED_MAX: Final = 2_000
PAYLOAD_BYTES_FETCHED: Final = 8 * 1024 * 1024
"""About how many bytes of payloads are fetched at a time: a few large ones, or many small ones."""
_TABLES: Final = ("entries", "payloads", "tenant_heads")

_ENTRIES: Final = sql.SQL(
    'SELECT partition, seq, kind, topic_id, "offset", event_id, received, hash, entry'
    " FROM sealstream.entries WHERE tenant = %s AND seq BETWEEN %s AND %s ORDER BY seq, partition"
)
_PAYLOADS: Final = sql.SQL(
    "SELECT seq, bytes FROM sealstream.payloads WHERE tenant = %s AND seq BETWEEN %s AND %s ORDER BY seq"
)
# What COPY sends, in the order of stored_copy.COLUMNS. A payload that stands there twice makes two rows of its entry.
_JOINED: Final = sql.SQL(
    'SELECT e.tenant, e.seq, e.partition, e.kind, e.topic_id, e."offset", e.received, e.hash, e.event_id, e.entry,'
    " p.bytes"
    " FROM sealstream.entries AS e"
    " LEFT JOIN sealstream.payloads AS p ON p.tenant = e.tenant AND p.seq = e.seq AND {payload_place}"
    " WHERE {entry_place} ORDER BY e.tenant, e.seq, e.partition"
)
_EARLIER: Final = sql.SQL("SELECT e.entry FROM sealstream.entries AS e WHERE {place} ORDER BY e.seq, e.partition")
_RANGE: Final = sql.SQL("{table}.tenant = {tenant} AND {table}.seq BETWEEN {first} AND {last}")
_TENANTS_BETWEEN: Final = sql.SQL("{table}.tenant BETWEEN {first} AND {last}")
_PAYLOAD_ENDS: Final = sql.SQL(
    "SELECT w.tenant, (SELECT max(p.seq) FROM sealstream.payloads AS p"
    ' WHERE p.tenant = w.tenant COLLATE "C" AND p.seq > w.seq AND p.seq <= w.last)'
    " FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS w (tenant, seq, last)"
)
# A loose index scan: one look-up a tenant, not one a row.
_TENANTS: Final = sql.SQL(
    "WITH RECURSIVE found AS ("
    " (SELECT min(tenant) AS tenant FROM sealstream.{table})"
    " UNION ALL"
    " SELECT (SELECT min(t.tenant) FROM sealstream.{table} AS t WHERE t.tenant > found.tenant)"
    " FROM found WHERE found.tenant IS NOT NULL"
    ") SELECT tenant FROM found WHERE tenant IS NOT NULL"
)


class StoreReader:
    """Reads one snapshot of the store.

    Arguments:
        connection: A connection in a repeatable-read transaction.
        database_url: Where it leads to.
        timeout_seconds: How long the store may take for a single answer.
        snapshot: The name of the snapshot that it sees, if that is known.
    """

    def __init__(self, connection: Connection, database_url: str, timeout_seconds: float, snapshot: str) -> None:
        self._connection = connection
        self._url = database_url
        self._timeout_seconds = timeout_seconds
        self._snapshot = snapshot
        self._beside = ExitStack()
        self._second: StoreReader | None = None
        self._prepare()
        row = connection.execute("SELECT transaction_timestamp()").fetchone()
        assert row is not None
        self.as_of: datetime = row[0]

    def close(self) -> None:
        """Close what was opened beside the connection."""
        self._beside.close()

    def places(self) -> StorePlaces:
        """Return what can be asked of single places of this snapshot."""
        return StorePlaces(self._connection)

    def snapshot(self) -> str:
        """Return the name under which other connections can see what this one sees, for as long as it is open."""
        if not self._snapshot:
            row = self._connection.execute("SELECT pg_export_snapshot()").fetchone()
            assert row is not None
            self._snapshot = row[0]
        return self._snapshot

    @property
    def second(self) -> StoreReader:
        """A second connection to the same snapshot, for look-ups while rows are copied out of this one.

        It is opened when it is first needed, so the snapshot's name must have been asked for before any copying.
        """
        if self._second is None:
            self._second = self._beside.enter_context(
                open_store(self._url, timeout_seconds=self._timeout_seconds, snapshot=self._snapshot)
            )
        return self._second

    def _prepare(self) -> None:
        self._limit_statements()
        # It may rest in its transaction while other connections copy from its snapshot.
        self._connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        # Rows are read in the order of an index, entries and payloads side by side: a sort or a hash table would take
        # a whole chain at once, and a look-up of every single payload costs three times as much.
        for method in ("sort", "incremental_sort", "hashjoin", "nestloop"):
            self._connection.execute(sql.SQL("SET LOCAL {} = off").format(sql.Identifier(f"enable_{method}")))

    def _limit_statements(self) -> None:
        for name in ("statement_timeout", "lock_timeout"):
            self._connection.execute("SELECT set_config(%s, %s, true)", (name, _milliseconds(self._timeout_seconds)))

    def check_tables(self) -> None:
        """Refuse a database that has not what is to be verified.

        Raises:
            StoreError: A table is missing.
        """
        for table in _TABLES:
            row = self._connection.execute("SELECT to_regclass(%s)", (f"sealstream.{table}",)).fetchone()
            if row is None or row[0] is None:
                raise StoreError(f"the database has no table sealstream.{table}", hint="run sealstream migrate")

    def fingerprint(self) -> str:
        """Return what tells this store from every other one, and from a copy of it that was restored elsewhere."""
        row = self._connection.execute(
            "SELECT c.system_identifier, d.oid, 'sealstream.entries'::regclass::oid"
            " FROM pg_control_system() AS c, pg_database AS d WHERE d.datname = current_database()"
        ).fetchone()
        assert row is not None
        return "/".join(str(part) for part in row)

    def tenants(self) -> list[str]:
        """Return the chains that the store has anything of, in order."""
        found: set[str] = set()
        for table in _TABLES:
            query = _TENANTS.format(table=sql.Identifier(table))
            found.update(tenant for (tenant,) in self._connection.execute(query))
        return sorted(found)

    def ends(self) -> dict[str, End]:
        """Return where each chain ends by the table of heads."""
        rows = self._connection.execute("SELECT tenant, seq, hash FROM sealstream.tenant_heads", binary=True)
        return {tenant: End(seq, digest) for tenant, seq, digest in rows}

    def copied(self, tenant: str, first: int, last: int) -> Iterator[list[CopyRow]]:
        """Return a chain's rows with their payloads in order, as COPY sends them, in blocks.

        Arguments:
            tenant: The chain.
            first: The first seq.
            last: The last seq.
        """
        values = {"tenant": sql.Literal(tenant), "first": sql.Literal(first), "last": sql.Literal(last)}
        return self._copied(_RANGE, values)

    def copied_between(self, first: str, last: str) -> Iterator[list[CopyRow]]:
        """Return the rows of all chains from one to another, as :meth:`copied` does."""
        return self._copied(_TENANTS_BETWEEN, {"first": sql.Literal(first), "last": sql.Literal(last)})

    def _copied(self, place: sql.SQL, values: dict[str, sql.Literal]) -> Iterator[list[CopyRow]]:
        return self._copy(
            _JOINED.format(
                entry_place=place.format(table=sql.Identifier("e"), **values),
                payload_place=place.format(table=sql.Identifier("p"), **values),
            )
        )

    def _copy(self, query: sql.Composed) -> Iterator[list[CopyRow]]:
        # How long a copy takes depends on who takes the rows.
        self._connection.execute("SET LOCAL statement_timeout = 0")
        with _translated():
            yield from copy_out(self._connection, query, timeout_seconds=self._timeout_seconds)
        self._limit_statements()

    def payload_ends(self, places: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        """Return where payloads stand behind a chain's last entry: the seq of the last one.

        Arguments:
            places: By chain, the seq of its last entry, and the last seq that is looked for.
        """
        seqs, lasts = [seq for seq, _ in places.values()], [last for _, last in places.values()]
        rows = self._connection.execute(_PAYLOAD_ENDS, (list(places), seqs, lasts))
        return {tenant: seq for tenant, seq in rows if seq is not None}

    def rows(self, tenant: str, first: int, last: int, chain: StoredChain) -> Iterator[StoredRow]:
        """Return a chain's rows in order, each with its payload.

        Arguments:
            tenant: The chain.
            first: The first seq.
            last: The last seq.
            chain: Told of payloads that stand without an entry.
        """
        place = (tenant, first, last)
        with (
            self._connection.cursor("entries", binary=True) as entries,
            self._connection.cursor("payloads", binary=True) as payloads,
        ):
            entries.execute(_ENTRIES, place)
            payloads.execute(_PAYLOADS, place)
            rest = _payloads(payloads)
            payload = next(rest, None)
            while batch := entries.fetchmany(ENTRIES_FETCHED):
                for row in batch:
                    seq = row[1]
                    while payload is not None and payload[0] < seq:
                        chain.orphan(payload[0])
                        payload = next(rest, None)
                    value, count = None, 0
                    while payload is not None and payload[0] == seq:
                        value, count = payload[1], count + 1
                        payload = next(rest, None)
                    yield StoredRow._make((*row, value, count))
            while payload is not None:
                chain.orphan(payload[0])
                payload = next(rest, None)

    def genesis(self, tenant: str, first: int) -> Genesis | None:
        """Return what a chain pins at a seq, if the genesis or epoch before that is there and says so."""
        seq = self._pinned_at(tenant, first)
        row = self._connection.execute(
            "SELECT bytes FROM sealstream.payloads WHERE tenant = %s AND seq = %s", (tenant, seq), binary=True
        ).fetchone()
        try:
            if row is None:
                return None
            return Genesis.parse(row[0]) if seq == 0 else parse_epoch_payload(row[0])[0]
        except EntryInvalid:  # verified, and reported, by whoever verifies the chain from its beginning
            return None

    def _pinned_at(self, tenant: str, first: int) -> int:
        """Return the seq of the last genesis or epoch before an entry; nearly always that of the genesis."""
        topics = self._connection.execute(
            "SELECT DISTINCT topic_id FROM sealstream.entries WHERE tenant = %s AND seq IN (0, %s)", (tenant, first - 1)
        ).fetchall()
        if len(topics) < 2:  # topics change only with an epoch
            return 0
        row = self._connection.execute(
            "SELECT max(seq) FROM sealstream.entries WHERE tenant = %s AND seq < %s AND kind = %s",
            (tenant, first, int(Kind.EPOCH)),
        ).fetchone()
        return 0 if row is None or row[0] is None else int(row[0])

    def entry_within(self, partition: int, topic_id: bytes, first: int, last: int) -> tuple[str, int] | None:
        """Return chain and seq of an entry that stands for a source record of a range of offsets, if there is one."""
        row = self._connection.execute(
            "SELECT tenant, seq FROM sealstream.entries WHERE topic_id = %s AND partition = %s"
            ' AND "offset" BETWEEN %s AND %s AND kind NOT IN (0, 7, 8) LIMIT 1',
            (topic_id, partition, first, last),
        ).fetchone()
        return None if row is None else (row[0], row[1])

    def fill_window(self, chain: StoredChain, first: int, window_offsets: int) -> None:
        """Let a chain that is checked from its middle know which entries its first ones can repeat."""
        place = _RANGE.format(
            table=sql.Identifier("e"),
            tenant=sql.Literal(chain.tenant),
            first=sql.Literal(max(0, first - window_offsets)),
            last=sql.Literal(first - 1),
        )
        ordinary = OrdinaryRows(chain)
        for rows in self._copy(_EARLIER.format(place=place)):
            ordinary.remember(rows)


def _payloads(cursor: psycopg.ServerCursor[tuple[Any, ...]]) -> Iterator[Sequence[Any]]:
    """Return a cursor's payloads, fetching so many at a time that their bytes stay bounded."""
    count = PAYLOADS_FETCHED_MIN
    while batch := cursor.fetchmany(count):
        size_bytes = sum(len(row[1]) for row in batch)
        yield from batch
        average = max(1, size_bytes // len(batch))
        wanted = min(PAYLOADS_FETCHED_MAX, PAYLOAD_BYTES_FETCHED // average)
        count = max(PAYLOADS_FETCHED_MIN, min(wanted, 4 * count))


@contextmanager
def open_store(database_url: str, *, timeout_seconds: float, snapshot: str = "") -> Generator[StoreReader]:
    """Open a snapshot of the store, which no later change reaches.

    Arguments:
        database_url: The store, as somebody who may read what is to be verified.
        timeout_seconds: How long connecting, and each single query or fetch, may take.
        snapshot: The name of another connection's snapshot, to see what that sees; empty for one of its own.

    Raises:
        ConfigError: The URL cannot be understood.
        StoreError: The store refuses.
        Unreachable: PostgreSQL does not answer.
    """
    defaults = {
        "application_name": "sealstream-verify",
        "connect_timeout": str(max(2, round(timeout_seconds))),
        "tcp_user_timeout": _milliseconds(timeout_seconds),
    }
    try:
        info = make_conninfo(database_url, **(defaults | conninfo_to_dict(database_url)))
    except psycopg.ProgrammingError:  # its message would repeat the URL, password included
        raise ConfigError("the store's URL cannot be understood", hint="postgresql://user@host:5432/database") from None
    with _translated(), psycopg.connect(info) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        if snapshot:  # before anything else is asked
            connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
        reader = StoreReader(connection, database_url, timeout_seconds, snapshot)
        try:
            yield reader
        finally:
            reader.close()


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000))


@contextmanager
def _translated() -> Generator[None]:
    """Raise PostgreSQL's errors as this project's."""
    try:
        yield
    except psycopg.Error as error:
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, errors.InsufficientPrivilege):
            raise StoreError(f"the store refuses: {text}", hint="read it as a role with sealstream_reader") from error
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            raise Unreachable(f"PostgreSQL does not answer: {text}", hint="check SEALSTREAM_DATABASE") from error
        raise StoreError(f"the store refuses: {text}") from error
