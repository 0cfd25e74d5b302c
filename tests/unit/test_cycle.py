"""One transaction: what each error in each of its steps leaves behind, and what is done again."""

from __future__ import annotations

import threading
from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from sealstream.kafka.transactions import AbortRequired, ProducerFatal
from sealstream.processors.batch import Batch
from sealstream.processors.chaining import PartitionState, PositionDiffers
from sealstream.processors.cycle import StopRequested, pin
from sealstream.processors.heads import PackedHeads
from sealstream.processors.window import Window, WindowIncomplete
from support.batches import RECORDS, RULES, TENANT, make_batch
from support.memory_log import TOPICS, MemoryLog


def _error(code: int, *, retriable: bool = False, abort: bool = False, fatal: bool = False) -> KafkaException:
    return KafkaException(KafkaError(code, "provoked", fatal, retriable, abort))


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

    assert [record.key for record in log.records(TOPICS.heads, 0)] == [b"0/" + TENANT.encode(), b"0"]


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


@pytest.mark.parametrize("slice_records", [1, 2, 5, 6])
def test_slices_make_no_difference(monkeypatch: pytest.MonkeyPatch, slice_records: int) -> None:
    """However many records are chained before they are produced, the transaction holds the same, in the same order."""
    whole, sliced = MemoryLog(), MemoryLog()
    whole.cycle(RULES).run(make_batch(states := {0: whole.restore(0, RULES)}, RECORDS), states)
    monkeypatch.setattr("sealstream.processors.cycle.SLICE_RECORDS", slice_records)
    sliced.cycle(RULES).run(make_batch(states := {0: sliced.restore(0, RULES)}, RECORDS), states)

    for topic in (TOPICS.chained, TOPICS.heads):
        assert sliced.records(topic, 0) == whole.records(topic, 0)
    assert sliced.offsets == whole.offsets


def test_what_does_not_follow_is_aborted_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a later slice turns out to overlap an earlier one, nothing of its transaction stays, and none is left open."""
    monkeypatch.setattr("sealstream.processors.cycle.SLICE_RECORDS", 2)
    log = MemoryLog()
    states = {0: log.restore(0, RULES)}
    with pytest.raises(PositionDiffers):
        log.cycle(RULES).run(make_batch(states, [*RECORDS[:4], RECORDS[1]]), states)

    assert "produce" in log.calls
    assert log.calls[-1] == "abort"
    assert (log.records(TOPICS.chained, 0), log.offsets) == ([], {})


def test_what_does_not_follow_is_not_begun() -> None:
    """If a record turns out to overlap an earlier one in its slice, nothing of its batch leaves the process."""
    log = MemoryLog()
    states = {0: log.restore(0, RULES)}
    with pytest.raises(PositionDiffers):
        log.cycle(RULES).run(make_batch(states, [*RECORDS[:4], RECORDS[1]]), states)

    assert (log.calls, log.records(TOPICS.chained, 0), log.offsets) == ([], [], {})


def test_a_record_that_may_repeat_a_lost_one_leaves_no_transaction_open() -> None:
    """Where the window lacks what a record may repeat, the worker ends, and readers do not wait for a timeout."""
    log = MemoryLog()
    window = Window(offsets=10, microseconds=10**9)
    window.lacks(3, 1_000)
    states = {0: PartitionState(0, PackedHeads(), window)}
    with pytest.raises(WindowIncomplete):
        log.cycle(RULES).run(make_batch(states, RECORDS), states)

    assert (log.calls, log.records(TOPICS.chained, 0), log.offsets) == ([], [], {})
