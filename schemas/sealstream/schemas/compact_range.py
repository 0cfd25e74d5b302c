"""A range of a tree's leaves in the fewest hashes: it grows and gives its root without the leaves that it has seen.

Whoever extends a tree keeps one of these and nothing else: at most 63 hashes for a range from 0, whatever its size.
Ranges that touch can be merged, so that parts of a tree can be hashed apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from sealstream.schemas.errors import TreeInvalid
from sealstream.schemas.merkle import HASH_BYTES, SIZE_MAX, check_hash, check_size, decompose, fold, node_hashes
from sealstream.schemas.merkle import node_hash as _node_hash

_SIZE_BYTES: Final = 8
_BLOCK_LEVEL: Final = 10
_BLOCK_LEAVES: Final = 1 << _BLOCK_LEVEL
"""Leaves that are hashed row by row, without a look at the range after each of them."""


class CompactRange:
    """The leaves from ``begin`` up to, but not with, ``end``, as the perfect subtrees that they fall into.

    Arguments:
        begin: The index of the first leaf; the range is empty at first.

    Raises:
        TreeInvalid: ``begin`` is no index of a leaf.
    """

    __slots__ = ("begin", "end", "hashes")

    def __init__(self, begin: int = 0) -> None:
        check_size(begin, "what is left of a range")
        self.begin = begin
        self.end = begin
        self.hashes: list[bytes] = []  # of the nodes of decompose(begin, end), in that order

    def append(self, leaf: bytes) -> None:
        """Add the next leaf's hash.

        Raises:
            TreeInvalid: It is no hash, or the tree is full.
        """
        check_hash(leaf, "leaf hash")
        self._push(0, leaf)

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add the hashes of the next leaves; many at once cost about one SHA-256 of 65 bytes each.

        Raises:
            TreeInvalid: One of them is no hash, or the tree is full. Those before it were added, up to a block.
        """
        rest = iter(leaves)
        while block := list(islice(rest, _BLOCK_LEAVES - self.end % _BLOCK_LEAVES)):
            for leaf in block:
                if len(leaf) != HASH_BYTES:
                    check_hash(leaf, "leaf hash")
            if len(block) < _BLOCK_LEAVES:
                for leaf in block:
                    self._push(0, leaf)
                continue
            for _ in range(_BLOCK_LEVEL):
                block = node_hashes(block)
            self._push(_BLOCK_LEVEL, block[0])

    def merge(self, other: CompactRange) -> None:
        """Add the leaves of a range that begins where this one ends; the other one stays as it is.

        Raises:
            TreeInvalid: It begins elsewhere.
        """
        if other.begin != self.end:
            raise TreeInvalid(f"a range from {other.begin} cannot follow one that ends before {self.end}")
        for node, value in zip(decompose(other.begin, other.end), list(other.hashes), strict=True):
            self._push(node.level, value)

    def root(self) -> bytes:
        """Return the root of the tree that these leaves are; that of a tree without leaves if there are none.

        Raises:
            TreeInvalid: The range does not begin with leaf 0.
        """
        if self.begin:
            raise TreeInvalid(f"a range from leaf {self.begin} has no root", hint="merge it with the range before it")
        return fold(self.hashes)

    def copy(self) -> CompactRange:
        """Return another range with the same leaves, which grows on its own."""
        other = CompactRange(self.begin)
        other.end, other.hashes = self.end, list(self.hashes)
        return other

    def state(self) -> bytes:
        """Return begin and end, 8 bytes each and big-endian, and the hashes: what :meth:`from_state` reads.

        It is its owner's memory, and no evidence.
        """
        numbers = (number.to_bytes(_SIZE_BYTES, "big") for number in (self.begin, self.end))
        return b"".join((*numbers, *self.hashes))

    @classmethod
    def from_state(cls, state: bytes) -> CompactRange:
        """Return the range with the state that :meth:`state` gave.

        Raises:
            TreeInvalid: The bytes are no such state.
        """
        head = 2 * _SIZE_BYTES
        if len(state) < head:
            raise TreeInvalid(f"the state of a range is cut short: {len(state)} bytes")
        begin, end = int.from_bytes(state[:_SIZE_BYTES], "big"), int.from_bytes(state[_SIZE_BYTES:head], "big")
        hashes = [state[place : place + HASH_BYTES] for place in range(head, len(state), HASH_BYTES)]
        return cls.from_hashes(begin, end, hashes)

    @classmethod
    def from_hashes(cls, begin: int, end: int, hashes: list[bytes]) -> CompactRange:
        """Return the range from ``begin`` up to ``end`` whose perfect subtrees, from left to right, have these hashes.

        Raises:
            TreeInvalid: These are not the hashes of such a range.
        """
        check_size(end, "a range")
        if not 0 <= begin <= end:
            raise TreeInvalid(f"leaves {begin} to {end} are no range")
        wanted = sum(1 for _ in decompose(begin, end))
        if len(hashes) != wanted:
            raise TreeInvalid(f"a range from {begin} to {end} has {wanted} hashes, not {len(hashes)}")
        for value in hashes:
            check_hash(value, "node hash")
        made = cls(begin)
        made.end, made.hashes = end, list(hashes)
        return made

    def __len__(self) -> int:
        return self.end - self.begin

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CompactRange):
            return NotImplemented
        return (self.begin, self.end, self.hashes) == (other.begin, other.end, other.hashes)

    __hash__ = None  # type: ignore[assignment]  # it grows

    def _push(self, level: int, value: bytes) -> None:
        """Add the perfect subtree of a level that begins where the range ends, and join what it completes."""
        index, end = self.end >> level, self.end + (1 << level)
        if end > SIZE_MAX:
            raise TreeInvalid(f"a tree has at most {SIZE_MAX} leaves")
        self.end = end
        # A left sibling within the range is the last hash: what lies between would have been joined with it.
        while index & 1 and (index - 1) << level >= self.begin:
            value = _node_hash(self.hashes.pop(), value)
            index >>= 1
            level += 1
        self.hashes.append(value)
