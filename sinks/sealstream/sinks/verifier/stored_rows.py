"""The store's rows as the verifier reads them: with SQL of its own, in one snapshot, a bounded part at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sealstream.schemas.entry import Genesis, Kind, parse, parse_epoch_payload
from sealstream.schemas.errors import ConfigError, EntryInvalid, StoreError, Unreachable
from sealstream.sinks.verifier.stored_chain import End, StoredChain, StoredRow

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

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
# A loose index scan: one look-up a tenant, not one a row.
_TENANTS: Final = sql.SQL(
    "WITH RECURSIVE found AS ("
    " (SELECT min(tenant) AS tenant FROM sealstream.{table})"
    " UNION ALL"
    " SELECT (SELECT min(t.tenant) FROM sealstream.{table} AS t WHERE t.tenant > found.tenant)"
    " FROM found WHERE found.tenant IS NOT NULL"
    ") SELECT tenant FROM found WHERE tenant IS NOT NULL"
)
SEQ_MAX: Final = 2**63 - 1


class StoreReader:
    """Reads one snapshot of the store.

    Arguments:
        connection: A connection in a repeatable-read transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        row = connection.execute("SELECT transaction_timestamp()").fetchone()
        assert row is not None
        self.as_of: datetime = row[0]

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
        place = (chain.tenant, max(0, first - window_offsets), first - 1)
        with self._connection.cursor("earlier", binary=True) as cursor:
            cursor.execute(_ENTRIES, place)
            while batch := cursor.fetchmany(ENTRIES_FETCHED):
                for row in batch:
                    try:
                        chain.remember(parse(row[-1]))
                    except EntryInvalid:
                        continue  # not in the range to be checked


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
def open_store(database_url: str, *, timeout_seconds: float) -> Generator[StoreReader]:
    """Open a snapshot of the store, which no later change reaches.

    Arguments:
        database_url: The store, as somebody who may read what is to be verified.
        timeout_seconds: How long connecting, and each single query or fetch, may take.

    Raises:
        ConfigError: The URL cannot be understood.
        StoreError: The store refuses.
        Unreachable: PostgreSQL does not answer.
    """
    milliseconds = str(int(timeout_seconds * 1000))
    defaults = {
        "application_name": "sealstream-verify",
        "connect_timeout": str(max(2, round(timeout_seconds))),
        "tcp_user_timeout": milliseconds,
    }
    try:
        info = make_conninfo(database_url, **(defaults | conninfo_to_dict(database_url)))
    except psycopg.ProgrammingError:  # its message would repeat the URL, password included
        raise ConfigError("the store's URL cannot be understood", hint="postgresql://user@host:5432/database") from None
    with _translated(), psycopg.connect(info) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        for name in ("statement_timeout", "lock_timeout"):
            connection.execute("SELECT set_config(%s, %s, true)", (name, milliseconds))
        # Rows are read in the order of an index; a sort would take the whole chain at once.
        connection.execute("SET LOCAL enable_sort = off")
        yield StoreReader(connection)


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
