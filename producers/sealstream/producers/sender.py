"""The sender: the core under a lock, a transport, and the thread that waits for Kafka's answers."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeAlias, TypeVar

from sealstream.producers.core import Core, Stats
from sealstream.producers.drops import Drops, event_of
from sealstream.producers.options import ProducerOptions
from sealstream.producers.receipt import NO_SPOOL, Delivery, Published
from sealstream.producers.receipts_file import ReceiptsFile
from sealstream.producers.record import KEPT_BYTES_MAX, Record
from sealstream.producers.termination import close_at_sigterm, forget_sigterm
from sealstream.producers.transport import Answer, KafkaTransport, Transport
from sealstream.producers.troubles import OnTrouble, Troubles, report
from sealstream.schemas.errors import ClientUnusable, ConfigError, DeliveryError, EventInvalid, QueueFull, SpoolError
from sealstream.schemas.event import AuditEvent

OnError: TypeAlias = Callable[[Delivery, DeliveryError], object]
TransportFactory: TypeAlias = Callable[[ProducerOptions], Transport]

_D = TypeVar("_D", bound=Delivery)

_POLL_SECONDS: Final = 0.1
"""How long the thread waits for answers before it looks whether to end."""
_TICK_SECONDS: Final = 0.005
"""How often it looks for answers that callers have taken."""
_GATHER_EVENTS: Final = 32
"""After how many events a caller takes the answers that are there, while more than the next number are on their way."""
_MANY_EVENTS: Final = 512
ABANDON_SECONDS: Final = 5.0
"""How long close() waits, after its time, for given-up events to be reported as failed, and for the thread to end."""


class Sender:
    """Sends events in order, and tells what became of them.

    It starts with the first event, so that a log made before a server forks its workers is each worker's own.

    ``waiting`` is the number of threads that wait for room, or for outcomes.

    Arguments:
        options: The audit log's options.
        on_error: Called on the sender's thread for each event that was not published.
        transport: Makes the way to Kafka.
        on_trouble: Called on the sender's thread for what goes wrong beside that.
    """

    def __init__(
        self,
        options: ProducerOptions,
        on_error: OnError | None,
        transport: TransportFactory = KafkaTransport,
        on_trouble: OnTrouble | None = None,
    ) -> None:
        self._options = options
        self._instance = options.instance
        self._unspooled: SpoolError | bool = NO_SPOOL  # what a new event's receipt says of the spool
        self._on_error = on_error
        self._troubles = Troubles(on_trouble)
        self._transport_factory = transport
        # Reentrant: a signal handler or a finalizer may log while this very thread is in log().
        self._lock = threading.RLock()
        # Under the lock: everything below but the thread's stop sign.
        self._changed = threading.Condition(self._lock)
        self.waiting = 0
        self._sent = 0
        self._is_due = False  # whether a caller is to take answers
        self._gathered = 0  # how often callers have taken answers
        self._gathering = threading.Lock()
        self._core = Core(options, epoch=time.time_ns() // 1_000_000)
        self._drops = Drops()
        self._receipts: ReceiptsFile | None = None
        self._transport: Transport | None = None
        self._pid: int | None = None
        self._closed = False
        self._ended = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run_until_stopped, name="sealstream-sender", daemon=True)

    def start(self) -> None:
        """Open the way to Kafka, unless it is open. Nothing is waited for.

        Raises:
            ClientUnusable: The log is closed.
            ConfigError: Kafka's client refuses the options.
        """
        self._check_process()
        with self._lock:
            self._started()

    def submit(self, event: AuditEvent, receipt: type[_D]) -> _D:
        """Make the event's bytes and hand them over.

        Raises:
            EventInvalid: The event breaks the model or is too large.
            QueueFull: There is no room, and the policy is ``raise``.
            ClientUnusable: The log is closed, or belongs to another process.
        """
        if self._pid != os.getpid():
            self.start()  # which a spool's mark comes from
        core = self._core
        return self._send(partial(core.finish, core.draft(event)), receipt)

    def submit_value(self, value: bytes, receipt: type[_D]) -> _D:
        """Hand final bytes over as they are.

        Raises:
            EventInvalid: They are no valid event, or too many.
            QueueFull, ClientUnusable: As :meth:`submit`.
        """
        self._check_process()
        record = self._core.record_of_value(value)
        return self._send(lambda kind: kind.of(record), receipt)

    def resend(self, delivery: _D) -> _D:
        """Hand over the very bytes of an event that failed.

        Raises:
            EventInvalid: The event did not fail, or it was never sent.
            QueueFull, ClientUnusable: As :meth:`submit`.
        """
        self._check_process()
        value = delivery.failed_value
        if value is None:
            raise EventInvalid(
                "receipt", "is of no event that was sent and failed", hint="log an event that found no room again"
            )
        return self.submit_value(value, type(delivery))

    def flush(self, timeout_seconds: float) -> int:
        """Wait until nothing is outstanding, and return how many events still are when the time is over.

        Raises:
            DeliveryError: Events failed since the last flush.
            ClientUnusable: The log is closed, or belongs to another process, or this is the sender's own thread.
        """
        self._check_process()
        self._check_thread("flush()")
        with self._lock:
            self._check_open()
            self._wait(self._nothing_outstanding, timeout_seconds)
            self._raise_unreported()
            return self._core.outstanding_events

    def close(self, timeout_seconds: float) -> None:
        """Wait until nothing is outstanding, give up what still is when the time is over, and end.

        Raises:
            DeliveryError: Events failed since the last flush, or were given up.
            ClientUnusable: This is the sender's own thread.
        """
        if self._is_foreign():
            return  # nothing of it belongs to this process
        self._check_thread("close()")
        with self._lock:
            if self._closed:
                return
            self._tell_drops()
            self._closed = True
            self._changed.notify_all()  # whoever waits for room must not wait any more
            transport = self._transport
            if transport is None:
                return
            if not self._wait(self._nothing_outstanding, timeout_seconds):
                self._give_up(transport)
        self._stop_thread()
        atexit.unregister(self._close_at_exit)
        forget_sigterm(self._close_at_exit)
        self._write_receipts()
        with self._lock:
            self._transport = None
            if self._receipts is not None:
                self._receipts.close()
                self._receipts = None
            self._raise_unreported()

    def _give_up(self, transport: Transport) -> None:
        """Make what is outstanding fail; called under the lock."""
        transport.abandon()
        self._wait(self._nothing_outstanding, ABANDON_SECONDS)

    def _stop_thread(self) -> None:
        self._stop.set()
        self._await_end(ABANDON_SECONDS)

    def _await_end(self, timeout_seconds: float) -> None:
        """Wait for the thread's end, without the lock: a signal's handler may close the log within log() itself."""
        with self._lock:
            self._wait(lambda: self._ended, timeout_seconds)

    def _run_until_stopped(self) -> None:
        try:
            self._run()
        finally:
            with self._lock:
                self._ended = True
                self._changed.notify_all()

    @property
    def stats(self) -> Stats:
        """The books as they stand."""
        if self._is_foreign():
            return Stats()
        with self._lock:
            return self._stats()

    def _stats(self) -> Stats:
        return replace(self._core.stats(), trouble=self._troubles.text)

    @property
    def is_open(self) -> bool:
        """Whether it was started in this process and not closed."""
        return self._transport is not None and not self._closed and not self._is_foreign()

    def _send(self, make: Callable[[type[_D]], _D], receipt: type[_D]) -> _D:
        failure: DeliveryError | None = None
        with self._lock:
            if self._closed or self._transport is None:
                self._started()
            delivery = make(receipt)
            if not self._has_room(delivery):
                delivery, failure = self._wait_for_room(delivery, partial(make, receipt))
            delivery.begin(self._instance, self._unspooled)
            if failure is not None:
                self._refuse(failure, delivery)
            else:
                failure = self._hand_over(delivery)
            if failure is not None:
                delivery.settle(failure)
                self._keep_receipt(delivery)
        if failure is not None:
            self._tell(delivery)
        elif self._is_due:
            self._is_due = False
            self._gather()
        return delivery

    def _hand_over(self, delivery: Delivery) -> DeliveryError | None:
        """Give an event to the transport; return why it did not take it: the caller learns it from the receipt."""
        assert self._transport is not None
        self._core.take(delivery.size_bytes)
        try:
            self._transport.send(delivery)
        except DeliveryError as error:
            self._core.withdraw(delivery)
            self._core.settle(delivery.size_bytes, error)
            return error
        if delivery.size_bytes > KEPT_BYTES_MAX:
            delivery.forget_value()  # the transport has a copy
        self._sent += 1
        if not self._sent % _GATHER_EVENTS and self._core.outstanding_events > _MANY_EVENTS:
            self._is_due = True
        return None

    def _gather(self) -> None:
        """Take the answers that are there, in the thread of a caller who logs as fast as it can.

        librdkafka's client takes Python's lock anew for each answer. A thread of ours would get it once in 5 ms from a
        caller that never waits, and so 200 answers a second of tens of thousands.

        Not under the lock: the client calls handlers of its log lines meanwhile, and one of them may wait for a thread
        that is logging an event. Nor within such a handler that logs an event itself.
        """
        transport = self._transport
        if (
            transport is None
            or threading.current_thread() is self._thread
            or not self._gathering.acquire(blocking=False)
        ):
            return
        try:
            transport.gather()
        except Exception as error:  # noqa: BLE001  # from a log handler, say: it is no error of this call
            report(error)
        finally:
            self._gathered += 1
            self._gathering.release()

    def _has_room(self, record: Record) -> bool:
        return self._core.has_room(record)

    def _refuse(self, full: DeliveryError, record: Record) -> None:
        if self._options.when_full == "raise":
            raise full
        self._core.drop(full)
        self._drops.add(record.tenant, datetime.now(UTC))

    def _tell_drops(self) -> None:
        """Log how many events of a tenant found no room, as soon as there is some."""
        with self._lock:
            while not self._closed and (first := self._drops.first()) is not None and self._transport is not None:
                tenant, dropped = first
                record = self._core.record_of(event_of(tenant, dropped))
                if not self._has_room(record):
                    self._core.withdraw(record)
                    return
                self._drops.told(tenant)
                delivery = Delivery.of(record)
                delivery.begin(self._instance, self._unspooled)
                self._hand_over(delivery)

    def _wait_for_room(self, record: _D, make: Callable[[], _D]) -> tuple[_D, QueueFull | None]:
        """Wait, as the policy says, until a record fits; return it, made anew, with the error if it does not."""
        deadline = time.monotonic() + (self._options.timeout_seconds if self._may_wait() else 0)
        while not self._has_room(record):
            self._core.withdraw(record)
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return record, self._queue_full(record)
            self._sleep(remaining)
            self._check_open()
            record = make()  # others may have sent meanwhile, and the count have moved on
        return record, None

    def _may_wait(self) -> bool:
        """Return whether waiting helps: on the sender's own thread it would wait for itself."""
        return self._options.when_full == "block" and threading.current_thread() is not self._thread

    def _queue_full(self, record: Record) -> QueueFull:
        outstanding = self._core.stats()
        return QueueFull(
            f"event {record.tenant}/{record.event_id}: {outstanding.outstanding_events} events of "
            f"{outstanding.outstanding_bytes} bytes are outstanding",
            hint="Kafka is slow or away; raise queue_events_max or queue_bytes_max, or log less",
        )

    def _started(self) -> Transport:
        self._check_open()
        if self._transport is None:
            self._begin()
            self._transport = self._transport_factory(self._options)
            self._pid = os.getpid()
            self._thread.start()
            atexit.register(self._close_at_exit)
            close_at_sigterm(self._close_at_exit)
        return self._transport

    def _begin(self) -> None:
        """Open what the log needs beside the way to Kafka."""
        if self._options.receipts is not None and self._receipts is None:
            self._receipts = ReceiptsFile(self._options.receipts)

    def _keep_receipt(self, delivery: Delivery) -> None:
        if self._receipts is not None:
            self._receipts.add(delivery)

    def _write_receipts(self) -> None:
        if self._receipts is None:
            return
        try:
            self._receipts.write()
        except OSError as error:
            text = f"receipts {self._options.receipts} are not written: {error.strerror or error}"
            self._troubles.begin("receipts", ConfigError(text, hint="make room on its disk"))
        else:
            self._troubles.end("receipts")

    def _serve(self, answers: Sequence[Answer]) -> None:
        """Take the transport's answers; called on the sender's thread."""
        size_bytes, awaited, failed = 0, list[Delivery](), list[Delivery]()
        for delivery, outcome, value in answers:
            if delivery.settle(outcome, value):
                awaited.append(delivery)
            if isinstance(outcome, Published):
                size_bytes += delivery.size_bytes
            else:
                failed.append(delivery)
            if self._receipts is not None:
                self._receipts.add(delivery)
        with self._lock:  # once for all of them: for each it would cost as much as all else here
            self._core.settle_published(len(answers) - len(failed), size_bytes)
            for delivery in failed:
                self._core.settle(delivery.size_bytes, delivery.error)
        for delivery in awaited:
            delivery.wake()
        for delivery in failed:
            self._tell(delivery)

    def _tell_waiting(self) -> None:
        """Wake whoever waits for room or for all outcomes: once for all that came together, for it costs a switch."""
        if self.waiting:
            with self._lock:
                self._changed.notify_all()

    def _tell(self, delivery: Delivery) -> None:
        """Wake whoever waits for an event, and call ``on_error`` if it failed."""
        delivery.wake()
        if delivery.error is None or self._on_error is None:
            return
        try:
            self._on_error(delivery, delivery.error)
        except Exception as error:  # noqa: BLE001  # the application's code: its errors must not end the delivery
            report(error)

    def _run(self) -> None:
        transport = self._transport
        assert transport is not None
        seen = 0
        while not self._stop.is_set():
            try:
                if seen == self._gathered:
                    answers = transport.poll(_POLL_SECONDS)
                else:  # callers take them; if we did so too, we would wait for one another
                    seen = self._gathered
                    self._stop.wait(_TICK_SECONDS)
                    answers = transport.gathered()
                if answers:
                    self._serve(answers)
                self._tell_waiting()
                self._write_receipts()
                if self._drops and self._drops.are_due(datetime.now(UTC)):
                    self._tell_drops()
            except Exception as error:  # noqa: BLE001  # from a log handler, say: the outcomes behind it must be served
                report(error)

    def _close_at_exit(self) -> None:
        """Close a log that its owner forgot. What a crash or a signal's default action ends is not seen here."""
        self.close(self._options.close_timeout_seconds)

    def _wait(self, condition: Callable[[], bool], timeout_seconds: float) -> bool:
        """Wait for a condition under the lock, for at most so long."""
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            self._sleep(remaining)
        return True

    def _sleep(self, timeout_seconds: float) -> None:
        self.waiting += 1
        try:
            self._changed.wait(timeout_seconds)
        finally:
            self.waiting -= 1

    def _nothing_outstanding(self) -> bool:
        return self._core.outstanding_events == 0

    def _raise_unreported(self) -> None:
        error = self._core.unreported()
        if error is not None:
            raise error

    def _is_foreign(self) -> bool:
        return self._pid is not None and self._pid != os.getpid()

    def _check_process(self) -> None:
        if self._is_foreign():
            raise ClientUnusable(
                f"this audit log was started in process {self._pid}, and this is process {os.getpid()}",
                hint="make one in each process, or let the first event come after the fork",
            )

    def _check_open(self) -> None:
        if self._closed:
            raise ClientUnusable("this audit log is closed", hint="make another one")

    def _check_thread(self, call: str) -> None:
        if threading.current_thread() is self._thread:
            raise ClientUnusable(
                f"{call} was called from on_error, and would wait for itself", hint="call it elsewhere"
            )
