"""Who publishes by the settings writes with the schema's id where a registry is set: the gateway, and an import."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sealstream.kafka.registry import registry_client
from sealstream.producers.registry.registering import register
from sealstream.producers.registry.subject import Subject, subject_name
from sealstream.schemas.codec import schema_text
from support.commands import command, run_command
from support.gateway import event, serve_gateway
from support.harness import read_log
from support.workers import Pipeline

MakePipeline = Callable[..., Pipeline]
NOWHERE = "http://127.0.0.1:9"
MAPPING = """
[source]
key = ["id"]

[event]
tenant = "acme"
occurred_at = "{at}"
action = "document.updated"
actor = { type = "user", id = "{who}" }
"""
ROWS = "id,at,who\n1,2020-01-01T00:00:00Z,ann\n2,2020-01-02T00:00:00Z,bob\n"


@pytest.fixture
def pipeline(make_pipeline: MakePipeline) -> Pipeline:
    """An instance with topics alone."""
    return make_pipeline(store=False)


@pytest.fixture
def frame(pipeline: Pipeline, registry_url: str) -> bytes:
    """What values of that instance begin with, whose schema is registered."""
    with closing(registry_client(registry_url, retries_max=2)) as client:
        registered = register(Subject(client, subject_name(pipeline.topics.events)), schema_text("AuditEvent"))
    return b"\x00" + registered.schema_id.to_bytes(4, "big")


def _frames(pipeline: Pipeline) -> list[bytes]:
    logs = read_log(pipeline.connection, pipeline.topics.events, pipeline.genesis.partitions)
    return [(record.value or b"")[:5] for records in logs for record in records]


@pytest.mark.parametrize("spool", [False, True], ids=["memory", "spool"])
def test_a_gateway_writes_with_the_id(
    pipeline: Pipeline, frame: bytes, registry_url: str, tmp_path: Path, *, spool: bool
) -> None:
    """With a spool and without; and a client's retry is the same bytes, so that it counts once."""
    settings = {"registry": registry_url, "gateway_spool": tmp_path / "spool" if spool else ""}
    with serve_gateway(pipeline, tmp_path, **settings) as gateway:
        for _ in range(2):
            assert gateway.post(event(), idempotency_key="once").status == 202

    logs = read_log(pipeline.connection, pipeline.topics.events, pipeline.genesis.partitions)
    values = [record.value for records in logs for record in records]
    assert _frames(pipeline) == [frame] * 2
    assert values[0] == values[1]


def test_an_import_writes_with_the_id_that_it_began_with(
    pipeline: Pipeline, frame: bytes, registry_url: str, tmp_path: Path
) -> None:
    """Rows and marks alike; a job that is there goes on with its own id, knows its rows again, and asks no registry."""
    trail, mapping, job = (tmp_path / name for name in ("trail.csv", "mapping.toml", "job"))
    trail.write_text(ROWS)
    mapping.write_text(MAPPING)
    arguments = ("import", "run", str(job), "--source", str(trail), "--mapping", str(mapping))

    done = run_command(pipeline, *arguments, registry=registry_url, failpoints="after-acknowledge=kill")
    assert done.returncode != 0, done.stdout
    code, result = command(pipeline, *arguments, registry=NOWHERE)

    assert (code, result["imported"]) == (0, 2)
    assert set(_frames(pipeline)) == {frame}
    assert len(_frames(pipeline)) == 4
