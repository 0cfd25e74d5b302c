"""Into the outbox through SQLAlchemy: sessions and connections, with any driver for PostgreSQL."""

from __future__ import annotations

from typing import Any, TypeAlias, Unpack, overload

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from sealstream.producers.event_fields import EventFields
from sealstream.producers.outbox.driver import OutboxBase, no_transaction
from sealstream.producers.outbox.row import OutboxRow
from sealstream.schemas.event import AuditEvent

Place: TypeAlias = Session | Connection


class SessionOutbox(OutboxBase):
    """The outbox in a session's or connection's transaction.

    With asyncio, let the session or connection call it: ``await session.run_sync(outbox.log, event)``.
    """

    @overload
    def log(self, session: Place, event: AuditEvent, /) -> OutboxRow: ...

    @overload
    def log(self, session: Place, /, **fields: Unpack[EventFields]) -> OutboxRow: ...

    def log(self, session: Place, event: AuditEvent | None = None, /, **fields: Any) -> OutboxRow:
        """Add an event to the transaction of a session or connection: it is published if that commits, and only then.

        Arguments:
            session: Session or connection.
            event: The event. Or give its fields by keyword, as for :meth:`sealstream.producers.AuditLog.log`.
            fields: See :class:`EventFields`.

        Returns:
            The row, with the event's id and digest.

        Raises:
            EventInvalid: The event breaks the model; nothing was sent to the database.
            ClientUnusable: The connection is in autocommit mode, and the event would commit by itself.
            sqlalchemy.exc.SQLAlchemyError: The database refuses; the transaction is then lost.
        """
        row = self._row(event, fields)
        connection = session.connection() if isinstance(session, Session) else session
        _check_transaction(connection)
        connection.execute(text(self.table.named_insert_sql), row.named_parameters)
        return row


def _check_transaction(connection: Connection) -> None:
    if getattr(connection.connection.dbapi_connection, "autocommit", False):
        raise no_transaction("use a session without isolation_level AUTOCOMMIT")
