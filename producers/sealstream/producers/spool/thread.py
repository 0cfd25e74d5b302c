"""The thread of a sender with a spool: it stores what is pending, sends what is stored, deletes what is published."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from sealstream.producers.receipt import Delivery
from sealstream.producers.record import OVERHEAD_BYTES
from sealstream.producers.sender import ABANDON_SECONDS
from sealstream.producers.spool.database import ROW_OVERHEAD_BYTES, Row
from sealstream.producers.spool.refusals import failure_of
from sealstream.producers.spool.storing import GROUP_EVENTS_MAX, TRIM_SECONDS, StoringSender, row_of
from sealstream.producers.transport import Answer
from sealstream.producers.troubles import report
from sealstream.schemas.errors import (
    DeliveryError,
    EventInvalid,
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
_SENDS_MAX: Final = 4096
_ROWS_A_READ: Final = 1000
_READ_BYTES: Final = 8 * 1024 * 1024
_LOOK_SECONDS: Final = 1.0
"""How often it is looked whether the file is still in its place, and counts of dropped events are kept."""
_ROW_MORE_BYTES: Final = ROW_OVERHEAD_BYTES - OVERHEAD_BYTES
"""What an event counts for on the disk, beyond what it counts for in memory."""
_KEPT: Final = "KEPT"


class SpoolThread(StoringSender):
    """What a sender with a spool does on its own thread, step by step."""

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
        if self._options.fsync != "full" and 0 < len(self._pending) < GROUP_EVENTS_MAX:
            time.sleep(GATHER_SECONDS)

    def _tick_seconds(self) -> float:
        if not self.flow.on_its_way and not self.flow.is_behind:
            return TRIM_SECONDS if self.flow.done else _IDLE_SECONDS
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
            if len(group) > GROUP_EVENTS_MAX:
                group, self._pending = group[:GROUP_EVENTS_MAX], group[GROUP_EVENTS_MAX:]
        if group:
            self._store_group(group)
        return bool(group)

    def _store_group(self, group: list[Delivery]) -> None:
        error = self._append([row_of(delivery) for delivery in group])
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
            delivery = Delivery.of(record)
            delivery.begin(self._instance, True)
            delivery.number = row.number
        else:
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


def _sound_value(row: Row) -> bytes:
    if not row.is_sound:
        raise EventInvalid("value", "has another checksum than when it was written")
    return row.value


def _given_up(delivery: Delivery) -> DeliveryError:
    return DeliveryError(
        f"event {delivery.tenant}/{delivery.id} was neither spooled nor published when the log was closed",
        hint="give close() more time, and the spool a sound disk",
        code="GIVEN_UP",
    )
