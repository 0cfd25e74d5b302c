"""The quick way to read an ordinary record of audit.chained: an event's, which most records are.

It checks exactly what :func:`~sealstream.sinks.store.records.read_record` checks, knows no other kind, and says nothing
about a record that it does not take: that one is read the plain way, which also knows the words for what is wrong. The
layout is that of :mod:`sealstream.schemas.entry`; tests hold both ways equal. Pure.
"""

from __future__ import annotations

import struct
from hashlib import sha256 as _sha256
from typing import Final, NamedTuple

from sealstream.schemas.entry import (
    EVENT_ID_PATTERN,
    LABEL,
    PAYLOAD_PREFIX,
    SUITE_SHA256,
    Kind,
    is_tenant,
)
from sealstream.sinks.store.records import ChainedRecord
from sealstream.sinks.store.rows import ENTRY_COLUMNS, PAYLOAD_COLUMNS, RETENTION_CLASS

_EVENT: Final = int(Kind.EVENT)
_BEGIN: Final = LABEL + bytes((SUITE_SHA256, _EVENT, 0))  # an event's entry, without a reason
_TENANT_AT: Final = len(_BEGIN) + 1  # behind its length
# seq, prev, received, topic_id, partition, offset, ref, length of the id
_MIDDLE: Final = struct.Struct(">Q32sQ16sIQQB")
_TAIL: Final = struct.Struct(">I32s")  # length, payload
_TENANTS_MAX: Final = 100_000
_is_event_id: Final = EVENT_ID_PATTERN.fullmatch

# Values of a row, each behind its size, as COPY takes them; what stands for a "s" of no size is put in between.
_ENTRY_BEGIN: Final = struct.Struct(">hiii")  # columns; partition; size of the tenant
_ENTRY_MIDDLE: Final = struct.Struct(">iqihi16siqi")  # seq, kind, topic_id, offset; size of the event's id
_ENTRY_END: Final = struct.Struct(">iqi32si")  # received, hash; size of the entry
_PAYLOAD_BEGIN: Final = struct.Struct(">hi")  # columns; size of the tenant
_CLASS: Final = RETENTION_CLASS.encode()
_PAYLOAD_END: Final = struct.Struct(f">iqi{len(_CLASS)}siqi")  # seq, class, received; size of the payload


class _Tenant(NamedTuple):
    """What all rows of a tenant begin with."""

    name: str
    entry: bytes
    payload: bytes


class QuickReader:
    """Reads and packs ordinary records of one partition.

    Arguments:
        partition: The partition, of audit.chained and of the source.
    """

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._tenants: dict[bytes, _Tenant] = {}
        self.topic_ids: set[bytes] = set()
        """The source topics that entries were of, nearly always one."""

    def read(
        self, offset: int, key: bytes | None, value: bytes | None, data: bytes
    ) -> tuple[ChainedRecord, bytes, bytes] | None:
        """Return a record with its rows of ``entries`` and ``payloads``, or ``None`` if it is to be read the plain way.

        Arguments:
            offset: Its offset on audit.chained.
            key: Its key.
            value: Its value.
            data: The content of its one seal.
        """
        if key is None or value is None or not data.startswith(_BEGIN):
            return None
        begin = _TENANT_AT + len(key)
        try:
            seq, prev, received, topic_id, partition, source, ref, id_size = _MIDDLE.unpack_from(data, begin)
            id_at = begin + _MIDDLE.size
            end = id_at + id_size
            length, digest = _TAIL.unpack_from(data, end)
        except struct.error:
            return None
        event_id = data[id_at:end]
        if (
            data[_TENANT_AT - 1] != len(key)
            or data[_TENANT_AT:begin] != key
            or len(data) != end + _TAIL.size
            or partition != self._partition
            or not seq
            or ref
            or (seq | received | source) >> 63  # signed in Kafka and in PostgreSQL
            or not _is_event_id(event_id)
            or length != len(value)
            or _sha256(PAYLOAD_PREFIX + value).digest() != digest
        ):
            return None
        tenant = self._tenants.get(key) or self._tenant(key)
        if tenant is None:
            return None
        if topic_id not in self.topic_ids:
            self.topic_ids.add(topic_id)
        hashed = _sha256(b"\x00" + data).digest()
        middle = _ENTRY_MIDDLE.pack(8, seq, 2, _EVENT, 16, topic_id, 8, source, id_size)
        entry = b"".join((tenant.entry, middle, event_id, _ENTRY_END.pack(8, received, 32, hashed, len(data)), data))
        payload = tenant.payload + _PAYLOAD_END.pack(8, seq, len(_CLASS), _CLASS, 8, received, length) + value
        return ChainedRecord(offset, _EVENT, tenant.name, seq, prev, data, hashed, value), entry, payload

    def _tenant(self, key: bytes) -> _Tenant | None:
        name = key.decode("ascii", errors="replace")
        if not is_tenant(name):
            return None
        if len(self._tenants) >= _TENANTS_MAX:
            self._tenants.clear()
        entry = _ENTRY_BEGIN.pack(len(ENTRY_COLUMNS), 4, self._partition, len(key)) + key
        payload = _PAYLOAD_BEGIN.pack(len(PAYLOAD_COLUMNS), len(key)) + key
        return self._tenants.setdefault(key, _Tenant(name, entry, payload))
