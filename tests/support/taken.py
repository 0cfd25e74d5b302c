"""An audit log that keeps what it is given, for tests of what speaks to one."""

from __future__ import annotations

from dataclasses import dataclass, field

from sealstream.schemas.errors import SealstreamError
from sealstream.schemas.event import AuditEvent


@dataclass
class Taken:
    """Takes events as an audit log does.

    Arguments:
        error: What it raises instead, as a log's policy may.
    """

    error: SealstreamError | None = None
    events: list[AuditEvent] = field(default_factory=list[AuditEvent])

    def log(self, event: AuditEvent, /) -> None:
        """Take an event, or raise."""
        event.check()
        if self.error is not None:
            raise self.error
        self.events.append(event)

    def actions(self) -> list[str]:
        """Return what the events say was done, and to what."""
        return [" ".join([event.action, *(f"{one.type}:{one.id}" for one in event.targets)]) for event in self.events]
