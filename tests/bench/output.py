"""Reads what a contestant made: how much of it, which bytes, and when."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, cast

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, TopicPartition

from sealstream.kafka.topics import SEAL_ENTRY_HEADER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Message

_READ_SECONDS: Final = 300.0
_TAKE_RECORDS: Final = 10_000
_REPORT_RECORDS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Course:
    """When records came to be, in order.

    Arguments:
        counts: By the broker's append time in milliseconds, how many records.
    """

    counts: tuple[tuple[int, int], ...]

    @property
    def records(self) -> int:
        """How many records there are."""
        return sum(count for _, count in self.counts)

    def after(self, records: int) -> tuple[float, float, int]:
        """Return the stretch that comes after so many records.

        Returns:
            The moments at which it begins and ends, in seconds since the Unix epoch, and its number of records.
        """
        passed, begin = 0, self.counts[0][0]
        for milliseconds, count in self.counts:
            if passed >= records:
                break
            passed, begin = passed + count, milliseconds
        return begin / 1000, self.counts[-1][0] / 1000, self.records - passed


@dataclass(frozen=True, slots=True)
class Output:
    """What a contestant made.

    Arguments:
        course: When.
        digests: For each partition, a digest over keys, values and entries in their order.
        markers: How many offsets are no records, but the ends of transactions: one a transaction and partition.
    """

    course: Course
    digests: tuple[str, ...]
    markers: int

    @property
    def events_per_marker(self) -> float:
        """How many records a transaction had on average in each partition that it touched."""
        return self.course.records / max(self.markers, 1)


def read_output(bootstrap: str, topic: str, partitions: int, *, progress: Callable[[str], None]) -> Output:
    """Read a topic as a reader of committed records, from its start to its end."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-never-commits",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 2,
            "check.crcs": True,
        }
    )
    digests = [sha256() for _ in range(partitions)]
    counts: Counter[int] = Counter()
    ends: dict[int, int] = {}
    read, deadline = 0, time.monotonic() + _READ_SECONDS
    try:
        consumer.assign([TopicPartition(topic, n, 0) for n in range(partitions)])
        while len(ends) < partitions:
            assert time.monotonic() < deadline, f"{topic} could not be read to its end, only {sorted(ends)}"
            for message in consumer.consume(_TAKE_RECORDS, 0.2):
                error, partition = message.error(), message.partition() or 0
                if error is not None:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    ends[partition] = message.offset() or 0
                    continue
                kind, milliseconds = message.timestamp()
                assert kind == TIMESTAMP_LOG_APPEND_TIME
                counts[milliseconds] += 1
                digests[partition].update(_framed(message))
            if sum(counts.values()) // _REPORT_RECORDS > read // _REPORT_RECORDS:
                read = sum(counts.values())
                progress(f"comparing: {read:,} records read")
    finally:
        consumer.close()
    markers = sum(ends.values()) - sum(counts.values())
    return Output(Course(tuple(sorted(counts.items()))), tuple(digest.hexdigest() for digest in digests), markers)


def _framed(message: Message) -> bytes:
    """Return what of a record two contestants must agree on, with lengths, so that nothing can pass for another."""
    headers = cast("Sequence[tuple[str, bytes]]", message.headers() or [])
    [entry] = [value for name, value in headers if name == SEAL_ENTRY_HEADER]
    key, value = message.key() or b"", message.value() or b""
    return b"%d %d %d\n%s%s%s" % (len(key), len(value), len(entry), key, value, entry)
