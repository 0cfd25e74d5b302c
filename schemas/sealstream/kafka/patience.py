"""A call that may hang, made so that one can turn one's back on it.

librdkafka's ``send_offsets_to_transaction`` does not keep to its timeout while the group's coordinator is away, and may
not even notice when it is back (confluentinc/librdkafka issues 5456 and 5511, seen with 2.16).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

LOOK_SECONDS: Final = 0.1

HANG_SECONDS: Final = 5.0
"""After this a call that should have come back within a second or a few hangs for good."""


def call_within(call: Callable[[], T], *, timeout_seconds: float, give_up: Callable[[], bool]) -> T:
    """Make a call in a thread of its own and return what it returns, or raise what it raises.

    A call that does not come back in time is left behind with its thread, which ends with the call or the process. What
    the call works on must not be used any more.

    Arguments:
        call: The call.
        timeout_seconds: How long to wait for it.
        give_up: Whether to stop waiting at once.

    Raises:
        TimeoutError: It did not come back in time, or it was given up.
    """
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            answers.put((None, error))

    threading.Thread(target=run, name="call", daemon=True).start()
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            answer, error = answers.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            if give_up() or time.monotonic() >= deadline:
                raise TimeoutError("the call does not come back") from None
            continue
        if error is not None:
            raise error
        return answer  # type: ignore[return-value]  # there is an answer where there is no error
