"""A real Schema Registry and Confluent's own serializer: the same bytes, and schemas that the registry lets change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from sealstream.schemas.codec import (
    EventReader,
    encode_event,
    event_from_datum,
    event_to_datum,
    read_prefix,
    schema_text,
)
from sealstream.schemas.event import Actor, AuditEvent, Context, EventKind, Outcome, ProducerMark, Target

TOPIC = "registry-bytes.events"
PLAIN = AuditEvent(
    tenant="acme",
    actor=Actor("user", "u-1"),
    action="document.updated",
    occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
)
EVENTS = [
    PLAIN,
    replace(
        PLAIN,
        kind=EventKind.IMPORTED,
        targets=(Target("document", "7", "größer"), Target("folder", "8")),
        outcome=Outcome.DENIED,
        context=Context(ip="192.0.2.1", user_agent="curl"),
        metadata={"reason": "x" * 5_000, "mood": "🎉"},
        producer=ProducerMark("p-1", 2**40, 2**62),
    ),
]


@pytest.fixture(scope="module")
def registry(registry_url: str) -> Iterator[SchemaRegistryClient]:
    """Confluent's client of a real registry."""
    with SchemaRegistryClient({"url": registry_url}) as client:
        yield client


def test_serializers_bytes(registry: SchemaRegistryClient) -> None:
    """What Confluent's serializer writes with a schema that it registers, we write under the same id."""
    serialize = cast("Any", AvroSerializer)(registry, schema_text("AuditEvent"), _to_datum)
    context = SerializationContext(TOPIC, MessageField.VALUE)
    for event in EVENTS:
        value: bytes = serialize(event, context)
        schema_id = int.from_bytes(value[1:5], "big")
        assert encode_event(event, schema_id=schema_id) == value
        assert read_prefix(value)[1] == b"acme"


def test_each_reads_the_other(registry: SchemaRegistryClient) -> None:
    """Confluent's deserializer reads our bytes by the registered schema, and our reader by what it finds there."""
    schema_id = registry.register_schema(f"{TOPIC}-value", Schema(schema_text("AuditEvent"), "AVRO"))
    deserialize = cast("Any", AvroDeserializer)(registry, schema_text("AuditEvent"), _from_datum)
    reader = EventReader(schema_by_id=lambda number: json.loads(registry.get_schema(number).schema_str or ""))
    context = SerializationContext(TOPIC, MessageField.VALUE)
    for event in EVENTS:
        value = encode_event(event, schema_id=schema_id)
        assert deserialize(value, context) == event
        assert reader.read(value) == event


def test_later_version(registry: SchemaRegistryClient) -> None:
    """A version with one more field is compatible to the registry, and its events are read by ours."""
    subject = "registry-bytes.later-value"
    registry.register_schema(subject, Schema(schema_text("AuditEvent"), "AVRO"))
    later = json.loads(schema_text("AuditEvent"))
    later["fields"].append({"name": "colour", "type": ["null", "string"], "default": None})
    assert registry.test_compatibility(subject, Schema(json.dumps(later), "AVRO"))
    schema_id = registry.register_schema(subject, Schema(json.dumps(later), "AVRO"))
    serialize = cast("Any", AvroSerializer)(registry, json.dumps(later), _to_later_datum)
    value: bytes = serialize(PLAIN, SerializationContext("registry-bytes.later", MessageField.VALUE))
    assert value[1:5] == schema_id.to_bytes(4, "big")
    reader = EventReader(schema_by_id=lambda number: json.loads(registry.get_schema(number).schema_str or ""))
    assert reader.read(value) == PLAIN


def _to_datum(event: AuditEvent, _: SerializationContext) -> dict[str, Any]:
    return event_to_datum(event)


def _to_later_datum(event: AuditEvent, _: SerializationContext) -> dict[str, Any]:
    return event_to_datum(event) | {"colour": "red"}


def _from_datum(datum: dict[str, Any], _: SerializationContext) -> AuditEvent:
    return event_from_datum(datum)
