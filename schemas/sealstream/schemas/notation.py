"""How the C2SP formats write bytes and numbers: each value in one form only.

A decoder that takes a second form (a base64 with bits set that stand for nothing, a number with a leading zero) lets
somebody change a signed file without breaking its signature. Those here take what they would write themselves.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from sealstream.schemas.merkle import HASH_BYTES

NUMBER_MAX: Final = 2**63 - 1
"""The largest number that is read: a size, an index or a time. What holds them in databases is signed."""

_DECIMAL: Final = re.compile(rb"0|[1-9][0-9]{0,18}")


def encode_base64(data: bytes) -> bytes:
    """Return bytes in standard base64 with padding (RFC 4648 section 4)."""
    return base64.b64encode(data)


def decode_base64(text: bytes) -> bytes:
    """Return the bytes that a base64 text stands for, the inverse of :func:`encode_base64`.

    Raises:
        ValueError: The text is not exactly what :func:`encode_base64` writes: bits that stand for nothing are set,
            padding is missing, or there is another character.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("is no base64") from error
    if encode_base64(data) != text:
        raise ValueError("is a base64 in another than its one form")
    return data


def decode_hash(text: bytes) -> bytes:
    """Return the 32 bytes of a SHA-256 that a base64 text stands for.

    Raises:
        ValueError: The text is no base64, or stands for another number of bytes.
    """
    data = decode_base64(text)
    if len(data) != HASH_BYTES:
        raise ValueError(f"stands for {len(data)} bytes instead of {HASH_BYTES}")
    return data


def decode_decimal(text: bytes) -> int:
    """Return the number that a decimal without sign and leading zeros stands for, at most :data:`NUMBER_MAX`.

    Raises:
        ValueError: The text is no such number.
    """
    if _DECIMAL.fullmatch(text) is None or (number := int(text)) > NUMBER_MAX:
        raise ValueError(f"is no decimal of 0 to {NUMBER_MAX} without leading zeros")
    return number
