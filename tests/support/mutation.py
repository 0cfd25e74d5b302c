"""Changes to bytes for tests: every single-byte change, and what hypothesis may do to a value."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import strategies as st


def changed_bytes(data: bytes) -> Iterator[bytes]:
    """Yield the bytes with one byte changed, for every byte: one bit, the highest bit, all bits."""
    for place, byte in enumerate(data):
        for mask in (0x01, 0x80, 0xFF):
            yield data[:place] + bytes([byte ^ mask]) + data[place + 1 :]


def cuts(data: bytes) -> Iterator[bytes]:
    """Yield the bytes cut short, at every place."""
    for size in range(len(data)):
        yield data[:size]


@st.composite
def mutated(draw: st.DrawFn, values: st.SearchStrategy[bytes]) -> bytes:
    """Draw a value and do something to it: replace, insert or remove a few bytes anywhere."""
    data = bytearray(draw(values))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        removed = draw(st.integers(0, 8))
        data[place : place + removed] = draw(st.binary(max_size=12))
    return bytes(data)
