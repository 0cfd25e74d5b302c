"""How long a record takes from its publishing to a reader of committed chained records."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self, cast

from confluent_kafka import Consumer, TopicPartition

from sealstream.kafka.topics import SEAL_ENTRY_HEADER
from sealstream.schemas.entry import Kind, parse
from support.workers import Pipeline

POLL_SECONDS = 0.1


class Latency:
    """Reads audit.chained as it grows, as long as its context is open, and notes when it sees each source record.

    Arguments:
        pipeline: Whose audit.chained it reads.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._stopped = threading.Event()
        self._seen_at: dict[tuple[int, int], float] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": pipeline.bootstrap,
                "group.id": "never-commits",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 20,
            }
        )
        self._consumer.assign(
            [TopicPartition(pipeline.topics.chained, n, 0) for n in range(pipeline.genesis.partitions)]
        )
        self._thread = threading.Thread(target=self._run, name="latency")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._consumer.close()

    def seconds(self, sent_at: Mapping[tuple[int, int], float]) -> list[float]:
        """Return the latency of all records whose sending is known, the shortest first.

        Arguments:
            sent_at: By source partition and offset, when it was published (monotonic seconds).
        """
        return sorted(seen - sent_at[place] for place, seen in self._seen_at.items() if place in sent_at)

    def _run(self) -> None:
        while not self._stopped.is_set():
            first = self._consumer.poll(POLL_SECONDS)
            if first is None:
                continue
            messages = [first, *self._consumer.consume(1000, 0)]
            now = time.monotonic()
            for message in messages:
                headers = dict(cast("list[tuple[str, bytes]]", message.headers() or []))
                if message.error() is not None or SEAL_ENTRY_HEADER not in headers:
                    continue  # a record without a seal is a test's own, behind the end
                entry = parse(headers[SEAL_ENTRY_HEADER])
                if entry.kind is not Kind.GENESIS:
                    self._seen_at[entry.partition, entry.offset] = now
