"""Ctrl-C and its kin for commands that have started processes: nothing is left behind, whenever the signal comes.

A signal is noted, and raised only where that is safe: at :meth:`Interruption.check`, or anywhere within
:meth:`Interruption.allowed`. So it never falls between the start of a process and the note that it has to be ended.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Generator
from types import FrameType
from typing import Final, Self

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_SECONDS: Final = 0.1


class Interrupted(BaseException):
    """A signal asked us to end.

    Arguments:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Interruption:
    """Takes SIGINT, SIGTERM and SIGHUP over while it is entered; from the main thread only.

    Arguments:
        on_signal: Told once, when the first signal comes, so that the person sees that it was heard.
    """

    def __init__(self, on_signal: Callable[[], None] | None = None) -> None:
        self._on_signal = on_signal
        self._number: int | None = None
        self._allowed = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def check(self) -> None:
        """Go on only if no signal has come.

        Raises:
            Interrupted: One has.
        """
        if self._number is not None:
            raise Interrupted(self._number)

    def is_set(self) -> bool:
        """Return whether a signal has come."""
        return self._number is not None

    @contextlib.contextmanager
    def allowed(self) -> Generator[None]:
        """Let a signal interrupt what is done within, which must clean up after itself on any exception.

        Raises:
            Interrupted: A signal came, before or within.
        """
        self.check()
        self._allowed = True
        try:
            yield
        finally:
            self._allowed = False

    def pause(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            Interrupted: A signal came.
        """
        deadline = time.monotonic() + seconds
        with self.allowed():
            while (left := deadline - time.monotonic()) > 0:
                time.sleep(min(left, _POLL_SECONDS))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._number is not None:
            return  # what is being ended has a time limit of its own, and is killed after it
        self._number = number
        if self._on_signal is not None:
            self._on_signal()
        if self._allowed:
            raise Interrupted(number)
