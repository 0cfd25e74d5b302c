"""Into the log: what an application uses to publish audit events.

::

    async with AuditLog(kafka="localhost:9092", instance="example.com/audit") as audit:
        await audit.log(tenant="acme", actor="user:42", action="document.updated", target="document:7")
"""

from __future__ import annotations

from sealstream.producers.client import AuditLog, SyncAuditLog
from sealstream.producers.core import Stats
from sealstream.producers.event_fields import EventFields, Party
from sealstream.producers.options import Compression, Fsync, WhenFull
from sealstream.producers.receipt import Delivery, Published, Receipt, SyncReceipt
from sealstream.schemas.errors import (
    ClientUnusable,
    ConfigError,
    DeliveryError,
    EventInvalid,
    QueueFull,
    SealstreamError,
    SpoolDamaged,
    SpoolError,
    SpoolOwned,
    Unreachable,
)
from sealstream.schemas.event import Actor, AuditEvent, Context, Outcome, Target

__all__ = [
    "Actor",
    "AuditEvent",
    "AuditLog",
    "ClientUnusable",
    "Compression",
    "ConfigError",
    "Context",
    "Delivery",
    "DeliveryError",
    "EventFields",
    "EventInvalid",
    "Fsync",
    "Outcome",
    "Party",
    "Published",
    "QueueFull",
    "Receipt",
    "SealstreamError",
    "SpoolDamaged",
    "SpoolError",
    "SpoolOwned",
    "Stats",
    "SyncAuditLog",
    "SyncReceipt",
    "Target",
    "Unreachable",
    "WhenFull",
]
