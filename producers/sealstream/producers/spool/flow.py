"""Which events go to Kafka next, which are on their way, and which rows are to be deleted. Without I/O or clocks.

An event that was stored is sent in the order of its number. What does not fit the window in memory is forgotten here,
and read back from the disk when its turn comes. When a delivery fails, nothing more is sent until everything on its way
has its outcome; then sending goes back to the lowest number that Kafka does not have. Not thread-safe.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from operator import attrgetter
from typing import Final, Literal, TypeAlias

from sealstream.producers.receipt import Delivery

Failure: TypeAlias = Literal["retry", "refused"]
"""Why an event did not reach Kafka: the way is blocked, or Kafka will not have it, or one that travelled with it."""

BACKOFF_SECONDS: Final = 0.1
BACKOFF_SECONDS_MAX: Final = 5.0


_number_of: Final = attrgetter("number")


class Flow:
    """The order of sending.

    Arguments:
        events_max: How many stored events may be in memory, those on their way included.
        bytes_max: How many bytes of them.
    """

    def __init__(self, events_max: int, bytes_max: int) -> None:
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._ready: deque[Delivery] = deque()
        self._late: deque[Delivery] = deque()  # in memory only, and behind rows that are on the disk only
        self._sent: dict[int, Delivery] = {}
        self._back: list[Delivery] = []  # failed, and waiting until nothing is on its way
        self._bytes = 0
        self._read_through = 0  # rows above this number, up to the next, are on the disk only
        self._stored_through = 0
        self._suspects: set[int] = set()
        self._alone: int | None = None
        self._resume_at = 0.0
        self._backoff_seconds = BACKOFF_SECONDS
        self._done: list[int] = []

    @property
    def on_its_way(self) -> int:
        """How many events Kafka has not answered for."""
        return len(self._sent)

    def in_memory(self) -> list[Delivery]:
        """Return all events that are in memory, in no order."""
        return [*self._sent.values(), *self._back, *self._ready, *self._late]

    @property
    def behind(self) -> tuple[int, int]:
        """Above which number and up to which rows are on the disk only."""
        return self._read_through, self._stored_through

    @property
    def is_behind(self) -> bool:
        """Whether there are rows that are on the disk only."""
        return self._read_through < self._stored_through

    def found(self, last: int) -> None:
        """Take note of rows that an opened spool holds, up to a number."""
        self._read_through = 0
        self._stored_through = max(last, self._stored_through)

    def stored(self, deliveries: Sequence[Delivery]) -> bool:
        """Take events that were stored just now; return whether they stay in memory."""
        size = sum([delivery.size_bytes for delivery in deliveries])
        stays = not self.is_behind and self._has_room(len(deliveries), size)
        self._stored_through = deliveries[-1].number
        if stays:
            self._read_through = self._stored_through
            self._ready.extend(deliveries)
            self._bytes += size
        return stays

    def not_stored(self, deliveries: Sequence[Delivery]) -> None:
        """Take events that the spool did not take, and that are in memory only."""
        if self.is_behind:
            self._late.extend(deliveries)
            return
        self._bytes += sum(delivery.size_bytes for delivery in deliveries)
        self._ready.extend(deliveries)

    def rows_wanted(self) -> tuple[int, int] | None:
        """Return above which number and up to which rows are to be read now, if any are."""
        if not self.is_behind or self._ready or self._back:
            return None
        return (self._read_through, self._stored_through) if self._has_room(1, 0) else None

    def rows_read(self, deliveries: Sequence[Delivery], through: int) -> None:
        """Take rows that were read: all that there are up to a number."""
        self._read_through = through
        self._bytes += sum(delivery.size_bytes for delivery in deliveries)
        self._ready.extend(deliveries)
        while self._late and (not self.is_behind or self._late[0].number <= through):
            delivery = self._late.popleft()
            self._bytes += delivery.size_bytes
            self._ready.append(delivery)
        if len(self._ready) > len(deliveries):  # and so more than the rows just read, which are in order
            self._ready = deque(sorted(self._ready, key=_number_of))

    def overtake(self) -> None:
        """Let events that are in memory only go before rows that cannot be read at the moment."""
        self._bytes += sum(delivery.size_bytes for delivery in self._late)
        self._ready.extend(self._late)
        self._late.clear()

    def next(self, now: float) -> Delivery | None:
        """Return the event to be sent now, if one is; :meth:`sent` or :meth:`unsendable` has to follow."""
        if not self._ready or self._back or self._alone is not None or now < self._resume_at:
            return None
        delivery = self._ready[0]
        return None if delivery.number in self._suspects and self._sent else delivery

    def sent(self, delivery: Delivery) -> None:
        """Take note that the event to be sent is on its way."""
        self._ready.popleft()
        self._sent[delivery.number] = delivery
        if delivery.number in self._suspects:
            self._alone = delivery.number

    def unsendable(self, delivery: Delivery, failure: Failure, now: float) -> Delivery | None:
        """Take note that the event to be sent was not even taken; return it if Kafka will never have it."""
        self._ready.popleft()
        if failure == "refused":
            self._forget(delivery)
            return delivery
        self._go_back(delivery, now)
        return None

    def published(self, number: int) -> Delivery:
        """Take note that Kafka has an event; its row is to be deleted."""
        delivery = self._sent.pop(number)
        self._bytes -= delivery.size_bytes
        if delivery.is_spooled:
            self._done.append(number)
        self._backoff_seconds = BACKOFF_SECONDS
        if self._suspects:
            self._suspects.discard(number)
            self._alone = None if self._alone == number else self._alone
        if self._back:
            self._turn_back()
        return delivery

    def failed(self, number: int, failure: Failure, now: float) -> Delivery | None:
        """Take note that an event did not arrive; return it if Kafka will never have it.

        A refusal is believed only of an event that travelled alone: Kafka refuses whole batches for one of them.
        """
        delivery = self._sent.pop(number)
        was_alone, self._alone = self._alone == number, None
        if failure == "refused" and was_alone:
            self._suspects.discard(number)
            self._forget(delivery)
            return delivery
        if failure == "refused":
            self._suspects.add(number)
            self._back.append(delivery)
            if not self._sent:
                self._turn_back()
            return None
        self._go_back(delivery, now)
        return None

    def take_done(self) -> list[int]:
        """Return the numbers whose rows are to be deleted, and forget them."""
        done, self._done = self._done, []
        return done

    def not_deleted(self, numbers: Sequence[int]) -> None:
        """Take numbers back whose rows could not be deleted."""
        self._done.extend(numbers)

    @property
    def done(self) -> int:
        """How many rows are to be deleted."""
        return len(self._done)

    def take_all(self) -> list[Delivery]:
        """Return everything in memory, in order, and forget it: the log is closed."""
        deliveries = sorted(self.in_memory(), key=_number_of)
        self._sent.clear()
        self._back.clear()
        self._ready.clear()
        self._late.clear()
        return deliveries

    def _go_back(self, delivery: Delivery, now: float) -> None:
        if now >= self._resume_at:  # one step for all that fail together
            self._resume_at = now + self._backoff_seconds
            self._backoff_seconds = min(self._backoff_seconds * 2, BACKOFF_SECONDS_MAX)
        self._back.append(delivery)
        if not self._sent:
            self._turn_back()

    def _turn_back(self) -> None:
        if self._sent:
            return
        self._ready.extendleft(sorted(self._back, key=_number_of, reverse=True))
        self._back.clear()

    def _forget(self, delivery: Delivery) -> None:
        self._bytes -= delivery.size_bytes
        if self._back:
            self._turn_back()

    def _has_room(self, events: int, size_bytes: int) -> bool:
        # Without those that wait behind rows: reading these rows is what they wait for.
        held = len(self._ready) + len(self._sent) + len(self._back)
        return held + events <= self._events_max and self._bytes + size_bytes <= self._bytes_max
