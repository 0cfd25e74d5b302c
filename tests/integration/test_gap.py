"""The way out where source records were lost before they were chained: an operator accepts exactly that range."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sealstream.deploy.cli import main
from sealstream.kafka.partition import partition_of
from sealstream.processors.accepting import prepare, record
from sealstream.processors.cycle import Cycle
from sealstream.schemas.entry import GapReason, Kind
from sealstream.schemas.errors import ConfigError, InstanceDiffers, SealstreamError, SourceGap
from sealstream.worker.settings import PREFIX, load_settings
from support.commands import command, run_command
from support.harness import AuditHarness
from support.model import LostRange
from support.processing import (
    PARTITIONS,
    abort,
    chained_count,
    committed,
    expire,
    publish,
    run_engine,
    verify_chains,
)
from support.publish import RawRecord, event_value
from support.workers import Pipeline

MakePipeline = Callable[..., Pipeline]
ACME = partition_of(b"acme", PARTITIONS)


def accept(
    pipeline: Pipeline, partition: int, first: int, last: int, *, by: str = "ada", why: str = "full", **settings: object
) -> None:
    """Accept a range as the command does, within this process."""
    environment = pipeline.environment | {f"{PREFIX}{name.upper()}": str(value) for name, value in settings.items()}
    loaded = load_settings(environment | {f"{PREFIX}WORKER_ID": "operator"})
    prepared = prepare(loaded, partition=partition, first=first, last=last, reason=GapReason.EXPIRED, by=by, why=why)
    record(loaded, prepared)


def acme(pipeline: Pipeline, prefix: str, count: int) -> None:
    """Publish different events of one tenant."""
    publish(pipeline, *(RawRecord(b"acme", event_value("acme", f"{prefix}-{n}")) for n in range(count)))


def first_behind(harness: AuditHarness, partition: int, last: int) -> int:
    """Return the time of the first record behind an offset, as an entry has it; 0 for none."""
    behind = [r for r in harness.source()[partition] if r.offset > last]
    return (behind[0].timestamp_ms or 0) * 1000 if behind else 0


def lose(pipeline: Pipeline, count: int, left: int) -> tuple[int, int]:
    """Publish records of one tenant, lose the first of them before they are chained, and return the lost range."""
    first = committed(pipeline).get(ACME, 0)
    acme(pipeline, f"lost-{first}", count + left)
    expire(pipeline, ACME, first + count)
    return first, first + count - 1


def go_on(pipeline: Pipeline, to: int, **settings: object) -> None:
    """Run a worker until the partition is chained up to an offset."""
    run_engine(pipeline, until=lambda: committed(pipeline).get(ACME) == to, **settings)


def test_an_accepted_range_becomes_an_entry_and_chaining_goes_on(chained: Pipeline) -> None:
    """Exactly the accepted range becomes one entry of kind 7 in the partition's chain; what lies behind is chained."""
    harness = chained.harness()
    harness.keep()
    first, last = lose(chained, 3, left=2)
    with pytest.raises(SourceGap) as caught:
        run_engine(chained, until=lambda: False)
    assert f"--partition {ACME} --from {first} --to {last}" in caught.value.hint
    accept(chained, ACME, first, last)
    go_on(chained, last + 3)

    harness.lost = [LostRange(ACME, first, last, first_behind(harness, ACME, last))]
    assert harness.check().kinds == {Kind.EVENT: 52, Kind.GENESIS: 12, Kind.GAP: 1}
    verify_chains(chained)


def test_a_range_with_nothing_behind_it_is_chained_at_once(chained: Pipeline) -> None:
    """Where all is lost up to the end, the entry does not wait for a next record, and a restart adds nothing."""
    harness = chained.harness()
    harness.keep()
    first, last = lose(chained, 4, left=0)
    accept(chained, ACME, first, last)
    go_on(chained, last + 1)
    acme(chained, "behind", 3)
    go_on(chained, last + 4)

    harness.lost = [LostRange(ACME, first, last, 0)]
    assert harness.check().kinds[Kind.GAP] == 1


def test_a_partition_whose_beginning_is_lost_begins_with_the_gap(make_pipeline: MakePipeline) -> None:
    """Also what was lost before the first worker came is an entry, behind the genesis of the partition's chain."""
    pipeline = make_pipeline(store=False)
    first, last = lose(pipeline, 3, left=2)
    accept(pipeline, ACME, first, last)
    go_on(pipeline, last + 3)

    harness = pipeline.harness()
    harness.lost = [LostRange(ACME, 0, 2, first_behind(harness, ACME, last))]
    assert harness.check().kinds == {Kind.GENESIS: 2, Kind.GAP: 1, Kind.EVENT: 2}


def test_two_gaps_and_markers_between_them(chained: Pipeline) -> None:
    """A range begins right behind the last chained record, also where the position has passed over aborted ones."""
    harness = chained.harness()
    harness.keep()
    chained_to = committed(chained)[ACME]
    abort(chained, 5)
    go_on(chained, chained_to + 6)
    acme(chained, "lost", 3)
    expire(chained, ACME, chained_to + 8)
    accept(chained, ACME, chained_to, chained_to + 7)
    go_on(chained, chained_to + 9)
    first = LostRange(ACME, chained_to, chained_to + 7, first_behind(harness, ACME, chained_to + 7))
    harness.keep()
    again = lose(chained, 2, left=1)
    accept(chained, ACME, *again)
    go_on(chained, again[1] + 2)

    harness.lost = [first, LostRange(ACME, *again, first_behind(harness, ACME, again[1]))]
    assert harness.check().kinds[Kind.GAP] == 2
    verify_chains(chained)


def refused(pipeline: Pipeline, error: type[SealstreamError], first: int, last: int, **settings: Any) -> str:
    """Return why an acceptance is refused."""
    with pytest.raises(error) as caught:
        accept(pipeline, ACME, first, last, **settings)
    return caught.value.message


def test_nothing_but_exactly_what_is_lost_can_be_accepted(chained: Pipeline) -> None:
    """A range of which a record can still be read, a part of the range, or nothing lost at all is refused."""
    at = committed(chained)[ACME]
    assert "nothing is lost" in refused(chained, SourceGap, at, at)
    first, last = lose(chained, 3, left=2)
    assert "can still be read" in refused(chained, SourceGap, first, last + 1)
    for part in ((first + 1, last), (first, last - 1), (first - 1, last)):
        assert f"lost are {first} to {last}" in refused(chained, SourceGap, *part)
    assert "does not exist" in refused(chained, ConfigError, first, last, topic_prefix="nowhere.")
    for texts in ({"by": " "}, {"why": "a\x1b[2J"}, {"why": "x" * 1001}):
        assert "printable" in refused(chained, ConfigError, first, last, **texts)
    refused(chained, InstanceDiffers, first, last, window_offsets=7)
    with pytest.raises(SourceGap):
        run_engine(chained, until=lambda: False)

    assert chained_count(chained) == 60


def test_more_that_is_lost_after_the_acceptance_is_not_accepted(chained: Pipeline) -> None:
    """If retention goes on, the worker stops again, names the larger range, and takes the acceptance of that."""
    harness = chained.harness()
    harness.keep()
    first, last = lose(chained, 3, left=3)
    accept(chained, ACME, first, last)
    expire(chained, ACME, last + 3)
    with pytest.raises(SourceGap, match=f"{first} to {last + 2} are lost"):
        run_engine(chained, until=lambda: False)
    accept(chained, ACME, first, last + 2)
    go_on(chained, last + 4)

    harness.lost = [LostRange(ACME, first, last + 2, first_behind(harness, ACME, last + 2))]
    assert harness.check().kinds[Kind.GAP] == 1


def test_a_worker_that_dies_on_the_entry_is_repaired_by_the_next_one(
    chained: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The acceptance outlives the worker: whoever comes next makes the same entry, once."""
    harness = chained.harness()
    harness.keep()
    first, last = lose(chained, 3, left=2)
    accept(chained, ACME, first, last)
    with monkeypatch.context() as broken:
        broken.setattr(Cycle, "_send_offsets", _fail)
        with pytest.raises(RuntimeError, match="pulled"):
            run_engine(chained, until=lambda: False)
    go_on(chained, last + 3)

    harness.lost = [LostRange(ACME, first, last, first_behind(harness, ACME, last))]
    assert harness.check().kinds[Kind.GAP] == 1


def _fail(*arguments: object) -> None:
    del arguments
    raise RuntimeError("the plug was pulled")


def test_the_command_asks_before_it_records(chained: Pipeline) -> None:
    """Without a yes nothing is recorded, and where nobody can be asked that is the answer."""
    first, last = lose(chained, 3, left=2)
    place = ["--partition", str(ACME), "--from", str(first), "--to", str(last), "--by", "ada", "--why", "full"]
    code, error = command(chained, "gap", "accept", *place)
    assert (code, error["type"]) == (2, "ConfigError")
    asked = run_command(chained, "gap", "accept", *place)
    assert asked.returncode == 2
    assert f"{first} to {last}" in asked.stdout.decode()
    assert b"nothing was recorded" in asked.stderr
    with pytest.raises(SourceGap):
        run_engine(chained, until=lambda: False)
    code, accepted = command(chained, "gap", "accept", *place, "--yes")
    assert (code, accepted["again"]) == (0, False)
    code, accepted = command(chained, "gap", "accept", *place, "--yes")
    assert (code, accepted["again"]) == (0, True)
    go_on(chained, last + 3)


def test_gaps_are_listed_from_the_loss_to_the_entry(
    chained: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person sees what is lost and how to accept it, and for ever after who did that, and why."""
    for name, value in chained.environment.items():
        monkeypatch.setenv(name, value)

    def listed(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
        capsys.readouterr()  # what a worker within this process has logged
        code = main(["gap", "list", *arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    assert listed() == (0, [])
    first, last = lose(chained, 3, left=2)
    place = {"partition": ACME, "from": first, "to": last}
    assert listed() == (1, [place | {"state": "open"}])
    assert listed("--partition", str((ACME + 1) % PARTITIONS)) == (0, [])
    assert main(["gap", "list"]) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1].split("\t")[:4] == [str(ACME), str(first), str(last), "open"]
    assert f"gap accept --partition {ACME} --from {first} --to {last}" in shown.err
    accept(chained, ACME, first, last)
    code, [accepted] = listed()
    assert (code, accepted["state"], accepted["by"], accepted["why"]) == (0, "accepted", "ada", "full")
    go_on(chained, last + 3)

    assert listed() == (0, [accepted | {"state": "chained"}])
    assert accepted.items() >= (place | {"reason": "expired"}).items()
