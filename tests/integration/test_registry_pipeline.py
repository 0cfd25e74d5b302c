"""The schema's life in a pipeline: registered, declared in the chains, changed, and read by old and new readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from sealstream.kafka.partition import partition_of
from sealstream.producers import SyncAuditLog
from sealstream.producers.registry.schema_id import schema_id_from_registry
from sealstream.schemas.codec import EventReader, event_to_datum, read_prefix, schema_text
from sealstream.schemas.control_body import SchemaText
from sealstream.schemas.entry import Kind
from sealstream.schemas.event import Actor, AuditEvent, Outcome, Target
from support.harness import read_log
from support.here import command_here
from support.workers import Pipeline, wait_for

MakePipeline = Callable[..., Pipeline]
Schemas = Callable[..., tuple[int, dict[str, Any]]]
ROLES = ("processor", "sink", "verifier")
OLD = AuditEvent(
    tenant="acme",
    actor=Actor("user", "u-1", "Ann"),
    action="document.updated",
    targets=(Target("document", "7"),),
    outcome=Outcome.SUCCESS,
    metadata={"reason": "old"},
    occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
    id="old-1",
)
NEW = replace(OLD, id="new-1", metadata={"reason": "new"})
FRAMES = (0x00, 0xC3)  # a genesis has none
COLOUR: dict[str, Any] = {"name": "colour", "type": ["null", "string"], "default": None}


def _later() -> str:
    document = json.loads(schema_text("AuditEvent"))
    document["fields"].append(COLOUR)
    return json.dumps(document)


def _publish_later(pipeline: Pipeline, registry: SchemaRegistryClient, event: AuditEvent, colour: str) -> None:
    """Publish an event as an application does that knows the later version: with Confluent's own serializer."""

    def to_datum(one: AuditEvent, _: SerializationContext) -> dict[str, Any]:
        return event_to_datum(one) | {"colour": colour}

    serialize = cast("Any", AvroSerializer)(registry, _later(), to_datum, {"auto.register.schemas": False})
    topic = pipeline.topics.events
    producer = Producer({"bootstrap.servers": pipeline.bootstrap, "partitioner": "murmur2_random"})
    producer.produce(topic, serialize(event, SerializationContext(topic, MessageField.VALUE)), event.tenant)
    assert producer.flush(30) == 0


def _searchable(pipeline: Pipeline) -> dict[str, str | None]:
    """Return the events that a search finds, with what they say."""
    with psycopg.connect(pipeline.database_url) as connection:
        rows = connection.execute("SELECT event_id, metadata ->> 'reason' FROM sealstream.events").fetchall()
    return dict(rows)


def _read(pipeline: Pipeline, topic: str) -> dict[str, bytes]:
    """Return a topic's values by the ids of their events."""
    logs = read_log(pipeline.connection, topic, pipeline.genesis.partitions)
    values = [record.value for records in logs for record in records if record.key == b"acme" and record.value]
    return {read_prefix(value)[0].decode(): value for value in values if value[0] in FRAMES}


@pytest.mark.slow
def test_old_and_new_readers_read_old_and_new_events(
    make_pipeline: MakePipeline,
    registry_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Events of the shipped schema and of a version with one more field pass every stage side by side; the store's
    search, which knows the shipped one, reads both, and so does Confluent's deserializer, which knows the later one;
    each version's text stands in the chain, once.
    """
    pipeline = make_pipeline()
    schemas = partial(command_here, monkeypatch, capsys, pipeline.environment, "schemas")
    asked = {"registry": registry_url}
    for role in ROLES:
        pipeline.start(role, **asked)
    code, first = schemas("register", "--tenant", "acme", **asked)
    assert (code, first["registered"]["is_new"], first["declared"]) == (0, True, 1)
    schema_id = schema_id_from_registry(registry_url, topics=pipeline.topics)
    with SyncAuditLog(
        kafka=pipeline.bootstrap, instance=pipeline.genesis.instance, topics=pipeline.topics, schema_id=schema_id
    ) as audit:
        audit.log(OLD)
    file = tmp_path / "later.avsc"
    file.write_text(_later())
    wait_for(lambda: "old-1" in _searchable(pipeline), timeout_seconds=90, what="the old event to be searchable")
    code, second = schemas("register", str(file), **asked)
    assert (code, second["registered"]["is_new"], second["declared"]) == (0, True, 1)

    with SchemaRegistryClient({"url": registry_url, "timeout": 20.0}) as registry:  # it tries again by itself
        _publish_later(pipeline, registry, NEW, "red")
        result = pipeline.harness().check("stored", "verified")
        assert result.kinds == {Kind.GENESIS: 1, Kind.EVENT: 2, Kind.CONTROL: 2}
        wait_for(lambda: len(_searchable(pipeline)) == 4, timeout_seconds=90, what="all events to be searchable")
        assert {one: _searchable(pipeline)[one] for one in ("old-1", "new-1")} == {"old-1": "old", "new-1": "new"}
        _assert_read_by_the_later_schema(registry, _read(pipeline, pipeline.topics.verified))
    chained = _read(pipeline, pipeline.topics.chained)
    _assert_declared(chained, [first["registered"]["schema_id"], second["registered"]["schema_id"]])
    _assert_sound(schemas, asked)


def _assert_read_by_the_later_schema(registry: SchemaRegistryClient, verified: dict[str, bytes]) -> None:
    deserialize = cast("Any", AvroDeserializer)(registry, _later())
    context = SerializationContext("any", MessageField.VALUE)
    read = {name: deserialize(verified[name], context) for name in ("old-1", "new-1")}
    assert {name: found["colour"] for name, found in read.items()} == {"old-1": None, "new-1": "red"}
    assert read["old-1"] == event_to_datum(OLD) | {"colour": None}
    assert read["new-1"] == event_to_datum(NEW) | {"colour": "red"}


def _assert_declared(chained: dict[str, bytes], schema_ids: list[int]) -> None:
    """Each version's text is there, and can be read by whoever has no registry."""
    controls = [EventReader().read(value).control for name, value in chained.items() if name.startswith("schema:")]
    texts = [SchemaText.parse(control.body) for control in controls if control is not None]
    assert {text.registry_id: json.loads(text.text) for text in texts} == dict(
        zip(schema_ids, [json.loads(schema_text("AuditEvent")), json.loads(_later())], strict=True)
    )


def _assert_sound(schemas: Schemas, asked: dict[str, str]) -> None:
    """Nothing is wrong, nothing more is put anywhere, and a chain that lacks a text is named."""
    code, found = schemas("check", **asked)
    assert (code, found["problems"], found["lacking"]) == (0, [], 0)
    code, again = schemas("register", **asked)
    assert (code, again["registered"]["is_new"], again["declared"]) == (0, False, 0)
    code, lacking = schemas("check", "--tenant", "globex", **asked)
    assert (code, lacking["lacking"], lacking["problems"][0].split(" lacks")[0]) == (1, 2, "chain globex")


def test_without_a_registry_the_shipped_schemas_text_is_declared(
    make_pipeline: MakePipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An instance that uses no registry says as well what its bytes mean; again and again, which changes nothing."""
    pipeline = make_pipeline(store=False)
    schemas = partial(command_here, monkeypatch, capsys, pipeline.environment, "schemas")
    for _ in range(2):
        code, found = schemas("register", "--tenant", "acme")
        assert (code, found) == (0, {"registered": None, "declared": 1, "texts": 1})
    partition = partition_of(b"acme", pipeline.genesis.partitions)
    first, second = read_log(pipeline.connection, pipeline.topics.events, pipeline.genesis.partitions)[partition]
    assert first.value == second.value  # which the chain marks as a duplicate
