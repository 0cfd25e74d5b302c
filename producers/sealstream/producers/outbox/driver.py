"""Into the outbox through a PostgreSQL driver: psycopg 3, its asyncio connections, psycopg2.

None of them is imported: what they have in common is DB-API's ``execute``.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final, Protocol, TypeAlias, Unpack, overload

from sealstream.producers.event_fields import EventFields
from sealstream.producers.outbox.row import OutboxRow, make_row
from sealstream.producers.outbox.table import DEFAULT_TABLE, OutboxTable
from sealstream.schemas.errors import ClientUnusable
from sealstream.schemas.event import AuditEvent

_IDLE: Final = 0
"""libpq's PQTRANS_IDLE: no transaction is open."""


class Executing(Protocol):
    """What runs a statement: a connection of psycopg, or a cursor of any driver."""

    def execute(self, query: Any, params: Any, /) -> Any:
        """Run it."""
        ...


class Connecting(Protocol):
    """A connection of a driver whose cursors run statements: psycopg2."""

    def cursor(self) -> Any:
        """Return a cursor."""
        ...


class AsyncExecuting(Protocol):
    """What runs a statement in an event loop: an asyncio connection or cursor of psycopg."""

    def execute(self, query: Any, params: Any, /) -> Awaitable[Any]:
        """Run it."""
        ...


Place: TypeAlias = Executing | Connecting


class OutboxBase:
    """What every way into the outbox has in common: the table, and how events are written.

    Arguments:
        table: The table, with its schema if it needs one.
        schema_id: The id of the AuditEvent schema in a registry, for Confluent's framing; without it, values are in
            Avro's single-object encoding.

    Raises:
        ConfigError: The name can be no outbox table's.
    """

    def __init__(self, *, table: str = DEFAULT_TABLE, schema_id: int | None = None) -> None:
        self.table = OutboxTable(table)
        self._schema_id = schema_id

    def _row(self, event: AuditEvent | None, fields: Any) -> OutboxRow:
        return make_row(self.table, event, fields, schema_id=self._schema_id)


class Outbox(OutboxBase):
    """The outbox for threads, with psycopg or psycopg2."""

    @overload
    def log(self, connection: Place, event: AuditEvent, /) -> OutboxRow: ...

    @overload
    def log(self, connection: Place, /, **fields: Unpack[EventFields]) -> OutboxRow: ...

    def log(self, connection: Place, event: AuditEvent | None = None, /, **fields: Any) -> OutboxRow:
        """Add an event to the caller's transaction: it is published if that commits, and only then.

        Arguments:
            connection: The connection, or a cursor of it, that has the transaction.
            event: The event. Or give its fields by keyword, as for :meth:`sealstream.producers.AuditLog.log`.
            fields: See :class:`EventFields`.

        Returns:
            The row, with the event's id and digest.

        Raises:
            EventInvalid: The event breaks the model; nothing was sent to the database.
            ClientUnusable: No transaction is open, and the event would commit by itself.
            Exception: What the driver raises; the transaction is then lost, as with any statement that fails.
        """
        row = self._row(event, fields)
        check_transaction(connection)
        place: Any = connection
        if hasattr(place, "execute"):
            place.execute(self.table.insert_sql, row.parameters)
            return row
        with place.cursor() as cursor:
            cursor.execute(self.table.insert_sql, row.parameters)
        return row


class AsyncOutbox(OutboxBase):
    """The outbox for asyncio, with psycopg."""

    @overload
    async def log(self, connection: AsyncExecuting, event: AuditEvent, /) -> OutboxRow: ...

    @overload
    async def log(self, connection: AsyncExecuting, /, **fields: Unpack[EventFields]) -> OutboxRow: ...

    async def log(self, connection: AsyncExecuting, event: AuditEvent | None = None, /, **fields: Any) -> OutboxRow:
        """Add an event to the caller's transaction: :meth:`Outbox.log` for asyncio."""
        row = self._row(event, fields)
        check_transaction(connection)
        await connection.execute(self.table.insert_sql, row.parameters)
        return row


def check_transaction(place: Any) -> None:
    """Refuse a connection of psycopg or psycopg2 that would commit an event by itself.

    Raises:
        ClientUnusable: It is in autocommit mode, and no transaction is open.
    """
    connection = getattr(place, "connection", place)
    if not getattr(connection, "autocommit", False):
        return
    pipelined = getattr(getattr(connection, "pgconn", None), "pipeline_status", 0)
    info = getattr(connection, "info", None)
    # Within a pipeline the server has not yet said that a transaction began.
    if not pipelined and getattr(info, "transaction_status", _IDLE) == _IDLE:
        raise no_transaction("begin one: with connection.transaction(): ...")


def no_transaction(hint: str) -> ClientUnusable:
    """Return the error for an event that would not commit together with anything."""
    return ClientUnusable("no transaction is open: the event would commit by itself", hint=hint)
