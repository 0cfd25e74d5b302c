"""A thread that works beside the demo's own, which watches over it and raises what went wrong there."""

from __future__ import annotations

import threading
from typing import Final, Self

_JOIN_SECONDS: Final = 35.0


class Background:
    """A thread that works until it is done or told to stop; it begins and ends with its context.

    Arguments:
        name: The thread's name.
    """

    def __init__(self, name: str) -> None:
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_JOIN_SECONDS)

    def check(self) -> None:
        """Go on only if nothing went wrong there; else raises what did.

        Raises:
            SealstreamError: The work could not be done.
        """
        if self._error is not None:
            raise self._error

    def work(self, stop: threading.Event) -> None:
        """Work until done or told to stop; a subclass does it.

        Raises:
            SealstreamError: It cannot be done.
        """
        raise NotImplementedError

    def _run(self) -> None:
        try:
            self.work(self._stop)
        except Exception as error:  # noqa: BLE001  # raised again by check(), in the thread that waits for us
            self._error = error
