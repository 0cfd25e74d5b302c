"""Reading ahead: the next rows are fetched while those at hand are being published."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from typing import Final, TypeVar

_T = TypeVar("_T")

_END_SECONDS: Final = 5.0


def read_ahead(items: Generator[_T]) -> Generator[_T]:
    """Yield what a generator yields, which runs on a thread of its own and makes one item while one is at hand.

    Close it, if it is not read to its end: the thread then closes the generator and ends, for which that waits some
    seconds, and no longer: whoever interrupts a long statement of a database need not wait for its end.

    Arguments:
        items: The generator; nobody else may use it meanwhile.

    Raises:
        BaseException: Whatever the generator raises.
    """
    ready: queue.SimpleQueue[tuple[_T] | BaseException | None] = queue.SimpleQueue()  # at most one: see wanted
    wanted, unwanted = threading.Semaphore(), threading.Event()

    def read() -> None:
        try:
            wanted.acquire()
            for item in items:
                ready.put((item,))
                wanted.acquire()
                if unwanted.is_set():
                    break
            ready.put(None)
        except BaseException as error:  # noqa: BLE001  # raised where the items are wanted
            ready.put(error)
        finally:
            items.close()

    thread = threading.Thread(target=read, name="sealstream-import-reader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            wanted.release()
            yield item[0]
    finally:
        unwanted.set()
        wanted.release()
        thread.join(_END_SECONDS)
