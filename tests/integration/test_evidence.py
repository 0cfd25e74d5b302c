"""The whole way of an event: from an application's publish to a proof that is judged without any of our servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.providers import fresh_database
from support.stage import Stage
from support.workers import Pipeline


@pytest.fixture
def stage(make_pipeline: Callable[..., Pipeline], database_server: str, tmp_path: Path) -> Iterator[Stage]:
    """An instance with nothing in it, and no worker running."""
    with fresh_database(database_server) as notary_url:
        yield Stage(make_pipeline(partitions=2), notary_url, tmp_path)


def test_an_event_is_proven_offline_and_the_store_holds_against_what_was_witnessed(
    stage: Stage, tmp_path: Path
) -> None:
    """What an application published is in a proof file a moment later, and `verify` reaches the level `witnessed`."""
    workers = stage.start()
    stage.publish("acme", "a-1", "a-2", "a-3")
    stage.publish("globex", "g-1")
    stage.wait_witnessed(acme=4, globex=2)

    proof = tmp_path / "a-2.sealproof"
    made = stage.run("proof", "acme", "a-2", "-o", str(proof))
    assert made.exit_code == 0, made.errors
    judged = stage.run(
        "verify-proof", str(proof), "--policy", str(stage.policy_path), "--require", "witnessed", "--json"
    )
    assert judged.exit_code == 0, judged.errors
    assert (judged.json()["tenant"], judged.json()["seq"]) == ("acme", 2)

    verified = stage.run("verify", "--require", "witnessed", "--json")
    assert verified.exit_code == 0, verified.errors + verified.output
    assert verified.json()["level"] == "witnessed"

    assert {role: worker.terminate() for role, worker in workers.items()} == dict.fromkeys(workers, 0)
    stage.pipeline.harness().check("verified")
