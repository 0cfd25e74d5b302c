"""A call that takes its time or may hang, made so that one can do something else meanwhile or turn one's back on it.

librdkafka's ``send_offsets_to_transaction`` does not keep to its timeout while the group's coordinator is away, and may
not even notice when it is back (confluentinc/librdkafka issues 5456 and 5511, seen with 2.16).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Final, TypeVar

T = TypeVar("T")

LOOK_SECONDS: Final = 0.1

HANG_SECONDS: Final = 5.0
"""After this a call that should have come back within a second or a few hangs for good."""


def call_beside(call: Callable[[], T], *, name: str) -> Future[T]:
    """Begin a call in a thread of its own, which ends with the call or the process.

    Arguments:
        call: The call.
        name: The thread's name.

    Returns:
        Where its answer, or what it raises, will be.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - whoever asks for the answer raises it
            answer.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return answer


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
    answer = call_beside(call, name="call")
    deadline = time.monotonic() + timeout_seconds
    while not wait([answer], timeout=LOOK_SECONDS).done:
        if give_up() or time.monotonic() >= deadline:
            raise TimeoutError("the call does not come back")
    return answer.result()
