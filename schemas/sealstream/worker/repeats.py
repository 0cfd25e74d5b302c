"""Keeps what a library says over and over from burying what a worker says once.

While the brokers are away, librdkafka tells of each attempt to connect, several times a second and client. One line of
a kind every few seconds tells a person as much.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

AGAIN_SECONDS: Final = 10.0
KINDS_MAX: Final = 256
"""How many kinds of lines are remembered; the one that was said longest ago is forgotten first."""

_DETAILS: Final = " (after "
"""Where librdkafka begins to say how long an attempt took, which differs from line to line."""


class Repeats(logging.Filter):
    """Lets a line of a library through, and its like only again after a while, with the number of those between.

    Arguments:
        clock: The time in seconds; another one for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line goes through; one that stands for others as well says for how many."""
        text = record.getMessage()
        kind, now = f"{record.levelno} {text.partition(_DETAILS)[0]}", self._clock()
        said_at, held_back = self._said.get(kind, (float("-inf"), 0))
        if now - said_at < AGAIN_SECONDS:
            self._said[kind] = said_at, held_back + 1
            return False
        self._said[kind] = now, 0
        self._said.move_to_end(kind)
        if len(self._said) > KINDS_MAX:
            self._said.popitem(last=False)
        if held_back:
            record.msg, record.args = f"{text} [and {held_back} more like it before]", ()
        return True
