"""A batch on its way into the store: PostgreSQL works on one while the next one is gathered."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from sealstream.sinks.store.batch import Batch
from sealstream.sinks.store.writer import Written


class Landed(NamedTuple):
    """A batch that was stored.

    Arguments:
        batch: The batch.
        written: What became of it.
        seconds: How long that took.
    """

    batch: Batch
    written: Written
    seconds: float


class Flight:
    """Writes one batch at a time, in a thread of its own; all methods belong to one other thread.

    Arguments:
        write: Stores a batch.
    """

    def __init__(self, write: Callable[[Batch], Written]) -> None:
        self._write = write
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._landing: Future[Landed] | None = None
        self._batch: Batch | None = None

    @property
    def batch(self) -> Batch | None:
        """The batch that was launched and not landed yet."""
        return self._batch

    @property
    def done(self) -> bool:
        """Whether nothing more has to be waited for."""
        return self._landing is None or self._landing.done()

    def launch(self, batch: Batch) -> None:
        """Begin to store a batch; the one before must have been landed."""
        assert self._landing is None, "one batch at a time"
        self._batch, self._landing = batch, self._pool.submit(self._run, batch)

    def settle(self) -> None:
        """Wait until the batch is stored or failed, and leave what became of it to :meth:`land`."""
        if self._landing is not None:
            wait([self._landing])

    def land(self) -> Landed | None:
        """Wait for the batch, and return what became of it; ``None`` if none was launched.

        Raises:
            UnsafeState, StoreError, Unreachable: As the writer's ``write``.
        """
        landing, self._landing, self._batch = self._landing, None, None
        return None if landing is None else landing.result()

    def close(self) -> None:
        """End the thread, once it has nothing more to do."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, batch: Batch) -> Landed:
        begun = time.monotonic()
        written = self._write(batch)
        return Landed(batch, written, time.monotonic() - begun)
