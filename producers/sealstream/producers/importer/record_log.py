"""The audit log of an import: the SDK's sender, given records whose bytes are final, for it has made them itself."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Protocol, Self

from sealstream.producers.options import ProducerOptions
from sealstream.producers.receipt import SyncReceipt
from sealstream.producers.record import Record
from sealstream.producers.sender import Sender
from sealstream.schemas.errors import DeliveryError


class RecordLog(Protocol):
    """What an import publishes through."""

    def log_record(self, record: Record) -> SyncReceipt:
        """Take a record and return at once.

        Raises:
            ClientUnusable: The log is closed.
        """
        ...


class SentRecords(Sender):
    """A log of records. :meth:`SyncAuditLog.log_value` takes final bytes too, and decodes them to check them.

    As a context it is closed at the end, as :class:`~sealstream.producers.client.SyncAuditLog` is.

    Arguments:
        options: As of an audit log, without a ``producer_id``: the mark would change the bytes.
    """

    def __init__(self, options: ProducerOptions) -> None:
        assert options.producer_id is None
        assert options.spool is None
        super().__init__(options, None)
        self._close_seconds: Final = options.close_timeout_seconds

    def log_record(self, record: Record) -> SyncReceipt:
        """Take a record and return at once.

        Raises:
            ClientUnusable: The log is closed.
        """
        return self._send(lambda kind: kind.of(record), SyncReceipt)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close(self._close_seconds)
        except DeliveryError as failure:
            if error is None:
                raise
            error.add_note(f"besides: {failure}")
