"""The sender with a spool: ``log()`` puts an event in memory, and one thread stores, sends and deletes.

An event is, in this order: **pending** (in memory), **spooled** (committed to the disk; the receipt says so), **on its
way** (librdkafka has it), **published** (Kafka acknowledged it), **deleted** from the spool. Side ways: an event that
the spool does not take stays in memory and is sent all the same, its receipt says that it is not spooled; one that
Kafka refuses for itself is set aside in the spool, and failed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sealstream.producers.core import Stats
from sealstream.producers.receipt import Delivery
from sealstream.producers.record import Record
from sealstream.producers.spool.thread import SpoolThread
from sealstream.producers.transport import Transport
from sealstream.schemas.errors import DeliveryError, QueueFull

_STOP_SECONDS: Final = 30.0
"""How long close() waits for the disk to take what is pending, and for the thread to end."""


class SpoolSender(SpoolThread):
    """Sends events through a spool.

    Arguments:
        options: The audit log's options, with a spool.
        on_error: Called on the sender's thread for each event that will not be published.
        transport: Makes the way to Kafka.
        on_trouble: Called for what is wrong with the spool or the way to Kafka.
    """

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

    # The end, as whoever closes the log sees it.

    def _give_up(self, transport: Transport) -> None:
        """Nothing fails for want of time: the thread stores what is pending, and the next start sends it."""

    def _stop_thread(self) -> None:
        self._stop.set()
        self._wake.set()
        self._await_end(_STOP_SECONDS)
