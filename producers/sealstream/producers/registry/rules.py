"""Which schemas may become versions of AuditEvent. Pure: no registry is asked.

A registry's compatibility rules look at names, not at places: a version with a field in front of the first four is
compatible to them, and would make every event that is written with it unreadable for the processor. So the fixed prefix
(``SPEC.md`` 4.2) is held here, before anything is registered. And each version is tried: old readers read what is
written with it, and whoever reads with it reads old events.
"""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any, Final, cast

import fastavro

from sealstream.schemas.codec import EventReader, encode_body, event_to_datum, frame_confluent, schema
from sealstream.schemas.errors import FrameInvalid, SchemaRefused, SchemaUnknown
from sealstream.schemas.event import (
    Actor,
    AuditEvent,
    Context,
    Control,
    EventKind,
    Outcome,
    ProducerMark,
    Sealed,
    Target,
)
from sealstream.schemas.writer_schema import Schema, parse_writer_schema

NAME: Final = "sealstream.AuditEvent"
SCHEMA_BYTES_MAX: Final = 262_144
"""The largest text that is taken; it stands in every chain."""

_KINDS: Final = ["event", "imported", "control"]
_SALT_BYTES: Final = 16
_PREFIX: Final = ("id", "tenant", "kind", "salt")
_HINT: Final = "every version begins with id, tenant, kind and salt, as AuditEvent.avsc has them; add fields at the end"
_ADD_HINT: Final = "add fields at the end, each with a default; leave those that are there as they are"
_WRITE_ERRORS: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What fastavro raises where data do not fit a schema, or a schema cannot be read as another one."""

_PLAIN: Final = AuditEvent(
    tenant="acme",
    actor=Actor("user", "u-1"),
    action="document.updated",
    occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
    id="ev-1",
    salt=bytes(range(16)),
)
_FULL: Final = AuditEvent(
    tenant="acme",
    actor=Actor("user", "u-1", "Ann"),
    action="policy.set",
    targets=(Target("document", "7", "Plan"), Target("folder", "8")),
    outcome=Outcome.DENIED,
    context=Context("192.0.2.1", "curl", "Oslo", "s-1", "r-1", f"00-{'1' * 32}-{'2' * 16}-01"),
    metadata={"reason": "test"},
    occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
    id="ev-2",
    kind=EventKind.CONTROL,
    salt=bytes(range(16)),
    personal=Sealed(1, "k-1", bytes(32), bytes(32), bytes(12), b"sealed"),
    producer=ProducerMark("p-1", 1, 2),
    control=Control("note", b"body"),
)


def check_version(text: str) -> Schema:
    """Return a schema that may be a version of AuditEvent, parsed.

    Arguments:
        text: The schema's JSON.

    Raises:
        SchemaRefused: It may not; the message says why.
    """
    if len(text.encode("utf-8", "surrogatepass")) > SCHEMA_BYTES_MAX:
        raise SchemaRefused(f"the schema has more than {SCHEMA_BYTES_MAX} bytes")
    try:
        parsed = parse_writer_schema(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise SchemaRefused("the schema's text is no JSON") from error
    except SchemaUnknown as error:
        raise SchemaRefused(error.message, hint=error.hint) from error
    _check_name(parsed)
    _check_prefix(cast("list[dict[str, Any]]", parsed["fields"]))
    for event in (_PLAIN, _FULL):
        _check_old_reader(parsed, event)
        _check_new_reader(parsed, event)
    return parsed


def compact(text: str) -> str:
    """Return a schema's text without blanks, in one form however a registry lays it out."""
    return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=True)


def _check_name(parsed: Schema) -> None:
    found = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
    if found.get("type") != "record" or found.get("name") != NAME:
        raise SchemaRefused(
            f"the schema is not the record {NAME}", hint="begin with a copy of: sealstream schemas show"
        )


def _check_prefix(fields: list[dict[str, Any]]) -> None:
    names = tuple(field["name"] for field in fields[:4])
    if names != _PREFIX:
        raise SchemaRefused(f"the schema begins with {', '.join(names)}", hint=_HINT)
    for field, expected in zip(fields, ("string", "string", "enum", "fixed"), strict=False):
        kind: Any = field["type"]
        found = cast("dict[str, Any]", kind if isinstance(kind, dict) else {"type": kind})
        same = found["type"] == expected and "logicalType" not in found
        if expected == "enum":
            same = same and found["symbols"] == _KINDS
        if expected == "fixed":
            same = same and found["size"] == _SALT_BYTES
        if not same:
            raise SchemaRefused(f"the schema's field {field['name']} is of another type", hint=_HINT)


def _check_old_reader(parsed: Schema, event: AuditEvent) -> None:
    """Refuse a version whose events the shipped reader does not read, or reads as something else."""
    buffer = io.BytesIO()
    try:
        fastavro.schemaless_writer(buffer, parsed, event_to_datum(event))
        read = EventReader(schema_by_id=lambda _: parsed).read_datum(frame_confluent(1, buffer.getvalue()))
    except (*_WRITE_ERRORS, FrameInvalid, SchemaUnknown) as error:
        raise SchemaRefused(
            f"readers that know it not cannot read its events: {_words(error)}", hint=_ADD_HINT
        ) from error
    present = {field["name"] for field in parsed["fields"]}
    expected = event_to_datum(event)
    changed = [name for name in expected if name in present and read[name] != expected[name]]
    if changed:
        raise SchemaRefused(f"readers that know it not read another {changed[0]} in its events", hint=_ADD_HINT)


def _check_new_reader(parsed: Schema, event: AuditEvent) -> None:
    """Refuse a version with which the shipped schema's events cannot be read."""
    body = encode_body("AuditEvent", event_to_datum(event))
    try:
        fastavro.schemaless_reader(io.BytesIO(body), schema("AuditEvent"), parsed)
    except _WRITE_ERRORS as error:
        raise SchemaRefused(f"its readers cannot read older events: {_words(error)}", hint=_ADD_HINT) from error


def _words(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
