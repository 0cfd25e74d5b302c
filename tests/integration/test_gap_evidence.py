"""A lost range that was accepted, for the evidence: its round, the witness, `verify`, and a proof from behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sealstream.kafka.partition import partition_of
from sealstream.schemas.entry import partition_chain
from support.commands import command
from support.processing import committed, expire
from support.providers import fresh_database
from support.stage import Stage
from support.workers import Pipeline, wait_for

PARTITIONS = 2
ACME = partition_of(b"acme", PARTITIONS)


@pytest.fixture
def stage(make_pipeline: Callable[..., Pipeline], database_server: str, tmp_path: Path) -> Iterator[Stage]:
    """An instance with nothing in it, and no worker running."""
    with fresh_database(database_server) as notary_url:
        yield Stage(make_pipeline(partitions=PARTITIONS), notary_url, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_accepted_gap_is_witnessed(stage: Stage, tmp_path: Path) -> None:
    """The notary calls the range lost, the witness comes to the same by itself, and all that is left is proven."""
    pipeline = stage.pipeline
    workers = stage.start()
    stage.publish("acme", "acme-1", "acme-2")
    stage.wait_witnessed(acme=3)
    first = committed(pipeline)[ACME]
    for role in ("processor", "verifier"):
        assert workers[role].terminate() == 0
    stage.publish("acme", "acme-3", "acme-4", "acme-5")
    expire(pipeline, ACME, first + 2)
    assert stage.start("processor", worker_id="processor-0")["processor"].wait(timeout_seconds=90) == 1
    place = ("--partition", str(ACME), "--from", str(first), "--to", str(first + 1))
    why = ("--by", "ada", "--why", "the disk was full", "--reason", "deleted", "--yes")
    code, accepted = command(pipeline, "gap", "accept", *place, *why)
    assert (code, accepted["accepted"]) == (0, True), accepted
    workers |= stage.start("processor", worker_id="processor-0")
    wait_for(lambda: committed(pipeline)[ACME] == first + 3, timeout_seconds=90, what="the gap and what is behind it")
    workers |= stage.start("verifier", worker_id="verifier-0")
    stage.wait_witnessed(acme=4)

    own = partition_chain(ACME)
    wait_for(lambda: stage.chain_size(own) == 2, timeout_seconds=90, what="a witnessed round with the gap")
    assert "checkpoint refused" not in workers["witness"].log()
    verified = stage.run("verify", "--require", "witnessed", "--json")
    assert verified.exit_code == 0, verified.errors + verified.output
    proof = tmp_path / "acme-5.sealproof"
    made = stage.run("proof", "acme", "acme-5", "-o", str(proof))
    assert made.exit_code == 0, made.errors
    policy = ("--policy", str(stage.policy_path), "--require", "witnessed")
    assert stage.run("verify-proof", str(proof), *policy).exit_code == 0
    assert {role: worker.terminate(timeout_seconds=20) for role, worker in workers.items()} == dict.fromkeys(workers, 0)
