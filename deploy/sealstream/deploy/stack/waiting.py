"""Waits with an end."""

from __future__ import annotations

import threading
import time

from sealstream.deploy.stack.errors import StackError

_PAUSE_SECONDS = 0.02


class Wait:
    """One bounded wait, in as many pauses as it takes.

    Arguments:
        what: What is waited for, for the error.
        seconds: How long at most, over all pauses.
        called_off: Ends the wait early once it is set.
    """

    def __init__(self, what: str, *, seconds: float, called_off: threading.Event) -> None:
        self.what = what
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._called_off = called_off

    def check(self) -> None:
        """Go on only if there is time left.

        Raises:
            StackError: The time is over, or the wait was called off.
        """
        if self._called_off.is_set():
            raise StackError(f"waiting for {self.what} was called off")
        if time.monotonic() > self._deadline:
            raise StackError(
                f"waited {self._seconds:.0f} s for {self.what} in vain",
                hint="the machine may be overloaded or out of disk space",
            )

    def pause(self, seconds: float = _PAUSE_SECONDS) -> None:
        """Let a moment pass.

        Raises:
            StackError: The time is over, or the wait was called off.
        """
        self.check()
        self._called_off.wait(seconds)
