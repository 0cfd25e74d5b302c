"""Which schemas may become versions of AuditEvent: held before a registry is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sealstream.producers.registry.rules import SCHEMA_BYTES_MAX, check_version, compact
from sealstream.schemas.codec import fingerprint_of, schema_fingerprint, schema_text
from sealstream.schemas.errors import SchemaRefused

Change = Callable[[dict[str, Any]], object]
COLOUR: dict[str, Any] = {"name": "colour", "type": ["null", "string"], "default": None}


def _changed(change: Change) -> str:
    document: dict[str, Any] = json.loads(schema_text("AuditEvent"))
    change(document)
    return json.dumps(document)


def _field(document: dict[str, Any], name: str) -> dict[str, Any]:
    fields: list[dict[str, Any]] = document["fields"]
    (found,) = (field for field in fields if field["name"] == name)
    return found


def _typed(name: str, kind: object) -> Change:
    return lambda document: _field(document, name).update(type=kind)


REFUSED: list[tuple[str, Change, str]] = [
    ("in front", lambda d: d["fields"].insert(0, COLOUR), "begins with colour"),
    ("within", lambda d: d["fields"].insert(3, COLOUR), "begins with id, tenant, kind, colour"),
    ("other order", lambda d: d["fields"].insert(0, d["fields"].pop(1)), "begins with tenant, id"),
    ("without salt", lambda d: d["fields"].pop(3), "begins with id, tenant, kind, occurred_at"),
    ("id as bytes", _typed("id", "bytes"), "field id is of another type"),
    ("id that may be null", _typed("id", ["null", "string"]), "field id is of another type"),
    ("id as a uuid", _typed("id", {"type": "string", "logicalType": "uuid"}), "field id is of another type"),
    ("more kinds", lambda d: _field(d, "kind")["type"]["symbols"].append("other"), "field kind is of another type"),
    ("kinds in another order", lambda d: _field(d, "kind")["type"]["symbols"].reverse(), "field kind is of another"),
    ("longer salt", lambda d: _field(d, "salt")["type"].update(size=32), "field salt is of another type"),
    ("other name", lambda d: d.update(name="Event"), "not the record sealstream.AuditEvent"),
    ("no default", lambda d: d["fields"].append({"name": "colour", "type": "string"}), "cannot be|cannot read"),
    ("other time", _typed("occurred_at", "string"), "cannot read its events"),
    ("time without a meaning", _typed("occurred_at", "long"), "occurred_at|cannot read"),
    ("an outcome less", lambda d: _field(d, "outcome")["type"]["symbols"].remove("denied"), "cannot read"),
    ("no action", lambda d: d["fields"].remove(_field(d, "action")), "cannot read"),
    ("contains itself", lambda d: d["fields"].append(COLOUR | {"type": ["null", d["name"]]}), "contains itself"),
    (
        "values without bytes",
        lambda d: d["fields"].append(COLOUR | {"type": {"type": "array", "items": "null"}, "default": []}),
        "null",
    ),
]

TAKEN: list[tuple[str, Change]] = [
    ("a field at the end", lambda d: d["fields"].append(COLOUR)),
    ("one behind the prefix", lambda d: d["fields"].insert(4, COLOUR)),
    ("a field with a default less", lambda d: d["fields"].remove(_field(d, "personal"))),
    ("Java's strings", _typed("id", {"type": "string", "avro.java.string": "String"})),
    ("other words", lambda d: d.update(doc="Other words.")),
]


@pytest.mark.parametrize(("change", "said"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_would_break_a_reader_is_refused(change: Change, said: str) -> None:
    """No version moves or changes the first four fields, or takes from a reader what it needs; the error says which."""
    with pytest.raises(SchemaRefused, match=said) as caught:
        check_version(_changed(change))
    assert caught.value.hint


@pytest.mark.parametrize("change", [case[1] for case in TAKEN], ids=[case[0] for case in TAKEN])
def test_what_every_reader_reads_may_be_a_version(change: Change) -> None:
    """Fields with a default come and go behind the first four."""
    assert check_version(_changed(change))["name"] == "sealstream.AuditEvent"


def test_the_shipped_schema_is_one() -> None:
    """What a release writes with may be registered."""
    parsed = check_version(schema_text("AuditEvent"))
    assert fingerprint_of(parsed) == schema_fingerprint("AuditEvent")


@pytest.mark.parametrize(
    "text", ["", "{", '"string"', "[]", "7", '{"type":"record"}', "[" * 100_000, '{"type":"nonsense"}', '"\ud800"']
)
def test_what_is_no_schema_is_refused(text: str) -> None:
    """Any text may be given; the answer is an error that says what it is about."""
    with pytest.raises(SchemaRefused):
        check_version(text)


def test_a_text_has_a_largest_size() -> None:
    """It is put into every chain, so that it must not be of any size."""
    with pytest.raises(SchemaRefused, match=str(SCHEMA_BYTES_MAX)):
        check_version(_changed(lambda document: document.update(doc="x" * SCHEMA_BYTES_MAX)))


def test_one_schema_has_one_text() -> None:
    """However a registry lays a schema out, what is put into the chains is the same."""
    text = schema_text("AuditEvent")
    assert compact(text) == compact(json.dumps(json.loads(text), indent=7))
    assert json.loads(compact(text)) == json.loads(text)
