"""Derives the rows of ``events`` from payloads. Nothing that a payload holds may stop the worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

from sealstream.schemas.codec import Datum, EventReader
from sealstream.schemas.errors import FrameInvalid, SchemaUnknown, Unreachable
from sealstream.sinks.store.records import ChainedRecord
from sealstream.sinks.store.rows import RETENTION_CLASS, SEARCHED_KINDS, EventRow, moment

MALFORMED: Final = "malformed"
"""The body does not decode, though its prefix does."""
SCHEMA_UNKNOWN: Final = "schema-unknown"
"""No reader knows the writer's schema, or no registry is configured."""
REGISTRY_UNREACHABLE: Final = "registry-unreachable"
"""The registry that knows the writer's schema did not answer; a rebuild mends the row."""

_CONTEXT: Final = ("user_agent", "location", "session", "traceparent")
"""What of the context has no column of its own."""
_REPLACEMENT: Final = "\ufffd"
_encode: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":")).encode


class Stored(NamedTuple):
    """What a search row is derived from, as the store has it.

    Arguments:
        tenant: The chain.
        seq: The place in it.
        kind: The entry's kind.
        event_id: The event's id.
        received: The broker's append time in microseconds since the epoch.
        payload: What the entry commits to; ``None`` if its kind carries nothing, or it was moved away.
        retention_class: The payload's.
    """

    tenant: str
    seq: int
    kind: int
    event_id: str
    received: int
    payload: bytes | None
    retention_class: str


def stored_from(record: ChainedRecord, retention_class: str = RETENTION_CLASS) -> Stored:
    """Return what is derived from of a record."""
    entry = record.entry
    return Stored(entry.tenant, entry.seq, record.kind, entry.event_id, entry.received, record.payload, retention_class)


Derive: TypeAlias = Callable[[Stored], EventRow | None]


class Deriver:
    """Makes rows of ``events``.

    Arguments:
        reader: Decodes payloads.
        count: Told the reason of each row that could not be decoded.
    """

    def __init__(self, reader: EventReader, *, count: Callable[[str], None] | None = None) -> None:
        self.reader = reader
        self._count = count

    def __call__(self, stored: Stored) -> EventRow | None:
        """Return the row for an entry, or ``None`` if its kind is not searched.

        A payload that cannot be decoded becomes a row with what its prefix says, which the entry repeats, and the
        reason: the event stays to be found by its id, and by those who look for such rows.
        """
        if stored.kind not in SEARCHED_KINDS or stored.payload is None:
            return None
        try:
            event = self.reader.read_datum(stored.payload)
            if isinstance(event["occurred_at"], datetime):  # else the writer's schema calls it a bare number
                return _row(stored, event)
            reason = MALFORMED
        except FrameInvalid:
            reason = MALFORMED
        except SchemaUnknown:
            reason = SCHEMA_UNKNOWN
        except Unreachable:
            reason = REGISTRY_UNREACHABLE
        if self._count is not None:
            self._count(reason)
        return _undecoded(stored, reason)


def _row(stored: Stored, event: Datum) -> EventRow:
    actor, context = event["actor"], event["context"]
    return EventRow(
        stored.tenant,
        stored.seq,
        stored.retention_class,
        stored.kind,
        stored.event_id,
        moment(stored.received),
        event["occurred_at"],
        _clean(actor["type"]),
        _clean(actor["id"]),
        _clean(actor["name"]),
        _clean(event["action"]),
        event["outcome"],
        _json([target if target["name"] is not None else _present(target) for target in event["targets"]]),
        _clean(context["ip"]),
        _clean(context["request_id"]),
        _json({name: context[name] for name in _CONTEXT if context[name] is not None}),
        _json(event["metadata"]),
        None,
    )


def _undecoded(stored: Stored, reason: str) -> EventRow:
    return EventRow(
        tenant=stored.tenant,
        seq=stored.seq,
        retention_class=stored.retention_class,
        kind=stored.kind,
        event_id=stored.event_id,
        received_at=moment(stored.received),
        occurred_at=None,
        actor_type=None,
        actor_id=None,
        actor_name=None,
        action=None,
        outcome=None,
        targets=None,
        ip=None,
        request_id=None,
        context=None,
        metadata=None,
        undecoded=reason,
    )


def _present(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _clean(text: str | None) -> str | None:
    """Return a text as PostgreSQL can hold it: a NUL, which it cannot, becomes the replacement character."""
    return text.replace("\0", _REPLACEMENT) if text is not None and "\0" in text else text


def _json(value: list[dict[str, str]] | dict[str, str]) -> str:
    """Return a value as JSON that PostgreSQL can hold."""
    if not value:
        return "[]" if isinstance(value, list) else "{}"
    text = _encode(value)
    if "\\u0000" not in text:
        return text
    # Rare: the text above may also hold a backslash of its own before "u0000", so the values are cleaned, not the text.
    if isinstance(value, list):
        return _encode([_clean_keys(item) for item in value])
    return _encode(_clean_keys(value))


def _clean_keys(value: dict[str, str]) -> dict[str, str]:
    return {str(_clean(name)): str(_clean(text)) for name, text in value.items()}
