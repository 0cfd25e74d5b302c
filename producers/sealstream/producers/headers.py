"""The headers of a record: CloudEvents 1.0.2, Kafka protocol binding, binary mode; and W3C trace context.

They are for whoever routes or filters without decoding. None of them is evidence: the value alone is.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from typing import Final, TypeAlias

from sealstream.kafka.topics import CE_ID_HEADER, TRACEPARENT_HEADER
from sealstream.schemas.codec import Datum
from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.event import AuditEvent

Header: TypeAlias = tuple[str, str | bytes | None]
"""What confluent-kafka takes; here values are bytes always, because it encodes text in three times the time."""

CONTENT_TYPE: Final = "application/avro"
_SPECVERSION: Final[Header] = ("ce_specversion", b"1.0")
_CONTENT_TYPE: Final[Header] = ("content-type", CONTENT_TYPE.encode())
_TRACEPARENT_PATTERN: Final = re.compile("(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def record_headers(event: AuditEvent, instance: str) -> list[Header]:
    """Return the headers of the record that carries an event.

    ``ce_type`` is the action, ``ce_source`` the URI-reference ``//<instance>/<tenant>``.

    Arguments:
        event: A valid event.
        instance: The instance's name.

    Raises:
        EventInvalid: The action or the time has no form that CloudEvents allows.
    """
    context = event.context
    return make_headers(event.id, event.tenant, event.action, event.occurred_at, context.traceparent, instance)


def headers_of_datum(datum: Datum, instance: str) -> list[Header]:
    """Return what :func:`record_headers` returns for the event that a dictionary of the shipped schema stands for.

    Raises:
        EventInvalid: As :func:`record_headers`.
    """
    traceparent = datum["context"]["traceparent"]
    return make_headers(datum["id"], datum["tenant"], datum["action"], datum["occurred_at"], traceparent, instance)


def make_headers(
    event_id: str, tenant: str, action: str, occurred_at: datetime, traceparent: str | None, instance: str
) -> list[Header]:
    """Return what :func:`record_headers` returns for an event of these fields.

    Raises:
        EventInvalid: As :func:`record_headers`.
    """
    if not action.isprintable():
        _check_no_control_characters(action)
    headers: list[Header] = [
        _SPECVERSION,
        (CE_ID_HEADER, event_id.encode()),
        ("ce_type", action.encode()),
        ("ce_source", f"//{instance}/{tenant}".encode()),
        ("ce_time", _utc(occurred_at).encode()),
        _CONTENT_TYPE,
    ]
    if traceparent is not None and is_traceparent(traceparent):
        headers.append((TRACEPARENT_HEADER, traceparent.encode()))
    return headers


def is_traceparent(text: str) -> bool:
    """Return whether a text is a ``traceparent`` (W3C Trace Context, section 3.2) that one may pass on."""
    return _TRACEPARENT_PATTERN.fullmatch(text) is not None


def _utc(moment: datetime) -> str:
    """Return an event's time in the form of RFC 3339."""
    if moment.tzinfo is UTC:  # which nearly all are: half of the time that the conversion takes
        return moment.isoformat()
    try:
        return moment.astimezone(UTC).isoformat()
    except OverflowError:
        raise EventInvalid("occurred_at", "is outside the years 1 to 9999 in UTC") from None


def _check_no_control_characters(action: str) -> None:
    if any(unicodedata.category(character) == "Cc" for character in action):
        raise EventInvalid("action", "holds a control character", hint="name it object.verb, such as document.updated")
