"""Events in the application's own transaction: the outbox table and what inserts into it.

::

    outbox = Outbox()
    with connection.transaction():
        connection.execute("UPDATE document SET ...")
        outbox.log(connection, tenant="acme", actor="user:42", action="document.updated", target="document:7")

For SQLAlchemy and Django there are :mod:`sealstream.producers.outbox.sqlalchemy` and
:mod:`sealstream.producers.outbox.django`; nothing of theirs is imported otherwise.
"""

from __future__ import annotations

from sealstream.producers.outbox.driver import AsyncOutbox, Outbox
from sealstream.producers.outbox.row import OutboxRow
from sealstream.producers.outbox.table import DEFAULT_TABLE, OutboxTable

__all__ = ["DEFAULT_TABLE", "AsyncOutbox", "Outbox", "OutboxRow", "OutboxTable"]
