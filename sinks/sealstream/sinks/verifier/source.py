"""audit.events as the verifier reads it: by itself, to where the chained records lead, and never further than it must.

One consumer reads all partitions of this worker. It has no group and commits nothing: where the verifier stands is
part of its own state. A partition that runs ahead of its chained records is paused, so memory stays bounded.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Final, cast

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from sealstream.kafka.assigning import assign_anew
from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.replacement import Replaced
from sealstream.kafka.watermarks import watermarks
from sealstream.schemas.errors import ConfigError, Unreachable
from sealstream.sinks.verifier.clients import reader
from sealstream.sinks.verifier.records import SourceMessage, source_record
from sealstream.sinks.verifier.rules import SourceRecord
from sealstream.sinks.verifier.runs import runs

OFFSET_MAX: Final = 2**62
"""No log gets there; a claimed offset beyond it is not even asked for."""
AHEAD_RECORDS_MAX: Final = 20_000
AHEAD_BYTES_MAX: Final = 32 * 1024 * 1024
"""How far a partition may be read ahead of its chained records before it is paused."""
FETCH_RECORDS: Final = 5_000
DOUBT_SECONDS: Final = 1.0
"""How long a record is waited for where the chained record does not say for which."""
POLL_SECONDS: Final = 0.1
ASK_SECONDS: Final = 4.0
"""How long a call that cannot be interrupted waits for an answer: less than a worker may take to stop."""
UNKNOWN_PARTITION: Final = KafkaError._UNKNOWN_PARTITION  # noqa: SLF001  # librdkafka's public name for it


class LogCut(Exception):  # says what happened to the log; the session turns it into a finding
    """A log does not have the offset that is to be read next.

    Arguments:
        topic: The topic.
        partition: The partition.
    """

    def __init__(self, topic: str, partition: int) -> None:
        super().__init__(f"{topic} partition {partition} does not have the offset to be read next")
        self.topic = topic
        self.partition = partition


class Interrupted(Exception):  # no error: the worker was told to stop
    """The worker was told to stop while it waited."""


def is_passing(error: KafkaError) -> bool:
    """Return whether a consumer's error is one that its library deals with by itself; those that need us, raise.

    Raises:
        ConfigError: The brokers do not let us read.
        Replaced: The group gave this worker's membership to another one.
        Unreachable: The topic is not there at the moment.
    """
    if error.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED):
        raise ConfigError(f"Kafka refuses to let the verifier read: {error.str()}", hint="grant it READ")
    if error.fatal() or error.code() in (KafkaError.FENCED_INSTANCE_ID, KafkaError._FATAL):
        raise Replaced(f"the group refuses this worker: {error.str()}")
    if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, UNKNOWN_PARTITION):
        raise Unreachable(f"a topic of the verifier cannot be read: {error.str()}", hint="sealstream topics check")
    return True


class SourceReader:
    """Reads the source partitions that belong to this worker's chained partitions.

    Arguments:
        connection: How to reach Kafka.
        topic: The name of audit.events.
        client_id: The client's name in the brokers' logs.
        stopping: Whether the worker was told to stop.
        patience_seconds: How long a record that must be there may take to arrive.
        gather_seconds: How long the brokers let records gather.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        *,
        client_id: str,
        stopping: Callable[[], bool],
        patience_seconds: float,
        gather_seconds: float = 0.0,
    ) -> None:
        self.topic = topic
        self.stopping = stopping
        self.patience_seconds = patience_seconds
        # What is in the log comes with the fetch under way or, if that one leaves its partition out, with the next.
        self.doubt_seconds = DOUBT_SECONDS + 2 * gather_seconds
        self._consumer = reader(connection, client_id, gather_seconds=gather_seconds)
        self._lookup = reader(connection, f"{client_id}-lookup")
        self._partitions: dict[int, SourcePartition] = {}

    def assign(self, positions: dict[int, int]) -> dict[int, SourcePartition]:
        """Read these partitions from these offsets on, and no others."""
        self._partitions = {number: SourcePartition(self, number, offset) for number, offset in positions.items()}
        assign_anew(self._consumer, (TopicPartition(self.topic, number, at) for number, at in positions.items()))
        return self._partitions

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()
        self._lookup.close()

    def fill(self, timeout_seconds: float) -> None:
        """Take in what has arrived for any partition, waiting at most so long for the first of it.

        Raises:
            LogCut: A partition does not have the offset that is to be read next.
        """
        first = self._consumer.poll(timeout_seconds)
        messages = [] if first is None else [first, *self._consumer.consume(FETCH_RECORDS, 0)]
        records = [message for message in messages if message.error() is None]
        if len(records) < len(messages):
            self._heed(messages)
        for number, several in runs(records):
            if number in self._partitions:
                self._partitions[number].take_in(several)
        full = [p for p in self._partitions.values() if p.is_full and not p.paused]
        self._pause(full)

    def resume(self, partition: SourcePartition) -> None:
        """Read a paused partition again."""
        partition.paused = False
        self._consumer.resume([TopicPartition(self.topic, partition.number)])

    def bounds_of(self, number: int) -> tuple[int, int]:
        """Return where a partition begins, and where it ends now for a read_committed reader.

        Raises:
            Unreachable: Kafka does not answer.
        """
        try:
            return watermarks(self._consumer, self.topic, number, timeout_seconds=ASK_SECONDS)
        except KafkaException as exception:
            raise Unreachable(f"the bounds of {self.topic} cannot be read: {exception.args[0].str()}") from exception

    def look_up(self, number: int, offset: int) -> SourceRecord | None:
        """Return the record at an offset, if a read_committed reader sees one there.

        Raises:
            Unreachable: Kafka does not answer in time.
        """
        if offset > OFFSET_MAX:
            return None
        self._lookup.assign([TopicPartition(self.topic, number, offset)])
        deadline = time.monotonic() + self.patience_seconds
        try:
            while time.monotonic() < deadline:
                if self.stopping():
                    raise Interrupted
                message = self._lookup.poll(POLL_SECONDS)
                error = None if message is None else message.error()
                if message is None:
                    continue
                if error is None:
                    record = source_record(message)
                    return record if record.offset == offset else None
                if error.code() in (
                    KafkaError._PARTITION_EOF,
                    KafkaError._AUTO_OFFSET_RESET,
                    KafkaError.OFFSET_OUT_OF_RANGE,
                ):
                    return None
                is_passing(error)
        finally:
            self._lookup.unassign()
        raise Unreachable(f"{self.topic} partition {number} cannot be read at offset {offset}")

    def _heed(self, messages: Sequence[Message]) -> None:
        """Take note of what is no record, but an end or an error.

        Raises:
            LogCut: A partition does not have the offset that is to be read next.
        """
        for message in messages:
            error, number = message.error(), cast("int", message.partition())
            if error is None:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                if number in self._partitions:
                    self._partitions[number].end = cast("int", message.offset())
            elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                raise LogCut(self.topic, number)
            else:
                is_passing(error)

    def _pause(self, partitions: list[SourcePartition]) -> None:
        if partitions:
            self._consumer.pause([TopicPartition(self.topic, p.number) for p in partitions])
            for partition in partitions:
                partition.paused = True


class SourcePartition:
    """One source partition: what has been read of it and not been asked for yet.

    Arguments:
        reader: Reads it.
        number: Its number.
        position: The offset from which it is read.
    """

    def __init__(self, reader: SourceReader, number: int, position: int) -> None:
        self.number = number
        self.paused = False
        self.end = -1
        """Where the partition ended when its end was reached last; -1 if that has not been since."""
        self._reader = reader
        self._next = position
        self._messages: deque[SourceMessage] = deque()
        self._size_bytes = 0
        self._found: SourceRecord | None = None

    @property
    def is_full(self) -> bool:
        """Whether as much has been read ahead as may be."""
        return len(self._messages) >= AHEAD_RECORDS_MAX or self._size_bytes >= AHEAD_BYTES_MAX

    def drained_to(self) -> int | None:
        """Return the offset up to which all records were asked for, if that is the partition's end."""
        return None if self._messages or self.end < self._next else self.end

    def take_in(self, messages: Sequence[Message]) -> None:
        """Keep messages until they are asked for."""
        self._messages.extend(messages)
        self._size_bytes += sum(map(len, messages))  # of their values

    def ready(self) -> SourceRecord | None:
        """Return the next record if it is at hand, and move behind it."""
        if not self._messages:
            return None
        record = source_record(self._messages[0])
        self.take(1, len(record.value or b""))
        return record

    def messages(self) -> deque[SourceMessage]:
        """Return the messages that are at hand already, to be looked at; :meth:`take` takes them."""
        return self._messages

    def take(self, count: int, size_bytes: int) -> int:
        """Move behind messages that are at hand.

        Arguments:
            count: How many; at least one.
            size_bytes: The size of their values.

        Returns:
            The offset behind the last of them.
        """
        popleft = self._messages.popleft
        for _ in repeat(None, count - 1):
            popleft()
        self._next = cast("int", popleft().offset()) + 1
        self._size_bytes -= size_bytes
        if self.paused and not self._messages:
            self._reader.resume(self)
        return self._next

    def wait(self, until: int) -> SourceRecord | None:
        """Return the next record and move behind it; ``None`` if there is certainly none up to an offset.

        Raises:
            Unreachable: A record that must be there does not arrive, or Kafka does not say that it is not there.
            Interrupted: The worker was told to stop.
        """
        patience = self._reader.doubt_seconds if until < 0 else self._reader.patience_seconds
        deadline = time.monotonic() + patience
        while not self._messages:
            if 0 <= until < self.end:
                return None
            if self._reader.stopping():
                raise Interrupted
            if time.monotonic() >= deadline:
                if until < 0 or self._reader.bounds_of(self.number)[1] <= until:
                    return None  # the brokers say so themselves: not a matter of waiting longer
                raise Unreachable(f"{self._reader.topic} partition {self.number} does not come up to offset {until}")
            self._reader.fill(POLL_SECONDS)
        return self.ready()

    def start(self) -> int:
        """Return the first offset that the partition still has.

        Raises:
            Unreachable: Kafka does not answer.
        """
        return self._reader.bounds_of(self.number)[0]

    def skip_to(self, offset: int) -> None:
        """Move to an offset, past what was read and lies before it."""
        while self._messages and cast("int", self._messages[0].offset()) < offset:
            self.ready()
        self._next = max(self._next, offset)

    def find(self, offset: int) -> SourceRecord | None:
        """Return the record at an offset, if a read_committed reader sees one there, without moving."""
        if self._found is None or self._found.offset != offset:
            here = next((message for message in self._messages if message.offset() == offset), None)
            self._found = self._reader.look_up(self.number, offset) if here is None else source_record(here)
        return self._found

    def upcoming(self) -> Iterable[SourceRecord]:
        """Return the records that are at hand already, in order, without moving."""
        return map(source_record, self._messages)
