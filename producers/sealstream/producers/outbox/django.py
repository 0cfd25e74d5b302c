"""Into the outbox through Django's database connections (PostgreSQL)."""

from __future__ import annotations

from typing import Any, Unpack, cast, overload

from django.db import DEFAULT_DB_ALIAS, connections  # type: ignore[import-untyped]  # Django has no types

from sealstream.producers.event_fields import EventFields
from sealstream.producers.outbox.driver import OutboxBase, no_transaction
from sealstream.producers.outbox.row import OutboxRow
from sealstream.producers.outbox.table import DEFAULT_TABLE
from sealstream.schemas.event import AuditEvent


class DjangoOutbox(OutboxBase):
    """The outbox in the transaction of a Django database.

    Arguments:
        using: The database's alias.
        table: The table, with its schema if it needs one.
        schema_id: The id of the AuditEvent schema in a registry, for Confluent's framing.
    """

    def __init__(
        self, *, using: str = DEFAULT_DB_ALIAS, table: str = DEFAULT_TABLE, schema_id: int | None = None
    ) -> None:
        super().__init__(table=table, schema_id=schema_id)
        self._using = using

    @overload
    def log(self, event: AuditEvent, /) -> OutboxRow: ...

    @overload
    def log(self, /, **fields: Unpack[EventFields]) -> OutboxRow: ...

    def log(self, event: AuditEvent | None = None, /, **fields: Any) -> OutboxRow:
        """Add an event to the transaction that is open: it is published if that commits, and only then.

        Arguments:
            event: The event. Or give its fields by keyword, as for :meth:`sealstream.producers.AuditLog.log`.
            fields: See :class:`EventFields`.

        Returns:
            The row, with the event's id and digest.

        Raises:
            EventInvalid: The event breaks the model; nothing was sent to the database.
            ClientUnusable: There is no ``atomic`` block around, and the event would commit by itself.
            django.db.DatabaseError: The database refuses; the transaction is then lost.
        """
        row = self._row(event, fields)
        connection = cast("Any", connections[self._using])
        if not connection.in_atomic_block and connection.get_autocommit():
            raise no_transaction("begin one: with transaction.atomic(): ...")
        with connection.cursor() as cursor:
            cursor.execute(self.table.insert_sql, row.parameters)
        return row
