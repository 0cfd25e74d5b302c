"""Restores what chaining knows of a partition, from audit.heads and audit.chained, up to exactly the committed offset.

Everything here is a generator that yields what it waits for, at the latest every second or so: between two steps the
log's thread serves the group, so that a restore of any length neither loses the membership nor delays a revocation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Final, TypeAlias, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from sealstream.kafka.topics import SEAL_ENTRY_HEADER, TopicNames
from sealstream.processors.assignment import Observed, Verdict, compare_instance, disagreement, judge
from sealstream.processors.chaining import PartitionState, Rules
from sealstream.processors.failures import classify
from sealstream.processors.heads import REBUILD_HINT, HeadsReader, PackedHeads, PartitionHead
from sealstream.processors.tail import TailReader
from sealstream.schemas.errors import HeadsDiffer, Unreachable, UnsafeState

REQUEST_SECONDS: Final = 3.0
READ_SECONDS: Final = 0.2
PAUSE_SECONDS: Final = 0.1
READ_RECORDS: Final = 5_000

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
        self._reader = reader
        self._topics = topics
        self._rules = rules
        self._committed = committed
        self._patience_seconds = patience_seconds
        self._at_end = False  # librdkafka tells the end of a partition once, and again only behind new records

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
                return PartitionState(partition, PackedHeads(), self._rules.window())
            if kept is not None and kept.position == observed.committed:
                return kept
            if not observed.head.covers(reader.heads):
                raise self._incomplete(partition, observed.head, reader.heads)
            state = yield from self._read_tail(partition, observed.head, reader.heads, deadline)
            if state is not None:
                return state
            # The chained log is ahead of the heads that were just read: they have moved. Read them again.

    def _observe(self, partition: int, reader: HeadsReader, deadline: float) -> Generator[str, None, Observed]:
        """Read committed offset and heads until they agree: a commit may surface in one before the other."""
        topic = self._topics.heads
        self._assign(topic, partition, OFFSET_BEGINNING)
        while True:
            yield f"partition {partition}: the committed offset"
            committed = self._committed(partition)
            start, end = self._bounds(self._topics.events, partition)
            for messages in self._to_end(topic):
                for message in messages:
                    reader.feed(message.key(), message.value())
                yield f"partition {partition}: heads up to offset {committed}, read {len(reader.heads)}"
            if reader.head is not None:  # first: a topic that was made anew has lost its committed offsets as well
                compare_instance(partition, reader.head, self._rules.genesis, self._rules.topic_id)
            observed = Observed(partition, committed, reader.head, start, end)
            if judge(observed) is not Verdict.AGAIN:
                return observed
            if time.monotonic() >= deadline:
                raise disagreement(observed)
            at = "none" if reader.head is None else reader.head.position
            yield f"partition {partition}: committed offset {committed} and heads at {at} to agree"
            time.sleep(PAUSE_SECONDS)

    def _require_untouched(self, partition: int) -> Waiting:
        """Make sure that a partition which nobody knows has no entries: else its chains would begin a second time.

        Raises:
            HeadsDiffer: audit.chained has entries of it.
        """
        topic = self._topics.chained
        start, end = self._bounds(topic, partition)
        if end == 0:
            return
        if start > 0:
            raise self._forgotten(partition)
        self._assign(topic, partition, start)
        for messages in self._to_end(topic):
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
        self._assign(topic, partition, start)
        gone = start == low > 0
        while True:
            for messages in self._to_end(topic):
                for message in messages:
                    tail.feed(_seal(message))
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
        low, high = self._bounds(topic, partition)
        window = self._rules.genesis.window_offsets
        span = window + window // 4 + 1024  # room for geneses and the markers of transactions
        while True:
            start = max(low, high - span)
            if start == low:
                return low, start
            yield f"partition {partition}: the beginning of the window"
            self._assign(topic, partition, start)
            first = next((messages[0] for messages in self._to_end(topic) if messages), None)
            if first is not None and tail.reaches_back(tail.parse(_seal(first))):
                return low, start
            span *= 4

    def _assign(self, topic: str, partition: int, offset: int) -> None:
        self._reader.assign([TopicPartition(topic, partition, offset)])
        self._at_end = False

    def _to_end(self, topic: str) -> Generator[list[Message], None, None]:
        """Read what is assigned to its present end, in pieces; call it again to read what came since.

        Raises:
            Unreachable: Kafka sends neither records nor the end.
        """
        quiet_since = time.monotonic()
        while True:
            first = self._reader.poll(READ_SECONDS)  # consume() alone would wait for all that it was asked for
            found = [] if first is None else [first, *self._reader.consume(READ_RECORDS, 0)]
            messages = [message for message in found if not self._is_end(message, topic)]
            if messages:
                self._at_end = found[-1].error() is not None
            yield messages
            if self._at_end:
                return
            if messages:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since >= self._patience_seconds:
                raise Unreachable(f"Kafka sends nothing of {topic}", hint="check that the brokers run")

    def _is_end(self, message: Message, topic: str) -> bool:
        """Return whether a message only says that a partition ended; raise what else it says besides records."""
        error = message.error()
        if error is None:
            return False
        if error.code() != KafkaError._PARTITION_EOF:
            raise classify(error, f"read {topic}")
        self._at_end = True
        return True

    def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Return the first offset of a partition and the one behind the last that a committed reader may see."""
        try:
            bounds = self._reader.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=REQUEST_SECONDS, cached=False
            )
        except KafkaException as exception:
            raise classify(exception.args[0], f"ask for the offsets of {topic}") from exception
        return bounds


def _seal(message: Message) -> bytes:
    """Return the seal of a record of audit.chained."""
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    for name, value in headers:
        if name == SEAL_ENTRY_HEADER and value is not None:
            return value
    raise UnsafeState(
        f"{message.topic()} partition {message.partition()} offset {message.offset()} has no seal",
        hint="somebody but the processor writes to audit.chained: take the right away from them",
    )
