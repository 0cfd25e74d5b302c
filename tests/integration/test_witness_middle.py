"""A new recomputing witness for an instance that Kafka no longer has the beginning of, on the real stack."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import cast

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.entry import entry_hash, pack, parse, payload_digest
from sealstream.schemas.log_layout import ROOT_CHECKPOINT
from sealstream.schemas.note import Note
from support.forging import violations_of
from support.harness import read_log
from support.providers import fresh_database
from support.publish import event_value
from support.stage import Stage
from support.workers import Pipeline, wait_for

PARTITIONS = 2


@pytest.fixture
def stage(make_pipeline: Callable[..., Pipeline], database_server: str, tmp_path: Path) -> Iterator[Stage]:
    """An instance with nothing in it, and no worker running."""
    with fresh_database(database_server) as notary_url:
        yield Stage(make_pipeline(partitions=PARTITIONS), notary_url, tmp_path)


def _expire_everything(pipeline: Pipeline) -> int:
    """Delete all that is on audit.events and audit.chained, as retention does, and return how much was chained."""
    topics = pipeline.topics
    there = [TopicPartition(one, n, -1) for one in (topics.events, topics.chained) for n in range(PARTITIONS)]
    count = sum(map(len, read_log(pipeline.connection, topics.chained, PARTITIONS)))
    client = AdminClient({"bootstrap.servers": pipeline.bootstrap})
    for future in cast("dict[TopicPartition, Future[object]]", client.delete_records(there)).values():
        future.result()
    assert not sum(map(len, read_log(pipeline.connection, topics.chained, PARTITIONS)))
    return count


def _keep_checkpoint(stage: Stage, path: Path) -> None:
    """Keep the public root checkpoint, once it is one with all that has been witnessed by now."""
    with psycopg.connect(stage.notary_url) as connection:
        query = "SELECT max(round) FROM sealstream_notary.rounds WHERE witnessed_at IS NOT NULL"
        ((last,),) = connection.execute(query).fetchall()

    def is_public() -> bool:
        shutil.copy(stage.storage / ROOT_CHECKPOINT, path)
        return Checkpoint.parse(Note.parse(path.read_bytes()).text).size > int(last)

    wait_for(is_public, timeout_seconds=60, what=f"the checkpoint of round {last}")


def _forget(stage: Stage) -> None:
    for path in stage.directory.glob("witness.sqlite*"):
        path.unlink()


def _stored(stage: Stage, tenant: str) -> int:
    """Return how many entries of a chain the store has."""
    with psycopg.connect(stage.pipeline.database_url) as connection:
        query = "SELECT count(*) FROM sealstream.entries WHERE tenant = %s"
        ((count,),) = connection.execute(query, (tenant,)).fetchall()
    return int(count)


def _forge_last(stage: Stage, tenant: str, seq: int) -> None:
    """Let the store have another event as a chain's last one, with its hash and the chain's head, as its owner can."""
    with psycopg.connect(stage.pipeline.database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        query = "SELECT entry FROM sealstream.entries WHERE tenant = %s AND seq = %s"
        ((entry,),) = connection.execute(query, (tenant, seq)).fetchall()
        genuine = parse(entry)
        value = event_value(tenant, genuine.event_id, note="another amount")
        forged = pack(replace(genuine, length=len(value), payload=payload_digest(value)))
        for table, columns, values in (
            ("entries", "hash = %s, entry = %s", (entry_hash(forged), forged)),
            ("payloads", "bytes = %s", (value,)),
            ("tenant_heads", "hash = %s", (entry_hash(forged),)),
        ):
            statement = f"UPDATE sealstream.{table} SET {columns} WHERE tenant = %s AND seq = %s"
            connection.execute(statement.encode(), (*values, tenant, seq))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_witness_begins_where_the_log_has_no_beginning(stage: Stage, tmp_path: Path) -> None:
    """Its file was lost, and Kafka has nothing from before the checkpoint: given that checkpoint it cosigns what comes
    behind it, and names what is wrong there. With a checkpoint behind which something expired it does not begin.
    """
    pipeline = stage.pipeline
    workers = stage.start()
    stage.publish("acme", "a-1", "a-2", "a-3")
    stage.publish("globex", "g-1")
    stage.wait_witnessed(acme=4, globex=2)
    checkpoint, older = tmp_path / "kept-checkpoint", tmp_path / "older-checkpoint"
    _keep_checkpoint(stage, older)
    stage.publish("acme", "a-4")
    stage.wait_witnessed(acme=5)
    _keep_checkpoint(stage, checkpoint)
    assert workers["witness"].terminate() == 0
    _forget(stage)
    assert _expire_everything(pipeline) == 7

    late = stage.run("witness", "--recompute", "--from-checkpoint", str(older))
    assert late.exit_code == 2
    assert "no longer has what stands behind the checkpoint: chain acme seq 4" in late.errors
    assert "begin with a newer root checkpoint" in late.errors

    begun = stage.start_witness("--from-checkpoint", str(checkpoint))
    stage.publish("acme", "a-5")
    stage.publish("newcomer", "n-1")
    stage.wait_witnessed(acme=6, newcomer=2)
    assert "checkpoint refused" not in begun.log()
    assert begun.terminate() == 0
    going_on = stage.start("witness")["witness"]  # without the option: it remembers

    assert workers["notary"].terminate() == 0
    stage.publish("acme", "a-6")
    wait_for(lambda: _stored(stage, "acme") == 7, timeout_seconds=90, what="the event in the store")
    _forge_last(stage, "acme", 6)
    stage.start("notary")
    wait_for(lambda: bool(violations_of(pipeline)), timeout_seconds=90, what="the violation")

    found = {(one.type, one.tenant, one.seq) for one in violations_of(pipeline)}
    assert found == {("edited", "acme", 6)}
    assert "tenant acme seq 6: " in going_on.log()
    assert stage.chain_size("acme") < 7
