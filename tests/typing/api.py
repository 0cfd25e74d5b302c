"""The public calls of the producers as applications write them: checked by mypy and pyright, never run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import assert_type

from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicNames
from sealstream.producers import (
    Actor,
    AuditEvent,
    AuditLog,
    Context,
    Delivery,
    DeliveryError,
    Outcome,
    Published,
    Receipt,
    SealstreamError,
    SpoolDamaged,
    SpoolError,
    SpoolOwned,
    Stats,
    SyncAuditLog,
    SyncReceipt,
    Target,
)


def alarm(delivery: Delivery, error: DeliveryError) -> None:
    """Take a failure, as ``on_error`` does."""
    assert_type(delivery.tenant, str)
    assert_type(delivery.digest, bytes)
    assert_type(error.retriable, bool)
    assert_type(error.hint, str)


def worry(error: SealstreamError) -> None:
    """Take a trouble, as ``on_trouble`` does."""
    if isinstance(error, SpoolDamaged):
        assert_type(error.kept, int)
        assert_type(error.lost_max, int)
    if isinstance(error, SpoolOwned):
        assert_type(error.pid, int)
    assert_type(isinstance(error, SpoolError), bool)


async def asynchronous() -> None:
    """Every call of the front for asyncio."""
    async with AuditLog(
        kafka=KafkaConnection("localhost:9092", security_protocol="SSL"),
        instance="example.com/audit",
        topics=TopicNames(prefix="staging."),
        producer_id="api-1",
        schema_id=7,
        when_full="drop-and-count",
        timeout_seconds=0.5,
        queue_events_max=10_000,
        queue_bytes_max=16 * 1024 * 1024,
        linger_seconds=0,
        compression="zstd",
        delivery_timeout_seconds=30,
        close_timeout_seconds=5,
        spool="/var/spool/audit",
        spool_bytes_max=2**30,
        fsync="batch",
        receipts=Path("receipts.ndjson"),
        on_error=alarm,
        on_trouble=worry,
    ) as audit:
        assert_type(audit, AuditLog)
        receipt = audit.log(AuditEvent(tenant="acme", actor=Actor("user", "42"), action="document.updated"))
        assert_type(receipt, Receipt)
        assert_type(await receipt, Published)
        assert_type(await receipt.published(timeout_seconds=5), Published)
        assert_type(await receipt.spooled(timeout_seconds=5), None)
        assert_type(receipt.as_json(), str)
        assert_type(receipt.is_spooled, bool)
        assert_type(receipt.error, DeliveryError | None)
        assert_type(audit.resend(receipt), Receipt)
        assert_type(audit.log_value(b""), Receipt)
        assert_type(await audit.flush(timeout_seconds=5), int)
        assert_type(audit.stats, Stats)
        await audit.log(tenant="acme", actor="user:42", action="document.updated", target="document:7")
        await audit.log(
            tenant="acme",
            actor={"type": "user", "id": "42"},
            action="document.updated",
            targets=[Target("document", "7"), {"type": "folder", "id": "3"}],
            outcome="success",
            context={"ip": "10.0.0.1", "plan": "pro"},
            metadata={"note": "renamed"},
            occurred_at=datetime.now(UTC),
            id="ev-1",
        )
        audit.log(tenant="acme")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
        audit.log(tenant="acme", actor="user:1", action="a", colour="red")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
        audit.log(tenant="acme", actor="user:1", action="a", outcome="fine")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await audit.close(timeout_seconds=1)


def synchronous() -> None:
    """Every call of the front for threads."""
    with SyncAuditLog(kafka="localhost:9092", instance="example.com/audit") as audit:
        assert_type(audit, SyncAuditLog)
        receipt = audit.log(
            tenant="acme",
            actor=Actor("service", "billing"),
            action="invoice.sent",
            outcome=Outcome.SUCCESS,
            context=Context(request_id="r-1"),
        )
        assert_type(receipt, SyncReceipt)
        assert_type(receipt.spooled(timeout_seconds=5), None)
        place = receipt.published(timeout_seconds=5)
        assert_type(place.partition, int)
        assert_type(place.offset, int)
        assert_type(audit.resend(receipt), SyncReceipt)
        assert_type(audit.log_value(b""), SyncReceipt)
        assert_type(audit.flush(), int)
    audit.close()
    SyncAuditLog(kafka="localhost:9092")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    SyncAuditLog(kafka="localhost:9092", instance="example.com", spool="s", fsync="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SyncAuditLog("localhost:9092", instance="example.com")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
