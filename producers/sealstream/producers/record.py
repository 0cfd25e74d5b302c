"""The record that carries one event: its final bytes, made once."""

from __future__ import annotations

from typing import Final, TypeAlias

from sealstream.producers.headers import Header, record_headers
from sealstream.schemas.event import AuditEvent

OVERHEAD_BYTES: Final = 512
"""What a record costs in memory beside its value: key, headers, and librdkafka's own bookkeeping, roughly."""

Origin: TypeAlias = tuple[AuditEvent, str]
"""An event and its instance, of which it is known that headers can be made: they are when they are needed."""


class Record:
    """A record to be sent; a retry sends exactly these bytes again.

    Arguments:
        tenant: The tenant, which is also the key.
        event_id: The event's id.
        value: The event's bytes.
        digest: The digest by which the chain will commit to the value.
        headers: The record's headers, or what to make them of.
        n: The count in the producer's mark, if the event has one of this log's.
    """

    __slots__ = ("_headers", "digest", "event_id", "n", "size_bytes", "tenant", "value")

    def __init__(
        self,
        tenant: str,
        event_id: str,
        value: bytes,
        digest: bytes,
        headers: list[Header] | Origin,
        n: int | None = None,
    ) -> None:
        self.tenant = tenant
        self.event_id = event_id
        self.value = value
        self.digest = digest
        self.n = n
        self.size_bytes = len(value) + OVERHEAD_BYTES  # what the record counts for in the queue
        self._headers = headers

    @property
    def headers(self) -> list[Header]:
        """The record's headers."""
        if isinstance(self._headers, tuple):
            self._headers = record_headers(*self._headers)
        return self._headers
