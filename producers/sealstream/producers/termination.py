"""SIGTERM: where its action is the default one, logs are closed before the process ends by it.

Python runs no exit handler when a signal's default action ends a process. A handler that the application has, or sets
later, is never replaced: whoever handles SIGTERM ends the process in an order of its own, and so closes its logs.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final, TypeAlias

from sealstream.schemas.errors import SealstreamError

_Close: TypeAlias = Callable[[], object]

_closes: Final[list[_Close]] = []


def close_at_sigterm(close: _Close) -> None:
    """Have a function called before SIGTERM ends the process, if its action is the default one.

    Only the main thread can see to that; of a log that another thread starts, the spool keeps what was stored.
    """
    _closes.append(close)
    heed_sigterm()


def heed_sigterm() -> None:
    """Handle SIGTERM if its action is the default one, there are logs, and this is the main thread."""
    if not _closes:
        return
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)


def forget_sigterm(close: _Close) -> None:
    """Take a function back; with the last one, the action is the default one again."""
    with suppress(ValueError):
        _closes.remove(close)
    if _closes or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is _terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminated(number: int, _frame: FrameType | None) -> None:
    """Close every log, each within its time, and end by the signal, as whoever sent it expects."""
    for close in _closes.copy():  # each takes itself off the list
        with suppress(SealstreamError):  # told at the receipts and to on_error; there is nobody else to tell
            close()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
