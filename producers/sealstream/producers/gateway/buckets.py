"""How many events a credential may send: a token bucket for each, in this process's memory.

Several gateways do not know of one another: n of them let n times as many through.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

BUCKETS_MAX: Final = 10_000
"""Buckets that are kept; of more, the one unused for the longest time is forgotten, and is full when it comes back."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_seconds: float


class Buckets:
    """Holds a bucket for each credential.

    Arguments:
        burst: What a bucket holds.
        now: Returns the time in seconds; never goes back.
    """

    def __init__(self, burst: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._now = now
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, credential: str, count: int, per_second: float) -> int:
        """Take so many tokens from a credential's bucket, or none if there are too few.

        Arguments:
            credential: Whose bucket.
            count: How many; no more than the bucket holds.
            per_second: How fast it fills.

        Returns:
            0 if they were taken; else after how many seconds there will be enough.
        """
        now = self._now()
        bucket = self._buckets.get(credential)
        if bucket is None:
            bucket = self._buckets[credential] = _Bucket(self._burst, now)
            if len(self._buckets) > BUCKETS_MAX:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(credential)
            bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at_seconds) * per_second)
            bucket.at_seconds = now
        if bucket.tokens >= count:
            bucket.tokens -= count
            return 0
        return max(1, math.ceil((count - bucket.tokens) / per_second))
