"""A log in memory that answers like a producer, a group's consumer and a reader of confluent-kafka: for tests without a
broker that run the processor's own transactions and its own restore.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from sealstream.kafka.topics import TopicNames
from sealstream.processors.chaining import PartitionState, Rules
from sealstream.processors.cycle import Cycle
from sealstream.processors.restore import Restorer

TOPICS = TopicNames()
SOURCE_END = 1 << 40
RESTORE_STEPS_MAX = 1_000
PATIENCE_SECONDS = 5.0


class Logged(NamedTuple):
    """A committed record, with an offset as a broker gives it."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] | None


@dataclass(slots=True)
class PartitionLog:
    """One partition as a reader of committed records sees it: offsets have holes where something was aborted.

    Arguments:
        records: What was ever committed.
        start: The first offset that is still there.
        end: The offset of the next record.
    """

    records: list[Logged] = field(default_factory=list[Logged])
    start: int = 0
    end: int = 0


@dataclass
class MemoryLog:
    """All partitions of all topics, the group's offsets, and the one transaction that may be open.

    Arguments:
        stride: How many offsets the end of each transaction takes in a partition it wrote to; a broker's marker takes
            one. With many, a short log reaches as far as a long one does.
        fail_at: The step that fails next: ``begin``, ``produce``, ``heads``, ``send_offsets``, ``commit`` or ``abort``.
        failure: Makes what it raises.
    """

    stride: int = 1
    fail_at: str = ""
    failure: Callable[[], BaseException] = lambda: RuntimeError("no failure was set")
    offsets: dict[int, tuple[int, str]] = field(default_factory=dict[int, tuple[int, str]])
    calls: list[str] = field(default_factory=list[str])
    logs: dict[tuple[str, int], PartitionLog] = field(default_factory=dict[tuple[str, int], PartitionLog])
    _open: list[tuple[PartitionLog, Logged]] = field(default_factory=list[tuple[PartitionLog, Logged]])
    _sent: dict[int, tuple[int, str]] = field(default_factory=dict[int, tuple[int, str]])

    def log(self, topic: str, partition: int) -> PartitionLog:
        """Return one partition."""
        return self.logs.setdefault((topic, partition), PartitionLog())

    def records(self, topic: str, partition: int) -> list[Logged]:
        """Return everything that was ever committed to a partition."""
        return self.log(topic, partition).records

    def compact(self, topic: str, partition: int) -> None:
        """Keep only the last record of each key, as a broker's cleaner may at any time."""
        log = self.log(topic, partition)
        last = {record.key: record.offset for record in log.records}
        log.records = [record for record in log.records if last[record.key] == record.offset]

    # -- as confluent-kafka's producer ---------------------------------------------------------------------------------

    def _step(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fail_at:
            self.fail_at = ""
            raise self.failure()

    def begin_transaction(self) -> None:
        """As confluent-kafka's producer."""
        self._step("begin")

    def produce(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int, *, headers: Any = None
    ) -> None:
        """As confluent-kafka's producer."""
        self._step("heads" if topic == TOPICS.heads else "produce")
        log = self.log(topic, partition)
        self._open.append((log, Logged(log.end, key, value, headers)))
        log.end += 1

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
        for log, record in self._open:
            log.records.append(record)
        self.offsets.update(self._sent)
        self.end_transaction()

    def abort_transaction(self, _seconds: float) -> None:
        """As confluent-kafka's producer."""
        self._step("abort")
        self.end_transaction()

    def end_transaction(self) -> None:
        """End the open transaction, as its coordinator does: what was not committed is seen by nobody."""
        for log in {id(log): log for log, _ in self._open}.values():
            log.end += self.stride
        self._open, self._sent = [], {}

    def consumer_group_metadata(self) -> str:
        """As confluent-kafka's consumer."""
        return "membership"

    # -- the processor on this log -------------------------------------------------------------------------------------

    def cycle(self, rules: Rules, *, stopping: Callable[[], bool] = lambda: False) -> Cycle:
        """Return a cycle on this log."""
        producer, consumer = cast("Producer", self), cast("Consumer", self)
        return Cycle(producer, consumer, TOPICS, rules, timeout_seconds=0.2, stopping=stopping)

    def committed(self, partition: int) -> int | None:
        """Return the group's committed offset."""
        return self.offsets[partition][0] if partition in self.offsets else None

    def restore(self, partition: int, rules: Rules, kept: PartitionState | None = None) -> PartitionState:
        """Restore a partition's state by the processor's own code, as a worker does that it was assigned to.

        Arguments:
            partition: The partition.
            rules: What every entry depends on.
            kept: The worker's state from before it lost the partition.
        """
        reader = cast("Consumer", MemoryReader(self))
        restorer = Restorer(reader, TOPICS, rules, committed=self.committed, patience_seconds=PATIENCE_SECONDS)
        restoring = restorer.restore(partition, kept)
        for _ in range(RESTORE_STEPS_MAX):
            try:
                next(restoring)
            except StopIteration as end:
                return cast("PartitionState", end.value)
        raise AssertionError("the restore does not come to an end")


@dataclass(frozen=True, slots=True)
class MemoryMessage:
    """A message as the reader presents it; without a record it says that the partition ended."""

    place: TopicPartition
    record: Logged | None

    def error(self) -> KafkaError | None:
        """Return the end of the partition, if that is what the message says."""
        return KafkaError(KafkaError._PARTITION_EOF) if self.record is None else None

    def topic(self) -> str:
        """Return the topic."""
        return self.place.topic

    def partition(self) -> int:
        """Return the partition."""
        return self.place.partition

    def offset(self) -> int:
        """Return the offset."""
        return self._record().offset

    def key(self) -> bytes | None:
        """Return the key."""
        return self._record().key

    def value(self) -> bytes | None:
        """Return the value."""
        return self._record().value

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """Return the headers; ``None`` where there are none."""
        return self._record().headers or None

    def _record(self) -> Logged:
        assert self.record is not None, "the end of a partition is no record"
        return self.record


class MemoryReader:
    """Reads one assigned partition to its end, as a consumer of committed records with ``enable.partition.eof`` does.

    Arguments:
        log: The log.
    """

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._place = TopicPartition("", 0, 0)
        self._messages: list[MemoryMessage] = []

    def assign(self, places: list[TopicPartition]) -> None:
        """Begin to read a partition; an offset before the first one that is left, as ``OFFSET_BEGINNING``, is that."""
        [place] = places
        log = self._log.log(place.topic, place.partition)
        first = max(place.offset, log.start)
        found = [MemoryMessage(place, record) for record in log.records if record.offset >= first]
        self._messages = [*found, MemoryMessage(place, None)]

    def poll(self, _seconds: float) -> MemoryMessage | None:
        """Return the next message; the end once, and ``None`` from then on."""
        return self._messages.pop(0) if self._messages else None

    def consume(self, count: int, _seconds: float) -> list[MemoryMessage]:
        """Return the next messages."""
        found, self._messages = self._messages[:count], self._messages[count:]
        return found

    def get_watermark_offsets(self, place: TopicPartition, **_options: Any) -> tuple[int, int]:
        """Return the first offset and the end; the source is always longer than what was chained of it."""
        if place.topic == TOPICS.events:
            return 0, SOURCE_END
        log = self._log.log(place.topic, place.partition)
        return log.start, log.end
