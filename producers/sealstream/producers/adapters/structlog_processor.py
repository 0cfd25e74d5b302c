"""A processor for structlog: a line that says so is logged as an event as well. structlog itself is not imported."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final

from sealstream.producers.adapters.logs import Logs, make_event
from sealstream.producers.event_fields import EventFields
from sealstream.schemas.errors import EventInvalid

MARK: Final = "audit"
_ID: Final = "audit_id"
_FIELDS: Final = frozenset(EventFields.__annotations__)


class AuditProcessor:
    """Logs an event for each line with ``audit=True``, and passes the line on with the event's id as ``audit_id``.

    The line's event is the action unless it gives one; of its keys, those that are fields of an event are taken, and
    no others. Put it behind what merges contextvars and before the renderer.

    Arguments:
        audit: The audit log. What it raises, by its policy, reaches whoever logged the line.
    """

    def __init__(self, audit: Logs) -> None:
        self._audit = audit

    def __call__(self, logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Log a line's event, if it asks for it.

        Raises:
            EventInvalid: The line is no event; the error names the field.
            SealstreamError: What the audit log raises.
        """
        del logger, method
        wanted = line.pop(MARK, False)
        if wanted is False:
            return line
        if wanted is not True:
            raise EventInvalid(MARK, f"is a {type(wanted).__name__}", hint="give audit=True")
        fields = {name: value for name, value in line.items() if name in _FIELDS}
        fields.setdefault("action", line.get("event"))
        event = make_event(fields)
        self._audit.log(event)
        line[_ID] = event.id
        return line
