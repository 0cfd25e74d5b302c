"""The two fronts of an audit log: :class:`AuditLog` for asyncio, :class:`SyncAuditLog` for threads."""

from __future__ import annotations

import asyncio
import os
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, Self, TypeVar, Unpack, overload

from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicNames
from sealstream.producers.core import Stats
from sealstream.producers.event_fields import EventFields, event_from_fields
from sealstream.producers.options import SPOOL_BYTES_MAX, Compression, Fsync, ProducerOptions, WhenFull
from sealstream.producers.receipt import Delivery, Receipt, SyncReceipt
from sealstream.producers.sender import OnError, Sender
from sealstream.producers.spool.sender import SpoolSender
from sealstream.producers.termination import heed_sigterm
from sealstream.producers.troubles import OnTrouble
from sealstream.schemas.errors import DeliveryError, EventInvalid
from sealstream.schemas.event import AuditEvent

_MIB: Final = 1024 * 1024
FLUSH_SECONDS: Final = 30.0

_D = TypeVar("_D", bound=Delivery)


class _Front(Generic[_D]):
    """What both fronts have in common: the options, ``log()`` and the books."""

    _receipt: type[_D]
    _when_full: ClassVar[WhenFull]

    def __init__(
        self,
        *,
        kafka: str | KafkaConnection,
        instance: str,
        topics: TopicNames | None = None,
        producer_id: str | None = None,
        schema_id: int | None = None,
        when_full: WhenFull | None = None,
        timeout_seconds: float = 1.0,
        queue_events_max: int = 100_000,
        queue_bytes_max: int = 64 * _MIB,
        linger_seconds: float = 0.005,
        compression: Compression = "lz4",
        delivery_timeout_seconds: float = 120.0,
        close_timeout_seconds: float = 10.0,
        spool: str | os.PathLike[str] | None = None,
        spool_bytes_max: int = SPOOL_BYTES_MAX,
        fsync: Fsync = "batch",
        receipts: str | os.PathLike[str] | None = None,
        on_error: OnError | None = None,
        on_trouble: OnTrouble | None = None,
    ) -> None:
        options = ProducerOptions(
            kafka=KafkaConnection(kafka) if isinstance(kafka, str) else kafka,
            instance=instance,
            topics=topics or TopicNames(),
            producer_id=producer_id,
            schema_id=schema_id,
            when_full=when_full or self._when_full,
            timeout_seconds=timeout_seconds,
            queue_events_max=queue_events_max,
            queue_bytes_max=queue_bytes_max,
            linger_seconds=linger_seconds,
            compression=compression,
            delivery_timeout_seconds=delivery_timeout_seconds,
            close_timeout_seconds=close_timeout_seconds,
            spool=None if spool is None else Path(spool),
            spool_bytes_max=spool_bytes_max,
            fsync=fsync,
            receipts=None if receipts is None else Path(receipts),
        )
        self._close_timeout_seconds = close_timeout_seconds
        kind = Sender if options.spool is None else SpoolSender
        self._sender: Sender = kind(options, on_error, on_trouble=on_trouble)

    @overload
    def log(self, event: AuditEvent, /) -> _D: ...

    @overload
    def log(self, /, **fields: Unpack[EventFields]) -> _D: ...

    def log(self, event: AuditEvent | None = None, /, **fields: Any) -> _D:
        """Take an event, make its final bytes and return at once; sending goes on behind the scenes.

        Arguments:
            event: The event. Or give its fields by keyword, with ``target="document:7"`` for a single target and a
                free mapping as ``context`` if you like.
            fields: See :class:`EventFields`.

        Returns:
            The receipt: it names the event, and tells later what became of it.

        Raises:
            EventInvalid: The event breaks the model, or takes more than 1,000,000 bytes; the error names the field.
            QueueFull: There is no room for it, and ``when_full`` is ``raise``.
            ClientUnusable: The log is closed, or was started in the process that this one was forked from.
        """
        if event is None:
            event = event_from_fields(fields)
        elif fields:
            raise EventInvalid("event", "is given together with fields", hint="give one of the two")
        return self._sender.submit(event, self._receipt)

    def log_value(self, value: bytes, /) -> _D:
        """Take an event's final bytes, as :func:`sealstream.schemas.codec.encode_event` makes them, and return at once.

        For whoever keeps events elsewhere before they are sent, such as an outbox: the bytes are sent as they are,
        salt and producer's mark included, so that sending them again is a duplicate and no second event. Key and
        headers follow from them. It costs more than :meth:`log`, because the bytes are decoded.

        Raises:
            EventInvalid: The bytes are no event, written with the shipped schema in either framing, or more than
                1,000,000.
            QueueFull, ClientUnusable: As :meth:`log`.
        """
        return self._sender.submit_value(value, self._receipt)

    def resend(self, receipt: _D) -> _D:
        """Send an event that failed once more, byte for byte, and return its new receipt.

        This is the way to repeat an event: should the first one have arrived after all, the chain marks the second
        as a duplicate. The same :class:`AuditEvent` logged anew may get other bytes (the producer's count).

        Raises:
            EventInvalid: The receipt's event did not fail, or found no room and so was never sent.
            QueueFull, ClientUnusable: As :meth:`log`.
        """
        return self._sender.resend(receipt)

    @property
    def stats(self) -> Stats:
        """What became of the events so far."""
        return self._sender.stats

    def _closing_seconds(self, timeout_seconds: float | None) -> float:
        return self._close_timeout_seconds if timeout_seconds is None else timeout_seconds

    def __del__(self) -> None:
        """Warn of a log that nobody closed. Its events are still sent: the sender lives until the process ends."""
        sender = getattr(self, "_sender", None)
        if sender is not None and sender.is_open:
            warnings.warn(f"{type(self).__name__} was not closed", ResourceWarning, stacklevel=2, source=self)


class AuditLog(_Front[Receipt]):
    """An audit log for asyncio.

    ``log()`` never waits for the network; the receipt it returns can be awaited, and then waits until Kafka has the
    event. Do not use it from several processes: each makes its own, or none logs before the fork.

    Arguments:
        kafka: Bootstrap servers, ``host:port`` separated by commas, or a connection with credentials.
        instance: The instance's name, a schema-less URL such as ``example.com/audit``; stands in ``ce_source``.
        topics: The topics' names; ``audit.events`` by default.
        producer_id: If given, each event is marked with this name, the start time and a count per tenant, so that
            an event that never arrived shows as a hole. No two running processes may share it.
        schema_id: The id of the AuditEvent schema in a registry, for Confluent's framing; without it, values are in
            Avro's single-object encoding.
        when_full: What ``log()`` does while the queue is full: ``block`` (wait for ``timeout_seconds``, then let the
            event go and count it), ``raise`` (``QueueFull``) or ``drop-and-count``. By default ``raise`` here,
            because waiting would hold the event loop, and ``block`` in :class:`SyncAuditLog`.
        timeout_seconds: How long ``block`` waits.
        queue_events_max: How many events may be outstanding.
        queue_bytes_max: How many bytes of events may be outstanding; at least 2 MiB.
        linger_seconds: How long an event may wait for others to share a request with; there is one for each partition.
            A process that logs thousands of events a second takes a third less CPU time with 0.05, and so do the
            brokers; ``log()`` itself waits for neither.
        compression: ``lz4``, ``zstd`` or ``none``.
        delivery_timeout_seconds: After this an event that Kafka has not acknowledged fails.
        close_timeout_seconds: How long leaving the ``with`` block, or the end of the process, waits for what is
            outstanding.
        spool: A directory of this process's own on a local disk. Events go there first, and are sent from there: Kafka
            being away makes none fail, and what a process leaves, however it ends, the next one with the directory
            sends. Each event is then marked with a producer that the spool names (``producer_id`` if you give one).
        spool_bytes_max: How many bytes of events the spool may hold; ``when_full`` says what happens then.
        fsync: ``batch`` makes the disk write once for all events of a few milliseconds, so that ``spooled()`` takes
            about 5 ms and survives a power cut; ``full`` does so at once for whatever is there, with more writes;
            ``off`` leaves it to the system: ``spooled()`` then survives a killed process, and no power cut.
        receipts: A file to which the receipt of each event is appended once its outcome is known, as
            :meth:`Delivery.as_json` writes it, for ``sealstream receipts check``.
        on_error: Called with the receipt and the error of each event that was not published, whether or not
            anyone awaits it; on another thread, so it must be thread-safe and quick.
        on_trouble: Called with what is wrong beside single events: the spool fails or was damaged, Kafka cannot be
            reached or refuses the topic; on another thread. It is logged as a warning as well, and stands in ``stats``.

    Raises:
        ConfigError: An option is out of range.
    """

    _receipt = Receipt
    _when_full = "raise"

    async def flush(self, timeout_seconds: float = FLUSH_SECONDS) -> int:
        """Wait until nothing is outstanding, what others log meanwhile included.

        Arguments:
            timeout_seconds: How long to wait.

        Returns:
            How many events are still outstanding when the time is over; 0 if all is done.

        Raises:
            DeliveryError: Events failed, or found no room, since the last flush.
            ClientUnusable: The log is closed, or belongs to another process.
        """
        return await asyncio.to_thread(self._sender.flush, timeout_seconds)

    async def close(self, timeout_seconds: float | None = None) -> None:
        """Wait until nothing is outstanding, and end. A second call does nothing.

        Arguments:
            timeout_seconds: After this, what is still outstanding is given up and fails; ``close_timeout_seconds``
                by default.

        Raises:
            DeliveryError: Events failed, or found no room, since the last flush, or were given up.
        """
        await asyncio.to_thread(self._sender.close, self._closing_seconds(timeout_seconds))

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._sender.start)  # a spool is read through, and recovered if it has to be
        heed_sigterm()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except DeliveryError as failure:
            _raise_unless_under_way(failure, error)


class SyncAuditLog(_Front[SyncReceipt]):
    """An audit log for threads: every thread of a process may use the same one.

    The options are those of :class:`AuditLog`; only ``when_full`` is ``block`` by default.
    """

    _receipt = SyncReceipt
    _when_full = "block"

    def flush(self, timeout_seconds: float = FLUSH_SECONDS) -> int:
        """Wait until nothing is outstanding, what other threads log meanwhile included.

        Arguments:
            timeout_seconds: How long to wait.

        Returns:
            How many events are still outstanding when the time is over; 0 if all is done.

        Raises:
            DeliveryError: Events failed, or found no room, since the last flush.
            ClientUnusable: The log is closed, or belongs to another process.
        """
        return self._sender.flush(timeout_seconds)

    def close(self, timeout_seconds: float | None = None) -> None:
        """Wait until nothing is outstanding, and end. A second call does nothing.

        Arguments:
            timeout_seconds: After this, what is still outstanding is given up and fails; ``close_timeout_seconds``
                by default.

        Raises:
            DeliveryError: Events failed, or found no room, since the last flush, or were given up.
        """
        self._sender.close(self._closing_seconds(timeout_seconds))

    def __enter__(self) -> Self:
        self._sender.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except DeliveryError as failure:
            _raise_unless_under_way(failure, error)


def _raise_unless_under_way(failure: DeliveryError, error: BaseException | None) -> None:
    """Raise what close() raised or, where another error is under way already, add it to that one as a note."""
    if error is None:
        raise failure
    error.add_note(f"besides: {failure}")
