"""Receipts: what ``log()`` gives back at once, and what becomes of the event later."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Final, NamedTuple, Self, TypeAlias

from sealstream.producers.headers import Header
from sealstream.producers.record import KEPT_BYTES_MAX, Origin, Record
from sealstream.schemas.errors import DeliveryError, SpoolError, Unreachable

_Wake: TypeAlias = Callable[[], object]

NO_SPOOL: Final = SpoolError("this audit log has no spool", hint="give it one with spool=DIRECTORY")
_adding: Final = threading.Lock()
"""Held while someone begins to wait for an event: seldom, and for a moment; a lock for each event would cost more."""


class Published(NamedTuple):
    """Where an event stands in the source topic: written by the leader and by enough replicas (acks=all).

    Arguments:
        partition: The partition.
        offset: The offset in it.
    """

    partition: int
    offset: int


class Delivery(Record):
    """One event on its way; what the receipts of both fronts have in common.

    Its arguments are those of a record, which it is itself: one object less on its way, for the garbage collector to
    look through.
    """

    __slots__ = (
        "__weakref__", "_failed_value", "_outcome", "_spooled", "_wakes", "instance", "number",
    )  # fmt: skip

    instance: str
    """The instance that it goes to."""
    number: int
    """Its place in the spool, once it has one; for the sender."""

    def __init__(
        self,
        tenant: str,
        event_id: str,
        value: bytes,
        digest: bytes | None,
        headers: list[Header] | Origin,
        n: int | None = None,
    ) -> None:
        super().__init__(tenant, event_id, value, digest, headers, n)
        self.instance = ""
        self.number = 0
        self._outcome: Published | DeliveryError | None = None
        self._spooled: SpoolError | bool = NO_SPOOL
        self._failed_value: bytes | None = None
        self._wakes: tuple[_Wake, ...] = ()

    @classmethod
    def of(cls, record: Record) -> Self:
        """Return a delivery of a record."""
        delivery = cls(record.tenant, record.event_id, record.value, None, [])
        delivery.carry(record)
        return delivery

    def begin(self, instance: str, spooled: SpoolError | bool) -> None:
        """Set where it goes; for the sender.

        Arguments:
            instance: The instance.
            spooled: Whether it is spooled or, if that is known from the start, why it will not be.
        """
        self.instance = instance
        self._spooled = spooled

    @property
    def id(self) -> str:
        """The event's id."""
        return self.event_id

    def __repr__(self) -> str:
        """Name the event and its state."""
        return f"<{type(self).__name__} {self.tenant}/{self.id} {self._state()}>"

    @property
    def done(self) -> bool:
        """Whether it is known what became of the event."""
        return self._outcome is not None

    @property
    def error(self) -> DeliveryError | None:
        """Why the event was not published, if it was not."""
        return self._outcome if isinstance(self._outcome, DeliveryError) else None

    @property
    def is_spooled(self) -> bool:
        """Whether the event was written to the spool, as durably as ``fsync`` says."""
        return self._spooled is True

    def _state(self) -> str:
        if self._outcome is None:
            return "spooled" if self.is_spooled else "outstanding"
        return "failed" if isinstance(self._outcome, DeliveryError) else f"published {tuple(self._outcome)}"

    def as_json(self) -> str:
        """Return the receipt as one line of JSON, for keeping; ``sealstream receipts check`` reads it.

        Its fields are ``instance``, ``tenant``, ``id``, ``digest`` (hexadecimal), ``spooled``, and ``partition`` and
        ``offset``, which are null unless the event is published.
        """
        place = self._outcome if isinstance(self._outcome, Published) else None
        fields = {
            "instance": self.instance,
            "tenant": self.tenant,
            "id": self.id,
            "digest": self.digest.hex(),
            "spooled": self.is_spooled,
            "partition": None if place is None else place.partition,
            "offset": None if place is None else place.offset,
        }
        return json.dumps(fields, separators=(",", ":"))

    @property
    def failed_value(self) -> bytes | None:
        """The bytes of an event that was sent and failed, for sending them again."""
        return self._failed_value

    def settle(self, outcome: Published | DeliveryError, failed_value: bytes | None = None) -> bool:
        """Set what became of the event, and return whether anyone waits for that; for the sender.

        The bytes are kept where they may have to be sent again.
        """
        self._failed_value = failed_value
        if self.size_bytes > KEPT_BYTES_MAX:
            self.forget_value()
        self._outcome = outcome
        return bool(self._wakes)

    def settle_spooled(self, outcome: bool | SpoolError) -> bool:
        """Set whether the event is in the spool, and return whether anyone waits for that; for the sender."""
        self._spooled = outcome
        return bool(self._wakes)

    def wake(self) -> None:
        """Call whoever waits; for the sender, after it has set what is known."""
        for wake in self._wakes:
            wake()

    def _on_change(self, wake: _Wake) -> None:
        """Have a function called when something becomes known; it may be called more than once, and from any thread.

        The sender takes no lock: it sets what is known before it calls the waiters, and a waiter looks at it after it
        was added, so at least one of the two sides sees the other.
        """
        with _adding:
            self._wakes = (*self._wakes, wake)

    def _is_known(self) -> bool:
        return self._outcome is not None

    def _is_spooling_known(self) -> bool:
        return self._spooled is not False or self._outcome is not None

    def _result(self) -> Published:
        if self._outcome is None:
            raise Unreachable(
                f"event {self.tenant}/{self.id} has no outcome yet", hint="it is still being delivered: wait longer"
            )
        if isinstance(self._outcome, DeliveryError):
            raise self._outcome.with_traceback(None)  # it may be raised once for every wait
        return self._outcome

    def _spooled_result(self) -> None:
        if self._spooled is True:
            return
        if isinstance(self._spooled, SpoolError):
            raise self._spooled.with_traceback(None)
        if isinstance(self._outcome, DeliveryError):
            raise self._outcome.with_traceback(None)
        raise Unreachable(
            f"event {self.tenant}/{self.id} is not in the spool yet", hint="the disk is slow: wait longer"
        )


class SyncReceipt(Delivery):
    """What :meth:`SyncAuditLog.log` returns."""

    __slots__ = ()

    def spooled(self, timeout_seconds: float | None = None) -> None:
        """Wait until the event is in the spool: from then on, no end of the process loses it.

        Arguments:
            timeout_seconds: How long to wait; by default until the disk has answered.

        Raises:
            SpoolError: It is not in the spool, because the spool does not take it at the moment or there is none;
                the event is sent from memory, and :meth:`published` tells what becomes of it.
            DeliveryError: There was no room for it.
            Unreachable: The time is over, and the disk has not answered.
        """
        self._wait(self._is_spooling_known, timeout_seconds)
        self._spooled_result()

    def published(self, timeout_seconds: float | None = None) -> Published:
        """Wait until the event is published, and return where.

        Arguments:
            timeout_seconds: How long to wait; by default until the outcome is known, which the log's
                ``delivery_timeout_seconds`` bounds, and with a spool only the log's close.

        Raises:
            DeliveryError: It was not published.
            Unreachable: The time is over, and the event still on its way.
        """
        self._wait(self._is_known, timeout_seconds)
        return self._result()

    def _wait(self, is_known: Callable[[], bool], timeout_seconds: float | None) -> None:
        if is_known():
            return
        changed = threading.Event()
        self._on_change(changed.set)
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not is_known():
            if not changed.wait(None if deadline is None else max(0.0, deadline - time.monotonic())):
                return
            changed.clear()


class Receipt(Delivery):
    """What :meth:`AuditLog.log` returns. Awaiting it waits until the event is published."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, Published]:
        """Wait until the event is published: :meth:`published` without a time limit."""
        return self.published().__await__()

    async def spooled(self, timeout_seconds: float | None = None) -> None:
        """Wait until the event is in the spool: from then on, no end of the process loses it.

        Arguments:
            timeout_seconds: How long to wait; by default until the disk has answered.

        Raises:
            SpoolError: It is not in the spool, because the spool does not take it at the moment or there is none;
                the event is sent from memory, and :meth:`published` tells what becomes of it.
            DeliveryError: There was no room for it.
            Unreachable: The time is over, and the disk has not answered.
        """
        await self._wait(self._is_spooling_known, timeout_seconds)
        self._spooled_result()

    async def published(self, timeout_seconds: float | None = None) -> Published:
        """Wait until the event is published, and return where. Cancelling the wait does not stop the delivery.

        Arguments:
            timeout_seconds: How long to wait; by default until the outcome is known, which the log's
                ``delivery_timeout_seconds`` bounds, and with a spool only the log's close.

        Raises:
            DeliveryError: It was not published.
            Unreachable: The time is over, and the event still on its way.
        """
        await self._wait(self._is_known, timeout_seconds)
        return self._result()

    async def _wait(self, is_known: Callable[[], bool], timeout_seconds: float | None) -> None:
        if is_known():
            return
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed, and whoever waited is gone with it
                loop.call_soon_threadsafe(changed.set)

        self._on_change(wake)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while not is_known():
                    await changed.wait()
                    changed.clear()
