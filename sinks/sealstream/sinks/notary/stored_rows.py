"""Rows of the store as PostgreSQL's binary COPY sends them, rehashed and compared with the entry in them. Pure.

Format: PostgreSQL's documentation of COPY, section "Binary Format". The columns that identify an entry are packed anew
from its bytes and compared as bytes, all at once: nothing of a row is believed but what its hash covers.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final, NamedTuple, TypeAlias

from sealstream.schemas.entry import (
    CARRIED_KINDS,
    EVENT_ID_BYTES,
    EVENT_ID_BYTES_MAX,
    LABEL,
    PAYLOAD_PREFIX,
    SUITE_SHA256,
    Genesis,
    Kind,
    is_tenant,
    parse,
    parse_epoch_payload,
    parse_gap_payload,
)
from sealstream.schemas.errors import EntryInvalid, InstanceDiffers, StoreDamaged, StoreError

CopyRow: TypeAlias = bytes
"""A row as it was sent, without the header that stands before the first one."""

COLUMNS: Final = ("seq", "kind", "partition", "received", "topic_id", "offset", "hash", "tenant", "event_id", "entry")
"""The order of a row's columns; the payload's bytes, or nothing, stand behind them."""

_DAMAGED_HINT: Final = "the store was changed or lost a part: run sealstream verify; nothing of it was signed"
_COUNT: Final = len(COLUMNS) + 1
_SIZE: Final = struct.Struct(">i")
# Number of columns; size and value of seq, kind, partition, received, topic_id, offset, hash; size of the tenant.
_FRONT: Final = struct.Struct(">hiqihiiiqi16siqi32si")
_SEQ_AT: Final = 6
_HEAD: Final = struct.Struct(">12sBBBB")  # of an entry: label, suite, kind, reason, length of the tenant
_MIDDLE: Final = struct.Struct(
    ">Q32sQ16sIQQB"
)  # seq, prev, received, topic_id, partition, offset, ref, length of the id
_TAIL: Final = struct.Struct(">I32s")  # length, payload
_ORDINARY: Final = (LABEL, SUITE_SHA256, int(Kind.EVENT), 0)
_NONE: Final = -1
"""The size of a column that is NULL."""
_NULL: Final = _SIZE.pack(_NONE)
_CARRIED: Final = frozenset(map(int, CARRIED_KINDS))


class Link(NamedTuple):
    """An entry of the store that is what its row says, by itself.

    Arguments:
        tenant: The chain that it stands in.
        seq: Its place there.
        kind: What it says about its source record.
        prev: The hash of the entry before it, as it says.
        hash: Its own.
        entry: Its bytes.
        topic_id: UUID of the source topic.
        partition: The source partition.
        offset: The source offset.
        received: The broker's append time in microseconds since the epoch; 0 where it has none.
        last: The last offset that an entry of kind 7 declares lost; else -1.
    """

    tenant: str
    seq: int
    kind: int
    prev: bytes
    hash: bytes
    entry: bytes
    topic_id: bytes
    partition: int
    offset: int
    received: int
    last: int = -1


class RowReader:
    """Reads rows of one instance's store.

    Arguments:
        instance: The instance: a genesis or epoch of another one is refused.
    """

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._tenants: dict[bytes, str] = {}

    def forget(self) -> None:
        """Drop what was remembered of names, so that it does not grow for ever."""
        self._tenants.clear()

    def read(self, row: CopyRow) -> Link:
        """Return the entry of a row.

        Raises:
            StoreDamaged: A column, the hash or the payload is not the entry's, or the entry is none.
            InstanceDiffers: It begins a chain, or an epoch of one, of another instance.
            StoreError: The row has not the columns that were asked for.
        """
        try:
            tenant_end = _FRONT.size + _SIZE.unpack_from(row, _FRONT.size - 4)[0]
            (id_size,) = _SIZE.unpack_from(row, tenant_end)
            entry_at = tenant_end + 4 + max(0, id_size)
            (entry_size,) = _SIZE.unpack_from(row, entry_at)
            entry_at += 4
            entry = row[entry_at : entry_at + entry_size]
            (payload_size,) = _SIZE.unpack_from(row, entry_at + entry_size)
            payload = row[entry_at + entry_size + 4 :]
        except struct.error as error:
            raise _unreadable(row) from error
        carries = payload_size != _NONE
        if payload_size != len(payload) and (carries or payload):
            raise _unreadable(row)
        try:
            tenant_size = entry[_HEAD.size - 1]
            middle_at = _HEAD.size + tenant_size
            tenant = entry[_HEAD.size : middle_at]
            seq, prev, received, topic_id, partition, offset, ref, id_length = _MIDDLE.unpack_from(entry, middle_at)
            event_id = entry[middle_at + _MIDDLE.size : -_TAIL.size]
            length, digest = _TAIL.unpack_from(entry, len(entry) - _TAIL.size)
        except (IndexError, struct.error) as error:
            raise _damaged(row, "what is stored is no entry") from error
        kind = entry[13]
        value_hash = hashlib.sha256(b"\x00" + entry).digest()
        try:
            # fmt: off
            front = _FRONT.pack(
                _COUNT, 8, seq, 2, kind, 4, partition, 8, received, 16, topic_id, 8, offset, 32, value_hash, tenant_size
            )
            # fmt: on
        except struct.error as error:  # a number that no column can hold
            raise _damaged(row, "what is stored is no entry") from error
        named = _SIZE.pack(id_length) if id_length else _NULL
        if row[: entry_at - 4] != b"".join((front, tenant, named, event_id)):
            raise _damaged(row, _difference(row, entry))
        name = self._tenants.get(tenant) or self._name(row, tenant)
        ordinary = (
            _HEAD.unpack_from(entry)[:4] == _ORDINARY
            and not ref
            and seq > 0
            and 0 < id_length == len(event_id) <= EVENT_ID_BYTES_MAX
            and not event_id.translate(None, EVENT_ID_BYTES)
            and name[0] != "!"
        )
        if not ordinary:
            self._check_entry(row, entry)
        if kind in _CARRIED:
            if not carries:
                raise _damaged(row, "its payload is missing, or does not stand where its time belongs")
            if len(payload) != length or hashlib.sha256(PAYLOAD_PREFIX + payload).digest() != digest:
                raise _damaged(row, "its payload is not the one that the entry commits to")
        elif carries:
            raise _damaged(row, "it has a payload, and an entry of its kind carries none")
        last = -1
        if kind in (Kind.GENESIS, Kind.GAP, Kind.EPOCH):
            last = self._check_sourceless(row, kind, offset, payload)
        return Link(name, seq, kind, prev, value_hash, entry, topic_id, partition, offset, received, last)

    def _name(self, row: CopyRow, tenant: bytes) -> str:
        """Return a chain's name, once for all of its entries; one that is no tenant's is checked with each entry."""
        try:
            name = tenant.decode("ascii")
        except UnicodeDecodeError as error:
            raise _damaged(row, "its tenant is no name") from error
        if is_tenant(name):
            self._tenants[tenant] = name
        elif not name.startswith("!"):
            raise _damaged(row, "its tenant is no name")
        return name

    def _check_entry(self, row: CopyRow, entry: bytes) -> None:
        try:
            parse(entry)
        except EntryInvalid as error:
            raise _damaged(row, f"what is stored is no entry: {error.message}") from error

    def _check_sourceless(self, row: CopyRow, kind: int, offset: int, payload: bytes) -> int:
        """Return the last offset that a gap declares lost, and -1 for a genesis or epoch of this instance."""
        try:
            if kind == Kind.GAP:
                first, last = parse_gap_payload(payload)
                if first != offset:
                    raise _damaged(row, f"it declares offsets from {first} on lost, and stands at {offset}")
                return last
            pinned = Genesis.parse(payload) if kind == Kind.GENESIS else parse_epoch_payload(payload)[0]
        except EntryInvalid as error:
            raise _damaged(row, error.message) from error
        if pinned.instance != self._instance:
            tenant, seq = _place(row)
            raise InstanceDiffers(
                f"tenant {tenant} seq {seq} belongs to the instance {pinned.instance}, and this is {self._instance}",
                hint="set SEALSTREAM_INSTANCE and SEALSTREAM_DATABASE to those of one instance",
            )
        return -1


def _place(row: CopyRow) -> tuple[str, int]:
    """Return the chain and the seq at which a row stands."""
    try:
        end = _FRONT.size + _SIZE.unpack_from(row, _FRONT.size - 4)[0]
        return row[_FRONT.size : end].decode(errors="replace"), struct.unpack_from(">q", row, _SEQ_AT)[0]
    except struct.error as error:
        raise _unreadable(row) from error


def _damaged(row: CopyRow, message: str) -> StoreDamaged:
    return StoreDamaged(*_place(row), message, hint=_DAMAGED_HINT)


def _unreadable(row: CopyRow) -> StoreError:
    return StoreError(f"the store answers with a row of {len(row)} bytes that is none of those asked for")


def _difference(row: CopyRow, entry: bytes) -> str:
    """Return in words which columns are not those of the entry."""
    try:
        found = parse(entry)
    except EntryInvalid as error:
        return f"what is stored is no entry: {error.message}"
    numbers = _FRONT.unpack_from(row)
    tenant, seq = _place(row)
    columns: dict[str, object] = {"seq": seq, "tenant": tenant}
    columns.update(zip(COLUMNS[1:7], numbers[4::2], strict=False))
    wanted: dict[str, object] = {"tenant": found.tenant}
    wanted.update((name, getattr(found, name)) for name in COLUMNS[:6])
    wanted["hash"] = hashlib.sha256(b"\x00" + entry).digest()
    other = sorted(name for name, value in wanted.items() if columns.get(name) != value)
    return f"what stands in {', '.join(other) or 'event_id'} is not what its entry says"
