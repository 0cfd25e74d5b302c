"""A lost range and its acceptance through all parts, under load: processor, store, verifier, the command, `verify`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sealstream.kafka.partition import partition_of
from sealstream.schemas.entry import GapReason, Kind
from sealstream.sinks.verifier.audit import verify_store
from support.commands import command
from support.harness import read_log
from support.load import steady_load
from support.model import LostRange
from support.processing import PARTITIONS, committed, expire, load, publish, wait_ready
from support.publish import RawRecord, event_value
from support.workers import Pipeline, wait_for

MakePipeline = Callable[..., Pipeline]
ACME = partition_of(b"acme", PARTITIONS)
LOADED = 40


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_gap_is_accepted_under_load(make_pipeline: MakePipeline, database_url: str) -> None:
    """The worker stops, one command lets it go on, and store and verifier follow; all that is left is there, once."""
    pipeline = make_pipeline()
    harness = pipeline.harness()
    sink = pipeline.start("sink")
    verifier = pipeline.start("verifier")
    processor = pipeline.start("processor")

    def more(number: int) -> None:
        load(pipeline, f"load-{number}", LOADED)
        publish(pipeline, RawRecord(b"acme", event_value("acme", f"acme-{number}")))

    with steady_load(more, pause_seconds=0.05):
        wait_ready(processor)
        wait_for(lambda: committed(pipeline).get(ACME, 0) > 20, timeout_seconds=60, what="a load that is chained")
        processor.kill()
        at = committed(pipeline)[ACME]
        wait_for(lambda: _source_end(pipeline) > at + 10, timeout_seconds=60, what="records to be lost")
        harness.keep()
        expire(pipeline, ACME, at + 5)
        again = pipeline.start("processor", worker_id="processor-0")
        assert again.wait(timeout_seconds=90) == 1
        assert f"gap accept --partition {ACME} --from {at} --to {at + 4}" in again.log()
        code, refused = command(pipeline, "gap", "accept", *_range(at, at + 5), "--yes")
        assert (code, refused["type"]) == (1, "SourceGap")
        code, accepted = command(pipeline, "gap", "accept", *_range(at, at + 4), "--yes")
        assert (code, accepted["accepted"], accepted["from"], accepted["to"]) == (0, True, at, at + 4)
        third = pipeline.start("processor", worker_id="processor-0")
        wait_ready(third)
        wait_for(lambda: committed(pipeline)[ACME] > at + 20, timeout_seconds=60, what="chaining behind the gap")
    if verifier.process.poll() is not None:  # it looked while nobody had accepted that
        assert verifier.process.returncode == 2
        assert "source-expired" in verifier.log()
        pipeline.start("verifier", worker_id="verifier-0")
    behind = next(record for record in harness.source()[ACME] if record.offset > at + 4)
    harness.lost = [LostRange(ACME, at, at + 4, (behind.timestamp_ms or 0) * 1000, GapReason.DELETED)]

    assert harness.check("stored", "verified", timeout_seconds=120).kinds[Kind.GAP] == 1
    assert sink.process.poll() is None
    result = verify_store(database_url)
    assert (result.exit_code, result.violations) == (0, [])


def _source_end(pipeline: Pipeline) -> int:
    records = read_log(pipeline.connection, pipeline.topics.events, PARTITIONS)[ACME]
    return records[-1].offset + 1 if records else 0


def _range(first: int, last: int) -> list[str]:
    place = ["--partition", str(ACME), "--from", str(first), "--to", str(last)]
    return [*place, "--by", "ada", "--why", "the disk was full", "--reason", "deleted"]
