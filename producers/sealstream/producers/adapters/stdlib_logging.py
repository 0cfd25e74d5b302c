"""A handler for the standard library's logging: records that carry an event are logged as one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

from sealstream.producers.adapters.logs import Logs, make_event
from sealstream.schemas.errors import EventInvalid

RECORD_ATTRIBUTE: Final = "audit"


class AuditHandler(logging.Handler):
    """Logs an event for each record with ``extra={"audit": {...}}``, and passes over the others.

    The mapping holds an event's fields, as ``log()`` takes them; tenant, actor and context may come from the request at
    hand (:mod:`~sealstream.producers.adapters.context`). The record's time is the event's, unless it gives its own.

    Unlike other handlers, it lets errors out: what the audit log raises, by its policy, reaches whoever logged the
    record. An event that cannot be logged is no mere log line.

    Arguments:
        audit: The audit log.
        level: Records below it are passed over.
    """

    def __init__(self, audit: Logs, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self._audit = audit

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record's event, if it carries one.

        Raises:
            EventInvalid: The mapping is no event; the error names the field.
            SealstreamError: What the audit log raises.
        """
        fields: object = getattr(record, RECORD_ATTRIBUTE, None)
        if fields is None:
            return
        if not isinstance(fields, Mapping):
            raise EventInvalid(RECORD_ATTRIBUTE, f"is a {type(fields).__name__}", hint="give a mapping of fields")
        given = cast("Mapping[str, Any]", fields)
        self._audit.log(make_event({"occurred_at": datetime.fromtimestamp(record.created, UTC)} | {**given}))
