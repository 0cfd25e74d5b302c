"""How the fields of a proof file are written one behind the other, and read back (``SPEC.md`` section 22.1).

There is one kind of number, unsigned LEB128 in its shortest form, so that each value has one form and small ones, as
nearly all are, have one byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sealstream.schemas.errors import ProofFileInvalid
from sealstream.schemas.log_proof import HASHES_MAX
from sealstream.schemas.merkle import HASH_BYTES

NUMBER_BYTES_MAX: Final = 9
"""Nine times seven bits hold 2^63 - 1 and nothing larger."""

CUT_HINT: Final = "the file is cut or damaged: get it again"

_LEFT_OUT: Final = HASHES_MAX + 1
"""What is added to the number of a path's hashes where the first one is not repeated: it still fits into seven bits."""

_MORE: Final = 0x80
_BITS: Final = 7


def pack_number(number: int) -> bytes:
    """Return a number of 0 to 2^63 - 1 as unsigned LEB128."""
    data = bytearray()
    while number >= _MORE:
        data.append(number % _MORE | _MORE)
        number >>= _BITS
    data.append(number)
    return bytes(data)


def pack_sized(data: bytes) -> bytes:
    """Return bytes behind their size."""
    return pack_number(len(data)) + data


def pack_hashes(hashes: Sequence[bytes], known: bytes = b"") -> bytes:
    """Return a path: hashes behind their number.

    Arguments:
        hashes: The path.
        known: A hash that stands in the file already: where the path begins with it, it is left out. A leaf at an odd
            index that names the one before it has that one's hash as the first of its path.
    """
    if hashes and hashes[0] == known:
        return pack_number(len(hashes) + _LEFT_OUT) + b"".join(hashes[1:])
    return pack_number(len(hashes)) + b"".join(hashes)


class ProofBytes:
    """A place in the bytes of a proof file, which moves on with each field that is read.

    Every method raises :class:`~sealstream.schemas.errors.ProofFileInvalid` where the bytes end too early, or a number
    is too large or not in its shortest form.

    Arguments:
        data: The bytes.
        place: Where to begin.
    """

    def __init__(self, data: bytes, place: int) -> None:
        self._data = data
        self._place = place

    def take(self, size: int) -> bytes:
        """Return the next so many bytes."""
        begin, self._place = self._place, self._place + size
        if self._place > len(self._data):
            raise ProofFileInvalid(f"proof file ends within a field at byte {begin}", hint=CUT_HINT)
        return self._data[begin : self._place]

    def number(self) -> int:
        """Return the next number."""
        begin, number = self._place, 0
        for place in range(NUMBER_BYTES_MAX):
            (byte,) = self.take(1)
            number |= byte % _MORE << _BITS * place
            if byte < _MORE:
                if place and not byte:
                    break
                return number
        raise ProofFileInvalid(f"proof file has a number at byte {begin} that is too large or not in its shortest form")

    def count(self, what: str, most: int) -> int:
        """Return how many of something follow."""
        count = self.number()
        if count > most:
            raise ProofFileInvalid(f"proof file has {count} {what}; at most {most} are read")
        return count

    def sized(self, what: str, bytes_max: int) -> bytes:
        """Return bytes that stand behind their size."""
        size = self.number()
        if size > bytes_max:
            raise ProofFileInvalid(f"proof file has a {what} of {size} bytes; at most {bytes_max} are read")
        return self.take(size)

    def hash(self) -> bytes:
        """Return a hash."""
        return self.take(HASH_BYTES)

    def hashes(self, known: bytes = b"") -> tuple[bytes, ...]:
        """Return the hashes of a path, the inverse of :func:`pack_hashes`."""
        count = self.number()
        first: tuple[bytes, ...] = ()
        if known and count > _LEFT_OUT:
            count, first = count - _LEFT_OUT, (known,)
        if count > HASHES_MAX:
            raise ProofFileInvalid(f"proof file has a path of {count} hashes; no tree is so high")
        path = (*first, *(self.hash() for _ in range(count - len(first))))
        if known and not first and path[:1] == (known,):
            raise ProofFileInvalid("proof file has a path that repeats a hash", hint="it is in another form")
        return path

    def end(self) -> None:
        """Refuse what stands behind the last field."""
        if self._place != len(self._data):
            raise ProofFileInvalid(f"proof file has {len(self._data) - self._place} bytes behind its end")
