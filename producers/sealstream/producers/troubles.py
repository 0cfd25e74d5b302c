"""What is wrong with the spool or the way to Kafka, beside the failure of single events."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from sealstream.schemas.errors import SealstreamError

OnTrouble: TypeAlias = Callable[[SealstreamError], object]
Place: TypeAlias = Literal["kafka", "spool", "receipts"]

REPEAT_SECONDS: Final = 60.0
"""A trouble that lasts is told again so often, and at once when it becomes another one."""

_logger = logging.getLogger(__name__)


class Troubles:
    """The troubles that there are; each is logged as a warning, and told to the application's callback.

    Arguments:
        on_trouble: The callback.
    """

    def __init__(self, on_trouble: OnTrouble | None) -> None:
        self._on_trouble = on_trouble
        self._current: dict[Place, tuple[str, float]] = {}

    @property
    def text(self) -> str:
        """All that is wrong at the moment; empty if nothing is."""
        return "; ".join(text for text, _ in list(self._current.values()))

    def begin(self, place: Place, error: SealstreamError) -> None:
        """Take note that something is wrong, and tell it unless it was told a moment ago."""
        known, told_at = self._current.get(place, ("", 0.0))
        text, now = str(error), time.monotonic()
        if known and now - told_at < REPEAT_SECONDS:
            self._current[place] = (text, told_at)
            return
        self._current[place] = (text, now)
        self.tell(error)

    def end(self, place: Place) -> None:
        """Take note that it is over."""
        if self._current.pop(place, None) is not None:
            _logger.info("%s: well again", place)

    def tell(self, error: SealstreamError) -> None:
        """Log an error, and call the callback."""
        _logger.warning("%s", error)
        if self._on_trouble is None:
            return
        try:
            self._on_trouble(error)
        except Exception as failure:  # noqa: BLE001  # the application's code: its errors must not end the delivery
            report(failure)


def report(error: Exception) -> None:
    """Show an error that has no caller where Python shows the errors of threads."""
    thread = threading.current_thread()
    threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, thread)))
