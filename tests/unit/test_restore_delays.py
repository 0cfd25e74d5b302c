"""A commit surfaces in one topic before the other: a restore waits until it has all of it, and never takes half."""

from __future__ import annotations

from typing import cast

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from sealstream.processors.batch import Batch
from sealstream.processors.chaining import PartitionState, Rules
from sealstream.processors.heads import PackedHeads
from sealstream.processors.restore import Restorer
from sealstream.schemas.entry import Genesis
from sealstream.schemas.errors import HeadsDiffer
from support.memory_log import TOPICS, Logged, MemoryLog, MemoryMessage, MemoryReader
from support.model import SourceRecord
from support.publish import event_value
from support.records import MessageLike

RULES = Rules(Genesis("test.example/audit", 1, window_offsets=10), bytes(range(16)))
STEPS_MAX = 200
EVENTS = 3


class LiveReader(MemoryReader):
    """A reader that sees what comes while it reads, as a consumer does."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self._source = log
        self._at = TopicPartition("", 0, 0)
        self._next, self._ended = 0, False

    def assign(self, places: list[TopicPartition]) -> None:
        """Begin to read a partition."""
        [self._at] = places
        self._next, self._ended = max(self._at.offset, 0), False

    def poll(self, _seconds: float) -> MemoryMessage | None:
        """Return the next message that is visible by now."""
        for record in self._source.records(self._at.topic, self._at.partition):
            if record.offset >= self._next:
                self._next, self._ended = record.offset + 1, False
                return MemoryMessage(self._at, record)
        if self._ended:
            return None
        self._ended = True
        return MemoryMessage(self._at, None)

    def consume(self, count: int, _seconds: float) -> list[MemoryMessage]:
        """Return the next messages that are visible by now."""
        found: list[MemoryMessage] = []
        while len(found) < count and (message := self.poll(0)) is not None:
            found.append(message)
        return found


def chain_twice(log: MemoryLog) -> PartitionState:
    """Chain three events in each of two transactions, and return the state after them."""
    state, cycle = PartitionState(0, PackedHeads(), RULES.window()), log.cycle(RULES)
    for first in (0, EVENTS):
        records = [
            MessageLike(SourceRecord(0, n, b"acme", event_value("acme", f"e{n}"), 1_700_000_000_000))
            for n in range(first, first + EVENTS)
        ]
        messages = cast("list[Message]", records)
        batch = Batch(1, starts={0: first}, records={0: messages}, ends={0: first + EVENTS}, count=EVENTS)
        cycle.run(batch, {0: state})
    return state


def hide(log: MemoryLog, topic: str, count: int) -> list[Logged]:
    """Take a partition's last records away, as if their transaction had not surfaced there yet."""
    records = log.records(topic, 0)
    hidden = records[-count:]
    del records[-count:]
    return hidden


def restorer(log: MemoryLog, patience_seconds: float) -> Restorer:
    """Return the processor's restorer on a log that grows."""
    reader = cast("Consumer", LiveReader(log))
    return Restorer(reader, TOPICS, RULES, committed=log.committed, patience_seconds=patience_seconds)


@pytest.mark.parametrize("late", [TOPICS.heads, TOPICS.chained])
def test_what_surfaces_late_is_waited_for(late: str) -> None:
    """Whichever of heads and chained records comes last, the state restored is that of the whole commit."""
    log = MemoryLog()
    state = chain_twice(log)
    hidden = hide(log, late, 2 if late == TOPICS.heads else EVENTS)
    restoring = restorer(log, 60).restore(0)
    for _ in range(STEPS_MAX):
        words = next(restoring)
        if "to agree" in words or "source offset 5 in audit.chained" in words:
            break
    else:
        raise AssertionError("the restore does not wait")
    log.records(late, 0).extend(hidden)
    for _ in range(STEPS_MAX):
        try:
            next(restoring)
        except StopIteration as end:
            restored = cast("PartitionState", end.value)
            break
    else:
        raise AssertionError("the restore does not come to an end")

    assert (restored.position, restored.heads) == (2 * EVENTS, state.heads)


@pytest.mark.parametrize("late", [TOPICS.heads, TOPICS.chained])
def test_what_never_surfaces_stops_the_worker(late: str) -> None:
    """The wait is bounded: a commit of which a part is lost is an error with the way out."""
    log = MemoryLog()
    chain_twice(log)
    hide(log, late, 2 if late == TOPICS.heads else EVENTS)
    restoring = restorer(log, 0.3).restore(0)
    with pytest.raises(HeadsDiffer) as refused:
        for _ in restoring:
            pass

    assert "heads rebuild" in refused.value.hint
