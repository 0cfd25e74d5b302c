"""When what is anchored: beside the rounds, in threads of its own, and never in their way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from sealstream.kafka.patience import call_beside
from sealstream.schemas.errors import SealstreamError
from sealstream.sinks.notary.anchors.anchor import Anchor, Anchored, Checkpointed
from sealstream.worker import metrics
from sealstream.worker.logs import logger

RETRY_SECONDS_MAX: Final = 600.0
"""The longest pause between two attempts of an anchor that fails, which begin with two seconds."""

STUCK_SECONDS: Final = 300.0
"""After this an attempt that has not ended is an alarm; no other one is begun beside it."""

_RETRY_SECONDS: Final = 2.0


@dataclass(slots=True)
class _State:
    """Where an anchor is; times in seconds since the Unix epoch."""

    anchor: Anchor
    due: float
    failures: int = 0
    began: float = 0.0
    is_stuck: bool = False
    running: Future[Anchored] | None = None


class AnchorSchedule:
    """Anchors the latest published root checkpoint every so often. Use it from one thread.

    Arguments:
        anchors: The anchors; none is fine.
        last: When each of them has anchored last, by its name, as the notary's database says.
        interval_seconds: The time between two of one anchor's.
        clock: The time in seconds since the Unix epoch.
    """

    def __init__(
        self,
        anchors: Sequence[Anchor],
        last: Mapping[str, datetime | None],
        *,
        interval_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._states: list[_State] = []
        for anchor in anchors:
            before = last.get(anchor.name)
            self._states.append(_State(anchor, 0.0 if before is None else before.timestamp() + interval_seconds))
            if before is not None:
                metrics.NOTARY_ANCHOR_LAST.labels(anchor.name).set(before.timestamp())

    @property
    def is_busy(self) -> bool:
        """Whether an anchor is at work, or has come to something that nobody has looked at."""
        return any(state.running is not None for state in self._states)

    def look(self, published: Checkpointed | None) -> list[tuple[str, Anchored]]:
        """Begin what is due, and return what was anchored since the last look, by the anchors' names.

        It waits for nothing. Call it once in a while, with or without a new checkpoint, and remember what it returns in
        the notary's database: a map that is not remembered to be anchored is pruned.

        Arguments:
            published: The latest root checkpoint that is public; ``None`` as long as there is none.
        """
        done: list[tuple[str, Anchored]] = []
        for state in self._states:
            anchored = self._collected(state)
            if anchored is not None:
                done.append((state.anchor.name, anchored))
            if state.running is None and published is not None and self._clock() >= state.due:
                self._begin(state, published)
        return done

    def _begin(self, state: _State, published: Checkpointed) -> None:
        state.began, state.is_stuck = self._clock(), False
        call = partial(state.anchor.anchor, published)
        state.running = call_beside(call, name=f"anchor-{state.anchor.name}")

    def _collected(self, state: _State) -> Anchored | None:
        """Return what an attempt has come to, if it has come to something good since the last look."""
        running, now = state.running, self._clock()
        if running is None:
            return None
        if not running.done():
            if not state.is_stuck and now - state.began > STUCK_SECONDS:
                state.is_stuck = True
                self._alarm(state, "it does not end")
            return None
        state.running = None
        try:
            anchored = running.result()
        except SealstreamError as error:
            self._failed(state, str(error), now)
            return None
        except Exception as error:  # noqa: BLE001  # a library's own; rounds go on whatever an anchor does
            self._failed(state, f"{type(error).__name__}", now)
            return None
        state.failures = 0
        state.due = now + self._interval_seconds
        metrics.NOTARY_ANCHOR_LAST.labels(state.anchor.name).set(anchored.at.timestamp())
        logger().info("root checkpoint anchored", anchor=state.anchor.name, round=anchored.round)
        return anchored

    def _failed(self, state: _State, why: str, now: float) -> None:
        pause = min(RETRY_SECONDS_MAX, self._interval_seconds, _RETRY_SECONDS * 2 ** min(state.failures, 16))
        state.failures += 1
        state.due = now + pause
        self._alarm(state, why)

    def _alarm(self, state: _State, why: str) -> None:
        metrics.NOTARY_ANCHOR_FAILURES.labels(state.anchor.name).inc()
        logger().error(
            "root checkpoint not anchored", anchor=state.anchor.name, reason=why, attempts=max(1, state.failures)
        )
