"""Rows in the binary format of PostgreSQL's COPY, packed by hand.

psycopg looks up a dumper for every value of every row; what is stored here has few types, and most of a row is bytes
already. Format: PostgreSQL's documentation of COPY, section "Binary Format"; the values as the types' ``send``
functions write them. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TRAILER: Final = b"\xff\xff"
NULL: Final = b"\xff\xff\xff\xff"
JSONB_VERSION: Final = b"\x01"
"""Stands before the text of a ``jsonb``."""
EPOCH_MICROSECONDS: Final = 946_684_800_000_000
"""From 1970 to 2000, from where a ``timestamptz`` counts."""

_COUNT: Final = struct.Struct(">h")
_SIZE: Final = struct.Struct(">i")
_INT2: Final = struct.Struct(">ih")
_INT4: Final = struct.Struct(">ii")
_INT8: Final = struct.Struct(">iq")
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

Pack: TypeAlias = Callable[[Any], bytes]


def _sized(content: bytes) -> bytes:
    return _SIZE.pack(len(content)) + content


_PACKS: Final[Mapping[str, Pack]] = {
    "int2": lambda value: _INT2.pack(2, value),
    "int4": lambda value: _INT4.pack(4, value),
    "int8": lambda value: _INT8.pack(8, value),
    "text": lambda value: _sized(value.encode()),
    "bytea": _sized,
    "timestamptz": lambda value: _INT8.pack(8, (value - _EPOCH) // _MICROSECOND),
    "jsonb": lambda value: _sized(JSONB_VERSION + value.encode()),
}


def packer(types: Sequence[str]) -> Callable[[Sequence[Any]], bytes]:
    """Return what packs rows with columns of these types; texts and JSON as ``str``, times with a zone."""
    packs = [_PACKS[name] for name in types]
    count = _COUNT.pack(len(packs))

    def pack(row: Sequence[Any]) -> bytes:
        values = zip(packs, row, strict=True)
        return count + b"".join([NULL if value is None else pack_one(value) for pack_one, value in values])

    return pack
