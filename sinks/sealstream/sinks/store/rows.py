"""The rows of the store, as tuples in the order of their columns, with the types that binary COPY needs. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from sealstream.schemas.entry import Kind
from sealstream.sinks.store.records import ChainedRecord

RETENTION_CLASS: Final = "standard"
"""The class that new payloads begin in."""

ENTRY_COLUMNS: Final[dict[str, str]] = {
    "partition": "int4",
    "tenant": "text",
    "seq": "int8",
    "kind": "int2",
    "topic_id": "bytea",
    "offset": "int8",
    "event_id": "text",
    "received": "int8",
    "hash": "bytea",
    "entry": "bytea",
}
PAYLOAD_COLUMNS: Final[dict[str, str]] = {
    "tenant": "text",
    "seq": "int8",
    "retention_class": "text",
    "received": "int8",
    "bytes": "bytea",
}
EVENT_COLUMNS: Final[dict[str, str]] = {
    "tenant": "text",
    "seq": "int8",
    "retention_class": "text",
    "kind": "int2",
    "event_id": "text",
    "received_at": "timestamptz",
    "occurred_at": "timestamptz",
    "actor_type": "text",
    "actor_id": "text",
    "actor_name": "text",
    "action": "text",
    "outcome": "text",
    "targets": "jsonb",
    "ip": "text",
    "request_id": "text",
    "context": "jsonb",
    "metadata": "jsonb",
    "undecoded": "text",
}

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
TIME_MIN_MICROSECONDS: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
TIME_MAX_MICROSECONDS: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""The last moment that a search row can show; the first one is that of year 1."""


class EntryRow(NamedTuple):
    """A row of ``entries``."""

    partition: int
    tenant: str
    seq: int
    kind: int
    topic_id: bytes
    offset: int
    event_id: str | None
    received: int
    hash: bytes
    entry: bytes


class PayloadRow(NamedTuple):
    """A row of ``payloads``."""

    tenant: str
    seq: int
    retention_class: str
    received: int
    bytes: bytes


class EventRow(NamedTuple):
    """A row of ``events``; the three JSON columns as text."""

    tenant: str
    seq: int
    retention_class: str
    kind: int
    event_id: str
    received_at: datetime
    occurred_at: datetime | None
    actor_type: str | None
    actor_id: str | None
    actor_name: str | None
    action: str | None
    outcome: str | None
    targets: str | None
    ip: str | None
    request_id: str | None
    context: str | None
    metadata: str | None
    undecoded: str | None


def entry_row(record: ChainedRecord) -> EntryRow:
    """Return the row of ``entries`` that a record becomes."""
    entry = record.entry
    return EntryRow(
        entry.partition,
        entry.tenant,
        entry.seq,
        int(entry.kind),
        entry.topic_id,
        entry.offset,
        entry.event_id or None,
        entry.received,
        record.hash,
        record.data,
    )


def payload_row(record: ChainedRecord) -> PayloadRow | None:
    """Return the row of ``payloads`` that a record becomes, if it carries a payload."""
    if record.payload is None:
        return None
    entry = record.entry
    return PayloadRow(entry.tenant, entry.seq, RETENTION_CLASS, entry.received, record.payload)


def moment(microseconds: int) -> datetime:
    """Return a time of the format as a datetime; what lies beyond the year 9999 becomes its end."""
    return _EPOCH + timedelta(microseconds=min(microseconds, TIME_MAX_MICROSECONDS))


SEARCHED_KINDS: Final = frozenset({Kind.EVENT, Kind.IMPORTED, Kind.CONFLICT, Kind.CONTROL})
"""Kinds that have a row in ``events``."""
