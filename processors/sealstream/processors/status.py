"""What a worker is at, for the web pages and the metrics: written by the log's thread, read by the event loop.

No lock: each attribute has one thread that writes it, and is replaced as a whole.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sealstream.processors.chaining import PartitionState
from sealstream.processors.cycle import Outcome
from sealstream.schemas.entry import Kind
from sealstream.worker import metrics

THREAD_SECONDS: Final = 60.0
"""A step of the log's thread that takes longer hangs."""

SLOW_SECONDS: Final = 3.0
STUCK_SECONDS: Final = 20.0
"""A partition with records to chain and no commit for so long is stuck. Whoever asks sees it within half a minute."""


def _now() -> float:
    """Return monotonic seconds."""
    return time.monotonic()


_BY_KIND: Final = tuple(metrics.PROCESSOR_ENTRIES.labels(kind.name.lower()) for kind in Kind)
_BY_PARTITION: Final = (
    metrics.PROCESSOR_POSITION,
    metrics.PROCESSOR_END,
    metrics.PROCESSOR_LAG,
    metrics.PROCESSOR_CHAINS,
    metrics.PROCESSOR_LAST_COMMIT,
)


@dataclass(slots=True)
class PartitionStatus:
    """One partition that the worker owns.

    Arguments:
        position: The committed position; ``None`` until its heads are restored. Written by the log's thread, as are
            the next three.
        chains: How many chains it has.
        committed_at: When this worker last committed records of it (seconds since the epoch), if it did.
        moved_at: When the position last moved, or was restored (monotonic seconds).
        end: The source's end as a reader of committed records sees it, if it was told. Written by the event loop, as
            are the next two.
        told_at: When it was last told, or first asked for (monotonic seconds).
        behind_since: Since when it is known to lie behind the position; ``None`` if it does not.
    """

    position: int | None = None
    chains: int = 0
    committed_at: float | None = None
    moved_at: float = 0.0
    end: int | None = None
    told_at: float = 0.0
    behind_since: float | None = None

    @property
    def lag(self) -> int | None:
        """How many offsets lie between position and end; ``None`` while one of them is not known."""
        return None if self.position is None or self.end is None else max(self.end - self.position, 0)

    def on_end(self, end: int) -> None:
        """Note where the source ends."""
        self.end, self.told_at = end, _now()
        if not self.lag:
            self.behind_since = None
        elif self.behind_since is None:
            self.behind_since = self.told_at

    def stuck(self) -> str:
        """Return what the partition waits for in vain, in words; empty if it is not stuck."""
        if self.position is None:
            return ""  # the worker says already what its restore waits for
        now, since = _now(), self.behind_since
        if now - self.told_at > STUCK_SECONDS:
            return f"its leader, which has not told where it ends for {now - self.told_at:.0f} s"
        if since is None or not self.lag or now - max(since, self.moved_at) <= STUCK_SECONDS:
            return ""
        return (
            f"its records: {self.lag} offsets behind, and nothing committed for {now - max(since, self.moved_at):.0f} s"
        )


@dataclass(slots=True)
class Status:
    """The present state of the worker.

    Arguments:
        topic: The source topic.
        waiting: What the worker waits for before it can chain; empty while it chains.
        connected: Whether a broker is connected.
        stepped_at: When the log's thread last began a step (monotonic seconds).
        partitions: The partitions that the worker owns.
        transaction_since: When the open transaction was begun (monotonic seconds), if one is open.
    """

    topic: str
    waiting: str = "the start"
    connected: bool = False
    stepped_at: float = field(default_factory=time.monotonic)
    partitions: Mapping[int, PartitionStatus] = field(default_factory=dict[int, PartitionStatus])
    transaction_since: float | None = None

    # -- written by the log's thread -----------------------------------------------------------------------------------

    def on_begin(self) -> None:
        """Note that a transaction is open."""
        self.transaction_since = _now()

    def on_end(self) -> None:
        """Note that none is open any more."""
        self.transaction_since = None

    def step(self) -> None:
        """Note that the log's thread is alive."""
        self.stepped_at = _now()

    def on_owned(self, partitions: Iterable[int]) -> None:
        """Note which partitions the worker owns; none of them is restored yet."""
        before, now = self.partitions, dict[int, PartitionStatus]()
        for partition in partitions:
            now[partition] = PartitionStatus(moved_at=_now(), told_at=_now())
            if partition in before:
                now[partition].committed_at, now[partition].end = before[partition].committed_at, before[partition].end
        self.partitions = now

    def on_states(self, states: Mapping[int, PartitionState]) -> None:
        """Note the states of partitions, as they are restored."""
        for partition, state in states.items():
            self._on_position(self.partitions[partition], state.position, len(state.heads))

    def on_commit(self, outcome: Outcome) -> None:
        """Note a committed transaction; of partitions that were taken back while it ended, there is nothing to show."""
        for partition, head in outcome.heads.items():
            shown = self.partitions.get(partition)
            if shown is not None and shown.position is not None:
                self._on_position(shown, head.position, head.chains)
                shown.committed_at = time.time()
        for counter, count in zip(_BY_KIND, outcome.kinds, strict=True):
            if count:
                counter.inc(count)
        metrics.PROCESSOR_BATCH_RECORDS.observe(outcome.records)
        metrics.PROCESSOR_TRANSACTION_SECONDS.observe(outcome.seconds)
        if outcome.oldest_ms:
            metrics.PROCESSOR_EVENT_AGE_SECONDS.observe(max(time.time() - outcome.oldest_ms / 1000, 0.0))

    @staticmethod
    def _on_position(shown: PartitionStatus, position: int, chains: int) -> None:
        if position != shown.position:
            shown.moved_at = _now()
        shown.position, shown.chains = position, chains

    def on_statistics(self, text: str) -> None:
        """Take in librdkafka's statistics: whether a broker is up."""
        statistics: dict[str, Any] = json.loads(text)
        self.connected = any(broker["state"] == "UP" for broker in statistics["brokers"].values())

    # -- read by the event loop ----------------------------------------------------------------------------------------

    def alive(self) -> bool:
        """Return whether the log's thread has begun a step of late."""
        return _now() - self.stepped_at < THREAD_SECONDS

    def ready(self) -> tuple[bool, str]:
        """Return whether the worker chains, and in words what it does or waits for."""
        if self.waiting:
            return False, f"waiting for {self.waiting}"
        if not self.connected:
            return False, "waiting for Kafka: no broker is connected"
        since = self.transaction_since
        if since is not None and _now() - since > SLOW_SECONDS:
            return False, f"waiting for a transaction that is open for {_now() - since:.0f} s"
        if _now() - self.stepped_at > STUCK_SECONDS:
            return False, f"waiting for a step of the log's thread for {_now() - self.stepped_at:.0f} s"
        stuck = [f"partition {number}: {words}" for number, one in self._in_order() if (words := one.stuck())]
        if stuck:
            return False, f"waiting for {'; '.join(stuck)}"
        return True, f"chaining partitions {sorted(self.partitions)}"

    def describe(self) -> dict[str, Any]:
        """Return everything that somebody wants to know who looks for what is wrong, as JSON takes it."""
        ready, words = self.ready()
        now, since = _now(), self.transaction_since
        return {
            "ready": ready,
            "doing": words,
            "topic": self.topic,
            "connected": self.connected,
            "last_step_seconds_ago": round(now - self.stepped_at, 1),
            "transaction_open_seconds": None if since is None else round(now - since, 1),
            "partitions": {str(number): self._describe(one) for number, one in self._in_order()},
        }

    def _describe(self, one: PartitionStatus) -> dict[str, Any]:
        at = one.committed_at
        words = one.stuck() or (self.waiting if one.position is None else "")
        return {
            "state": "restoring" if one.position is None else "stuck" if words else "chaining",
            "waiting_for": words,
            "position": one.position,
            "end": one.end,
            "end_told_seconds_ago": None if one.end is None else round(_now() - one.told_at, 1),
            "lag": one.lag,
            "chains": None if one.position is None else one.chains,
            "last_commit": None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
            "last_commit_seconds_ago": None if at is None else round(max(time.time() - at, 0.0), 1),
        }

    def export(self) -> None:
        """Set the gauges that tell of this state, for the metrics page; called by whoever reads them."""
        for gauge in _BY_PARTITION:
            gauge.clear()
        shown = self._in_order()
        for number, one in shown:
            label = str(number)
            if one.position is not None:
                metrics.PROCESSOR_POSITION.labels(label).set(one.position)
                metrics.PROCESSOR_CHAINS.labels(label).set(one.chains)
            if one.end is not None:
                metrics.PROCESSOR_END.labels(label).set(one.end)
            if one.lag is not None:
                metrics.PROCESSOR_LAG.labels(label).set(one.lag)
            if one.committed_at is not None:
                metrics.PROCESSOR_LAST_COMMIT.labels(label).set(one.committed_at)
        metrics.PROCESSOR_ASSIGNED.set(sum(one.position is not None for _, one in shown))
        metrics.PROCESSOR_STUCK.set(sum(bool(one.stuck()) for _, one in shown))

    def _in_order(self) -> list[tuple[int, PartitionStatus]]:
        return sorted(self.partitions.items())
