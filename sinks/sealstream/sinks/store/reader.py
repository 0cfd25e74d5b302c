"""The reader of the store, for applications, the command line and the query API: read-only, as a reader's login.

``AuditStore`` and ``AsyncAuditStore`` are two thin fronts of one core (:mod:`~sealstream.sinks.store.queries`,
:mod:`~sealstream.sinks.store.chain_check`) with the same names::

    with AuditStore("postgresql://auditor@db/audit") as store:
        assert store.verify_chain("acme").is_valid
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, Final, Self

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from sealstream.schemas.errors import StoreError
from sealstream.sinks.store import queries
from sealstream.sinks.store.chain_check import ChainCheck
from sealstream.sinks.store.database import connect, conninfo, translate
from sealstream.sinks.store.migrate import require_current
from sealstream.sinks.store.queries import Search
from sealstream.sinks.store.results import ChainVerification, EventProof, EventProofs, SearchPage, TenantHead

CONNECTIONS_MAX: Final = 4
WAITING_MAX: Final = 100
CHAIN_ROWS: Final = 1_000
"""How many rows of a chain are in memory at a time."""
PROOFS_MAX: Final = 100
_APPLICATION: Final = "sealstream-reader"

_Connection = psycopg.Connection[tuple[Any, ...]]
_AsyncConnection = psycopg.AsyncConnection[tuple[Any, ...]]


class AuditStore:
    """Reads the store from threads.

    Connections are opened when they are needed and kept for a while. Close it, or use it as a context manager.

    Arguments:
        database_url: The store, as a login that is granted ``sealstream_reader``; it sees the tenants that
            ``sealstream.reader_tenants`` gives to it.
        timeout_seconds: How long to wait for the server, and for a free connection.
        statement_timeout_seconds: After this the server gives up on a question, or on a part of a long answer.
    """

    def __init__(
        self, database_url: str, *, timeout_seconds: float = 10.0, statement_timeout_seconds: float = 30.0
    ) -> None:
        self._url = database_url
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._opened = False
        settings = _session(statement_timeout_seconds)

        def configure(connection: _Connection) -> None:
            connection.read_only = True
            connection.execute(settings)
            connection.commit()

        self._pool: ConnectionPool[_Connection] = ConnectionPool(
            conninfo(database_url, application=_APPLICATION, timeout_seconds=timeout_seconds),
            min_size=0,
            max_size=CONNECTIONS_MAX,
            max_waiting=WAITING_MAX,
            timeout=timeout_seconds,
            reconnect_timeout=timeout_seconds,
            configure=configure,
            check=ConnectionPool.check_connection,
            open=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def verify_chain(self, tenant: str) -> ChainVerification:
        """Verify a tenant's whole chain as it is stored, with its payloads, in constant memory.

        Raises:
            StoreError: This login sees no entries of the tenant, or the store cannot be used.
            Unreachable: PostgreSQL does not answer.
        """
        check = ChainCheck(tenant)
        with self._connection() as connection:
            as_of = _moment(connection.execute("SELECT now()").fetchone())
            with connection.cursor("chain", scrollable=False) as cursor:
                cursor.execute(queries.CHAIN, {"tenant": tenant}, binary=True)
                while rows := cursor.fetchmany(CHAIN_ROWS):
                    check.add(rows)
        return check.result(as_of)

    def get_event_proof(self, tenant: str, event_id: str, *, limit: int = PROOFS_MAX) -> EventProofs:
        """Return every record of an event in its tenant's chain, each found to hold together as it is stored.

        It is found by the stored column; that a column was not edited is what :meth:`verify_chain` shows.

        Raises:
            StoreDamaged: A stored row does not hold together; names tenant and seq.
            StoreError: The limit is out of range, or the store cannot be used.
            Unreachable: PostgreSQL does not answer.
        """
        queries.check_limit(limit)
        arguments = {"tenant": tenant, "event_id": event_id, "limit": limit + 1}
        return queries.proofs(self._rows(queries.PROOFS, arguments), limit)

    def get_record(self, tenant: str, seq: int) -> EventProof:
        """Return the record at a place of a chain, of whatever kind, found to hold together as it is stored.

        Raises:
            StoreDamaged: The stored row does not hold together.
            StoreError: This login sees no such entry, or the store cannot be used.
            Unreachable: PostgreSQL does not answer.
        """
        return queries.one_record(self._rows(queries.RECORD, {"tenant": tenant, "seq": seq}), tenant, seq)

    def records(self, tenant: str, first_seq: int, last_seq: int) -> Generator[EventProof]:
        """Yield the records of a part of a chain in its order, both ends included, in constant memory.

        Whether one is missing or comes twice is for the caller to see.

        Raises:
            StoreDamaged: A stored row does not hold together; names tenant and seq.
            StoreError: The store cannot be used.
            Unreachable: PostgreSQL does not answer.
        """
        arguments = {"tenant": tenant, "first_seq": first_seq, "last_seq": last_seq}
        with self._connection() as connection, connection.cursor("records", scrollable=False) as cursor:
            cursor.execute(queries.RECORDS, arguments, binary=True)
            while rows := cursor.fetchmany(CHAIN_ROWS):
                yield from map(queries.record, rows)

    def seqs_between(
        self, tenant: str, since: datetime | None, until: datetime | None
    ) -> tuple[int | None, int | None]:
        """Return the first entry received at a time or later, and the last one received before another time.

        Every record that was received between the two lies between them; as a broker's times may step back, others may
        as well. It takes time in proportion to the entries that are passed over.

        Arguments:
            tenant: The chain.
            since: The first one is looked for from then on; ``None`` if it is not.
            until: The last one is looked for before then; ``None`` if it is not.

        Returns:
            Their seqs; ``None`` for what was not looked for, or is not there.

        Raises:
            StoreError: A time has no zone, or the store cannot be used.
            Unreachable: PostgreSQL does not answer, or did not finish in time.
        """
        asked = queries.between(tenant, since, until)
        first, last = ([] if one is None else self._rows(*one) for one in asked)
        return queries.number(first), queries.number(last)

    def search(
        self,
        *,
        tenant: str,
        actor: str | None = None,
        action: str | None = None,
        target: str | None = None,
        outcome: str | None = None,
        request_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        occurred_since: datetime | None = None,
        occurred_until: datetime | None = None,
        text: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> SearchPage:
        """Return a page of a tenant's events, newest first; :class:`~sealstream.sinks.store.queries.Search` says more.

        Raises:
            StoreError: A condition is out of range, or the store cannot be used.
            Unreachable: PostgreSQL does not answer, or did not finish in time.
        """
        search = Search(
            tenant=tenant,
            actor=actor,
            action=action,
            target=target,
            outcome=outcome,
            request_id=request_id,
            since=since,
            until=until,
            occurred_since=occurred_since,
            occurred_until=occurred_until,
            text=text,
            limit=limit,
            cursor=cursor,
        )
        query = search.query()
        behind = self._rows(queries.SEARCHED_UNTIL, {"tenant": tenant})
        return search.page(self._rows(*query), behind)

    def tenants(self, *, after: str = "", limit: int = queries.LIMIT_MAX) -> tuple[TenantHead, ...]:
        """Return the chains that this login sees and where each ends, by name; ``after`` begins behind a name.

        Raises:
            StoreError: The limit is out of range, or the store cannot be used.
            Unreachable: PostgreSQL does not answer.
        """
        queries.check_limit(limit)
        return tuple(TenantHead(*row) for row in self._rows(queries.HEADS, {"after": after, "limit": limit}))

    def tenants_of_event(self, event_id: str, *, limit: int = 10) -> tuple[str, ...]:
        """Return the tenants that have a record with this id, for those who know the id alone.

        It looks each tenant up, so it takes longer the more tenants this login sees.

        Raises:
            StoreError: The limit is out of range, or the store cannot be used.
            Unreachable: PostgreSQL does not answer, or did not finish in time.
        """
        queries.check_limit(limit)
        return queries.names(self._rows(queries.TENANTS_OF_EVENT, {"event_id": event_id, "limit": limit}))

    def _rows(self, query: sql.Composed | sql.SQL, arguments: queries.Parameters) -> list[tuple[Any, ...]]:
        with self._connection() as connection:
            return connection.execute(query, arguments, binary=True).fetchall()

    @contextmanager
    def _connection(self) -> Generator[_Connection]:
        self._open()
        try:
            with self._pool.connection() as connection:
                yield connection
        except psycopg.Error as error:
            raise translate(error) from error

    def _open(self) -> None:
        """Open the pool at the first use, behind a connection that says in words why it cannot be had."""
        with self._lock:
            if self._opened:
                return
            with connect(self._url, application=_APPLICATION, timeout_seconds=self._timeout_seconds) as connection:
                require_current(connection)
            self._pool.open()
            self._opened = True


class AsyncAuditStore:
    """Reads the store from asyncio; the twin of :class:`AuditStore`, with its arguments, results and errors.

    Use one in one event loop.
    """

    def __init__(
        self, database_url: str, *, timeout_seconds: float = 10.0, statement_timeout_seconds: float = 30.0
    ) -> None:
        self._url = database_url
        self._timeout_seconds = timeout_seconds
        self._lock = asyncio.Lock()
        self._opened = False
        settings = _session(statement_timeout_seconds)

        async def configure(connection: _AsyncConnection) -> None:
            await connection.set_read_only(True)
            await connection.execute(settings)
            await connection.commit()

        self._pool: AsyncConnectionPool[_AsyncConnection] = AsyncConnectionPool(
            conninfo(database_url, application=_APPLICATION, timeout_seconds=timeout_seconds),
            min_size=0,
            max_size=CONNECTIONS_MAX,
            max_waiting=WAITING_MAX,
            timeout=timeout_seconds,
            reconnect_timeout=timeout_seconds,
            configure=configure,
            check=AsyncConnectionPool.check_connection,
            open=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    async def verify_chain(self, tenant: str) -> ChainVerification:
        """Verify a tenant's whole chain: see :meth:`AuditStore.verify_chain`."""
        check = ChainCheck(tenant)
        async with self._connection() as connection:
            as_of = _moment(await (await connection.execute("SELECT now()")).fetchone())
            async with connection.cursor("chain", scrollable=False) as cursor:
                await cursor.execute(queries.CHAIN, {"tenant": tenant}, binary=True)
                while rows := await cursor.fetchmany(CHAIN_ROWS):
                    check.add(rows)
        return check.result(as_of)

    async def get_event_proof(self, tenant: str, event_id: str, *, limit: int = PROOFS_MAX) -> EventProofs:
        """Return every record of an event: see :meth:`AuditStore.get_event_proof`."""
        queries.check_limit(limit)
        arguments = {"tenant": tenant, "event_id": event_id, "limit": limit + 1}
        return queries.proofs(await self._rows(queries.PROOFS, arguments), limit)

    async def get_record(self, tenant: str, seq: int) -> EventProof:
        """Return the record at a place of a chain: see :meth:`AuditStore.get_record`."""
        return queries.one_record(await self._rows(queries.RECORD, {"tenant": tenant, "seq": seq}), tenant, seq)

    async def records(self, tenant: str, first_seq: int, last_seq: int) -> AsyncGenerator[EventProof]:
        """Yield the records of a part of a chain: see :meth:`AuditStore.records`."""
        arguments = {"tenant": tenant, "first_seq": first_seq, "last_seq": last_seq}
        async with self._connection() as connection, connection.cursor("records", scrollable=False) as cursor:
            await cursor.execute(queries.RECORDS, arguments, binary=True)
            while rows := await cursor.fetchmany(CHAIN_ROWS):
                for row in rows:
                    yield queries.record(row)

    async def seqs_between(
        self, tenant: str, since: datetime | None, until: datetime | None
    ) -> tuple[int | None, int | None]:
        """Return between which entries a span of time lies: see :meth:`AuditStore.seqs_between`."""
        asked = queries.between(tenant, since, until)
        first, last = [[] if one is None else await self._rows(*one) for one in asked]
        return queries.number(first), queries.number(last)

    async def search(
        self,
        *,
        tenant: str,
        actor: str | None = None,
        action: str | None = None,
        target: str | None = None,
        outcome: str | None = None,
        request_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        occurred_since: datetime | None = None,
        occurred_until: datetime | None = None,
        text: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> SearchPage:
        """Return a page of a tenant's events, newest first: see :meth:`AuditStore.search`."""
        search = Search(
            tenant=tenant,
            actor=actor,
            action=action,
            target=target,
            outcome=outcome,
            request_id=request_id,
            since=since,
            until=until,
            occurred_since=occurred_since,
            occurred_until=occurred_until,
            text=text,
            limit=limit,
            cursor=cursor,
        )
        query = search.query()
        behind = await self._rows(queries.SEARCHED_UNTIL, {"tenant": tenant})
        return search.page(await self._rows(*query), behind)

    async def tenants(self, *, after: str = "", limit: int = queries.LIMIT_MAX) -> tuple[TenantHead, ...]:
        """Return the chains that this login sees: see :meth:`AuditStore.tenants`."""
        queries.check_limit(limit)
        return tuple(TenantHead(*row) for row in await self._rows(queries.HEADS, {"after": after, "limit": limit}))

    async def tenants_of_event(self, event_id: str, *, limit: int = 10) -> tuple[str, ...]:
        """Return the tenants that have a record with this id: see :meth:`AuditStore.tenants_of_event`."""
        queries.check_limit(limit)
        return queries.names(await self._rows(queries.TENANTS_OF_EVENT, {"event_id": event_id, "limit": limit}))

    async def _rows(self, query: sql.Composed | sql.SQL, arguments: queries.Parameters) -> list[tuple[Any, ...]]:
        async with self._connection() as connection:
            return await (await connection.execute(query, arguments, binary=True)).fetchall()

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[_AsyncConnection]:
        await self._open()
        try:
            async with self._pool.connection() as connection:
                yield connection
        except psycopg.Error as error:
            raise translate(error) from error

    async def _open(self) -> None:
        async with self._lock:
            if self._opened:
                return
            await asyncio.to_thread(self._probe)
            await self._pool.open()
            self._opened = True

    def _probe(self) -> None:
        with connect(self._url, application=_APPLICATION, timeout_seconds=self._timeout_seconds) as connection:
            require_current(connection)


def _session(statement_timeout_seconds: float) -> sql.Composed:
    timeout = sql.Literal(f"{round(statement_timeout_seconds * 1000)}ms")
    return sql.SQL("SET statement_timeout = {}; SET timezone = 'UTC'").format(timeout)


def _moment(row: tuple[Any, ...] | None) -> datetime:
    if row is None or not isinstance(row[0], datetime):
        raise StoreError("PostgreSQL does not say what time it is")
    return row[0]
