"""Numbers and bytes in the C2SP formats: one form each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.notation import NUMBER_MAX, decode_base64, decode_decimal, decode_hash, encode_base64


@given(st.binary(max_size=80))
def test_base64_comes_back(data: bytes) -> None:
    """What is written is read."""
    assert decode_base64(encode_base64(data)) == data


@given(st.binary(max_size=40), st.data())
def test_base64_has_one_form(data: bytes, draw: st.DataObject) -> None:
    """Another text either stands for other bytes, or is refused: nobody can write the same bytes in another way."""
    text = bytearray(encode_base64(data) or b"A")
    place = draw.draw(st.integers(0, len(text) - 1))
    text[place] = draw.draw(st.integers(0, 255).filter(lambda byte: byte != text[place]))
    try:
        decoded = decode_base64(bytes(text))
    except ValueError:
        return
    assert decoded != data


@pytest.mark.parametrize("text", [b"AB==", b"AAB=", b"AA", b"AA==\n", b" AA==", b"A-_=", b"AA==AA==", b"=", b"\xff"])
def test_no_base64(text: bytes) -> None:
    """Set bits that stand for nothing, missing padding, blanks, line ends and other alphabets are refused."""
    with pytest.raises(ValueError, match="base64"):
        decode_base64(text)


@pytest.mark.parametrize("number", [0, 1, 9, 10, NUMBER_MAX])
def test_decimals(number: int) -> None:
    """Numbers from 0 to 2^63 - 1 are read."""
    assert decode_decimal(b"%d" % number) == number


@pytest.mark.parametrize("text", [b"", b"00", b"01", b"-1", b"+1", b"1 ", b"1_0", b"9223372036854775808", b"9" * 5000,
                                  "\u0661".encode()])  # fmt: skip
def test_no_decimals(text: bytes) -> None:
    """Leading zeros, signs, blanks, other digits and larger numbers are refused, however long they are."""
    with pytest.raises(ValueError, match="decimal"):
        decode_decimal(text)


def test_hashes_have_32_bytes() -> None:
    """A hash is 32 bytes, no more and no fewer."""
    assert decode_hash(encode_base64(bytes(32))) == bytes(32)
    for size in (0, 31, 33):
        with pytest.raises(ValueError, match=f"{size} bytes"):
            decode_hash(encode_base64(bytes(size)))
