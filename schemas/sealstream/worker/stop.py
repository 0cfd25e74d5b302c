"""The stop signal of a worker: SIGTERM and SIGINT become a flag that its loop looks at between two steps."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Final

from sealstream.worker.logs import logger

END_SECONDS: Final = 9.0
"""How long after a signal a worker may take to finish or abort what it is at: an operator is promised 10 s."""


class StopSignal:
    """A flag that SIGTERM and SIGINT set; the worker finishes or aborts what it is at and ends."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def install(self, *, end_within_seconds: float | None = None) -> None:
        """Let SIGTERM and SIGINT set the flag. Call it from the main thread.

        Arguments:
            end_within_seconds: End the process with 0 if it has not ended by itself so long after the flag was set: a
                client whose server is gone may hang while it is closed. That is no worse than a SIGKILL, which loses
                nothing: what is open is aborted by its server, or by the next owner of the partitions.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        if end_within_seconds is not None:
            threading.Thread(target=self._end, args=(end_within_seconds,), name="stop", daemon=True).start()

    def set(self) -> None:
        """Set the flag, as a signal would."""
        self._event.set()

    def is_set(self) -> bool:
        """Return whether the worker shall stop."""
        return self._event.is_set()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until the flag is set, at most so long, and return whether it is."""
        return self._event.wait(timeout_seconds)

    def _end(self, seconds: float) -> None:
        self._event.wait()
        # A process that ends in time takes this thread with it.
        threading.Event().wait(seconds)
        logger().warning("ended before everything was closed", after_seconds=seconds)
        os._exit(0)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._event.set()
