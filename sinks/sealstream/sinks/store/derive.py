"""Derives the rows of ``events`` from payloads. Nothing that a payload holds may stop the worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

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


class Deriver:
    """Makes rows of ``events``.

    Arguments:
        reader: Decodes payloads.
        count: Told the reason of each row that could not be decoded.
    """

    def __init__(self, reader: EventReader, *, count: Callable[[str], None] | None = None) -> None:
        self._reader = reader
        self._count = count

    def __call__(self, record: ChainedRecord) -> EventRow | None:
        """Return the row for a record, or ``None`` if its kind is not searched.

        A payload that cannot be decoded becomes a row with what its prefix says, which the entry repeats, and the
        reason: the event stays to be found by its id, and by those who look for such rows.
        """
        if record.entry.kind not in SEARCHED_KINDS or record.payload is None:
            return None
        try:
            return _row(record, self._reader.read_datum(record.payload))
        except FrameInvalid:
            reason = MALFORMED
        except SchemaUnknown:
            reason = SCHEMA_UNKNOWN
        except Unreachable:
            reason = REGISTRY_UNREACHABLE
        if self._count is not None:
            self._count(reason)
        return _undecoded(record, reason)


def _row(record: ChainedRecord, event: Datum) -> EventRow:
    entry, actor, context = record.entry, event["actor"], event["context"]
    return EventRow(
        entry.tenant,
        entry.seq,
        RETENTION_CLASS,
        int(entry.kind),
        entry.event_id,
        moment(entry.received),
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


def _undecoded(record: ChainedRecord, reason: str) -> EventRow:
    entry = record.entry
    return EventRow(
        tenant=entry.tenant,
        seq=entry.seq,
        retention_class=RETENTION_CLASS,
        kind=int(entry.kind),
        event_id=entry.event_id,
        received_at=moment(entry.received),
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
