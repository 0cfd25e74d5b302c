"""What the adapters log to: an audit log, or an outbox that is bound to a transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from sealstream.producers.adapters.context import completed
from sealstream.producers.event_fields import event_from_fields
from sealstream.schemas.event import AuditEvent


class Logs(Protocol):
    """What takes events: :class:`AuditLog`, :class:`SyncAuditLog`, :class:`DjangoOutbox`."""

    def log(self, event: AuditEvent, /) -> Any:
        """Take an event, or raise what the log's policy says."""
        ...


def make_event(fields: Mapping[str, Any]) -> AuditEvent:
    """Return the event that fields describe, with what the request at hand knows of it.

    Raises:
        EventInvalid: It breaks the model; the error names the field.
    """
    event = event_from_fields(completed(fields))
    event.check()
    return event
