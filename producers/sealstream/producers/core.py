"""The core of an audit log, without threads, clocks or network: what an event becomes, and what is outstanding.

It is not thread-safe: the sender calls it under its lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sealstream.producers.headers import headers_of_datum, record_headers
from sealstream.producers.options import ProducerOptions
from sealstream.producers.record import Record
from sealstream.schemas.codec import EventReader, encode_event, schema
from sealstream.schemas.entry import VALUE_BYTES_MAX, is_event_id, is_tenant, payload_digest
from sealstream.schemas.errors import DeliveryError, EventInvalid, FrameInvalid, SchemaUnknown
from sealstream.schemas.event import AuditEvent, ProducerMark

# Whatever id a registry gave the schema: final bytes are written with the one that is shipped.
_READER: Final = EventReader(schema_by_id=lambda _: schema("AuditEvent"))


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
    """

    accepted: int = 0
    published: int = 0
    failed: int = 0
    dropped: int = 0
    outstanding_events: int = 0
    outstanding_bytes: int = 0


class Core:
    """Makes records of events, counts them per tenant, and keeps the books.

    Arguments:
        options: The audit log's options.
        epoch: The epoch of the producer's marks: the start time in milliseconds.
    """

    def __init__(self, options: ProducerOptions, *, epoch: int) -> None:
        self._options = options
        self._epoch = epoch
        self._next_n: dict[str, int] = {}
        self._published = self._failed = self._dropped = 0
        self._failures_reported = 0
        self._first_failure: DeliveryError | None = None
        self.outstanding_events = 0
        self._outstanding_bytes = 0

    def record_of(self, event: AuditEvent) -> Record:
        """Return the record of a valid event; the producer's count moves on.

        Raises:
            EventInvalid: The event is too large, or its headers cannot be made.
        """
        headers = record_headers(event, self._options.instance)
        mark = self._mark(event)
        value = encode_event(event, schema_id=self._options.schema_id, producer=mark)
        _check_size(value)
        if mark is not None:
            self._next_n[event.tenant] = mark.n + 1
        digest = payload_digest(value)
        return Record(event.tenant, event.id, value, digest, headers, None if mark is None else mark.n)

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
        return Record(tenant, event_id, value, payload_digest(value), headers_of_datum(datum, self._options.instance))

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

    def _mark(self, event: AuditEvent) -> ProducerMark | None:
        if self._options.producer_id is None:
            return None
        if event.producer is not None:
            raise EventInvalid("producer", "is set, though the log fills it in", hint="leave out one of the two")
        return ProducerMark(self._options.producer_id, self._epoch, self._next_n.get(event.tenant, 0))


def _check_size(value: bytes) -> None:
    if len(value) > VALUE_BYTES_MAX:
        raise EventInvalid(
            "event",
            f"takes {len(value)} bytes, more than {VALUE_BYTES_MAX}",
            hint="keep large objects elsewhere and their digest in metadata",
        )
