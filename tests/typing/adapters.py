"""The public calls of adapters and outbox as applications write them: checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Awaitable, MutableMapping
from typing import Any, Protocol, assert_type

import psycopg
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, sessionmaker

from sealstream.producers import Actor, AuditEvent, AuditLog, Context, SyncAuditLog
from sealstream.producers.adapters.asgi import AuditMiddleware, Receive, Send
from sealstream.producers.adapters.audited import audited
from sealstream.producers.adapters.context import Scope, current_context, current_scope, identify, request_scope
from sealstream.producers.adapters.sqlalchemy import SessionAudit
from sealstream.producers.adapters.stdlib_logging import AuditHandler
from sealstream.producers.adapters.structlog_processor import AuditProcessor
from sealstream.producers.outbox import AsyncOutbox, Outbox, OutboxRow
from sealstream.producers.outbox.sqlalchemy import SessionOutbox


class Psycopg2Connection(Protocol):
    """What a connection of psycopg2 has, which comes without types."""

    def cursor(self) -> Any:
        """Return a cursor."""
        ...


async def application(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Be an ASGI application."""


def requests(event: AuditEvent) -> None:
    """Every call around the request at hand."""
    middleware = AuditMiddleware(
        application, trusted_proxies=["10.0.0.0/8"], forwarded_header="forwarded", request_id_header="x-request-id"
    )
    AuditMiddleware(middleware)
    AuditMiddleware(application, forwarded_header="x-real-ip")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AuditMiddleware(application, ["10.0.0.0/8"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with request_scope(Context(ip="192.0.2.1"), tenant="acme", actor={"type": "user", "id": "42"}) as scope:
        assert_type(scope, Scope)
        identify(tenant="acme", actor=Actor("user", "42"))
        identify(tenant=event)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(current_scope(), Scope | None)
    assert_type(current_context(), Context | None)


def functions(audit: AuditLog, blocking: SyncAuditLog) -> None:
    """A decorated function keeps its arguments and its result."""

    def target_of(number: int, title: str = "") -> str:
        return f"document:{number} {title}"

    @audited("document.updated", blocking, tenant="acme", actor="user:42", target=target_of)
    def rename(number: int, title: str = "") -> str:
        return title * number

    @audited("document.read", lambda: audit, metadata={"kind": "test"})
    async def read(number: int) -> bytes:
        return bytes(number)

    assert_type(rename(7, title="Plan"), str)
    awaited: Awaitable[bytes] = read(7)
    del awaited
    rename("7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AuditHandler(blocking)
    AuditProcessor(audit)
    SessionAudit(blocking, object, tenant="acme").listen(sessionmaker())
    SessionAudit(SessionOutbox(), object, actor=lambda _: "user:42").listen(Session)


def outboxes(connection: psycopg.Connection, old: Psycopg2Connection, session: Session, event: AuditEvent) -> None:
    """Every way into the outbox for threads."""
    outbox = Outbox(table="audit.outbox", schema_id=7)
    assert_type(outbox.log(connection, event), OutboxRow)
    assert_type(outbox.log(connection.cursor(), tenant="acme", actor="user:42", action="document.updated"), OutboxRow)
    assert_type(outbox.log(old, event).digest, bytes)
    outbox.log(event)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    outbox.log(connection, tenant="acme")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    sessions = SessionOutbox()
    assert_type(sessions.log(session, event), OutboxRow)
    bound: Connection = session.connection()
    assert_type(sessions.log(bound, tenant="acme", actor="user:42", action="document.updated"), OutboxRow)
    sessions.log(connection, event)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


async def outboxes_later(connection: psycopg.AsyncConnection, session: AsyncSession, event: AuditEvent) -> None:
    """Every way into the outbox for asyncio."""
    outbox = AsyncOutbox()
    assert_type(await outbox.log(connection, event), OutboxRow)
    assert_type(await outbox.log(connection, tenant="acme", actor="user:42", action="document.updated"), OutboxRow)
    assert_type(await session.run_sync(SessionOutbox().log, event), OutboxRow)
    await outbox.log(connection, event, tenant="acme")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
