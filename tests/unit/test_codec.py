"""Events to bytes and back: both framings, the same bytes as the field's own libraries, and safe on any input."""

from __future__ import annotations

import io
import json
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import fastavro
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.codec import (
    EVENT_KINDS,
    EventReader,
    body_start,
    decode,
    encode_body,
    encode_event,
    event_from_datum,
    event_to_datum,
    fingerprint_of,
    frame_confluent,
    frame_single_object,
    read_prefix,
    schema,
    schema_fingerprint,
    schema_text,
)
from sealstream.schemas.errors import FormatError, FrameInvalid, SchemaUnknown
from sealstream.schemas.event import Actor, AuditEvent, EventKind, Outcome, ProducerMark
from sealstream.schemas.event_body import long
from support.events import events
from support.mutation import changed_bytes, cuts, mutated

SCHEMA_IDS = st.integers(0, 2**31 - 1)
EVENT = AuditEvent(
    id="ev-1",
    tenant="acme",
    salt=bytes(16),
    actor=Actor("user", "u-1"),
    action="document.updated",
    occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
)
PREFIX = b"\x08ev-1\x08acme\x00" + bytes(16)
HEAD = PREFIX + b"\x00\x08user\x02u\x00\x02a"  # up to and with the action
TAIL = b"\x00\x00" + bytes(6) + b"\x00\x00\x00\x00"  # no targets, outcome unknown, no context, nothing optional
READER = EventReader()
CONFLUENT_READER = EventReader(schema_by_id=lambda _: schema("AuditEvent"))


def framed(body: bytes) -> bytes:
    """Return a body as a value of the shipped schema."""
    return frame_single_object("AuditEvent", body)


def text(value: bytes) -> bytes:
    """Return the Avro encoding of a string."""
    return long(len(value)) + value


def fields_then(*more: dict[str, Any]) -> dict[str, Any]:
    """Return the shipped schema with more fields behind its own."""
    loaded = json.loads(schema_text("AuditEvent"))
    return {**loaded, "fields": [*loaded["fields"], *more]}


def _to_datum(event: AuditEvent, _: SerializationContext) -> dict[str, Any]:
    return event_to_datum(event)


def _from_datum(datum: dict[str, Any], _: SerializationContext) -> AuditEvent:
    return event_from_datum(datum)


class TestFramings:
    """Both framings are those of the field, and every reader takes both."""

    @settings(max_examples=150)
    @given(events())
    def test_single_object_round_trip(self, event: AuditEvent) -> None:
        """An event comes back from single-object encoding as it was."""
        assert READER.read(encode_event(event)) == event

    @settings(max_examples=100)
    @given(events(), SCHEMA_IDS)
    def test_confluent_round_trip(self, event: AuditEvent, schema_id: int) -> None:
        """An event comes back from Confluent framing as it was, under any schema id."""
        value = encode_event(event, schema_id=schema_id)
        assert value[:5] == b"\x00" + schema_id.to_bytes(4, "big")
        assert CONFLUENT_READER.read(value) == event

    @settings(max_examples=150)
    @given(events())
    def test_body_is_fastavros(self, event: AuditEvent) -> None:
        """The body is, byte for byte, what the general Avro library writes, in both framings."""
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, schema("AuditEvent"), event_to_datum(event))
        assert encode_event(event) == b"\xc3\x01" + schema_fingerprint("AuditEvent") + buffer.getvalue()
        assert encode_event(event, schema_id=7) == b"\x00\x00\x00\x00\x07" + buffer.getvalue()

    @settings(max_examples=100)
    @given(events())
    def test_body_is_read_by_fastavro(self, event: AuditEvent) -> None:
        """The general Avro library reads the body back as the same event."""
        datum = fastavro.schemaless_reader(io.BytesIO(encode_event(event)[10:]), schema("AuditEvent"), None)
        assert event_from_datum(cast("dict[str, Any]", datum)) == event

    @settings(max_examples=60)
    @given(st.lists(events(), min_size=1, max_size=3))
    def test_registry_serializer_writes_the_same(self, many: Sequence[AuditEvent]) -> None:
        """Confluent's serializer gives the same bytes, and its deserializer reads ours."""
        client = SchemaRegistryClient.new_client({"url": "mock://events"})
        serialize = cast("Any", AvroSerializer)(client, schema_text("AuditEvent"), _to_datum)
        deserialize = cast("Any", AvroDeserializer)(client, schema_text("AuditEvent"), _from_datum)
        context = SerializationContext("audit.events", MessageField.VALUE)
        for event in many:
            value = serialize(event, context)
            assert value is not None
            schema_id = int.from_bytes(value[1:5], "big")
            assert encode_event(event, schema_id=schema_id) == value
            assert deserialize(encode_event(event, schema_id=schema_id), context) == event

    def test_producer_mark_in_place_of_the_events(self) -> None:
        """The sender's mark takes the place of the event's own."""
        mark = ProducerMark("p-1", 1, 2)
        assert READER.read(encode_event(EVENT, producer=mark)) == replace(EVENT, producer=mark)

    def test_fingerprint(self) -> None:
        """The fingerprint of the shipped schema is fixed: another one is another schema."""
        assert schema_fingerprint("AuditEvent").hex() == "3d48e9b195e09caf"
        assert fingerprint_of(json.loads(schema_text("AuditEvent"))) == schema_fingerprint("AuditEvent")

    def test_fingerprint_is_crc_64_avro(self) -> None:
        """The fingerprint of the schema "int" is the one in Avro's own test cases, low byte first."""
        assert fingerprint_of(fastavro.parse_schema("int")) == (8_247_732_601_305_521_295).to_bytes(8, "little")

    @pytest.mark.parametrize(
        "value", [b"", b"\x00", bytes(4), b"\xc3", b"\xc3\x01", b"\xc3\x01" + bytes(7), b"{}", b"\x01" * 20]
    )
    def test_no_frame(self, value: bytes) -> None:
        """What begins with neither frame is named as such."""
        for read in (body_start, read_prefix, READER.read):
            with pytest.raises(FrameInvalid):
                read(value)

    def test_unknown_fingerprint(self) -> None:
        """A value of a schema that nobody knows says so, and is not called malformed."""
        with pytest.raises(SchemaUnknown, match="0102030405060708"):
            READER.read(b"\xc3\x01\x01\x02\x03\x04\x05\x06\x07\x08" + encode_event(EVENT)[10:])

    def test_registry_needed(self) -> None:
        """A value in Confluent framing cannot be decoded without a registry, and the error says what to set."""
        with pytest.raises(SchemaUnknown, match="SEALSTREAM_REGISTRY"):
            READER.read(encode_event(EVENT, schema_id=1))

    def test_registry_is_asked_once(self) -> None:
        """A schema id never changes its meaning, so each is looked up once."""
        asked: list[int] = []

        def find(schema_id: int) -> Any:
            asked.append(schema_id)
            return schema("AuditEvent")

        reader = EventReader(schema_by_id=find)
        for schema_id in (1, 2, 1, 2):
            reader.read(encode_event(EVENT, schema_id=schema_id))
        assert asked == [1, 2]

    def test_refused_schema_is_asked_for_once(self) -> None:
        """A schema that is refused stays refused, so that values which name it cost no look-up each."""
        asked: list[int] = []

        def find(schema_id: int) -> Any:
            asked.append(schema_id)
            return fields_then(NODE)

        reader = EventReader(schema_by_id=find)
        for _ in range(3):
            with pytest.raises(SchemaUnknown, match="contains itself"):
                reader.read(encode_event(EVENT, schema_id=7))
        assert asked == [7]

    def test_schema_may_turn_up(self) -> None:
        """A schema that the registry does not have is asked for again: it may be registered meanwhile."""
        answers: list[Any] = [SchemaUnknown("not yet"), schema("AuditEvent")]

        def find(_: int) -> Any:
            answer = answers.pop(0)
            if isinstance(answer, SchemaUnknown):
                raise answer
            return answer

        reader = EventReader(schema_by_id=find)
        with pytest.raises(SchemaUnknown, match="not yet"):
            reader.read(encode_event(EVENT, schema_id=7))
        assert reader.read(encode_event(EVENT, schema_id=7)) == EVENT

    def test_shipped_schemas_by_name(self) -> None:
        """Other shipped schemas are read in single-object encoding only."""
        body = encode_event(EVENT)[10:]
        assert decode("AuditEvent", framed(body))["id"] == "ev-1"
        with pytest.raises(FrameInvalid, match="Confluent"):
            decode("AuditEvent", frame_confluent(1, body))
        with pytest.raises(SchemaUnknown):
            decode("Violation", framed(body))


class TestOtherVersions:
    """Events written with another version of the schema."""

    def test_more_fields(self) -> None:
        """A later version may add fields behind the ones there are: they are skipped."""
        later = fields_then({"name": "colour", "type": ["null", "string"], "default": None})
        buffer = io.BytesIO()
        datum = event_to_datum(EVENT) | {"colour": "red"}
        fastavro.schemaless_writer(buffer, fastavro.parse_schema(later), datum)
        value = b"\xc3\x01" + fingerprint_of(later) + buffer.getvalue()
        assert EventReader(others=(later,)).read(value) == EVENT
        assert read_prefix(value) == (b"ev-1", b"acme", 0)

    def test_unknown_outcome(self) -> None:
        """An outcome that a later version may have reads as unknown."""
        later = json.loads(schema_text("AuditEvent").replace('"denied"]', '"denied", "delayed"]'))
        buffer = io.BytesIO()
        datum = event_to_datum(EVENT) | {"outcome": "delayed"}
        fastavro.schemaless_writer(buffer, fastavro.parse_schema(later), datum)
        read = EventReader(schema_by_id=lambda _: later).read(frame_confluent(1, buffer.getvalue()))
        assert read.outcome is Outcome.UNKNOWN

    @pytest.mark.parametrize(
        "change",
        [
            {"fields": [{"name": "id", "type": "string"}]},
            {"fields": fields_then()["fields"][:4]},
            {"name": "Other"},
        ],
    )
    def test_unreadable(self, change: dict[str, Any]) -> None:
        """A value written with a schema that cannot be read as an event is an error of its own, not a crash."""
        reader = EventReader(schema_by_id=lambda _: fields_then() | change)
        with pytest.raises(FrameInvalid):
            reader.read(frame_confluent(1, PREFIX))

    def test_fields_in_another_order(self) -> None:
        """A schema that puts other fields first is refused: the chain has read an id that is not the event's."""
        loaded = fields_then()
        order = [loaded["fields"][1], loaded["fields"][0], *loaded["fields"][2:]]
        reader = EventReader(schema_by_id=lambda _: loaded | {"fields": order})
        with pytest.raises(FrameInvalid, match="does not begin with id"):
            reader.read(encode_event(EVENT, schema_id=1))


class TestPrefix:
    """The first fields, read by hand."""

    @settings(max_examples=200)
    @given(events(), st.none() | SCHEMA_IDS)
    def test_reads_what_avro_reads(self, event: AuditEvent, schema_id: int | None) -> None:
        """The prefix of any event is its id, its tenant and its kind, in either framing."""
        event_id, tenant, kind = read_prefix(encode_event(event, schema_id=schema_id))
        assert (event_id.decode(), tenant.decode(), EVENT_KINDS[kind]) == (event.id, event.tenant, event.kind)

    @settings(max_examples=150)
    @given(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=3000),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
        st.sampled_from(EventKind),
    )
    def test_any_text(self, event_id: str, tenant: str, kind: EventKind) -> None:
        """Ids and tenants that are too long, empty or not ASCII are read as they are; others judge them."""
        datum = event_to_datum(EVENT) | {"id": event_id, "tenant": tenant, "kind": kind.value}
        value = framed(encode_body("AuditEvent", datum))
        assert read_prefix(value) == (event_id.encode(), tenant.encode(), EVENT_KINDS.index(kind))

    @settings(max_examples=400)
    @given(st.binary(max_size=80) | mutated(st.just(framed(PREFIX))) | mutated(st.just(frame_confluent(1, PREFIX))))
    def test_arbitrary_bytes(self, value: bytes) -> None:
        """Whatever the bytes are, the prefix is read or called malformed, and what is read is what Avro reads."""
        try:
            event_id, tenant, kind = read_prefix(value)
        except FrameInvalid:
            return
        body = value[body_start(value) :]
        assert body.startswith(text(event_id) + text(tenant) + long(kind))
        assert len(body) >= len(text(event_id) + text(tenant)) + 1 + 16

    def test_every_changed_byte_and_cut(self) -> None:
        """No changed byte and no cut raises anything but the error that says so."""
        for value in (framed(PREFIX), frame_confluent(9, PREFIX)):
            for data in (*changed_bytes(value), *cuts(value)):
                try:
                    event_id, tenant, kind = read_prefix(data)
                except FrameInvalid:
                    continue
                assert (len(event_id) + len(tenant) <= len(data), 0 <= kind <= 2) == (True, True)
        for data in cuts(framed(PREFIX)):
            with pytest.raises(FrameInvalid):
                read_prefix(data)

    @pytest.mark.parametrize("size", [0, 1, 63, 64, 127, 128, 8191, 8192, 500_000])
    def test_lengths(self, size: int) -> None:
        """Lengths of one to three bytes, on either side of where they grow."""
        value = framed(text(b"a" * size) + text(b"b" * size) + b"\x04" + bytes(16))
        assert read_prefix(value) == (b"a" * size, b"b" * size, 2)

    @pytest.mark.parametrize(
        ("body", "why"),
        [
            (b"\x01" + bytes(40), "a length of -1"),
            (b"\x07abc" + bytes(40), "a length of -4"),
            (b"\x88\x00ev-1" + bytes(40), "a length in two bytes where one would do"),
            (b"\x88\x80\x00ev-1" + bytes(40), "a length in three bytes where one would do"),
            (b"\x80\x80\x80\x80\x80\x01" + bytes(40), "a length in six bytes"),
            (b"\xff\xff\xff\xff\xff" + bytes(40), "a length that does not end within five bytes"),
            (b"\x81\x01" + bytes(40), "a negative length in two bytes"),
            (b"\xfe\xff\xff\xff\x0f" + bytes(40), "a length beyond the value"),
            (b"\x08ev-1\x08acme\x06" + bytes(16), "a kind of 3"),
            (b"\x08ev-1\x08acme\x01" + bytes(16), "a kind of -1"),
            (b"\x08ev-1\x08acme\x80\x00" + bytes(16), "a kind in two bytes"),
            (b"\x08ev-1\x08acme\x00" + bytes(15), "a salt that is cut"),
            (b"\x08ev-1\x08acme", "no kind"),
            (b"\x08ev-1\x88\x00acme\x00" + bytes(16), "a tenant's length in two bytes where one would do"),
            (b"", "nothing"),
        ],
    )
    def test_malformed(self, body: bytes, why: str) -> None:
        """A prefix has one form; every other one is malformed, though an Avro library may read it."""
        with pytest.raises(FrameInvalid):
            pytest.fail(f"{why} was read as {read_prefix(framed(body))}")


class TestHostileValues:
    """Whoever may publish may publish anything: decoding it is bounded and fails by type."""

    @settings(max_examples=200)
    @given(st.binary(max_size=200) | mutated(events().map(encode_event)))
    def test_arbitrary_bytes(self, value: bytes) -> None:
        """Any bytes decode to an event or raise an error of the format's own."""
        try:
            event = READER.read(value)
        except FormatError:
            return
        assert event.id.encode() == read_prefix(value)[0]

    @settings(max_examples=200)
    @given(st.binary(max_size=100).map(lambda rest: framed(PREFIX + rest)))
    def test_arbitrary_rest(self, value: bytes) -> None:
        """Any bytes behind a sound prefix decode to an event or raise an error of the format's own."""
        try:
            assert READER.read(value).id == "ev-1"
        except FrameInvalid:
            assert read_prefix(value) == (b"ev-1", b"acme", 0)

    @pytest.mark.parametrize("count", [2**63 - 1, 2**62, 2**31, 10**6, -1, -(2**31), -(2**63)])
    @pytest.mark.parametrize(
        "place",
        [
            HEAD,  # targets
            HEAD + b"\x00\x00" + bytes(6),  # metadata
            PREFIX + b"\x00",  # a string
            HEAD + b"\x00\x00" + bytes(6) + b"\x00\x00\x00\x02" + text(b"note"),  # bytes
            HEAD + b"\x00\x00" + bytes(6) + b"\x00\x02\x02" + text(b"key") + bytes(76),  # sealed bytes
        ],
    )
    def test_declared_sizes(self, place: bytes, count: int) -> None:
        """A size or count that is not there costs neither memory nor time, however large it claims to be."""
        tracemalloc.start()
        began = time.monotonic()
        with pytest.raises(FrameInvalid):
            READER.read(framed(place + long(count) + b"abc"))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (peak < 1_000_000, time.monotonic() - began < 1) == (True, True)

    def test_many_small_items(self) -> None:
        """Items that are there cost memory in proportion to the value, which the format bounds."""
        count = 30_000
        value = framed(HEAD + long(count) + b"\x00\x00\x00" * count + TAIL)
        tracemalloc.start()
        event = READER.read(value)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (len(event.targets), peak < 200 * len(value)) == (count, True)

    def test_bytes_behind(self) -> None:
        """An event with something behind it is not that event."""
        with pytest.raises(FrameInvalid, match="3 bytes behind"):
            READER.read(encode_event(EVENT) + b"abc")

    @pytest.mark.parametrize("microseconds", [2**62, -(2**62), 253_402_300_800_000_000])
    def test_times_beyond_the_calendar(self, microseconds: int) -> None:
        """A time that no calendar has is an error of the format's own."""
        with pytest.raises(FrameInvalid):
            READER.read(framed(PREFIX + long(microseconds) + HEAD[len(PREFIX) + 1 :] + TAIL))


NODE = {"name": "z", "type": {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}}
NULLS = {"name": "z", "type": {"type": "array", "items": "null"}}


def nested(depth: int) -> Any:
    """Return an array type nested so deep."""
    inner: Any = "int"
    for _ in range(depth):
        inner = {"type": "array", "items": inner}
    return inner


def ladder(count: int) -> dict[str, Any]:
    """Return a record whose types are named one by one, each containing the one before."""
    rungs = [{"type": "record", "name": "T0", "fields": [{"name": "x", "type": "int"}]}]
    rungs += [
        {"type": "record", "name": f"T{index}", "fields": [{"name": "x", "type": f"T{index - 1}"}]}
        for index in range(1, count)
    ]
    return fields_then(*({"name": f"f{index}", "type": rung} for index, rung in enumerate(rungs)))


class TestWriterSchemas:
    """Whoever may write to the registry may register anything: no schema can hang or end a reader."""

    @pytest.mark.parametrize(
        ("writer", "words"),
        [
            (fields_then(NULLS), "null outside of a union"),
            (fields_then({"name": "z", "type": "null"}), "null outside of a union"),
            (fields_then({"name": "z", "type": {"type": "map", "values": "null"}}), "null outside of a union"),
            (fields_then({"name": "z", "type": {"type": "record", "name": "E", "fields": []}}), "which has no field"),
            (fields_then({"name": "z", "type": {"type": "fixed", "name": "F", "size": 0}}), "takes no bytes"),
            (fields_then(NODE), "contains itself"),
            (fields_then({"name": "z", "type": {"type": "array", "items": "AuditEvent"}}), "contains itself"),
            (fields_then({"name": "z", "type": nested(70)}), "nested deeper"),
            (fields_then({"name": "z", "type": nested(200)}), "nested deeper"),
            (ladder(80), "nested deeper"),
            (fields_then({"name": "z", "type": "nothing"}), "no Avro schema"),
            ({}, "no Avro schema"),
            (None, "no Avro schema"),
            (7, "no Avro schema"),
        ],
    )
    def test_refused(self, writer: Any, words: str) -> None:
        """A schema that could keep a reader busy for ever, or end its process, decodes nothing."""
        reader = EventReader(schema_by_id=lambda _: writer)
        with pytest.raises(SchemaUnknown, match=words):
            reader.read(encode_event(EVENT, schema_id=1))
        with pytest.raises(SchemaUnknown, match=words):
            EventReader(others=(writer,))

    @pytest.mark.parametrize(
        "more",
        [
            {"name": "z", "type": nested(40)},
            {"name": "z", "type": ["null", {"type": "array", "items": ["null", "string"]}]},
            {"name": "z", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "z", "type": "Actor"},
        ],
    )
    def test_accepted(self, more: dict[str, Any]) -> None:
        """What a later version of the schema may reasonably add is decoded."""
        reader = EventReader(schema_by_id=lambda _: fields_then(more))
        value = encode_event(EVENT, schema_id=1) + (b"\x00" * 3 if more["type"] == "Actor" else b"\x00")
        assert reader.read(value) == EVENT

    def test_refused_schema_of_a_bomb(self) -> None:
        """Ten bytes that claim a quintillion of nothing are refused at once."""
        reader = EventReader(schema_by_id=lambda _: fields_then(NULLS))
        began = time.monotonic()
        with pytest.raises(SchemaUnknown):
            reader.read(encode_event(EVENT, schema_id=1) + long(10**18) + b"\x00")
        assert time.monotonic() - began < 1
