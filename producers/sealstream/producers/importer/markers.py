"""The marks of an import in a chain: where it begins, and where it ends with how many rows under which root."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sealstream.producers.importer.events import JobKey
from sealstream.schemas.control import IMPORT_BEGIN, IMPORT_END, make_control
from sealstream.schemas.control_body import ImportBegin, ImportEnd
from sealstream.schemas.event import Actor, AuditEvent, EventKind, Target

BEGIN: Final = "begin"
END: Final = "end"
_ACTOR: Final = Actor("service", "sealstream-import")


def begin_marker(key: JobKey, instance: str, tenant: str, body: ImportBegin, occurred_at: datetime) -> AuditEvent:
    """Return the event that stands before a job's first event of a chain."""
    return _marker(key, instance, tenant, IMPORT_BEGIN, BEGIN, body.pack(), occurred_at)


def end_marker(key: JobKey, instance: str, tenant: str, body: ImportEnd, occurred_at: datetime) -> AuditEvent:
    """Return the event that stands behind a job's last event of a chain."""
    return _marker(key, instance, tenant, IMPORT_END, END, body.pack(), occurred_at)


def _marker(
    key: JobKey, instance: str, tenant: str, action: str, name: str, body: bytes, occurred_at: datetime
) -> AuditEvent:
    # No row has such an id: keys that stand in ids as they are have a digit first or 36 characters.
    event_id = f"{key.prefix}{name}"
    return AuditEvent(
        tenant=tenant,
        actor=_ACTOR,
        action=action,
        targets=(Target("import", key.job),),
        occurred_at=occurred_at,
        id=event_id,
        kind=EventKind.CONTROL,
        salt=key.salt(tenant, event_id),
        control=make_control(instance, tenant, action, body),
    )
