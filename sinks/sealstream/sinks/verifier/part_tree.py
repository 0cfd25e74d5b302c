"""The tree over the entries of one part of a chain, up to the size that was published. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sealstream.schemas.compact_range import CompactRange

_BLOCK_LEAVES: Final = 1024
"""So many leaves, and those behind them up to a multiple of it, are hashed row by row."""


class PartTree:
    """Takes the hashes of a part's entries in their order.

    What is not there, or comes twice, has no place in a tree: from then on there is none.

    Arguments:
        begin: The seq of the part's first entry.
        size: How many entries of the chain were published; those behind them are its growth, and left out.
    """

    def __init__(self, begin: int, size: int) -> None:
        self.is_wanted = begin < size
        self._size = size
        self._next = begin
        self._range: CompactRange | None = CompactRange(begin)
        self._waiting: list[bytes] = []

    def add(self, seq: int, leaves: Sequence[bytes]) -> None:
        """Take the next entries.

        Arguments:
            seq: The seq of the first of them.
            leaves: Their hashes.
        """
        if not self.is_wanted or self._range is None or seq < self._range.begin:  # the seam is the part before's
            return
        if seq != self._next and seq < self._size:
            self._range = None
            return
        self._waiting += leaves[: max(0, self._size - seq)]
        self._next = seq + len(leaves)
        if len(self._waiting) >= _BLOCK_LEAVES:
            taken = len(self._waiting) - (self._range.end + len(self._waiting)) % _BLOCK_LEAVES
            self._range.extend(self._waiting[:taken])
            del self._waiting[:taken]

    def finish(self) -> CompactRange | None:
        """Return the tree over what came; ``None`` if it had a hole."""
        if self._range is not None:
            self._range.extend(self._waiting)
            self._waiting = []
        return self._range
