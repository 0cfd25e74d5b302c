"""Rows as PostgreSQL's binary COPY takes them, byte for byte."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sealstream.sinks.store.binary import COPY_HEADER, COPY_TRAILER, packer


@pytest.mark.parametrize(
    ("kind", "value", "packed"),
    [
        ("int2", 7, "00000002 0007"),
        ("int4", -2, "00000004 fffffffe"),
        ("int8", 2**40, "00000008 0000010000000000"),
        ("text", "é", "00000002 c3a9"),
        ("text", "", "00000000"),
        ("bytea", b"\x00\xff", "00000002 00ff"),
        ("timestamptz", datetime(2000, 1, 1, 0, 0, 1, tzinfo=UTC), "00000008 00000000000f4240"),
        ("timestamptz", datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC), "00000008 fffffffffff0bdc0"),
        ("jsonb", "[]", "00000003 01 5b5d"),
        ("text", None, "ffffffff"),
    ],
)
def test_a_value_is_packed_behind_its_size(kind: str, value: object, packed: str) -> None:
    """Each type as PostgreSQL's documentation of COPY and the type's own binary form say; NULL as a size of -1."""
    assert packer([kind])([value]) == bytes.fromhex("0001" + packed)


def test_a_row_has_its_number_of_columns_first() -> None:
    """A row of another length than its types is a mistake, not a shorter row."""
    pack = packer(["int2", "text"])
    assert pack((1, "a"))[:2] == b"\x00\x02"
    with pytest.raises(ValueError, match="zip"):
        pack((1,))


def test_the_frame_is_that_of_the_format() -> None:
    """Eleven bytes of signature, no flags, no extension; in the end a count of -1."""
    assert b"PGCOPY\n\xff\r\n\x00" + bytes(8) == COPY_HEADER
    assert COPY_TRAILER == b"\xff\xff"
