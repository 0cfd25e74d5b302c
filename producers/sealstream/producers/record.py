"""The record that carries one event: its final bytes, made once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sealstream.producers.headers import Header

OVERHEAD_BYTES: Final = 512
"""What a record costs in memory beside its value: key, headers, and librdkafka's own bookkeeping, roughly."""


@dataclass(slots=True)
class Record:
    """A record to be sent; a retry sends exactly these bytes again.

    Arguments:
        tenant: The tenant, which is also the key.
        event_id: The event's id.
        value: The event's bytes.
        digest: The digest by which the chain will commit to the value.
        headers: The record's headers.
        n: The count in the producer's mark, if the event has one of this log's.
    """

    tenant: str
    event_id: str
    value: bytes
    digest: bytes
    headers: list[Header]
    n: int | None = None

    @property
    def size_bytes(self) -> int:
        """What the record counts for in the queue."""
        return len(self.value) + OVERHEAD_BYTES
