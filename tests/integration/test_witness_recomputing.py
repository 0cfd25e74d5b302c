"""The recomputing witness's judge on real Kafka, behind a real processor and a real verifier."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from sealstream.kafka.partition import partition_of
from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.coverage import OffsetRange, PartitionCoverage
from sealstream.schemas.entry import Kind, pack
from sealstream.schemas.errors import CheckpointRefused, SourceExpired
from sealstream.schemas.violation import ViolationType
from sealstream.sinks.verifier.violations import resolve
from sealstream.sinks.witness.judging import Behind
from sealstream.sinks.witness.recomputing.judge import RecomputingJudge, open_judge
from sealstream.worker.objects import open_objects
from sealstream.worker.settings import Settings, load_settings
from support.forging import (
    At,
    Chainer,
    Log,
    abort_events,
    altering,
    violations_of,
    wait_for_verified,
    wait_for_violations,
    with_entry,
)
from support.model import LostRange
from support.processing import expire, load
from support.rounds import (
    SECRET,
    PlainRound,
    Sealed,
    coverage_of,
    entries_of,
    heads_of,
    last_ends,
    make_round,
    publish_chains,
    publish_rounds,
    root_checkpoint,
    seal_round,
)
from support.workers import Pipeline, wait_for

MakePipeline = Callable[..., Pipeline]
Entries = dict[int, list[Sealed]]
JUDGE_SECONDS = 90.0


class Case:
    """An instance, where its rounds are published, and judges of them.

    Arguments:
        pipeline: The instance.
        directory: Where files go.
    """

    def __init__(self, pipeline: Pipeline, directory: Path) -> None:
        self.pipeline = pipeline
        self.path = directory / "witness.db"
        (directory / "log").mkdir()
        self.objects = open_objects(str(directory / "log"))
        environment = pipeline.environment | {
            "SEALSTREAM_LOG_STORAGE": str(directory / "log"),
            "SEALSTREAM_MAP_SECRET": SECRET.hex(),
            "SEALSTREAM_WORKER_ID": "judge",
        }
        self.settings: Settings = load_settings(environment)
        self._judges: list[RecomputingJudge] = []

    def open(self, path: Path | None = None) -> RecomputingJudge:
        """Open a judge with the case's memory, or with another one."""
        judge = open_judge(self.settings, path or self.path)
        self._judges.append(judge)
        return judge

    def close(self) -> None:
        """Close all judges."""
        for judge in self._judges:
            judge.close()

    def topic_id(self) -> bytes:
        """Return the UUID of the source topic."""
        found = self.pipeline.topic_id(self.pipeline.topics.events)
        assert found is not None
        return found

    def rounds(self, entries: Entries, *cuts: Mapping[int, int]) -> list[PlainRound]:
        """Return true rounds that end at these offsets, and the last one behind all."""
        rounds: list[PlainRound] = []
        for ends in (*cuts, last_ends(entries)):
            rounds.append(make_round(entries, ends, topic_id=self.topic_id(), before=rounds))
        return rounds

    def publish(self, rounds: list[PlainRound]) -> Checkpoint:
        """Publish rounds and return the checkpoint behind them."""
        publish_rounds(self.objects, rounds)
        return root_checkpoint(self.pipeline.genesis.instance, rounds)


def _decide(judge: RecomputingJudge, checkpoint: Checkpoint) -> None:
    """Ask a judge until it is no longer behind."""

    def decided() -> bool:
        try:
            judge.judge(checkpoint)
        except Behind:
            return False
        return True

    wait_for(decided, timeout_seconds=JUDGE_SECONDS, what="a judge that is no longer behind")


def _cosign(judge: RecomputingJudge, path: Path, checkpoint: Checkpoint) -> None:
    """Let a judge write down what a witness cosigns."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        judge.witnessed(checkpoint, connection)
        connection.execute("COMMIT")


@pytest.fixture
def make_case(make_pipeline: MakePipeline, tmp_path: Path) -> Iterator[Callable[..., Case]]:
    """Make an instance whose rounds can be judged."""
    made: list[Case] = []

    def make(**settings: object) -> Case:
        case = Case(make_pipeline(store=False, partitions=2, **settings), tmp_path)
        made.append(case)
        return case

    yield make
    for case in made:
        case.close()


def _chained(pipeline: Pipeline, count: int) -> Entries:
    """Wait until so many entries are chained, and return all of them."""
    wait_for(lambda: sum(map(len, entries_of(pipeline).values())) >= count, timeout_seconds=90, what=f"{count} entries")
    return entries_of(pipeline)


def _left_out(case: Case, entries: Entries, ends: dict[int, int]) -> PlainRound:
    place, _ = _last_event(entries)
    fewer = entries | {place: [one for one in entries[place] if one != entries[place][-1]]}
    return make_round(fewer, ends, topic_id=case.topic_id())


def _edited(case: Case, entries: Entries, ends: dict[int, int]) -> PlainRound:
    place, last = _last_event(entries)
    forged = last._replace(entry=pack(replace(last.parsed, received=1)))
    stored = entries | {place: [*entries[place][:-1], forged]}
    publish_chains(case.objects, stored, ends)
    return make_round(stored, ends, topic_id=case.topic_id())


def _parts(case: Case, entries: Entries, ends: dict[int, int]) -> list[PartitionCoverage]:
    return [coverage_of(entries[number], case.topic_id(), number, 0, end) for number, end in ends.items()]


def _miscounted(case: Case, entries: Entries, ends: dict[int, int]) -> PlainRound:
    first, *rest = _parts(case, entries, ends)
    counts = list(first.counts)
    counts[Kind.EVENT], counts[Kind.CONTROL] = counts[Kind.EVENT] - 1, 1
    return seal_round(None, [replace(first, counts=tuple(counts)), *rest], heads_of(entries, ends))


def _shrunk(case: Case, entries: Entries, ends: dict[int, int]) -> PlainRound:
    true = make_round(entries, ends, topic_id=case.topic_id())
    name = next(iter(sorted(true.heads)))
    few = {number: [one for one in records if one.parsed.tenant == name][:2] for number, records in entries.items()}
    return seal_round(None, true.parts, true.heads | heads_of(few, ends))


def _dropped(case: Case, entries: Entries, ends: dict[int, int]) -> PlainRound:
    true = make_round(entries, ends, topic_id=case.topic_id())
    name = next(iter(sorted(true.heads)))
    return seal_round(None, true.parts, {other: head for other, head in true.heads.items() if other != name})


def _skipped(case: Case, entries: Entries, ends: dict[int, int]) -> PlainRound:
    true = make_round(entries, ends, topic_id=case.topic_id())
    return replace(true, leaf=replace(true.leaf, round=1, previous=b"p" * 32))


def _last_event(entries: Entries) -> tuple[int, Sealed]:
    number = max(entries, key=lambda one: len(entries[one]))
    return number, entries[number][-1]


LIES: dict[str, tuple[Callable[[Case, Entries, dict[int, int]], PlainRound], ViolationType]] = {
    "left out": (_left_out, ViolationType.GAP),
    "edited": (_edited, ViolationType.EDITED),
    "miscounted": (_miscounted, ViolationType.EDITED),
    "shrunk": (_shrunk, ViolationType.FORK),
    "dropped": (_dropped, ViolationType.TRUNCATED),
    "skipped": (_skipped, ViolationType.GAP),
}


def test_the_truth_is_accepted_and_each_lie_refused_and_recorded(make_case: Callable[..., Case]) -> None:
    """A round that equals what Kafka has, aborted records included, is accepted; one that leaves an entry out, edits
    one, counts wrongly, shrinks or drops a chain or skips a round is refused, and stands once on audit.violations.
    """
    case = make_case()
    pipeline = case.pipeline
    pipeline.start("processor")
    pipeline.start("verifier")
    load(pipeline, "a", 60)
    abort_events(pipeline, 3)
    load(pipeline, "b", 60)
    entries = _chained(pipeline, 130)
    ends = last_ends(entries)
    judge = case.open()

    for number, (tell, kind) in enumerate(LIES.values(), 1):
        publish_chains(case.objects, entries, ends)
        lie = case.publish([tell(case, entries, ends)])
        for _ in range(2):
            with pytest.raises(CheckpointRefused):
                _decide(judge, lie)
        found = violations_of(pipeline)
        assert [violation.type for violation in found[number - 1 :]] == [kind], tell.__name__
    checkpoint = case.publish(case.rounds(entries))
    _decide(judge, checkpoint)

    left_out, edited, *_ = violations_of(pipeline)
    last = _last_event(entries)[1].parsed
    assert (left_out.tenant, left_out.seq, left_out.offset) == (last.tenant, last.seq, last.offset)
    assert (edited.tenant, edited.seq) == (last.tenant, last.seq)
    with pytest.raises(CheckpointRefused):
        judge.judge(replace(checkpoint, root=bytes(32)))


def test_a_judge_goes_on_where_it_was_remembered(make_case: Callable[..., Case]) -> None:
    """What was written down with a cosignature is gone on from, also by another process; what was judged and not
    written down is computed again.
    """
    case = make_case()
    pipeline = case.pipeline
    pipeline.start("processor")
    pipeline.start("verifier")
    load(pipeline, "a", 40)
    entries = _chained(pipeline, 50)
    rounds = case.rounds(entries, {0: 3, 1: 5}, {0: 9}, {})
    judge = case.open()
    first = case.publish(rounds[:2])
    _decide(judge, first)
    _cosign(judge, case.path, first)
    whole = case.publish(rounds)
    _decide(judge, whole)
    judge.close()  # without what the last question has found
    load(pipeline, "b", 40)
    entries = _chained(pipeline, 90)
    rounds.append(make_round(entries, last_ends(entries), topic_id=case.topic_id(), before=rounds))
    process = multiprocessing.get_context("fork").Process(target=_die_behind_commit, args=(case, case.publish(rounds)))
    process.start()
    process.join(JUDGE_SECONDS)

    assert process.exitcode == -signal.SIGKILL
    again = case.open()
    assert again.ready() == (False, "nothing was asked yet")
    again.judge(root_checkpoint(pipeline.genesis.instance, rounds))
    again.judge(whole)
    load(pipeline, "c", 10)
    entries = _chained(pipeline, 100)
    rounds.append(make_round(entries, last_ends(entries), topic_id=case.topic_id(), before=rounds))
    _decide(again, case.publish(rounds))


def _die_behind_commit(case: Case, checkpoint: Checkpoint) -> None:
    """Judge, write down, and die at once."""
    judge = open_judge(case.settings, case.path)
    _decide(judge, checkpoint)
    _cosign(judge, case.path, checkpoint)
    os.kill(os.getpid(), signal.SIGKILL)


def test_lost_records_are_told_from_invisible_ones(make_case: Callable[..., Case]) -> None:
    """A range that is declared lost, and that the verifier has found to be, counts as lost: a round that calls it
    invisible is refused, with the chain and seq of the declaration.
    """
    case = make_case()
    pipeline = case.pipeline
    chainer = Chainer(pipeline)
    tenant = next(name for name in map("t-{}".format, range(99)) if partition_of(name.encode(), 2) == 0)
    verifier = pipeline.start("verifier")
    chainer.publish(*((tenant, f"a-{n}") for n in range(5)))
    chainer.chain()
    wait_for_verified(pipeline, tenant, 5)
    assert verifier.terminate() == 0
    chainer.publish(*((tenant, f"lost-{n}") for n in range(3)))
    expire(pipeline, 0, 8)
    chainer.write([chainer.expect_lost(LostRange(0, 5, 7, received=0)), []])
    chainer.skip(5)
    chainer.publish(*((tenant, f"b-{n}") for n in range(5)))
    chainer.chain()
    pipeline.start("verifier")
    entries = _chained(pipeline, 13)
    ends = last_ends(entries)
    parts = _parts(case, entries, ends)
    counts = list(parts[0].counts)
    assert (counts[Kind.GAP], parts[0].lost) == (1, (OffsetRange(5, 7),))
    counts[Kind.GAP] = 0
    hiding = replace(parts[0], counts=tuple(counts), invisible=parts[0].lost, lost=())
    judge = case.open()

    with pytest.raises(CheckpointRefused):
        _decide(judge, case.publish([seal_round(None, [hiding, *parts[1:]], heads_of(entries, ends))]))

    [violation] = violations_of(pipeline)
    assert (violation.type, violation.tenant, violation.seq) == (ViolationType.GAP, "!partition-0", 1)
    _decide(judge, case.publish(case.rounds(entries)))


def _edit(log: Log, at: int) -> Log:
    return [*log[:at], with_entry(log[at], received=1_000), *log[at + 1 :]]


def test_an_open_violation_stops_its_rounds_until_it_is_resolved(make_case: Callable[..., Case]) -> None:
    """A round up to before a violation is accepted; one that covers it is refused with tenant, seq and id; after the
    resolution the judge goes on.
    """
    case = make_case()
    pipeline = case.pipeline
    chainer = Chainer(pipeline)
    pipeline.start("verifier")
    chainer.publish(*[("acme", f"a-{n}") for n in range(6)])
    chainer.chain(altering((At("acme", 6), _edit)))
    [(kind, tenant, seq)] = wait_for_violations(pipeline, 1)
    assert (kind, tenant, seq) == ("edited", "acme", 6)
    [violation] = violations_of(pipeline)
    entries = _chained(pipeline, 7)
    partition = next(number for number, records in entries.items() if records)
    rounds = case.rounds(entries, {partition: 5})
    judge = case.open()
    _decide(judge, case.publish(rounds[:1]))

    with pytest.raises(CheckpointRefused, match="tenant acme seq 6") as refused:
        _decide(judge, case.publish(rounds))

    assert violation.id in refused.value.hint
    resolve(case.settings, violation.id, by="test", why="it was me")
    checkpoint = root_checkpoint(pipeline.genesis.instance, rounds)

    def accepted() -> bool:
        try:
            _decide(judge, checkpoint)
        except CheckpointRefused:
            return False
        return True

    wait_for(accepted, timeout_seconds=60, what="the judge to go on")


def test_a_judge_without_memory_needs_the_whole_log(make_case: Callable[..., Case]) -> None:
    """A judge that begins where audit.chained no longer begins says so, and what to do, and accepts nothing."""
    case = make_case()
    pipeline = case.pipeline
    pipeline.start("processor")
    pipeline.start("verifier")
    load(pipeline, "a", 40)
    entries = _chained(pipeline, 50)
    rounds = case.rounds(entries)
    _decide(case.open(), case.publish(rounds))
    _expire_chained(pipeline)

    with pytest.raises(SourceExpired, match="begins at offset"):
        _decide(case.open(case.path.with_name("empty.db")), root_checkpoint(pipeline.genesis.instance, rounds))


def _expire_chained(pipeline: Pipeline) -> None:
    """Delete the first records of audit.chained, as retention does."""
    client = AdminClient({"bootstrap.servers": pipeline.bootstrap})
    places = [TopicPartition(pipeline.topics.chained, number, 2) for number in range(2)]
    for future in cast("dict[TopicPartition, Future[object]]", client.delete_records(places)).values():
        future.result()
