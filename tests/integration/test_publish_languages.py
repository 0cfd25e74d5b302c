"""Applications in other languages: whoever has a Kafka client and the registered schema publishes events."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from sealstream.kafka.registry import SchemaResolver, registry_client
from sealstream.producers.registry.registering import register
from sealstream.producers.registry.subject import Subject, subject_name
from sealstream.schemas.codec import EventReader, schema_text
from sealstream.schemas.entry import Kind
from support.go import ORACLES, go_program
from support.harness import read_log
from support.java import AVRO, JACKSON, KAFKA_CLIENT, java_program
from support.workers import Pipeline

MakePipeline = Callable[..., Pipeline]
EVENTS: Final = 300
TENANTS: Final = [f"tenant-{number}" for number in range(25)]
"""So many that another partitioner than Kafka's murmur2 sends some elsewhere, where they are quarantined."""
_PUBLISH_SECONDS: Final = 120.0


def _go(directory: Path) -> list[str]:
    return [str(go_program(ORACLES / "publish" / "go", directory))]


def _java(directory: Path) -> list[str]:
    source = ORACLES / "publish" / "java" / "Publish.java"
    return java_program(source, directory, kafka=(*KAFKA_CLIENT, *JACKSON), others=(AVRO,))


@pytest.mark.slow
@pytest.mark.timeout(400)  # Go compiles its library and the client's the first time
@pytest.mark.parametrize(("language", "program"), [("Java", _java), ("Go", _go)])
def test_their_events_come_out_verified(
    make_pipeline: MakePipeline,
    registry_url: str,
    tmp_path: Path,
    language: str,
    program: Callable[[Path], list[str]],
) -> None:
    """With the schema as the registry gives it, Confluent's framing and the client's own partitioner, every event is
    chained as an event, verified, and read by its meaning; none is quarantined.
    """
    command = program(tmp_path)
    pipeline = make_pipeline(store=False)
    for role in ("processor", "verifier"):
        pipeline.start(role)
    with closing(registry_client(registry_url, retries_max=2)) as client:
        register(Subject(client, subject_name(pipeline.topics.events)), schema_text("AuditEvent"))

        arguments = [pipeline.bootstrap, pipeline.topics.events, registry_url, ",".join(TENANTS), str(EVENTS)]
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=_PUBLISH_SECONDS, check=False
        )
        assert done.returncode == 0, done.stderr
        result = pipeline.harness().check("verified")

        assert result.kinds == {Kind.GENESIS: len(TENANTS), Kind.EVENT: EVENTS}
        reader = EventReader(schema_by_id=SchemaResolver(client))
        logs = read_log(pipeline.connection, pipeline.topics.verified, pipeline.genesis.partitions)
        events = [reader.read(record.value) for records in logs for record in records if record.value]
    assert Counter(event.metadata["language"] for event in events) == {language: EVENTS}
    assert Counter(event.id for event in events) == {f"{language.lower()}-{n}": 1 for n in range(EVENTS)}
    assert {(event.action, event.actor.type, event.outcome.value) for event in events} == {
        ("invoice.created", "service", "success")
    }
