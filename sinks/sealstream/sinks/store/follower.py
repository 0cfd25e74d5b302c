"""The thread that makes stored events searchable, behind the worker that stores them.

It reads what it derives from out of the store, by positions of its own. So it holds no more than a chunk in memory
however far it is behind, nothing that is evidence waits for it, and whoever stores a partition next goes on where it
was: there is nothing to hand over, and nothing to lose.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from sealstream.schemas.errors import SealstreamError
from sealstream.sinks.store.database import translated
from sealstream.sinks.store.derive import Deriver
from sealstream.sinks.store.search_rows import derive_chunk, prepare_session, search_lag
from sealstream.sinks.store.session import open_session
from sealstream.worker import metrics
from sealstream.worker.logs import logger
from sealstream.worker.postgres_session import Connection, abort_session, close_session

GATHER_SECONDS: Final = 0.25
"""Between two rounds: what was stored meanwhile is derived together, and can be searched so much later at the most."""
LOOK_SECONDS: Final = 5.0
"""How often the store is asked how far the search is behind, whoever made it so."""
YIELD_FACTOR: Final = 4.0
"""While the evidence is behind the log, the search rests so many times as long as it works: evidence goes first."""
YIELD_SECONDS_MAX: Final = 5.0
PAUSE_SECONDS_MIN: Final = 0.5
PAUSE_SECONDS_MAX: Final = 30.0
CLOSE_SECONDS: Final = 1.0


class SearchFollower:
    """Derives the search rows of the partitions that the worker stores.

    Arguments:
        database_url: The store, as a login that is granted ``sealstream_writer``.
        derive: Makes rows; used by this thread alone.
        evidence_waits: Tells whether there is more to store than the worker has stored.
        timeout_seconds: How long connecting, and each statement, may take.
    """

    def __init__(
        self, database_url: str, *, derive: Deriver, evidence_waits: Callable[[], bool], timeout_seconds: float
    ) -> None:
        self._database_url = database_url
        self._derive = derive
        self._evidence_waits = evidence_waits
        self._timeout_seconds = timeout_seconds
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._partitions: frozenset[int] = frozenset()
        self._behind: set[int] = set()
        self._look_at = 0.0
        self._pause_seconds = 0.0
        self._woken, self._closing = threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="search", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def follow(self, partitions: Iterable[int]) -> None:
        """Follow these partitions from now on, and no others."""
        with self._lock:
            self._partitions = frozenset(partitions)
            self._behind = set(self._partitions)
        metrics.SINK_SEARCH_LAG.clear()
        self._look_at = 0.0
        self._woken.set()

    def wake(self, partitions: Iterable[int]) -> None:
        """Say that something was stored of these partitions."""
        with self._lock:
            self._behind |= self._partitions.intersection(partitions)
        self._woken.set()

    def check(self) -> None:
        """Raise what ended the thread, if anything did: an error that no repetition helps against."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End the thread. What it is at is rolled back, and derived by whoever follows the partitions next."""
        self._closing.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)
            if self._thread.is_alive():
                abort_session(self._connection)
                self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                try:
                    self._round()
                    self._pause_seconds = 0.0
                except SealstreamError as error:
                    self._wait(error)
        except BaseException as error:  # noqa: BLE001 - check() raises it in the worker's own thread
            self._failure = error
        finally:
            close_session(self._connection)

    def _round(self) -> None:
        """Derive a chunk of each partition that is behind, then rest a little."""
        self._woken.wait(LOOK_SECONDS)
        self._woken.clear()
        self._look()  # first: how far the search is behind shows above all when it cannot go on
        with self._lock:
            behind, self._behind = sorted(self._behind), set()
        for partition in behind:
            if self._closing.is_set():
                return
            self._follow(partition)
        with self._lock:
            more = bool(self._behind)
        if more:
            self._woken.set()
        else:
            self._closing.wait(GATHER_SECONDS)

    def _follow(self, partition: int) -> None:
        begun = time.monotonic()
        try:
            with translated():
                chunk = derive_chunk(self._open(), partition, self._derive)
        except BaseException:
            self.wake({partition})
            raise
        metrics.SINK_SEARCH_ROWS.inc(chunk.rows)
        if chunk.more:
            self.wake({partition})
        if self._evidence_waits():
            self._closing.wait(min(YIELD_SECONDS_MAX, YIELD_FACTOR * (time.monotonic() - begun)))

    def _look(self) -> None:
        """Measure how far the search is behind, and go on with what another session had kept from it."""
        now = time.monotonic()
        if now < self._look_at or not self._partitions:
            return
        self._look_at = now + LOOK_SECONDS
        partitions = self._partitions
        with translated():
            lags = search_lag(self._open(), partitions)
        for partition in partitions:
            metrics.SINK_SEARCH_LAG.labels(str(partition)).set(lags.get(partition, 0))
        self.wake(partition for partition, lag in lags.items() if lag)

    def _open(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        connection = open_session(
            self._database_url, application="sealstream-sink-search", timeout_seconds=self._timeout_seconds
        )
        with translated():
            prepare_session(connection)
        self._connection = connection
        return connection

    def _wait(self, error: SealstreamError) -> None:
        """Leave the evidence alone and try again later, however often: what is behind shows in the metrics."""
        if self._closing.is_set():
            return
        metrics.SINK_SEARCH_FAILURES.inc()
        self._pause_seconds = min(PAUSE_SECONDS_MAX, max(PAUSE_SECONDS_MIN, self._pause_seconds * 2))
        logger().warning("search is behind", reason=error.message, hint=error.hint, pause_seconds=self._pause_seconds)
        connection, self._connection = self._connection, None
        close_session(connection)
        self._closing.wait(self._pause_seconds)
        self._woken.set()
