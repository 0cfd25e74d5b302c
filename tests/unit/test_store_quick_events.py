"""The quick way from a payload to its search row: what it makes is what the plain way makes."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.codec import EventReader, encode_event, schema
from sealstream.schemas.event import Actor, AuditEvent, Context, ProducerMark, Sealed, Target
from sealstream.sinks.store.copying import pack_event_row
from sealstream.sinks.store.derive import Deriver, Stored
from sealstream.sinks.store.quick_events import quick_row
from sealstream.sinks.store.rows import EVENT_COLUMNS
from support.events import events

ORDINARY = AuditEvent(
    tenant="acme",
    actor=Actor("user", "u-1", "Zoë"),
    action="document.updated",
    targets=(Target("document", "d-1"), Target("folder", "f-1", "Plans")),
    context=Context(ip="10.0.0.1", user_agent="curl/8", request_id="r-1"),
    metadata={"plan": "pro", "diff": '{"a": "\\"b\\\\"}\n'},
    id="ev-1",
)


def _stored(payload: bytes, received: int = 1_700_000_000_000_000) -> Stored:
    return Stored("acme", 3, 1, "ev-1", received, payload, "standard")


def _values(packed: bytes) -> dict[str, Any]:
    """Return the columns of a packed row; JSON as what it means."""
    (count,) = struct.unpack_from(">h", packed)
    assert count == len(EVENT_COLUMNS)
    at, values = 2, dict[str, Any]()
    for name, kind in EVENT_COLUMNS.items():
        (size,) = struct.unpack_from(">i", packed, at)
        at += 4
        content = None if size < 0 else packed[at : at + size]
        at += max(size, 0)
        if kind == "jsonb" and content is not None:
            assert content[:1] == b"\x01"
            values[name] = json.loads(content[1:])
        else:
            values[name] = content
    assert at == len(packed)
    return values


def _plain(stored: Stored) -> dict[str, Any]:
    row = Deriver(EventReader())(stored)
    assert row is not None
    return _values(pack_event_row(row))


def _quick(stored: Stored) -> dict[str, Any] | None:
    assert stored.payload is not None
    start = EventReader().shipped_body(stored.payload)
    packed = None if start is None else quick_row(stored, start)
    return None if packed is None else _values(packed)


def test_ordinary_events_are_made_quickly() -> None:
    """With sealed fields and a producer's mark, names that are not ASCII, and texts that JSON must escape."""
    sealed = Sealed(1, "subject-1", bytes(32), bytes(32), bytes(12), b"c" * 200)
    event = replace(ORDINARY, personal=sealed, producer=ProducerMark("p-1", 3, 1_000_000))
    for one in (ORDINARY, event):
        stored = _stored(encode_event(one))
        assert _quick(stored) == _plain(stored)


@given(events(), st.integers(0, 2**63 - 1))
def test_any_event_has_the_same_row_both_ways(event: AuditEvent, received: int) -> None:
    """Whatever a valid event holds: the quick way leaves it alone, or makes the very same row."""
    stored = _stored(encode_event(event), received)
    assert _quick(stored) in (None, _plain(stored))


@given(st.data())
def test_damaged_payloads_are_never_made_quickly_into_something_else(data: st.DataObject) -> None:
    """Cut, prolonged or changed bytes: the quick way does not find an event where the plain way finds none."""
    payload = bytearray(encode_event(ORDINARY))
    place = data.draw(st.integers(10, len(payload) - 1))
    how = data.draw(st.sampled_from(["cut", "long", "change"]))
    if how == "cut":
        del payload[place:]
    elif how == "long":
        payload += data.draw(st.binary(min_size=1, max_size=4))
    else:
        payload[place] = data.draw(st.integers(0, 255))
    stored = _stored(bytes(payload))
    assert _quick(stored) in (None, _plain(stored))


@given(st.binary(max_size=120))
def test_arbitrary_bytes_end_in_a_row_or_are_left_alone(body: bytes) -> None:
    """Nothing that a payload holds stops the one who derives."""
    stored = _stored(encode_event(ORDINARY)[:10] + body)
    assert _quick(stored) in (None, _plain(stored))


def test_what_is_not_searched_has_no_row() -> None:
    """A duplicate carries nothing, and a payload that was moved away is not there to be read."""
    payload = encode_event(ORDINARY)
    assert quick_row(_stored(payload)._replace(kind=3), 10) is None
    assert quick_row(_stored(payload)._replace(payload=None), 10) is None


def test_a_registry_id_is_known_once_its_schema_was_read() -> None:
    """In a registry's framing, too, events under the shipped schema are read quickly, from the second one on."""
    value = encode_event(ORDINARY, schema_id=7)
    reader = EventReader(schema_by_id=lambda _id: schema("AuditEvent"))
    assert reader.shipped_body(value) is None
    reader.read_datum(value)
    assert reader.shipped_body(value) == 5
    assert reader.shipped_body(encode_event(ORDINARY, schema_id=8)) is None
    assert reader.shipped_body(b"") is None


@pytest.mark.parametrize("field", ["extra", "action"])
def test_another_schema_is_not_taken_for_the_shipped_one(field: str) -> None:
    """A later version of the schema is read the plain way."""
    later = json.loads(json.dumps(schema("AuditEvent")))
    later.pop("__named_schemas", None)
    later.pop("__fastavro_parsed__", None)
    if field == "extra":
        later["fields"].append({"name": "extra", "type": "string", "default": ""})
        value = encode_event(ORDINARY, schema_id=7) + b"\x00"
    else:
        later["fields"][6]["type"] = "bytes"
        value = encode_event(ORDINARY, schema_id=7)
    reader = EventReader(schema_by_id=lambda _id: later)
    reader.read_datum(value)
    assert reader.shipped_body(value) is None
