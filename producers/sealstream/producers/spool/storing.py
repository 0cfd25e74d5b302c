"""A sender's spool on the disk: opened, written, and opened anew after whatever went wrong with it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from weakref import WeakValueDictionary

from sealstream.producers.core import Core
from sealstream.producers.drops import Dropped
from sealstream.producers.options import ProducerOptions
from sealstream.producers.receipt import Delivery
from sealstream.producers.record import OVERHEAD_BYTES, Record
from sealstream.producers.sender import OnError, Sender, TransportFactory
from sealstream.producers.spool.database import ROW_OVERHEAD_BYTES, SpoolFile, checksum
from sealstream.producers.spool.flow import BACKOFF_SECONDS, BACKOFF_SECONDS_MAX, Flow
from sealstream.producers.spool.opening import open_spool
from sealstream.producers.spool.owner import Ownership
from sealstream.producers.transport import KafkaTransport
from sealstream.producers.troubles import OnTrouble
from sealstream.schemas.errors import ConfigError, DeliveryError, SpoolDamaged, SpoolError

GROUP_EVENTS_MAX: Final = 4096
_DONE_MAX: Final = 500
TRIM_SECONDS: Final = 0.5


class StoringSender(Sender):
    """A sender with a spool, and the state that the caller's thread and its own have in common.

    Arguments:
        options: The audit log's options, with a spool.
        on_error: Called on the sender's thread for each event that will not be published.
        transport: Makes the way to Kafka.
        on_trouble: Called for what is wrong with the spool or the way to Kafka.
    """

    def __init__(
        self,
        options: ProducerOptions,
        on_error: OnError | None,
        transport: TransportFactory = KafkaTransport,
        on_trouble: OnTrouble | None = None,
    ) -> None:
        super().__init__(options, on_error, transport, on_trouble)
        if options.spool is None:
            raise ConfigError("a sender with a spool needs one")
        self._directory = options.spool
        self._unspooled = False
        self._events_max, self._bytes_max = options.queue_events_max, options.queue_bytes_max
        self._spool_bytes_max = options.spool_bytes_max
        # Under the lock:
        self._pending: list[Delivery] = []
        self._next_number = 1
        self._held_events: int = 0  # in memory and not on the disk
        self._held_bytes: int = 0
        self._stored_events: int = 0
        self._stored_bytes: int = 0
        self._refused = self._found = self._found_bytes = 0
        self._is_idle = False
        # The thread's own:
        self._ownership: Ownership | None = None
        self._file: SpoolFile | None = None
        self.flow = Flow(options.queue_events_max, options.queue_bytes_max)
        self._unloaded: WeakValueDictionary[int, Delivery] = WeakValueDictionary()
        self._is_known = False  # whether it was learnt what the spool held at start
        self._done_bytes = 0
        self._retry_at = self._answered_at = self._trimmed_at = self._looked_at = 0.0
        self._retry_seconds = BACKOFF_SECONDS
        self._drops_kept: list[tuple[str, int, str, str]] = []
        self._ending = False
        self._wake = threading.Event()

    def _begin(self) -> None:
        """Take the spool and open it.

        A spool that does not open for want of room or of a sound disk does not keep the log from starting: the thread
        goes on trying, and meanwhile every receipt says that its event is not spooled.
        """
        super()._begin()
        if self._ownership is None:
            try:
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise SpoolError(f"spool {self._directory} cannot be made: {error.strerror}") from error
            self._ownership = Ownership(self._directory)
        epoch, name = time.time_ns() // 1_000_000, f"producer-{secrets.token_hex(8)}"
        try:
            self._open()
            assert self._file is not None
            # It has to grow even where the clock went back. If we die before the first event, nobody used it.
            epoch = max(epoch, int(self._file.meta("epoch") or 0) + 1)
            name = self._file.meta("producer_id") or name
            self._file.set_meta("epoch", str(epoch))
            self._file.set_meta("producer_id", name)
        except SpoolError as error:
            self._spool_failed(error)
        self._core = Core(self._options, epoch=epoch, producer_id=name)
        if self._is_known:
            self._core.found(self._found, self._found_bytes)
        else:
            self._next_number = time.time_ns()  # which no number in the file has come to

    def _open(self) -> None:
        """Open the file, learn what it holds, and put back what memory still has of it.

        Raises:
            SpoolError: It does not open, or does not take this.
        """
        opened = open_spool(self._directory, self._options.fsync)
        self._file = opened.file
        if opened.damage is not None:
            self._troubles.tell(opened.damage)
        if self._is_known:
            self._put_back(opened.file)
            self._miss(opened.file, opened.damage)
            return
        summary = opened.file.summary()
        dropped = opened.file.dropped()
        with self._lock:
            for tenant, count, since, until in dropped:
                self._drops.restore(
                    tenant, Dropped(count, datetime.fromisoformat(since), datetime.fromisoformat(until))
                )
            self._is_known = True
            self._next_number = max(self._next_number, summary.last + 1)
            self._found, self._refused = summary.events, summary.refused
            self._found_bytes = summary.events_bytes + summary.events * OVERHEAD_BYTES
            self._stored_events += summary.events
            self._stored_bytes += summary.events_bytes + summary.refused_bytes
            self._stored_bytes += (summary.events + summary.refused) * ROW_OVERHEAD_BYTES
        if summary.events:
            self.flow.found(summary.last)

    def _put_back(self, file: SpoolFile) -> None:
        """Store again what was stored and is in memory: the file may be another one than it was."""
        rows = [row_of(delivery) for delivery in self.flow.in_memory() if delivery.is_spooled]
        for start in range(0, len(rows), GROUP_EVENTS_MAX):
            file.append(rows[start : start + GROUP_EVENTS_MAX])

    def _miss(self, file: SpoolFile, damage: SpoolDamaged | None) -> None:
        """Count events as failed that were on the disk only, and are not there any more."""
        kept = sum(delivery.is_spooled for delivery in self.flow.in_memory()) + self.flow.done
        lost = self._stored_events - kept - file.count(*self.flow.behind)
        if lost > 0:
            reason = "its file is another one than it was" if damage is None else damage.message
            self._lose(lost, SpoolDamaged(f"spool {self._directory} lost {lost} events: {reason}", lost_max=lost))

    def _lose(self, count: int, error: SpoolDamaged) -> None:
        self._troubles.tell(error)
        failure = DeliveryError(error.message, hint="log them again if you have them", code="LOST", retriable=False)
        with self._lock:
            size = self._stored_bytes // max(self._stored_events, 1) * count
            self._stored_events -= count
            self._stored_bytes -= size
            self._core.lose(count, 0, failure)

    def _append(self, rows: Sequence[tuple[int, int, bytes]]) -> SpoolError | None:
        """Commit rows, and the deletion of what is done; return why they are not stored if they are not."""
        now = time.monotonic()
        done: list[int] = []
        try:
            file = self._usable_file(now)  # first: where it is opened anew, what is done counts as being in it
            done = self.flow.take_done() if self._is_trim_due(now) or not rows else []
            file.append(rows, done)
        except SpoolError as error:
            self.flow.not_deleted(done)
            self._spool_failed(error)
            return SpoolError(f"the event is not spooled: {error.message}", hint=error.hint)
        # If we die here, the deleted ones were published before; had the commit failed, they would be sent twice.
        self._troubles.end("spool")
        self._retry_seconds = BACKOFF_SECONDS
        if done:
            self._trimmed_at = now
            with self._lock:
                self._stored_events -= len(done)
                self._stored_bytes -= self._done_bytes
            self._done_bytes = 0
            self._tell_waiting()  # there is room
        return None

    def _usable_file(self, now: float) -> SpoolFile:
        """Return the open file; after a failure it is opened anew, once in a while."""
        if self._file is not None and self._retry_at == 0.0:
            return self._file
        if now < self._retry_at:
            raise SpoolError(f"spool {self._directory} failed, and is tried again soon")
        was_known = self._is_known
        if self._file is not None:
            self._file.close()
            self._file = None
        self._open()
        self._retry_at = 0.0
        if not was_known:
            with self._lock:
                self._core.found(self._found, self._found_bytes)
        assert self._file is not None
        return self._file

    def _spool_failed(self, error: SpoolError) -> None:
        if self._retry_at > time.monotonic():
            return  # nothing new
        self._retry_at = time.monotonic() + self._retry_seconds
        self._retry_seconds = min(self._retry_seconds * 2, BACKOFF_SECONDS_MAX)
        self._troubles.begin("spool", error)

    def _is_trim_due(self, now: float) -> bool:
        is_time = now - self._trimmed_at >= TRIM_SECONDS or self.waiting > 0  # somebody may wait for room
        return self.flow.done >= _DONE_MAX or (self.flow.done > 0 and is_time)

    def _set_aside(self, number: int, value: bytes, reason: str) -> None:
        try:
            self._usable_file(time.monotonic()).set_aside(number, value, reason, datetime.now(UTC).isoformat())
        except SpoolError as error:
            # The row stays where it was: the next start sends it again, and it comes to the same.
            self._spool_failed(error)

    def _fail(self, delivery: Delivery, error: DeliveryError, record: Record | None) -> None:
        delivery.settle(error, None if record is None else record.value)
        self._keep_receipt(delivery)
        if record is not None:
            with self._lock:
                self._core.settle(record.size_bytes, error)
        self._tell(delivery)

    def _keep_drops(self) -> None:
        """Keep the counts of events that found no room on the disk, so that they outlive the process."""
        with self._lock:
            rows = [(t, d.count, d.since.isoformat(), d.until.isoformat()) for t, d in self._drops.items()]
        if rows == self._drops_kept:
            return
        try:
            self._usable_file(time.monotonic()).keep_dropped(rows)
        except SpoolError as error:
            self._spool_failed(error)
            return
        self._drops_kept = rows

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._ownership is not None:
            self._ownership.release()
            self._ownership = None


def row_of(delivery: Delivery) -> tuple[int, int, bytes]:
    """Return what a :class:`Row` consists of."""
    number, value = delivery.number, delivery.value
    return number, checksum(number, value), value
