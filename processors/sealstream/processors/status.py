"""What a worker is at, for the web pages: written by the log's thread, read by the event loop."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sealstream.processors.cycle import Outcome
from sealstream.schemas.entry import Kind
from sealstream.worker import metrics

STUCK_SECONDS: Final = 60.0
SLOW_SECONDS: Final = 3.0
_BY_KIND: Final = tuple(metrics.PROCESSOR_ENTRIES.labels(kind.name.lower()) for kind in Kind)


@dataclass(slots=True)
class Status:
    """The present state: plain attributes, each replaced as a whole, so that a reader in another thread needs no lock.

    Arguments:
        topic: The source topic, whose statistics count.
        waiting: What the worker waits for before it can chain; empty while it chains.
        connected: Whether a broker is connected.
        stepped_at: When the log's thread last began a step (monotonic seconds).
        positions: By partition, the committed position.
        transaction_since: When the open transaction was begun (monotonic seconds), if one is open.
    """

    topic: str
    waiting: str = "the start"
    connected: bool = False
    stepped_at: float = field(default_factory=time.monotonic)
    positions: Mapping[int, int] = field(default_factory=dict[int, int])
    transaction_since: float | None = None

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Note that a transaction is open for as long as the context is."""
        self.transaction_since = time.monotonic()
        try:
            yield
        finally:
            self.transaction_since = None

    def step(self) -> None:
        """Note that the log's thread is alive."""
        self.stepped_at = time.monotonic()

    def alive(self) -> bool:
        """Return whether the log's thread has begun a step of late."""
        return time.monotonic() - self.stepped_at < STUCK_SECONDS

    def ready(self) -> tuple[bool, str]:
        """Return whether the worker chains, and in words what it does or waits for."""
        if self.waiting:
            return False, f"waiting for {self.waiting}"
        if not self.connected:
            return False, "waiting for Kafka: no broker is connected"
        since = self.transaction_since
        if since is not None and time.monotonic() - since > SLOW_SECONDS:
            return False, f"waiting for a transaction that is open for {time.monotonic() - since:.0f} s"
        return True, f"chaining partitions {sorted(self.positions)}"

    def on_positions(self, positions: Mapping[int, int]) -> None:
        """Note the committed positions of the partitions that are read."""
        for partition in self.positions.keys() - positions.keys():
            metrics.PROCESSOR_LAG.remove(str(partition))
        self.positions = dict(positions)
        metrics.PROCESSOR_ASSIGNED.set(len(positions))

    def on_commit(self, outcome: Outcome, positions: Mapping[int, int]) -> None:
        """Note a committed transaction."""
        self.positions = dict(positions)
        for counter, count in zip(_BY_KIND, outcome.kinds, strict=True):
            if count:
                counter.inc(count)
        metrics.PROCESSOR_BATCH_RECORDS.observe(outcome.records)
        metrics.PROCESSOR_TRANSACTION_SECONDS.observe(outcome.seconds)
        if outcome.oldest_ms:
            metrics.PROCESSOR_EVENT_AGE_SECONDS.observe(max(time.time() - outcome.oldest_ms / 1000, 0.0))

    def on_statistics(self, text: str) -> None:
        """Take in librdkafka's statistics: whether a broker is up, and where the partitions end."""
        statistics: dict[str, Any] = json.loads(text)
        self.connected = any(broker["state"] == "UP" for broker in statistics["brokers"].values())
        topic: dict[str, Any] = statistics["topics"].get(self.topic, {"partitions": {}})
        for number, partition in topic["partitions"].items():
            position = self.positions.get(int(number))
            if position is not None and partition["ls_offset"] >= 0:
                metrics.PROCESSOR_LAG.labels(number).set(max(partition["ls_offset"] - position, 0))
