"""The record that carries one event: its final bytes, made once."""

from __future__ import annotations

from datetime import datetime
from typing import Final, TypeAlias

from sealstream.producers.headers import Header, make_headers
from sealstream.schemas.entry import payload_digest

OVERHEAD_BYTES: Final = 512
"""What a record costs in memory beside its value: key, headers, and librdkafka's own bookkeeping, roughly."""
KEPT_BYTES_MAX: Final = 1024
"""A record that counts for so much stays with the event's receipt as it is; of a larger one the digest does."""

Origin: TypeAlias = tuple[str, str, str, datetime, str | None, str]
"""What headers are made of when they are needed: the arguments of ``make_headers``, which cannot refuse these.

It is no event: the garbage collector looks through each object that an event on its way holds, again and again. Of this
tuple it learns the first time that there is nothing to be found.
"""


class Record:
    """A record to be sent; a retry sends exactly these bytes again.

    Arguments:
        tenant: The tenant, which is also the key.
        event_id: The event's id.
        value: The event's bytes.
        digest: The digest by which the chain will commit to the value, if it is known already.
        headers: The record's headers, or what to make them of.
        n: The count in the producer's mark, if the event has one of this log's.
    """

    __slots__ = ("_digest", "_headers", "event_id", "n", "size_bytes", "tenant", "value")

    def __init__(
        self,
        tenant: str,
        event_id: str,
        value: bytes,
        digest: bytes | None,
        headers: list[Header] | Origin,
        n: int | None = None,
    ) -> None:
        self.tenant = tenant
        self.event_id = event_id
        self.value = value
        self.n = n
        self.size_bytes = len(value) + OVERHEAD_BYTES  # what the record counts for in the queue
        self._digest = digest
        self._headers = headers

    def carry(self, record: Record) -> None:
        """Carry the same event as another record does."""
        self.tenant = record.tenant
        self.event_id = record.event_id
        self.value = record.value
        self.n = record.n
        self.size_bytes = record.size_bytes
        self._digest = record._digest
        self._headers = record._headers

    @property
    def digest(self) -> bytes:
        """The digest by which the chain will commit to the value; made when it is asked for, which it seldom is."""
        value, digest = self.value, self._digest  # in this order: see forget_value()
        if digest is None:
            digest = self._digest = payload_digest(value)
        return digest

    @property
    def headers(self) -> list[Header]:
        """The record's headers."""
        headers = self._headers
        return make_headers(*headers) if isinstance(headers, tuple) else headers

    def forget_value(self) -> None:
        """Let go of the value, which nobody sends from here any more; its digest stays."""
        self._digest = self.digest  # first: another thread may be asking for it
        self.value = b""
