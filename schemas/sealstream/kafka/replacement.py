"""A static membership that went to another member of the same name: a living namesake, or oneself.

If a broker dies after it has taken a static member's join in and before it answers (KIP-345), the member joins again
and does not know itself under its new id: the group then refuses it as somebody who was replaced. A new client mends
that. A namesake would take the place from the new client as well, before long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sealstream.schemas.errors import SealstreamError, WriterConflict

REPLACED_AGAIN_SECONDS: Final = 60.0
"""A worker whose membership is taken twice within this time has a living namesake."""


class Replaced(SealstreamError):
    """The group gave this worker's static membership to another member of the same name."""


class SecondChance:
    """Lets a worker join once more under its name, but not time and again.

    Arguments:
        clock: The time in seconds; another one for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._replaced_at: float | None = None

    def take(self, error: Replaced) -> None:
        """Take the chance.

        Raises:
            WriterConflict: It was taken a moment ago: another worker runs under this one's name.
        """
        now = self._clock()
        if self._replaced_at is not None and now - self._replaced_at < REPLACED_AGAIN_SECONDS:
            raise namesake(error.message) from error
        self._replaced_at = now


def namesake(text: str) -> WriterConflict:
    """Return the error of a worker whose place another one of its name has taken."""
    return WriterConflict(
        f"another worker runs under this one's name: {text}", hint="give each worker its own SEALSTREAM_WORKER_ID"
    )
