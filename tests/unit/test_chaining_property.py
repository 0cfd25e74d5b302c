"""Chaining is a function of the source partition: any batches, any restarts, any interleaving, the same bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.kafka.partition import partition_of
from sealstream.kafka.topics import TopicNames
from sealstream.kafka.transactions import AbortRequired, ProducerFatal
from sealstream.processors.batch import Batch
from sealstream.processors.chaining import PartitionState, Rules
from sealstream.processors.cycle import Cycle, StopRequested, pin
from sealstream.processors.heads import HeadsReader, PackedHeads
from sealstream.processors.tail import TailReader
from sealstream.schemas.entry import Genesis, Kind
from support.model import Model, SourceRecord
from support.publish import event_value
from support.records import MessageLike

TOPIC_ID = bytes(range(16))
TOPICS = TopicNames()
PARTITIONS = 2
TENANTS = [[name for name in (f"t{n}" for n in range(20)) if partition_of(name.encode(), 2) == p][:3] for p in (0, 1)]


@dataclass
class MemoryLog:
    """What a reader of committed records sees, and the one transaction that may be open."""

    committed: dict[str, list[list[tuple[bytes | None, bytes | None, Any]]]] = field(default_factory=dict[str, Any])
    offsets: dict[int, tuple[int, str]] = field(default_factory=dict[int, tuple[int, str]])
    fail_at: str = ""
    failure: Callable[[], BaseException] = lambda: RuntimeError("no failure was set")
    calls: list[str] = field(default_factory=list[str])
    _open: list[tuple[str, int, tuple[bytes | None, bytes | None, Any]]] = field(default_factory=list[Any])
    _sent: dict[int, tuple[int, str]] = field(default_factory=dict[int, tuple[int, str]])

    def records(self, topic: str, partition: int) -> list[tuple[bytes | None, bytes | None, Any]]:
        """Return the committed records of a partition."""
        return self.committed.setdefault(topic, [[] for _ in range(PARTITIONS)])[partition]

    def _step(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fail_at:
            self.fail_at = ""
            raise self.failure()

    def begin_transaction(self) -> None:
        """As confluent-kafka's producer."""
        self._step("begin")
        self._open, self._sent = [], {}

    def produce(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int, *, headers: Any = None
    ) -> None:
        """As confluent-kafka's producer."""
        self._step("heads" if topic == TOPICS.heads else "produce")
        self._open.append((topic, partition, (key, value, headers)))

    def poll(self, _seconds: float) -> None:
        """As confluent-kafka's producer."""

    def send_offsets_to_transaction(self, places: list[TopicPartition], membership: object, _seconds: float) -> None:
        """As confluent-kafka's producer."""
        assert membership == "membership"
        self._step("send_offsets")
        self._sent = {place.partition: (place.offset, place.metadata or "") for place in places}

    def commit_transaction(self, _seconds: float) -> None:
        """As confluent-kafka's producer."""
        self._step("commit")
        for topic, partition, record in self._open:
            self.records(topic, partition).append(record)
        self.offsets.update(self._sent)

    def abort_transaction(self, _seconds: float) -> None:
        """As confluent-kafka's producer."""
        self._step("abort")
        self._open, self._sent = [], {}

    def consumer_group_metadata(self) -> str:
        """As confluent-kafka's consumer."""
        return "membership"

    def cycle(self, rules: Rules, *, stopping: Callable[[], bool] = lambda: False) -> Cycle:
        """Return a cycle on this log."""
        producer, consumer = cast("Producer", self), cast("Consumer", self)
        return Cycle(producer, consumer, TOPICS, rules, timeout_seconds=0.2, stopping=stopping)

    def restore(self, partition: int, rules: Rules, start: int = 0) -> PartitionState:
        """Restore a partition's state as a successor does, from its heads and the chained records from a place on."""
        reader = HeadsReader(partition)
        for key, value, _ in self.records(TOPICS.heads, partition):
            reader.feed(key, value)
        if reader.head is None:
            return PartitionState(partition, PackedHeads(), rules.window())
        assert self.offsets[partition] == (reader.head.position, pin(rules))
        tail = TailReader(partition, rules, reader.head)
        seals = [headers[0][1] for _, _, headers in self.records(TOPICS.chained, partition)]
        start = min(start, len(seals) - 1)
        while start > 0 and not tail.reaches_back(tail.parse(seals[start])):
            start -= 1
        for seal in seals[start:]:
            tail.feed(seal)
        assert tail.last_offset == reader.head.last_offset
        return tail.finish(reader.heads, earlier_gone=False)


def make_batch(states: dict[int, PartitionState], records: Sequence[SourceRecord]) -> Batch:
    """Return the batch that holds these records."""
    batch = Batch(1, count=len(records))
    for record in records:
        batch.records.setdefault(record.partition, []).append(cast("Message", MessageLike(record)))
        batch.ends[record.partition] = record.offset + 1
    batch.starts = {partition: states[partition].position for partition in batch.records}
    return batch


def values(partition: int) -> st.SearchStrategy[tuple[bytes | None, bytes | None]]:
    """Keys and values of which many repeat, many conflict, and some are bad in each possible way."""
    tenants = TENANTS[partition]
    ids = ["a", "b", "c", "bad id"]
    notes = ["", "x", "y"]
    good = [(t.encode(), event_value(t, i, note=n)) for t in tenants for i in ids for n in notes]
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


@st.composite
def sources(draw: st.DrawFn) -> list[SourceRecord]:
    """A source of two partitions: offsets with gaps, times that also step back, sometimes a publisher's own."""
    records: list[SourceRecord] = []
    offsets, now = [0, 0], 1_700_000_000_000
    for _ in range(draw(st.integers(0, 40))):
        partition = draw(st.integers(0, 1))
        offset = offsets[partition] + draw(st.sampled_from([0, 0, 0, 1, 5]))
        offsets[partition] = offset + 1
        now = max(now + draw(st.sampled_from([0, 0, 1, 400, 999, 1_000, 1_001, -700])), 1)
        key, value = draw(values(partition))
        time = None if draw(st.integers(0, 15)) == 0 else now
        records.append(SourceRecord(partition, offset, key, value, time))
    return records


@given(
    records=sources(),
    cuts=st.lists(st.integers(1, 7), min_size=1, max_size=8),
    restarts=st.lists(st.booleans(), min_size=1, max_size=8),
    window_offsets=st.integers(1, 12),
    start=st.integers(0, 60),
)
@settings(max_examples=150, deadline=None)
def test_any_batches_and_any_restarts_give_the_same_bytes(
    records: list[SourceRecord], cuts: list[int], restarts: list[bool], window_offsets: int, start: int
) -> None:
    """However a source is cut into batches, and wherever a successor takes over with what audit.heads and audit.chained
    hold, the chained records are those of the plain model, and every dead letter is there once.
    """
    rules = Rules(Genesis("test.example/p", PARTITIONS, window_offsets=window_offsets, window_seconds=1), TOPIC_ID)
    log = MemoryLog()
    states = {partition: log.restore(partition, rules) for partition in range(PARTITIONS)}
    cycle, left, turn = log.cycle(rules), list(records), 0
    while left:
        size = cuts[turn % len(cuts)]
        cycle.run(make_batch(states, left[:size]), states)
        del left[:size]
        if restarts[turn % len(restarts)]:
            states = {partition: log.restore(partition, rules, start) for partition in range(PARTITIONS)}
        turn += 1
    for partition in range(PARTITIONS):
        own = [record for record in records if record.partition == partition]
        expected = Model(rules.genesis, TOPIC_ID, partition).expect(own)

        assert [(key, value, headers[0][1]) for key, value, headers in log.records(TOPICS.chained, partition)] == [
            (one.key, one.value, one.entry) for one in expected
        ]
        assert len(log.records(TOPICS.deadletter, partition)) == sum(
            one.value == b"" and _bad(one.entry) for one in expected
        )


def _bad(entry: bytes) -> bool:
    return entry[13] == Kind.QUARANTINED  # the byte behind label and suite


def _error(code: int, *, retriable: bool = False, abort: bool = False, fatal: bool = False) -> KafkaException:
    return KafkaException(KafkaError(code, "provoked", fatal, retriable, abort))


RECORDS = [SourceRecord(0, n, TENANTS[0][0].encode(), event_value(TENANTS[0][0], f"e{n}"), 1) for n in range(6)]
RULES = Rules(Genesis("test.example/p", PARTITIONS), TOPIC_ID)


@pytest.mark.parametrize("step", ["produce", "heads", "send_offsets", "commit"])
def test_what_was_aborted_is_done_again_with_the_same_bytes(step: str) -> None:
    """An error that asks for an abort leaves nothing committed, and the next try makes what the first would have."""
    log = MemoryLog()
    states = {0: log.restore(0, RULES)}
    log.fail_at, log.failure = step, lambda: _error(KafkaError.UNKNOWN_MEMBER_ID, abort=True)
    with pytest.raises(AbortRequired):
        log.cycle(RULES).run(make_batch(states, RECORDS), states)

    assert log.calls[-1] == "abort"
    assert log.records(TOPICS.chained, 0) == []
    assert log.offsets == {}
    states = {0: log.restore(0, RULES)}
    log.cycle(RULES).run(make_batch(states, RECORDS), states)
    assert len(log.records(TOPICS.chained, 0)) == 1 + len(RECORDS)
    assert log.offsets == {0: (6, pin(RULES))}


def test_a_retriable_error_is_the_same_call_again() -> None:
    """What librdkafka calls retriable is tried again within the transaction."""
    log = MemoryLog(fail_at="commit", failure=lambda: _error(KafkaError._TIMED_OUT, retriable=True))
    states = {0: log.restore(0, RULES)}
    log.cycle(RULES).run(make_batch(states, RECORDS), states)

    assert log.calls[-2:] == ["commit", "commit"]


@pytest.mark.parametrize("step", ["begin", "produce", "send_offsets", "commit", "abort"])
def test_an_outcome_that_is_not_known_ends_the_producer(step: str) -> None:
    """A fatal error is never followed by another call: only the committed offset tells what became of it."""
    log = MemoryLog()
    states = {0: log.restore(0, RULES)}
    if step == "abort":
        log.fail_at, log.failure = "commit", lambda: _chain_failures(log)
    else:
        log.fail_at, log.failure = step, lambda: _error(KafkaError._FENCED, fatal=True)
    with pytest.raises(ProducerFatal):
        log.cycle(RULES).run(make_batch(states, RECORDS), states)

    assert log.calls[-1] == step


def _chain_failures(log: MemoryLog) -> BaseException:
    log.fail_at, log.failure = "abort", lambda: _error(KafkaError._FENCED, fatal=True)
    return _error(KafkaError.UNKNOWN_MEMBER_ID, abort=True)


def test_a_stop_ends_a_transaction_that_cannot_end_by_itself() -> None:
    """While the brokers are away, a worker that is told to stop does not wait for the transaction's timeout."""
    log = MemoryLog()
    states = {0: log.restore(0, RULES)}
    with pytest.raises(StopRequested):
        log.cycle(RULES, stopping=lambda: "send_offsets" in log.calls).run(make_batch(states, RECORDS), states)

    assert log.offsets == {}


def test_a_partitions_head_comes_last() -> None:
    """Whoever has read a partition's position has read all heads of its transaction; the same number is committed."""
    log = MemoryLog()
    states = {0: log.restore(0, RULES)}
    log.cycle(RULES).run(make_batch(states, RECORDS), states)

    assert [key for key, _, _ in log.records(TOPICS.heads, 0)] == [b"0/" + TENANTS[0][0].encode(), b"0"]


def test_offsets_that_are_no_records_are_passed_over() -> None:
    """A batch may end behind its last record, or hold none at all; position and committed offset move all the same."""
    log = MemoryLog()
    states = {0: log.restore(0, RULES)}
    batch = make_batch(states, RECORDS)
    batch.ends[0] = 9
    log.cycle(RULES).run(batch, states)
    log.cycle(RULES).run(Batch(1, starts={0: 9}, ends={0: 11}), states)
    state = log.restore(0, RULES)

    assert log.offsets[0][0] == 11
    assert (state.position, state.last_offset) == (11, 5)


@pytest.mark.parametrize("stopping", [False, True])
def test_a_call_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch, stopping: bool) -> None:
    """If librdkafka does not come back from sending offsets, the producer is given up, at a stop at once."""
    monkeypatch.setattr("sealstream.processors.cycle.HANG_SECONDS", 0.2)
    comes_back = threading.Event()

    class HangingLog(MemoryLog):
        def send_offsets_to_transaction(self, places: list[TopicPartition], membership: object, seconds: float) -> None:
            super().send_offsets_to_transaction(places, membership, seconds)
            comes_back.wait(10)

    log = HangingLog()
    states = {0: log.restore(0, RULES)}
    cycle = log.cycle(RULES, stopping=lambda: stopping and "send_offsets" in log.calls)
    with pytest.raises(StopRequested if stopping else ProducerFatal) as caught:
        cycle.run(make_batch(states, RECORDS), states)
    comes_back.set()

    assert stopping or cast("ProducerFatal", caught.value).is_connectivity
    assert log.calls[-1] == "send_offsets"
