"""Restores what chaining knows of a partition, from audit.heads and audit.chained, up to exactly the committed offset.

Everything here is a generator that yields what it waits for, at the latest every second or so: between two steps the
log's thread serves the group, so that a restore of any length neither loses the membership nor delays a revocation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Final, TypeAlias

from confluent_kafka import Consumer

from sealstream.kafka.topics import TopicNames
from sealstream.processors.assignment import Observed, Verdict, compare_instance, disagreement, judge
from sealstream.processors.chaining import PartitionState, Rules
from sealstream.processors.gaps import ACCEPTANCE_HINT, begin_behind, find_gap
from sealstream.processors.heads import REBUILD_HINT, HeadsReader, PackedHeads, PartitionHead
from sealstream.processors.reading import LogReader, seal_of
from sealstream.processors.tail import TailReader
from sealstream.schemas.errors import EpochEnded, EpochNotStarted, FormatError, HeadsDiffer

PAUSE_SECONDS: Final = 0.1

Waiting: TypeAlias = Generator[str, None, None]
Restoring: TypeAlias = Generator[str, None, PartitionState]


class Restorer:
    """Restores partitions, one after the other.

    Arguments:
        reader: A consumer for assigned partitions, with ``enable.partition.eof``.
        topics: The instance's topics.
        rules: What every entry depends on.
        committed: Returns the group's committed offset of a source partition, or ``None``; it waits for transactions
            that are about to end.
        patience_seconds: How long heads and committed offset may disagree, and how long Kafka may send nothing.
    """

    def __init__(
        self,
        reader: Consumer,
        topics: TopicNames,
        rules: Rules,
        *,
        committed: Callable[[int], int | None],
        patience_seconds: float,
    ) -> None:
        self._reader = LogReader(reader, patience_seconds=patience_seconds)
        self._topics = topics
        self._rules = rules
        self._committed = committed
        self._patience_seconds = patience_seconds

    def restore(self, partition: int, kept: PartitionState | None = None) -> Restoring:
        """Restore one partition.

        Arguments:
            partition: The partition.
            kept: Its state from before a revocation, if there is one; it is used if nobody went on in between.

        Raises:
            UnsafeState: Going on could damage a chain; says why and the way out.
            Unreachable: Kafka does not answer in time.
        """
        deadline = time.monotonic() + self._patience_seconds
        while True:
            reader = HeadsReader(partition)
            observed = yield from self._observe(partition, reader, deadline)
            if observed.head is None:
                yield from self._require_untouched(partition)
                return begin_behind(PartitionState(partition, PackedHeads(), self._rules.window()), observed.accepted)
            if kept is not None and kept.position == observed.committed:
                return begin_behind(kept, observed.accepted)
            if not observed.head.covers(reader.heads):
                raise self._incomplete(partition, observed.head, reader.heads)
            state = yield from self._read_tail(partition, observed.head, reader.heads, deadline)
            if state is not None:
                return begin_behind(state, observed.accepted)
            # The chained log is ahead of the heads that were just read: they have moved. Read them again.
            if time.monotonic() >= deadline:
                raise HeadsDiffer(
                    f"partition {partition}: audit.chained goes on behind source offset {observed.head.last_offset},"
                    " where its heads end",
                    hint=REBUILD_HINT,
                )
            yield f"partition {partition}: heads behind source offset {observed.head.last_offset}"
            time.sleep(PAUSE_SECONDS)

    def _observe(self, partition: int, reader: HeadsReader, deadline: float) -> Generator[str, None, Observed]:
        """Read committed offset and heads until they agree: a commit may surface in one before the other."""
        topic = self._topics.heads
        self._reader.assign(topic, partition)
        while True:
            yield f"partition {partition}: the committed offset"
            committed = self._committed(partition)
            start, end = self._reader.bounds(self._topics.events, partition)
            for messages in self._reader.to_end():
                for message in messages:
                    reader.feed(message.key(), message.value())
                yield f"partition {partition}: heads up to offset {committed}, read {len(reader.heads)}"
            reader.require_sound()
            self._require_epoch(partition, reader)
            if reader.head is not None:  # first: a topic that was made anew has lost its committed offsets as well
                compare_instance(partition, reader.head, self._rules.genesis, self._rules.topic_id)
            observed = self._with_acceptance(Observed(partition, committed, reader.head, start, end), reader)
            if judge(observed) is not Verdict.AGAIN:
                return observed
            if time.monotonic() >= deadline:
                raise disagreement(observed)
            at = "none" if reader.head is None else reader.head.position
            yield f"partition {partition}: committed offset {committed} and heads at {at} to agree"
            time.sleep(PAUSE_SECONDS)

    def _require_epoch(self, partition: int, reader: HeadsReader) -> None:
        """Make sure that the epoch has begun and has not ended.

        Raises:
            EpochEnded: It has ended.
            EpochNotStarted: Nothing was carried over to it.
        """
        if reader.end is not None:
            raise EpochEnded(
                f"partition {partition}: the chains go on in epoch {reader.end.next} since {reader.end.ended_at}",
                hint=f"run workers with SEALSTREAM_EPOCH={reader.end.next}; publishers too",
            )
        if reader.head is None and self._topics.epoch > 1:
            raise EpochNotStarted(
                f"partition {partition}: nothing was carried over to epoch {self._topics.epoch}",
                hint="sealstream epoch start",
            )

    def _with_acceptance(self, observed: Observed, reader: HeadsReader) -> Observed:
        try:
            gap = find_gap(reader.acceptances, observed.partition, observed.lost, self._rules.topic_id)
        except FormatError as error:
            raise HeadsDiffer(
                f"audit.heads, partition {observed.partition}: {error.message}", hint=ACCEPTANCE_HINT
            ) from error
        return replace(observed, accepted=gap)

    def _require_untouched(self, partition: int) -> Waiting:
        """Make sure that a partition which nobody knows has no entries: else its chains would begin a second time.

        Raises:
            HeadsDiffer: audit.chained has entries of it.
        """
        topic = self._topics.chained
        start, end = self._reader.bounds(topic, partition)
        if end == 0:
            return
        if start > 0:
            raise self._forgotten(partition)
        self._reader.assign(topic, partition, start)
        for messages in self._reader.to_end():
            if messages:  # what was aborted does not count, and is not seen
                raise self._forgotten(partition)
            yield f"partition {partition}: the end of {topic}"

    @staticmethod
    def _incomplete(partition: int, head: PartitionHead, heads: PackedHeads) -> HeadsDiffer:
        found = f"{len(heads)}" if len(heads) != head.chains else "as many, but others"
        message = (
            f"partition {partition}: {head.chains} chains' heads were written to audit.heads, and {found} stand there"
        )
        return HeadsDiffer(message, hint=REBUILD_HINT)

    @staticmethod
    def _forgotten(partition: int) -> HeadsDiffer:
        message = f"partition {partition} has entries in audit.chained, but neither heads nor a committed offset"
        return HeadsDiffer(message, hint=REBUILD_HINT)

    def _read_tail(
        self, partition: int, head: PartitionHead, heads: PackedHeads, deadline: float
    ) -> Generator[str, None, PartitionState | None]:
        """Rebuild the window from audit.chained; ``None`` if the log is ahead of the heads."""
        topic = self._topics.chained
        tail = TailReader(partition, self._rules, head)
        low, start = yield from self._find_start(partition, tail)
        self._reader.assign(topic, partition, start)
        gone = start == low > 0
        while True:
            for messages in self._reader.to_end():
                for message in messages:
                    tail.feed(seal_of(message), message.value())
                yield f"partition {partition}: the window, read up to source offset {tail.last_offset}"
            if tail.last_offset > head.last_offset:
                return None
            if tail.last_offset == head.last_offset or (tail.last_offset < 0 and gone):
                return tail.finish(heads, earlier_gone=gone)
            if time.monotonic() >= deadline:
                raise HeadsDiffer(
                    f"partition {partition}: audit.chained ends with source offset {tail.last_offset}, and its heads"
                    f" say {head.last_offset}",
                    hint=REBUILD_HINT,
                )
            yield f"partition {partition}: source offset {head.last_offset} in audit.chained"
            time.sleep(PAUSE_SECONDS)

    def _find_start(self, partition: int, tail: TailReader) -> Generator[str, None, tuple[int, int]]:
        """Return the log's first offset, and one from which on all records of the window are read."""
        topic = self._topics.chained
        low, high = self._reader.bounds(topic, partition)
        span = tail.window_offsets + tail.window_offsets // 4 + 1024  # room for geneses and the markers of transactions
        while True:
            start = max(low, high - span)
            if start == low:
                return low, start
            yield f"partition {partition}: the beginning of the window"
            self._reader.assign(topic, partition, start)
            first = next((messages[0] for messages in self._reader.to_end() if messages), None)
            entry = None if first is None else tail.parse(seal_of(first))
            if entry is not None and tail.reaches_back(entry):
                return low, start
            span = tail.longer_span(span, entry)
