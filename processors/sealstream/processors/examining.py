"""Reads all that is known of a partition: audit.chained to its end, audit.heads, committed offset and source."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar, cast

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

from sealstream.processors.assignment import compare_instance
from sealstream.processors.chaining import Rules
from sealstream.processors.comparison import Examination, SourceState, compare
from sealstream.processors.cycle import pin
from sealstream.processors.failures import classify
from sealstream.processors.heads import HeadsReader
from sealstream.processors.reading import REQUEST_SECONDS, LogReader, seal_of
from sealstream.processors.recomputation import Recomputation
from sealstream.processors.restore import PAUSE_SECONDS
from sealstream.schemas.errors import Unreachable
from sealstream.worker.settings import Settings

SETTLE_SECONDS: Final = 5.0
"""How long heads and offsets may disagree: a running worker's commit surfaces in one before the other."""

T = TypeVar("T")
Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is done, how many records of audit.chained were read, and how many there are."""


@dataclass(slots=True)
class Steps:
    """How much of audit.chained was read, of how much; and what must be served between two steps."""

    on_progress: Progress
    total: int = 0
    done: int = 0
    serve: Callable[[], None] = field(default=lambda: None)

    def tell(self, words: str, more: int = 0) -> None:
        """Tell what is done, and that so many more records were read."""
        self.serve()
        self.done += more
        self.on_progress(words, self.done, self.total)


class Examiner:
    """Examines partitions.

    Arguments:
        settings: The instance's settings.
        rules: What every entry depends on.
        consumer: A reader of assigned partitions, with the group's name for its committed offsets.
        admin: An administrator of the brokers.
        steps: Told how far it is.
    """

    def __init__(self, settings: Settings, rules: Rules, consumer: Consumer, admin: AdminClient, steps: Steps) -> None:
        self._settings = settings
        self._topics = settings.topics()
        self._rules = rules
        self._consumer = consumer
        self._admin = admin
        self._steps = steps
        self._patience_seconds = settings.request_timeout_seconds
        self._reader = LogReader(consumer, patience_seconds=self._patience_seconds)

    def source_end(self, partition: int) -> int:
        """Return the source's end."""
        return self._reader.bounds(self._topics.events, partition)[1]

    def measure(self, partitions: Iterable[int]) -> None:
        """Note how many records of audit.chained there are to read."""
        bounds = [self._reader.bounds(self._topics.chained, partition) for partition in partitions]
        self._steps.total = sum(high - low for low, high in bounds)

    def committed(self, partition: int) -> tuple[int | None, str]:
        """Return the committed offset and its metadata; it waits for transactions that are about to end."""
        deadline = time.monotonic() + self._patience_seconds
        while True:
            try:
                place = self._consumer.committed(
                    [TopicPartition(self._topics.events, partition)], timeout=REQUEST_SECONDS
                )[0]
                if place.error is None:
                    return (place.offset if place.offset >= 0 else None), place.metadata or ""
                meaning = classify(place.error, "read the committed offset")
            except KafkaException as exception:
                meaning = classify(exception.args[0], "read the committed offset")
            if not isinstance(meaning, Unreachable) or time.monotonic() >= deadline:
                raise meaning
            self._steps.tell(f"partition {partition}: the committed offset")
            time.sleep(PAUSE_SECONDS)

    def read_heads(self, partition: int) -> HeadsReader:
        """Return what stands in audit.heads."""
        reader = HeadsReader(partition)
        self._reader.assign(self._topics.heads, partition)
        self._feed_heads(reader, partition)
        return reader

    def _feed_heads(self, reader: HeadsReader, partition: int) -> None:
        for messages in self._reader.to_end():
            for message in messages:
                reader.feed(message.key(), message.value())
            self._steps.tell(f"partition {partition}: the heads")

    def examine(self, partition: int, *, offsets: bool = True) -> Examination:
        """Read audit.chained, then the heads and the committed offset, until they agree or the time is over.

        In this order, because a worker may run: what it commits meanwhile makes heads that are ahead, and then the rest
        of audit.chained is read as well. Heads that stay behind are wrong.
        """
        low, _ = self._reader.bounds(self._topics.chained, partition)
        recomputed = Recomputation(partition, self._rules, beginning_gone=low > 0, carried=self._settings.epoch > 1)
        next_offset = self._recompute(recomputed, low)
        deadline = time.monotonic() + min(SETTLE_SECONDS, self._patience_seconds)
        while True:
            before, metadata = self.committed(partition)
            reader = self.read_heads(partition)
            after, _ = self.committed(partition)
            head = reader.head
            if head is not None:
                compare_instance(partition, head, self._rules.genesis, self._rules.topic_id)
                if head.last_offset > recomputed.last_offset:
                    next_offset = self._recompute(recomputed, next_offset, up_to=head.last_offset)
            settled = _settled(before, after, None if head is None else head.position)
            source = self._look_at_source(partition, recomputed.last_offset)
            pinned = metadata == pin(self._rules)
            examination = Examination(partition, recomputed, reader, after, pinned, source, settled)
            if not compare(examination, offsets=offsets).total or not self._may_settle(examination, deadline):
                return examination
            self._steps.tell(f"partition {partition}: heads and committed offset to agree")
            time.sleep(PAUSE_SECONDS)

    def _may_settle(self, examination: Examination, deadline: float) -> bool:
        """Return whether a difference may be a commit that surfaces in one topic before the other."""
        head = examination.reader.head
        behind = head is None or head.last_offset != examination.last_offset
        return (behind or not examination.settled) and time.monotonic() < deadline

    def _recompute(self, recomputed: Recomputation, offset: int, *, up_to: int | None = None) -> int:
        """Read audit.chained from an offset on, to its end or one source offset, and return where to go on."""
        partition = recomputed.partition
        self._reader.assign(self._topics.chained, partition, offset)
        for messages in self._reader.to_end():
            begin = offset
            for message in messages:
                seal = seal_of(message)
                if not recomputed.feed(message.key(), seal, message.value(), up_to=up_to):
                    return offset
                offset = (message.offset() or 0) + 1
            self._steps.tell(f"partition {partition}: verifying the chains", offset - begin)
        return offset

    def _look_at_source(self, partition: int, last_offset: int) -> SourceState:
        """Find the first record behind the last chained one."""
        topic = self._topics.events
        start, end = self._reader.bounds(topic, partition)
        first = max(last_offset + 1, start)
        if first >= end:
            return SourceState(start, max(end, first))
        self._reader.assign(topic, partition, first)
        for messages in self._reader.to_end():
            self._steps.tell(f"partition {partition}: the source behind offset {last_offset}")
            if messages:
                return SourceState(start, messages[0].offset() or 0)
        return SourceState(start, end)

    def await_quiet(self, partition: int) -> None:
        """Wait until no transaction of a fenced worker is open: what it decided may surface late, and must be seen.

        Raises:
            Unreachable: One stays open for longer than transactions may.
        """
        deadline = time.monotonic() + self._settings.transaction_timeout_seconds + self._patience_seconds
        for topic in (self._topics.chained, self._topics.heads):
            while self._reader.bounds(topic, partition)[1] < self._end(topic, partition):
                if time.monotonic() >= deadline:
                    raise Unreachable(
                        f"a transaction in {topic}, partition {partition}, does not end",
                        hint="kafka-transactions.sh find-hanging names it",
                    )
                self._steps.tell(f"partition {partition}: a transaction in {topic} to end")
                time.sleep(PAUSE_SECONDS)

    def _end(self, topic: str, partition: int) -> int:
        """Return the end of a partition, open transactions included."""
        place = TopicPartition(topic, partition)
        latest = cast("OffsetSpec", OffsetSpec.latest())  # type: ignore[no-untyped-call]
        future = cast(
            "Future[ListOffsetsResultInfo]",
            self._admin.list_offsets(
                {place: latest}, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=REQUEST_SECONDS
            )[place],
        )
        try:
            return future.result().offset
        except KafkaException as exception:
            raise classify(exception.args[0], f"ask for the end of {topic}") from exception


def drive(steps: Generator[str, None, T], tell: Callable[[str], None]) -> T:
    """Go through what takes long, telling what it waits for, and return what it comes to."""
    while True:
        try:
            tell(next(steps))
        except StopIteration as end:
            result: T = end.value
            return result


def _settled(before: int | None, after: int | None, position: int | None) -> bool:
    """Return whether a position that was read between two looks at the committed offset can be the same."""
    if position is None:
        return before is None
    return before is not None and after is not None and before <= position <= after
