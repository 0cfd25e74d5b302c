"""The sender with a spool: ``log()`` puts an event in memory, and one thread stores, sends and deletes.

An event is, in this order: **pending** (in memory), **spooled** (committed to the disk; the receipt says so), **on its
way** (librdkafka has it), **published** (Kafka acknowledged it), **deleted** from the spool. Side ways: an event that
the spool does not take stays in memory and is sent all the same, its receipt says that it is not spooled; one that
Kafka refuses for itself is set aside in the spool, and failed.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from weakref import WeakValueDictionary

from sealstream.producers.core import Core, Stats
from sealstream.producers.drops import Dropped
from sealstream.producers.options import ProducerOptions
from sealstream.producers.receipt import Delivery
from sealstream.producers.record import OVERHEAD_BYTES, Record
from sealstream.producers.sender import ABANDON_SECONDS, OnError, Sender, TransportFactory
from sealstream.producers.spool.database import ROW_OVERHEAD_BYTES, Row, SpoolFile, checksum
from sealstream.producers.spool.flow import BACKOFF_SECONDS, BACKOFF_SECONDS_MAX, Flow
from sealstream.producers.spool.opening import open_spool
from sealstream.producers.spool.owner import Ownership
from sealstream.producers.spool.refusals import failure_of
from sealstream.producers.transport import Answer, KafkaTransport, Transport
from sealstream.producers.troubles import OnTrouble, report
from sealstream.schemas.errors import (
    ConfigError,
    DeliveryError,
    EventInvalid,
    QueueFull,
    SpoolDamaged,
    SpoolError,
    Unreachable,
)

GATHER_SECONDS: Final = 0.003
"""How long the first event of a group waits for others; with the sync that follows, about 5 ms in all."""
_TICK_SECONDS: Final = 0.005
"""How often answers are asked for while events are on their way."""
_SLOW_TICK_SECONDS: Final = 0.05
"""The same while none come, as when Kafka is away."""
_IDLE_SECONDS: Final = 0.5
_QUIET_SECONDS: Final = 1.0
"""How long answers stay away before they are asked for less often."""
_SILENCE_SECONDS: Final = 10.0
"""How long Kafka may leave everything unanswered before that is called a trouble."""
_GROUP_EVENTS_MAX: Final = 4096
_GROUP_BYTES_MAX: Final = 8 * 1024 * 1024
_SENDS_MAX: Final = 4096
_ROWS_A_READ: Final = 1000
_READ_BYTES: Final = 8 * 1024 * 1024
_DONE_MAX: Final = 500
_TRIM_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 1.0
"""How often it is looked whether the file is still in its place, and counts of dropped events are kept."""
_STOP_SECONDS: Final = 30.0
"""How long close() waits for the disk to take what is pending, and for the thread to end."""
_ROW_MORE_BYTES: Final = ROW_OVERHEAD_BYTES - OVERHEAD_BYTES
"""What an event counts for on the disk, beyond what it counts for in memory."""
_KEPT: Final = "KEPT"


class SpoolSender(Sender):
    """Sends events through a spool.

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
        self._held_events = self._held_bytes = 0  # in memory and not on the disk
        self._stored_events = self._stored_bytes = 0
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

    # What log() does, in the caller's thread.

    def _has_room(self, record: Record) -> bool:
        size = self._held_bytes + record.size_bytes
        return (
            self._held_events < self._events_max
            and size <= self._bytes_max
            and self._stored_bytes + size <= self._spool_bytes_max
        )

    def _hand_over(self, delivery: Delivery) -> DeliveryError | None:
        size = delivery.size_bytes
        delivery.number = self._next_number
        self._next_number += 1
        self._core.take(size)
        self._held_events += 1
        self._held_bytes += size
        self._pending.append(delivery)
        if self._is_idle:
            self._is_idle = False
            self._wake.set()
        return None

    def _queue_full(self, record: Record) -> QueueFull:
        if self._stored_bytes + self._held_bytes + record.size_bytes > self._options.spool_bytes_max:
            what, hint = (
                f"the spool holds {self._stored_events} events of {self._stored_bytes} bytes",
                "spool_bytes_max",
            )
        else:
            what, hint = f"{self._held_events} events of {self._held_bytes} bytes wait for the spool", "queue_bytes_max"
        return QueueFull(
            f"event {record.tenant}/{record.event_id}: {what}",
            hint=f"Kafka or the disk is slow or away; raise {hint}, or log less",
        )

    def _stats(self) -> Stats:
        return replace(
            super()._stats(),
            found=self._found,
            spooled_events=self._stored_events,
            spooled_bytes=self._stored_bytes,
            refused=self._refused,
        )

    # The start.

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
        rows = [_row(delivery) for delivery in self.flow.in_memory() if delivery.is_spooled]
        for start in range(0, len(rows), _GROUP_EVENTS_MAX):
            file.append(rows[start : start + _GROUP_EVENTS_MAX])

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

    # The thread.

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._pause()
                self._step()
            except Exception as error:  # noqa: BLE001  # whatever it is: the events behind it must be served
                report(error)
                self._stop.wait(_SLOW_TICK_SECONDS)
        try:
            self._finish()
        except Exception as error:  # noqa: BLE001  # what was committed stays, and is sent by the next process
            report(error)
        finally:
            self._let_go()

    def _pause(self) -> None:
        """Wait until there is something to do; once there is, a moment longer, for more of it to come."""
        now = time.monotonic()
        reads = self.flow.rows_wanted() is not None and now >= self._retry_at
        with self._lock:
            self._is_idle = not self._pending
        if self._is_idle and not reads and self.flow.next(now) is None:
            self._wake.wait(self._tick_seconds())
        self._wake.clear()
        self._is_idle = False
        if self._options.fsync != "full" and 0 < len(self._pending) < _GROUP_EVENTS_MAX:
            time.sleep(GATHER_SECONDS)

    def _tick_seconds(self) -> float:
        if not self.flow.on_its_way and not self.flow.is_behind:
            return _TRIM_SECONDS if self.flow.done else _IDLE_SECONDS
        return _TICK_SECONDS if time.monotonic() - self._answered_at < _QUIET_SECONDS else _SLOW_TICK_SECONDS

    def _step(self) -> None:
        self._store_next()
        self._send_ready()
        assert self._transport is not None
        self._serve(self._transport.poll(0))
        self._tidy(time.monotonic())

    def _store_next(self) -> bool:
        """Commit what is pending, or as much of it as makes a group; return whether there was anything."""
        with self._lock:
            group, self._pending = self._pending, []
            if len(group) > _GROUP_EVENTS_MAX:
                group, self._pending = group[:_GROUP_EVENTS_MAX], group[_GROUP_EVENTS_MAX:]
        if group:
            self._store_group(group)
        return bool(group)

    def _store_group(self, group: list[Delivery]) -> None:
        error = self._append([_row(delivery) for delivery in group])
        # If we die here, these events are on the disk, and the next start sends them, though nobody was told.
        if error is None:
            held_bytes = sum([delivery.size_bytes for delivery in group])
            with self._lock:
                self._held_events -= len(group)
                self._held_bytes -= held_bytes
                self._stored_events += len(group)
                self._stored_bytes += held_bytes + _ROW_MORE_BYTES * len(group)
            if not self.flow.stored(group):
                for delivery in group:
                    delivery.forget_value()
                    self._unloaded[delivery.number] = delivery
        else:
            self.flow.not_stored(group)
        outcome = error or True
        for delivery in group:
            if delivery.settle_spooled(outcome):
                delivery.wake()
        self._tell_waiting()

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

    def _send_ready(self) -> None:
        """Hand to Kafka's client what is next, as far as the window goes."""
        assert self._transport is not None
        flow, send, now = self.flow, self._transport.send, time.monotonic()
        for _ in range(_SENDS_MAX):
            delivery = flow.next(now)
            if delivery is None:
                if flow.rows_wanted() is None:
                    return
                self._read_rows()
                delivery = flow.next(now)
                if delivery is None:
                    return
            try:
                send(delivery)
            except DeliveryError as error:
                if flow.unsendable(delivery, failure_of(error), now) is not None:
                    self._refuse_for_good(delivery, error)
                else:
                    self._troubles.begin("kafka", error)
            else:
                if not flow.on_its_way:
                    self._answered_at = now
                flow.sent(delivery)

    def _read_rows(self) -> None:
        """Read the next rows that are on the disk only."""
        wanted = self.flow.rows_wanted()
        if wanted is None:
            return
        after, through = wanted
        try:
            rows = self._usable_file(time.monotonic()).read(after, through, _ROWS_A_READ, _READ_BYTES)
        except SpoolError as error:
            self._spool_failed(error)
            self.flow.overtake()
            return
        deliveries = [delivery for row in rows if (delivery := self._delivery_of(row)) is not None]
        self.flow.rows_read(deliveries, rows[-1].number if rows else through)
        if not self.flow.is_behind:
            for delivery in list(self._unloaded.values()):
                self._fail(delivery, DeliveryError(f"event {delivery.tenant}/{delivery.id} is lost", code="LOST"), None)
            self._unloaded.clear()

    def _delivery_of(self, row: Row) -> Delivery | None:
        """Return the event of a row; a row that is not what was written is set aside."""
        delivery = self._unloaded.pop(row.number, None)
        try:
            record = self._core.record_of_value(_sound_value(row))
        except EventInvalid as error:
            self._set_aside(row.number, row.value, error.message)
            self._lose(1, SpoolDamaged(f"spool {self._directory}, row {row.number}: {error.message}", lost_max=1))
            if delivery is not None:
                self._fail(delivery, DeliveryError(error.message, code="LOST", retriable=False), None)
            return None
        if delivery is None:
            delivery = Delivery(record, self._instance, True)
            delivery.number = row.number
        delivery.carry(record)
        return delivery

    def _serve(self, answers: Sequence[Answer]) -> None:
        if not answers:
            return
        now, events, size_bytes, awaited = time.monotonic(), 0, 0, list[Delivery]()
        stored_events = stored_bytes = 0
        flow_published = self.flow.published
        for delivery, outcome, _ in answers:
            if isinstance(outcome, DeliveryError):
                self._serve_failure(delivery, outcome, now)
                continue
            flow_published(delivery.number)
            size = delivery.size_bytes
            events, size_bytes = events + 1, size_bytes + size
            if delivery.is_spooled:
                stored_events, stored_bytes = stored_events + 1, stored_bytes + size
            if delivery.settle(outcome):
                awaited.append(delivery)
            if self._receipts is not None:
                self._receipts.add(delivery)
        if events:
            self._answered_at = now
            self._troubles.end("kafka")
            self._done_bytes += stored_bytes + _ROW_MORE_BYTES * stored_events
            with self._lock:
                self._core.settle_published(events, size_bytes)
                self._held_events -= events - stored_events
                self._held_bytes -= size_bytes - stored_bytes
        for delivery in awaited:
            delivery.wake()
        self._write_receipts()
        self._tell_waiting()

    def _serve_failure(self, delivery: Delivery, error: DeliveryError, now: float) -> None:
        if self.flow.failed(delivery.number, failure_of(error), now) is not None:
            self._refuse_for_good(delivery, error)
        elif not self._ending:
            self._troubles.begin("kafka", error)

    def _refuse_for_good(self, delivery: Delivery, error: DeliveryError) -> None:
        """Fail an event that Kafka will never have, and set its row aside."""
        if delivery.is_spooled:
            self._set_aside(delivery.number, delivery.value, error.message)
        with self._lock:
            if delivery.is_spooled:
                self._stored_events -= 1
                self._refused += 1
            else:
                self._held_events -= 1
                self._held_bytes -= delivery.size_bytes
        self._fail(delivery, error, delivery)

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

    def _is_trim_due(self, now: float) -> bool:
        is_time = now - self._trimmed_at >= _TRIM_SECONDS or self.waiting > 0  # somebody may wait for room
        return self.flow.done >= _DONE_MAX or (self.flow.done > 0 and is_time)

    def _tidy(self, now: float) -> None:
        """Do what is due: delete, look after the file, the way to Kafka and the counts of dropped events."""
        if self._is_trim_due(now) and now >= self._retry_at:
            self._append(())
        if self._transport is not None and self._transport.is_dead and not self.flow.on_its_way:
            self._transport = self._transport_factory(self._options)
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._look_after(now)
        if self._drops and self._drops.are_due(datetime.now(UTC)):
            self._tell_drops()

    def _look_after(self, now: float) -> None:
        if self._file is not None and not self._retry_at and not self._file.is_in_place():
            self._spool_failed(SpoolError(f"spool {self._directory}: its file is gone", hint="leave it where it is"))
        if self._retry_at and now >= self._retry_at:
            self._append(())  # which opens it anew
        self._keep_drops()
        if self._file is not None and not self._retry_at and not self._stored_events:
            with suppress(SpoolError):  # the next commit meets the same error, and tells it
                self._file.shrink()
        if self.flow.on_its_way and now - self._answered_at > _SILENCE_SECONDS and self._transport is not None:
            seen = self._transport.connection_failure
            if seen:
                text = f"Kafka does not answer, and {self.flow.on_its_way} events wait for it; last seen: {seen}"
                self._troubles.begin("kafka", Unreachable(text, hint="the spool keeps what comes meanwhile"))

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

    # The end.

    def _give_up(self, transport: Transport) -> None:
        """Nothing fails for want of time: the thread stores what is pending, and the next start sends it."""

    def _stop_thread(self) -> None:
        self._stop.set()
        self._wake.set()
        self._await_end(_STOP_SECONDS)

    def _finish(self) -> None:
        """Store what is pending, take back what Kafka's client has, delete what is done."""
        assert self._transport is not None
        while self._store_next():
            pass
        self._ending = True
        if self.flow.on_its_way:
            self._transport.abandon()
            deadline = time.monotonic() + ABANDON_SECONDS
            while self.flow.on_its_way and time.monotonic() < deadline:
                self._serve(self._transport.poll(_TICK_SECONDS))
        self._append(())
        self._keep_drops()
        for delivery in self.flow.take_all():
            if delivery.is_spooled:
                self._settle_kept(delivery)
            else:
                self._refuse_for_good(delivery, _given_up(delivery))
        for delivery in list(self._unloaded.values()):
            self._settle_kept(delivery)

    def _settle_kept(self, delivery: Delivery) -> None:
        """Tell whoever still waits for an event that the next start sends it."""
        where = f"event {delivery.tenant}/{delivery.id}"
        hint = "nothing is lost: the next audit log with this spool sends it"
        delivery.settle(DeliveryError(f"{where} is not published yet, and is kept in the spool", hint=hint, code=_KEPT))
        delivery.wake()

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._ownership is not None:
            self._ownership.release()
            self._ownership = None


def _sound_value(row: Row) -> bytes:
    if not row.is_sound:
        raise EventInvalid("value", "has another checksum than when it was written")
    return row.value


def _row(delivery: Delivery) -> tuple[int, int, bytes]:
    """Return what a :class:`Row` consists of."""
    number, value = delivery.number, delivery.value
    return number, checksum(number, value), value


def _given_up(delivery: Delivery) -> DeliveryError:
    return DeliveryError(
        f"event {delivery.tenant}/{delivery.id} was neither spooled nor published when the log was closed",
        hint="give close() more time, and the spool a sound disk",
        code="GIVEN_UP",
    )
