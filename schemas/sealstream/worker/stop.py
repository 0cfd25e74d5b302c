"""The stop signal of a worker: SIGTERM and SIGINT become a flag that its loop looks at between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class StopSignal:
    """A flag that SIGTERM and SIGINT set; the worker finishes or aborts what it is at and ends."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def install(self) -> None:
        """Let SIGTERM and SIGINT set the flag. Call it from the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def set(self) -> None:
        """Set the flag, as a signal would."""
        self._event.set()

    def is_set(self) -> bool:
        """Return whether the worker shall stop."""
        return self._event.is_set()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until the flag is set, at most so long, and return whether it is."""
        return self._event.wait(timeout_seconds)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._event.set()
