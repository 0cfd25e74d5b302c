"""Reading ahead: the next rows are fetched while those at hand are being published."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from typing import Final, TypeVar

_T = TypeVar("_T")

_END_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.1
"""How often a reader that is ahead looks whether anyone still wants what it has."""


def read_ahead(items: Generator[_T]) -> Generator[_T]:
    """Yield what a generator yields, which runs on a thread of its own and is one item ahead.

    Close it, if it is not read to its end: the thread then closes the generator and ends, for which that waits some
    seconds, and no longer: whoever interrupts a long statement of a database need not wait for its end.

    Arguments:
        items: The generator; nobody else may use it meanwhile.

    Raises:
        BaseException: Whatever the generator raises.
    """
    ready: queue.Queue[tuple[_T] | BaseException | None] = queue.Queue(maxsize=1)
    unwanted = threading.Event()

    def offer(item: tuple[_T] | BaseException | None) -> None:
        while not unwanted.is_set():
            try:
                ready.put(item, timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
            return

    def read() -> None:
        try:
            for item in items:
                offer((item,))
                if unwanted.is_set():
                    break
        except BaseException as error:  # noqa: BLE001  # raised where the items are wanted
            offer(error)
        else:
            offer(None)
        finally:
            items.close()

    thread = threading.Thread(target=read, name="sealstream-import-reader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        unwanted.set()
        thread.join(_END_SECONDS)
