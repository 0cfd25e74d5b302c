"""The bytes of a row that was imported: what the Merkle root in ``import.end`` is made of.

They depend on the row's columns alone, so whoever has the source can compute the root again (``SPEC.md`` section 24.3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from sealstream.schemas.errors import FormatError

ROW_LABEL: Final = b"sealstream/row1\n"
_NULL: Final = b"\x00"
_TEXT: Final = b"\x01"
_SIZE_BYTES: Final = 4
_SHORT_MAX: Final = 128
"""Most texts are shorter: what stands before them is made once."""

Row: TypeAlias = Sequence[str | None]
"""The text of each column, in the source's order; ``None`` for null."""


def row_packer(names: Sequence[str]) -> Callable[[Row], bytes]:
    """Return the function that packs rows with columns of these names; one row costs it about a microsecond.

    Arguments:
        names: The names of the columns, in the source's order.

    Raises:
        FormatError: From the function: a row has another number of columns.
        UnicodeEncodeError: From the function: a text holds half of a surrogate pair.
    """
    count = len(names).to_bytes(_SIZE_BYTES, "big")
    heads = [_sized(name.encode()) for name in names]
    heads[:1] = [ROW_LABEL + count + head for head in heads[:1]]
    nulls = [head + _NULL for head in heads]
    shorts = [[head + _TEXT + size.to_bytes(_SIZE_BYTES, "big") for size in range(_SHORT_MAX)] for head in heads]

    def pack(row: Row) -> bytes:
        if len(row) != len(heads):
            raise FormatError(f"row has {len(row)} columns instead of {len(heads)}")
        parts: list[bytes] = []
        add = parts.append
        for place, text in enumerate(row):
            if text is None:
                add(nulls[place])
                continue
            data = text.encode()
            size = len(data)
            add(shorts[place][size] if size < _SHORT_MAX else heads[place] + _TEXT + size.to_bytes(_SIZE_BYTES, "big"))
            add(data)
        return b"".join(parts) if parts else ROW_LABEL + count

    return pack


def row_hash(data: bytes) -> bytes:
    """Return the leaf hash of a row's bytes: ``SHA-256(0x00 || data)`` (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(_SIZE_BYTES, "big") + data
