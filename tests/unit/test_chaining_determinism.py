"""Chaining is a function of the source log: any batches, any restarts, any interleaving, any crash, the same bytes.

What is run here is the processor's own: its rules and window, its transactions, its heads, and its restore. Only the
broker is a log in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException, Message
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sealstream.kafka.partition import partition_of
from sealstream.kafka.transactions import TransactionError
from sealstream.processors.batch import Batch
from sealstream.processors.chaining import PartitionState, Rules
from sealstream.schemas.entry import Genesis, Kind, entry_hash, parse
from support.memory_log import TOPICS, MemoryLog
from support.model import ExpectedRecord, Model, SourceRecord
from support.publish import event_value
from support.records import MessageLike

TOPIC_ID = bytes(range(16))
PARTITIONS = 2
TENANTS = [[name for name in (f"t{n}" for n in range(20)) if partition_of(name.encode(), 2) == p][:3] for p in (0, 1)]
STEPS = ("begin", "produce", "heads", "send_offsets", "commit")
TRACE = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"


def _values(partition: int) -> st.SearchStrategy[tuple[bytes | None, bytes | None]]:
    """Keys and values of which many repeat, many conflict, and some are bad in each possible way."""
    tenants = TENANTS[partition]
    good = [
        (t.encode(), event_value(t, i, note=n)) for t in tenants for i in ("a", "b", "c", "bad id") for n in ("", "x")
    ]
    bad: list[tuple[bytes | None, bytes | None]] = [
        (None, b"x"),
        (b"!partition-0", b"x"),
        (b"!partition-1", b"x"),
        (TENANTS[1 - partition][0].encode(), good[0][1]),
        (tenants[0].encode(), None),
        (tenants[0].encode(), b""),
        (tenants[0].encode(), b"\xff"),
        (tenants[0].encode(), event_value(tenants[1], "a")),
    ]
    return st.one_of(st.sampled_from(good), st.sampled_from(good), st.sampled_from(bad))


VALUES = [_values(partition) for partition in range(PARTITIONS)]


@dataclass
class Source:
    """The two partitions of a source, each with its records and the offset behind its last one, record or not."""

    records: list[list[SourceRecord]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    ends: list[int] = field(default_factory=lambda: [0] * PARTITIONS)


@st.composite
def sources(draw: st.DrawFn) -> Source:
    """A source with holes where something was aborted, at the end, too; times that step back, or are a publisher's."""
    source, now = Source(), 1_700_000_000_000
    for _ in range(draw(st.integers(0, 50))):
        partition = draw(st.integers(0, PARTITIONS - 1))
        offset = source.ends[partition] + draw(st.sampled_from([0, 0, 0, 1, 5]))
        now = max(now + draw(st.sampled_from([0, 0, 1, 400, 999, 1_000, 1_001, -700])), 1)
        key, value = draw(VALUES[partition])
        time_ms = None if draw(st.integers(0, 15)) == 0 else now
        headers = draw(st.sampled_from([(), (), (("traceparent", TRACE),), (("traceparent", b"x"),)]))
        source.records[partition].append(SourceRecord(partition, offset, key, value, time_ms, headers))
        source.ends[partition] = offset + 1
    source.ends = [end + draw(st.sampled_from([0, 1, 3])) for end in source.ends]
    return source


@dataclass(frozen=True, slots=True)
class Step:
    """What happens next to the processor.

    Arguments:
        worker: Which of two workers has all partitions now. One that has had them before may use what it kept.
        sizes: How many records of each partition the batch takes; holes behind them are passed over, or left.
        pass_over: Whether holes behind the last record belong to the batch.
        fault: In which step of the transaction an error strikes, if in any; it is aborted, and the state thrown away.
        killed: Whether all state is thrown away behind it, as by a kill.
        cleaned: Whether the brokers compact the heads, and delete what no window needs.
    """

    worker: int
    sizes: tuple[int, int]
    pass_over: bool
    fault: str
    killed: bool
    cleaned: bool


STEP = st.builds(
    Step,
    worker=st.integers(0, 1),
    sizes=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    pass_over=st.booleans(),
    fault=st.sampled_from(["", "", "", *STEPS]),
    killed=st.booleans(),
    cleaned=st.booleans(),
)


@dataclass
class Workers:
    """Two workers that take turns on one log."""

    rules: Rules
    source: Source
    log: MemoryLog
    states: list[dict[int, PartitionState]] = field(default_factory=lambda: [{}, {}])
    active: int = -1

    def run(self, step: Step) -> None:
        """Do one step."""
        if step.cleaned:
            self._clean()
        if step.worker != self.active or not self.states[step.worker]:
            kept = self.states[step.worker]
            self.states[step.worker] = {n: self.log.restore(n, self.rules, kept.get(n)) for n in range(PARTITIONS)}
            self.active = step.worker
        states = self.states[step.worker]
        batch = self._batch(states, step)
        if batch.ends:
            self.log.fail_at, self.log.failure = step.fault, _aborting
            try:
                self.log.cycle(self.rules).run(batch, states)
            except TransactionError:
                self.log.end_transaction()
                self.states[step.worker] = {}
            self.log.fail_at = ""
        if step.killed:
            self.states[step.worker] = {}

    def finish(self) -> None:
        """Let a worker that knows nothing chain what is left."""
        self.states = [{}, {}]
        self.run(Step(0, (1_000, 1_000), pass_over=True, fault="", killed=False, cleaned=False))

    def _batch(self, states: dict[int, PartitionState], step: Step) -> Batch:
        batch = Batch(1)
        for partition, size in enumerate(step.sizes):
            position = states[partition].position
            left = [record for record in self.source.records[partition] if record.offset >= position]
            taken = left[:size]
            end = taken[-1].offset + 1 if taken else position
            if step.pass_over:
                end = left[size].offset if len(left) > size else self.source.ends[partition]
            if end > position:
                batch.records[partition] = [cast("Message", MessageLike(record)) for record in taken]
                batch.starts[partition], batch.ends[partition] = position, end
                batch.count += len(taken)
        return batch

    def _clean(self) -> None:
        for partition in range(PARTITIONS):
            self.log.compact(TOPICS.heads, partition)
            chained, position = self.log.log(TOPICS.chained, partition), self.log.committed(partition) or 0
            needed = [
                record.offset
                for record in chained.records
                if parse(_seal(record.headers)).offset <= position - self.rules.genesis.window_offsets
            ]
            chained.start = max([chained.start, *needed])


def _far_apart() -> Source:
    """A source whose last record repeats its first one, at the very edge of the window of 11 records."""
    tenant, source = TENANTS[0][0], Source()
    for offset in range(12):
        value = event_value(tenant, f"e{offset % 11}")
        source.records[0].append(SourceRecord(0, offset, tenant.encode(), value, 1_700_000_000_000))
    source.ends[0] = 12
    return source


ONE_BY_ONE = Step(0, (1, 0), pass_over=False, fault="", killed=False, cleaned=False)


@example(source=_far_apart(), steps=[ONE_BY_ONE] * 11, window_offsets=11, stride=600)
@given(
    source=sources(),
    steps=st.lists(STEP, max_size=12),
    window_offsets=st.integers(1, 12),
    stride=st.sampled_from([1, 3, 600]),
)
@settings(max_examples=150, deadline=None)
def test_chaining_is_a_function_of_the_source_log(
    source: Source, steps: list[Step], window_offsets: int, stride: int
) -> None:
    """However a source is cut into batches, in whatever order its partitions come, whoever chains them, wherever one
    fails or is killed and another goes on from audit.heads and audit.chained: each partition's records, dead letters,
    heads and position are those that the plain model makes of it at once.
    """
    rules = Rules(Genesis("test.example/p", PARTITIONS, window_offsets=window_offsets, window_seconds=1), TOPIC_ID)
    log = MemoryLog(stride=stride)
    workers = Workers(rules, source, log)
    for step in steps:
        workers.run(step)
    workers.finish()

    for partition in range(PARTITIONS):
        expected = Model(rules.genesis, TOPIC_ID, partition).expect(source.records[partition])
        found = log.records(TOPICS.chained, partition)
        assert [(one.key, one.value, one.headers) for one in found] == [_record(one) for one in expected]
        letters = [dict(one.headers or []) for one in log.records(TOPICS.deadletter, partition)]
        bad = [parse(one.entry) for one in expected if parse(one.entry).kind is Kind.QUARANTINED]
        assert [(int(one["offset"] or b""), one["tenant"], int(one["seq"] or b"")) for one in letters] == [
            (entry.offset, entry.tenant.encode(), entry.seq) for entry in bad
        ]
        assert (log.committed(partition) or 0) == source.ends[partition]
        _check_restored(log.restore(partition, rules), expected)


def _check_restored(state: PartitionState, expected: Sequence[ExpectedRecord]) -> None:
    """Compare the ends of chains that a successor would find with those of the expected records."""
    ends = {one.key: one.entry for one in expected}
    for name, entry in ends.items():
        link = state.heads.get(name)
        assert link is not None
        assert (link.seq, link.hash) == (parse(entry).seq + 1, entry_hash(entry))


def _record(one: ExpectedRecord) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    headers = [("seal-entry", one.entry)]
    return one.key, one.value, headers if one.traceparent is None else [*headers, ("traceparent", one.traceparent)]


def _seal(headers: Sequence[tuple[str, bytes | None]] | None) -> bytes:
    seal = dict(headers or ())["seal-entry"]
    assert seal is not None
    return seal


def _aborting() -> BaseException:
    code: Callable[..., Any] = KafkaError
    return KafkaException(code(KafkaError.UNKNOWN_MEMBER_ID, "provoked", False, False, True))
