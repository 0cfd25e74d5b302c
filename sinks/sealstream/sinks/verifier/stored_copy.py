"""Rows of the store as PostgreSQL's binary COPY sends them, an entry with its payload each. Pure.

Format: PostgreSQL's documentation of COPY, section "Binary Format"; the values as the types' ``send`` functions write
them. psycopg makes an object of every column of every row; what checks an ordinary row needs two numbers of it, and
compares the rest as bytes.
"""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

from sealstream.schemas.errors import StoreError
from sealstream.sinks.verifier.stored_chain import StoredRow

CopyRow: TypeAlias = bytes
"""A row as it was sent, without the header that stands before the first one."""

COLUMNS: Final[tuple[str, ...]] = (
    "tenant",
    "seq",
    "partition",
    "kind",
    "topic_id",
    "offset",
    "received",
    "hash",
    "event_id",
    "entry",
    "payload",
)
"""The order of a row's columns: what is of one size for all rows of a chain first, and the payload last."""
HEADER_BYTES: Final = 19
"""Signature, flags and the size of an extension that does not exist: in front of the first row."""
TRAILER: Final = b"\xff\xff"
TENANT_AT: Final = 6
"""Where the tenant begins: behind the number of columns and its own size."""
PLACE_BYTES: Final = 12
"""What follows the tenant up to the end of seq: its size, and itself."""

_SIZE: Final = struct.Struct(">i")
_COUNT: Final = struct.Struct(">h")
_INTEGERS: Final[dict[str, str]] = {"seq": ">q", "partition": ">i", "kind": ">h", "offset": ">q", "received": ">q"}
_MISSING: Final = -1


def place_of(row: CopyRow) -> bytes:
    """Return what all rows begin with that have a row's tenant and seq, and no other row does."""
    return row[: TENANT_AT + int.from_bytes(row[2:TENANT_AT], "big") + PLACE_BYTES]


def tenant_of(row: CopyRow) -> str:
    """Return a row's tenant."""
    return row[TENANT_AT : TENANT_AT + int.from_bytes(row[2:TENANT_AT], "big")].decode()


def read_row(row: CopyRow) -> StoredRow:
    """Return a row as the rules take it. A column that is empty against the table's rules counts as wrong, not absent.

    Raises:
        StoreError: It has not the columns that were asked for.
    """
    try:
        values: dict[str, bytes | None] = dict(zip(COLUMNS, _values(row), strict=True))
        numbers = {
            name: _MISSING if (value := values[name]) is None else struct.unpack(form, value)[0]
            for name, form in _INTEGERS.items()
        }
    except (struct.error, ValueError) as error:
        raise StoreError(f"the store answers with another row than was asked for: {error}") from error
    event_id, payload = values["event_id"], values["payload"]
    return StoredRow(
        partition=numbers["partition"],
        seq=numbers["seq"],
        kind=numbers["kind"],
        topic_id=values["topic_id"] or b"",
        offset=numbers["offset"],
        event_id=None if event_id is None else event_id.decode(),
        received=numbers["received"],
        hash=values["hash"] or b"",
        entry=values["entry"] or b"",
        payload=payload,
        payloads=int(payload is not None),
    )


def _values(row: CopyRow) -> list[bytes | None]:
    values: list[bytes | None] = []
    (count,), position = _COUNT.unpack_from(row, 0), _COUNT.size
    for _ in range(count):
        (size,) = _SIZE.unpack_from(row, position)
        position += _SIZE.size
        if size < 0:
            values.append(None)
            continue
        if len(row) < position + size:
            raise ValueError("it is cut short")
        values.append(row[position : position + size])
        position += size
    return values
