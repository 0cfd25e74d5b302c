"""Setting an outbox up, and looking at it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sealstream.producers.outbox.table import OutboxTable
from sealstream.producers.relay.database import OUTBOX_DATABASE, Backlog, check_table
from sealstream.producers.relay.statements import Statements
from sealstream.worker.postgres_session import Connection

_APPLICATION = "sealstream-outbox"


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row that the relay has set aside.

    Arguments:
        id: The row's id.
        tenant: Its aggregate id.
        reason: Why.
        inserted_at: When it was inserted.
    """

    id: str
    tenant: str
    reason: str
    inserted_at: datetime


@dataclass(frozen=True, slots=True)
class Server:
    """A relay that has served shards of the table.

    Arguments:
        relay: Its name.
        served_at: When it last did.
        shards: How many shards it was the last to serve.
    """

    relay: str
    served_at: datetime
    shards: int


@dataclass(frozen=True, slots=True)
class Status:
    """How an outbox is.

    Arguments:
        backlog: What waits.
        kept: Published rows that are kept; at most 1,000,000 are counted.
        set_aside: The oldest rows that are set aside, 100 at most.
        relays: Who has served it.
    """

    backlog: Backlog
    kept: int
    set_aside: tuple[SetAside, ...]
    relays: tuple[Server, ...]


def init(url: str, table: OutboxTable, script: str, *, timeout_seconds: float) -> None:
    """Create the table and what belongs to it, in one transaction; safe to do again.

    Arguments:
        url: A PostgreSQL URL of a login that may create tables there.
        table: The table.
        script: The SQL, as :meth:`OutboxTable.create_sql` and :meth:`OutboxTable.grant_sql` give it.
        timeout_seconds: How long each statement may take.

    Raises:
        ConfigError: The URL cannot be understood.
        StoreError: The server refuses, or a table of that name is there and is another one.
        Unreachable: The server is away.
    """
    with _connect(url, timeout_seconds) as connection, OUTBOX_DATABASE.translated(), connection.transaction():
        connection.execute(script.encode())
        check_table(connection, table)


def status(url: str, table: OutboxTable, *, timeout_seconds: float) -> Status:
    """Return how an outbox is.

    Raises:
        ConfigError: The URL cannot be understood.
        StoreError: The server refuses, or the table is not as it must be.
        Unreachable: The server is away.
    """
    statements = Statements(table)
    with _connect(url, timeout_seconds) as connection:
        check_table(connection, table)
        with OUTBOX_DATABASE.translated():
            measured = connection.execute(statements.measure).fetchone()
            [kept] = connection.execute(statements.kept).fetchone() or (0,)
            set_aside = tuple(SetAside(*row) for row in connection.execute(statements.refused))
            relays = tuple(Server(*row) for row in connection.execute(statements.relays))
    assert measured is not None
    return Status(Backlog(*measured), kept, set_aside, relays)


def _connect(url: str, timeout_seconds: float) -> Connection:
    return OUTBOX_DATABASE.connect(url, application=_APPLICATION, timeout_seconds=timeout_seconds)
