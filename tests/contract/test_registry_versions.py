"""Versions of AuditEvent in a real registry: what is taken, what is refused, and by whom."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from sealstream.kafka.registry import registry_client
from sealstream.kafka.topics import TopicNames
from sealstream.producers.registry.registering import inspect, register
from sealstream.producers.registry.schema_id import schema_id_from_registry
from sealstream.producers.registry.subject import COMPATIBILITY, Subject, subject_name
from sealstream.schemas.codec import schema_text
from sealstream.schemas.errors import SchemaRefused, Unreachable

COLOUR: dict[str, Any] = {"name": "colour", "type": ["null", "string"], "default": None}


@pytest.fixture
def topics() -> TopicNames:
    """Names that no other test uses."""
    return TopicNames(prefix=f"versions-{uuid.uuid4().hex[:8]}.")


@pytest.fixture
def client(registry_url: str) -> Iterator[SchemaRegistryClient]:
    """The registry's client."""
    with registry_client(registry_url, retries_max=2) as found:
        yield found


@pytest.fixture
def subject(client: SchemaRegistryClient, topics: TopicNames) -> Subject:
    """The subject of those names."""
    return Subject(client, subject_name(topics.events))


def _with(*fields: dict[str, Any], at: int | None = None) -> str:
    document = json.loads(schema_text("AuditEvent"))
    place = len(document["fields"]) if at is None else at
    document["fields"][place:place] = fields
    return json.dumps(document)


def test_a_version_is_registered_once(subject: Subject) -> None:
    """The first run registers and says so; the next ones find it, under the same id; the compatibility is set."""
    first = register(subject, schema_text("AuditEvent"))
    again = register(subject, json.dumps(json.loads(schema_text("AuditEvent"))))
    state = inspect(subject)

    assert (first.is_new, again.is_new, first.schema_id) == (True, False, again.schema_id)
    assert (state.compatibility, state.problems, len(state.versions)) == (COMPATIBILITY, [], 1)


def test_a_later_version_stands_behind_the_shipped_one(subject: Subject) -> None:
    """So that the registry holds each version against what every reader knows, whoever registers first."""
    later = register(subject, _with(COLOUR))
    state = inspect(subject)

    assert [one.is_shipped for one in state.versions] == [True, False]
    assert (later.is_new, later.schema_id, state.problems) == (True, state.versions[1].schema_id, [])


def test_an_incompatible_version_is_refused_by_us_and_by_the_registry(
    subject: Subject, client: SchemaRegistryClient
) -> None:
    """Ours comes first and changes nothing; whoever goes past it gets HTTP 409."""
    incompatible = _with({"name": "colour", "type": "string"})
    register(subject, schema_text("AuditEvent"))

    with pytest.raises(SchemaRefused, match="cannot read"):
        register(subject, incompatible)
    with pytest.raises(SchemaRegistryError) as caught:
        client.register_schema(subject.name, Schema(incompatible, "AVRO"))
    assert caught.value.http_status_code == 409
    assert len(subject.versions()) == 1


def test_a_version_is_held_against_all_before_it(subject: Subject) -> None:
    """Compatible to the shipped schema is not enough: one that contradicts a later version is refused as well."""
    register(subject, _with(COLOUR))
    with pytest.raises(SchemaRefused, match="not compatible to every version"):
        register(subject, _with({"name": "colour", "type": ["null", "long"], "default": None}))
    assert len(subject.versions()) == 2


def test_a_changed_prefix_is_refused_by_us_because_no_registry_does(
    subject: Subject, client: SchemaRegistryClient
) -> None:
    """A field before the salt is compatible to the registry, which looks at names; what gets there past us is found."""
    shifted = _with(COLOUR, at=3)
    register(subject, schema_text("AuditEvent"))
    with pytest.raises(SchemaRefused, match="begins with id, tenant, kind, colour"):
        register(subject, shifted)
    assert inspect(subject).problems == []

    schema_id = client.register_schema(subject.name, Schema(shifted, "AVRO"))
    (problem,) = inspect(subject).problems
    assert f"id {schema_id}" in problem
    assert "begins with id, tenant, kind, colour" in problem


def test_an_application_finds_its_schemas_id_at_start(registry_url: str, topics: TopicNames, subject: Subject) -> None:
    """It is that of the schema which this release writes, however many later versions there are."""
    with pytest.raises(SchemaRefused, match="not registered") as caught:
        schema_id_from_registry(registry_url, topics=topics)
    assert caught.value.hint == "sealstream schemas register"
    register(subject, _with(COLOUR))

    assert schema_id_from_registry(registry_url, topics=topics) == inspect(subject).versions[0].schema_id


def test_a_schema_with_other_words_has_an_id_that_serves(
    registry_url: str, topics: TopicNames, client: SchemaRegistryClient
) -> None:
    """A release that says the same in other words needs no registration of its own: the bytes are the same."""
    document = json.loads(schema_text("AuditEvent")) | {"doc": "Other words."}
    schema_id = client.register_schema(subject_name(topics.events), Schema(json.dumps(document), "AVRO"))
    assert schema_id_from_registry(registry_url, topics=topics) == schema_id


def test_a_registry_that_is_away_is_an_error_in_time() -> None:
    """An application's start does not hang; it is told which registry it was, and how it can go on without."""
    with pytest.raises(Unreachable, match=r"does not answer .*, at 127\.0\.0\.1:9") as caught:
        schema_id_from_registry("http://ann:secret@127.0.0.1:9", timeout_seconds=2)
    assert "an id that was kept" in caught.value.hint
