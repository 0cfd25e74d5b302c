"""Receipts: what ``log()`` gives back at once, and what becomes of the event later."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

from sealstream.producers.record import Record
from sealstream.schemas.errors import DeliveryError, Unreachable

_Wake: TypeAlias = Callable[[], object]


class Published(NamedTuple):
    """Where an event stands in the source topic: written by the leader and by enough replicas (acks=all).

    Arguments:
        partition: The partition.
        offset: The offset in it.
    """

    partition: int
    offset: int


class Delivery:
    """One event on its way; what the receipts of both fronts have in common.

    Arguments:
        record: The record that carries it.
    """

    __slots__ = ("_failed_value", "_outcome", "_wakes", "digest", "id", "size_bytes", "tenant")

    tenant: str
    """Whose event it is."""
    id: str
    """The event's id."""
    digest: bytes
    """The digest by which the chain commits to the event's bytes."""
    size_bytes: int
    """What the event counts for in the queue while it is outstanding."""

    def __init__(self, record: Record) -> None:
        self.tenant = record.tenant
        self.id = record.event_id
        self.digest = record.digest
        self.size_bytes = record.size_bytes
        self._outcome: Published | DeliveryError | None = None
        self._failed_value: bytes | None = None
        self._wakes: list[_Wake] = []

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

    def _state(self) -> str:
        if self._outcome is None:
            return "outstanding"
        return "failed" if isinstance(self._outcome, DeliveryError) else f"published {tuple(self._outcome)}"

    @property
    def failed_value(self) -> bytes | None:
        """The bytes of an event that was sent and failed, for sending them again."""
        return self._failed_value

    def settle(self, outcome: Published | DeliveryError, failed_value: bytes | None = None) -> None:
        """Set what became of the event; for the sender. The bytes are kept where they may have to be sent again."""
        self._failed_value = failed_value
        self._outcome = outcome

    def wake(self) -> None:
        """Call whoever waits; for the sender."""
        for wake in self._wakes:
            wake()

    def _on_outcome(self, wake: _Wake) -> None:
        """Have a function called once the outcome is there; it may be called twice, and from any thread.

        No lock: the outcome is set before the waiters are called, and looked at after a waiter is added, so at least
        one of the two sides sees the other.
        """
        self._wakes.append(wake)
        if self._outcome is not None:
            wake()

    def _result(self) -> Published:
        if self._outcome is None:
            raise Unreachable(
                f"event {self.tenant}/{self.id} has no outcome yet", hint="it is still being delivered: wait longer"
            )
        if isinstance(self._outcome, DeliveryError):
            raise self._outcome.with_traceback(None)  # it may be raised once for every wait
        return self._outcome


class SyncReceipt(Delivery):
    """What :meth:`SyncAuditLog.log` returns."""

    __slots__ = ()

    def published(self, timeout_seconds: float | None = None) -> Published:
        """Wait until the event is published, and return where.

        Arguments:
            timeout_seconds: How long to wait; by default until the outcome is known, which the log's
                ``delivery_timeout_seconds`` bounds.

        Raises:
            DeliveryError: It was not published.
            Unreachable: The time is over, and the event still on its way.
        """
        if self._outcome is None:
            known = threading.Event()
            self._on_outcome(known.set)
            known.wait(timeout_seconds)
        return self._result()


class Receipt(Delivery):
    """What :meth:`AuditLog.log` returns. Awaiting it waits until the event is published."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, Published]:
        """Wait until the event is published: :meth:`published` without a time limit."""
        return self.published().__await__()

    async def published(self, timeout_seconds: float | None = None) -> Published:
        """Wait until the event is published, and return where. Cancelling the wait does not stop the delivery.

        Arguments:
            timeout_seconds: How long to wait; by default until the outcome is known, which the log's
                ``delivery_timeout_seconds`` bounds.

        Raises:
            DeliveryError: It was not published.
            Unreachable: The time is over, and the event still on its way.
        """
        if self._outcome is None:
            loop = asyncio.get_running_loop()
            known = asyncio.Event()

            def wake() -> None:
                with suppress(RuntimeError):  # the loop is closed, and whoever waited is gone with it
                    loop.call_soon_threadsafe(known.set)

            self._on_outcome(wake)
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await known.wait()
        return self._result()
