"""The core of an audit log, without threads, clocks or network: what an event becomes, and what is outstanding.

It is not thread-safe: the sender calls it under its lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from sealstream.producers.headers import Header, headers_of_datum, record_headers
from sealstream.producers.options import ProducerOptions
from sealstream.producers.record import Origin, Record
from sealstream.schemas.codec import EventReader, frame_bytes, schema
from sealstream.schemas.entry import VALUE_BYTES_MAX, is_event_id, is_tenant
from sealstream.schemas.errors import DeliveryError, EventInvalid, FrameInvalid, SchemaUnknown
from sealstream.schemas.event import AuditEvent
from sealstream.schemas.event_body import around_mark, long, mark_bytes, mark_prefix
from sealstream.schemas.ordinary_event import ordinary_head

# Whatever id a registry gave the schema: final bytes are written with the one that is shipped.
_READER: Final = EventReader(schema_by_id=lambda _: schema("AuditEvent"))


_R = TypeVar("_R", bound=Record)

_NO_MARK: Final = mark_bytes(None)
_NO_CONTROL: Final = b"\x00"


Draft: TypeAlias = tuple[str, str, bytes, bytes, bytes, list[Header] | Origin]
"""An event that is checked, and whose bytes are final but for the producer's mark: tenant, id, the value up to the
mark, the mark that it came with (or that for none), the value behind it, and the headers or what to make them of."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of the events so far: ``accepted`` equals ``published + failed + outstanding_events``.

    Arguments:
        accepted: Taken to be sent.
        published: Acknowledged by Kafka.
        failed: Given up; each was told to its receipt and to ``on_error``.
        dropped: Not taken for want of room; told in the same two places. ``QueueFull`` raised by ``log()`` is not
            counted: the caller knows.
        outstanding_events: Taken, and still on their way.
        outstanding_bytes: What these count for in the queue.
        found: How many of the accepted ones the spool held at start: an earlier process had left them.
        spooled_events: Events that are on the disk now: not published yet, or not deleted yet.
        spooled_bytes: What these count for in the spool.
        refused: How many of the failed ones Kafka refused for themselves; the spool keeps them aside.
        trouble: What is wrong at the moment with the spool or the way to Kafka, in words; empty if nothing is.
    """

    accepted: int = 0
    published: int = 0
    failed: int = 0
    dropped: int = 0
    outstanding_events: int = 0
    outstanding_bytes: int = 0
    found: int = 0
    spooled_events: int = 0
    spooled_bytes: int = 0
    refused: int = 0
    trouble: str = ""


class Core:
    """Makes records of events, counts them per tenant, and keeps the books.

    Arguments:
        options: The audit log's options.
        epoch: The epoch of the producer's marks; without a spool the start time in milliseconds.
        producer_id: The producer's name where the options give none, if it has one all the same.
    """

    def __init__(self, options: ProducerOptions, *, epoch: int, producer_id: str | None = None) -> None:
        self._options = options
        self._instance = options.instance
        self._frame = frame_bytes("AuditEvent", options.schema_id)
        name = options.producer_id or producer_id
        self._mark_prefix = b"" if name is None else mark_prefix(name, epoch)
        self._next_n: dict[str, int] = {}
        self._published = self._failed = self._dropped = 0
        self._failures_reported = 0
        self._first_failure: DeliveryError | None = None
        self.outstanding_events = 0
        self._outstanding_bytes = 0

    def draft(self, event: AuditEvent) -> Draft:
        """Check an event and make its bytes but for the producer's mark. It changes nothing, and so needs no lock.

        Raises:
            EventInvalid: The event breaks the model, or its headers cannot be made.
        """
        head = ordinary_head(event, self._frame)
        action = event.action
        if head is not None and action.isprintable():  # so that nothing can be wrong with its headers
            event_id, tenant = event.id, event.tenant
            origin = (event_id, tenant, action, event.occurred_at, event.context.traceparent, self._instance)
            return tenant, event_id, head, _NO_MARK, _NO_CONTROL, origin
        event.check()
        head, tail = around_mark(event)
        if event.producer is not None and self._mark_prefix:
            raise EventInvalid("producer", "is set, though the log fills it in", hint="leave out one of the two")
        headers = record_headers(event, self._instance)
        return event.tenant, event.id, self._frame + head, mark_bytes(event.producer), tail, headers

    def finish(self, draft: Draft, kind: type[_R]) -> _R:
        """Return the record of a draft, whose bytes are final now; the producer's count moves on.

        Arguments:
            draft: The draft.
            kind: What is to be made: a record, or a delivery of it.

        Raises:
            EventInvalid: The event is too large.
        """
        tenant, event_id, head, own_mark, tail, headers = draft
        if not self._mark_prefix:
            value = b"".join((head, own_mark, tail))
            if len(value) > VALUE_BYTES_MAX:
                _check_size(value)
            return kind(tenant, event_id, value, None, headers)
        n = self._next_n.get(tenant, 0)
        value = b"".join((head, self._mark_prefix, long(n), tail))
        if len(value) > VALUE_BYTES_MAX:
            _check_size(value)
        self._next_n[tenant] = n + 1
        return kind(tenant, event_id, value, None, headers, n)

    def record_of(self, event: AuditEvent) -> Record:
        """Return the record of an event; the producer's count moves on.

        Raises:
            EventInvalid: The event breaks the model, is too large, or its headers cannot be made.
        """
        return self.finish(self.draft(event), Record)

    def record_of_value(self, value: bytes) -> Record:
        """Return the record of final bytes, which stay as they are; key and headers follow from them.

        Raises:
            EventInvalid: They are no event of the shipped schema in either framing, name a tenant or an id that is
                none, or are too many.
        """
        if not isinstance(value, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]  # an application may not type
            raise EventInvalid("value", f"is a {type(value).__name__}", hint="give bytes")
        _check_size(value)
        try:
            datum = _READER.read_datum(value)
        except (FrameInvalid, SchemaUnknown) as error:
            raise EventInvalid("value", error.message, hint=error.hint or "make it with encode_event()") from error
        tenant, event_id = datum["tenant"], datum["id"]
        if not is_event_id(event_id):
            raise EventInvalid("id", "is not a valid event id")
        if not is_tenant(tenant):
            raise EventInvalid("tenant", "is not a valid tenant")
        return Record(tenant, event_id, value, None, headers_of_datum(datum, self._instance))

    def withdraw(self, record: Record) -> None:
        """Take a record back that will not be sent, so that its number goes to the tenant's next event.

        A number that others have gone past already stays a hole, which is what a hole means: an event that never
        arrived.
        """
        if record.n is not None and self._next_n[record.tenant] == record.n + 1:
            self._next_n[record.tenant] = record.n

    def has_room(self, record: Record) -> bool:
        """Return whether a record still fits the bounds of what may be outstanding."""
        return (
            self.outstanding_events < self._options.queue_events_max
            and self._outstanding_bytes + record.size_bytes <= self._options.queue_bytes_max
        )

    def take(self, size_bytes: int) -> None:
        """Count a record as outstanding."""
        self.outstanding_events += 1
        self._outstanding_bytes += size_bytes

    def found(self, count: int, size_bytes: int) -> None:
        """Count records that an earlier process left in the spool as outstanding."""
        self.outstanding_events += count
        self._outstanding_bytes += size_bytes

    def lose(self, count: int, size_bytes: int, failure: DeliveryError) -> None:
        """Count outstanding records as failed that the spool has lost."""
        self.outstanding_events -= count
        self._outstanding_bytes -= size_bytes
        self._failed += count
        self._remember(failure)

    def settle_published(self, count: int, size_bytes: int) -> None:
        """Count outstanding records as published."""
        self.outstanding_events -= count
        self._outstanding_bytes -= size_bytes
        self._published += count

    def settle(self, size_bytes: int, failure: DeliveryError | None) -> None:
        """Count an outstanding record as published or failed."""
        self.outstanding_events -= 1
        self._outstanding_bytes -= size_bytes
        if failure is None:
            self._published += 1
            return
        self._failed += 1
        self._remember(failure)

    def drop(self, failure: DeliveryError) -> None:
        """Count an event that found no room."""
        self._dropped += 1
        self._remember(failure)

    def _remember(self, failure: DeliveryError) -> None:
        if self._first_failure is None:
            self._first_failure = failure

    def unreported(self) -> DeliveryError | None:
        """Return one error for everything that failed or was dropped since the last call, if anything did."""
        first, self._first_failure = self._first_failure, None
        if first is None:
            return None
        total = self._failed + self._dropped
        count, self._failures_reported = total - self._failures_reported, total
        if count == 1:
            return first
        return DeliveryError(
            f"{count} events were not published; the first: {first.message}",
            hint=first.hint,
            code=first.code,
            retriable=first.retriable,
        )

    def stats(self) -> Stats:
        """Return the books as they stand."""
        return Stats(
            accepted=self._published + self._failed + self.outstanding_events,
            published=self._published,
            failed=self._failed,
            dropped=self._dropped,
            outstanding_events=self.outstanding_events,
            outstanding_bytes=self._outstanding_bytes,
        )


def _check_size(value: bytes) -> None:
    if len(value) > VALUE_BYTES_MAX:
        raise EventInvalid(
            "event",
            f"takes {len(value)} bytes, more than {VALUE_BYTES_MAX}",
            hint="keep large objects elsewhere and their digest in metadata",
        )
