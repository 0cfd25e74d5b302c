"""An epoch's end and the next one's beginning for the evidence: rounds, witness, `verify` and proofs of both epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from sealstream.schemas.coverage import parse_coverage
from sealstream.schemas.entry import Kind
from sealstream.sinks.store.migrate import migrate
from support.commands import command
from support.processing import committed
from support.providers import fresh_database
from support.stage import Stage
from support.workers import Pipeline, wait_for

OLD_TENANTS = ("acme", "globex", "initech")
MORE = 3


@pytest.fixture
def stage(make_pipeline: Callable[..., Pipeline], database_server: str, tmp_path: Path) -> Iterator[Stage]:
    """An instance with nothing in it, and no worker running."""
    with fresh_database(database_server) as notary_url:
        yield Stage(make_pipeline(partitions=2), notary_url, tmp_path)


def _covered(stage: Stage) -> list[set[bytes]]:
    """Return the source topics of which each round has new offsets."""
    with psycopg.connect(stage.notary_url) as connection:
        rows = connection.execute("SELECT coverage FROM sealstream_notary.rounds ORDER BY round").fetchall()
    return [{part.topic_id for part in parse_coverage(data) if part.end > part.begin} for (data,) in rows]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_both_epochs_are_witnessed_and_proven(stage: Stage, tmp_path: Path) -> None:
    """The notary runs through; the witness is started with the new epoch's settings while rounds of the old one are
    left, and cosigns those of both: all that was published becomes public, and is proven.
    """
    before = stage.pipeline
    notary = stage.start("notary")["notary"]
    old = stage.start("processor", "sink", "verifier", "witness")
    for tenant in OLD_TENANTS:
        stage.publish(tenant, f"{tenant}-1", f"{tenant}-2")
    stage.wait_witnessed(acme=3, globex=3, initech=3)
    assert old["witness"].terminate() == 0  # from here on rounds of the old epoch wait for a cosignature
    assert old["sink"].terminate() == 0  # and some are not even stored
    stage.publish("globex", "globex-3")
    stage.publish("acme", "acme-3")
    ends = {number: log[-1].offset + 1 for number, log in enumerate(before.harness().source()) if log}
    wait_for(lambda: committed(before) == ends, timeout_seconds=90, what="the old epoch to be chained")
    assert old["processor"].terminate() == 0

    after = before.next_epoch(partitions=MORE)
    after.environment = before.environment | after.environment
    code, started = command(after, "epoch", "start", "--by", "ada", "--why", "growth", "--yes", "--wait", "60")
    assert (code, started["started"]) == (0, True), started
    migrate(before.database_url, partitions=MORE)
    stage.pipeline = after
    new = stage.start("processor", "sink", "witness")
    stage.publish("umbrella", "umbrella-1")
    stage.publish("initech", "initech-3")
    code, followed = command(after, "epoch", "follow", "--wait", "90")
    assert (code, followed["followed"]) == (0, True), followed
    assert old["verifier"].terminate() == 0
    new |= stage.start("verifier")
    stage.wait_witnessed(umbrella=2)  # a round of the new epoch, while the old one is not whole in the store
    stage.publish("globex", "globex-4")
    stage.publish("acme", "acme-4")
    stage.pipeline = before
    old["sink"] = stage.start("sink", worker_id="sink-0")["sink"]
    stage.pipeline = after
    stage.wait_witnessed(acme=6, globex=6, initech=5, umbrella=2)

    rounds = _covered(stage)
    assert max(map(len, rounds)) == 1
    assert len({topic_id for covered in rounds for topic_id in covered}) == 2
    assert "checkpoint refused" not in new["witness"].log()
    verified = stage.run("verify", "--require", "witnessed", "--json")
    assert verified.exit_code == 0, verified.errors + verified.output
    for event_id in ("acme-1", "globex-3", "acme-4", "umbrella-1"):
        proof = tmp_path / f"{event_id}.sealproof"
        made = stage.run("proof", event_id.partition("-")[0], event_id, "-o", str(proof))
        assert made.exit_code == 0, made.errors
        policy = ("--policy", str(stage.policy_path), "--require", "witnessed")
        assert stage.run("verify-proof", str(proof), *policy).exit_code == 0
    workers = {**new, "notary": notary, "old sink": old["sink"]}
    assert {role: worker.terminate(timeout_seconds=20) for role, worker in workers.items()} == dict.fromkeys(workers, 0)
    harness = after.harness()
    harness.before = before.harness()
    assert harness.check("stored", "verified").kinds[Kind.EPOCH] == len(OLD_TENANTS)
