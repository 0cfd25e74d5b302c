"""An epoch's end and the next one's beginning through all parts, under load: from four partitions to eight."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from sealstream.schemas.entry import Kind
from sealstream.sinks.store.migrate import migrate
from sealstream.sinks.verifier.audit import verify_store
from support.commands import command
from support.load import steady_load
from support.processing import committed, load, publish, verify_chains, wait_ready
from support.publish import RawRecord
from support.workers import Pipeline, wait_for

MakePipeline = Callable[..., Pipeline]
MORE = 8
LOADED = 40
PAUSE_SECONDS = 0.1


def more(pipeline: Pipeline, name: str) -> Callable[[int], None]:
    """Return what publishes events of ten tenants, and a bad record to each partition."""

    def publish_round(number: int) -> None:
        load(pipeline, f"{name}-{number}", LOADED)
        publish(pipeline, *(RawRecord(None, b"x", partition=n) for n in range(pipeline.genesis.partitions)))

    return publish_round


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_epoch_is_started_under_load(make_pipeline: MakePipeline, database_url: str) -> None:
    """Publishers move, workers are replaced, and every chain goes on unbroken: chained, stored, verified, once each."""
    before = make_pipeline()
    after = before.next_epoch(partitions=MORE)
    old = {role: before.start(role) for role in ("processor", "sink", "verifier")}
    why = ("--by", "ada", "--why", "more partitions")
    with ThreadPoolExecutor(1) as thread:
        with steady_load(more(before, "old"), pause_seconds=PAUSE_SECONDS):
            wait_ready(old["processor"])
            wait_for(lambda: sum(committed(before).values()) > 300, timeout_seconds=60, what="a load that is chained")
            code, refused = command(after, "epoch", "start", *why, "--yes")
            assert (code, refused["type"]) == (1, "EpochNotDrained")
            assert old["sink"].terminate() == 0  # it is behind from here on
            started = thread.submit(command, after, "epoch", "start", *why, "--yes", "--wait", "90")
        # The publishers have stopped. The old worker passes over the end of its source before it is stopped.
        source = before.harness().source()
        ends = {n: records[-1].offset + 1 for n, records in enumerate(source)}
        wait_for(lambda: committed(before) == ends, timeout_seconds=60, what="the old epoch to be chained")
        assert old["processor"].terminate() == 0
        code, document = started.result()
    assert code == 0, document
    assert (document["chains"], document["partitions"]) == (14, {"old": 4, "new": MORE})
    code, again = command(after, "epoch", "start", *why, "--yes")
    assert (code, again["started"]) == (0, False)
    migrate(database_url, partitions=MORE)
    with steady_load(more(after, "new"), pause_seconds=PAUSE_SECONDS):
        new = {role: after.start(role) for role in ("processor", "sink")}
        wait_ready(new["processor"])
        waits = "goes on with entry"
        wait_for(lambda: waits in new["sink"].get("/readyz")[1], timeout_seconds=60, what="the store to wait")
        old["sink"] = before.start("sink", worker_id="sink-0")
        code, followed = command(after, "epoch", "follow", "--wait", "90")
        assert (code, followed["followed"], followed["chains"]) == (0, True, 14)
        assert old["verifier"].terminate() == 0
        new["verifier"] = after.start("verifier")
        wait_for(lambda: sum(committed(after).values()) > 300, timeout_seconds=60, what="chaining in the new epoch")
    harness = after.harness()
    harness.before = before.harness()

    found = harness.check("stored", "verified", timeout_seconds=180)
    assert (found.kinds[Kind.EPOCH], found.kinds[Kind.GENESIS]) == (14, MORE - 4)
    harness.before.check("verified")
    verify_chains(before, after)
    assert all(worker.process.poll() is None for worker in new.values())
    result = verify_store(database_url)
    assert (result.exit_code, result.violations) == (0, [])
    assert verify_store(database_url, tenant="tenant-0", first_seq=result.checked_through["tenant-0"] - 2).is_valid
