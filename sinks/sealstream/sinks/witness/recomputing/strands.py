"""Chains as they are read: where each one goes on, and what has come of it since the last cut. Pure.

A chain is held as packed bytes while nothing of it is read, and as a :class:`Strand` while something is. Names are
bytes, as they stand in the entries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.entry import ZERO_HASH

_HASH_BYTES: Final = 32
_PENDING_MAX: Final = 1_024
"""Hashes that are gathered before they go into the tree: in one block they cost the least."""


class Packed(NamedTuple):
    """A chain at a cut.

    Arguments:
        prev: The hash of its last entry, 32 bytes.
        tree: The state of its tree's range, from which its size and root follow.
    """

    prev: bytes
    tree: bytes

    def pack(self) -> bytes:
        """Return it as bytes."""
        return self.prev + self.tree

    @classmethod
    def parse(cls, data: bytes) -> Packed:
        """Return what :meth:`pack` packed."""
        return cls(data[:_HASH_BYTES], data[_HASH_BYTES:])


class Unlinked(NamedTuple):
    """The first record of a chain that does not follow what stands before it.

    Arguments:
        seq: The seq that it claims.
        expected: The seq that was to come.
        offset: The source offset that it claims.
    """

    seq: int
    expected: int
    offset: int


class Strand:
    """One chain while it is read.

    Arguments:
        name: Its name.
        packed: How it was at the last cut; ``None`` if it had not begun.
    """

    __slots__ = ("begin", "hashes", "name", "prev", "seq", "tree")

    def __init__(self, name: bytes, packed: Packed | None) -> None:
        self.name = name
        self.tree = CompactRange() if packed is None else CompactRange.from_state(packed.tree)
        self.prev = ZERO_HASH if packed is None else packed.prev
        self.begin = self.seq = self.tree.end
        self.hashes: list[bytes] = []  # of entries that are not in the tree yet

    def settle(self) -> None:
        """Put what has gathered into the tree."""
        self.tree.extend(self.hashes)
        self.hashes.clear()

    def cut(self) -> Packed:
        """Return it as it is now."""
        self.settle()
        return Packed(self.prev, self.tree.state())


class Strands:
    """The chains that were read since the last cut.

    Arguments:
        load: Returns how a chain was at the last cut; ``None`` if it had not begun.
    """

    def __init__(self, load: Callable[[bytes], Packed | None]) -> None:
        self.awake: dict[bytes, Strand] = {}
        self.unlinked: dict[bytes, Unlinked] = {}
        self._load = load

    def __getitem__(self, name: bytes) -> Strand:
        """Return a chain, to be read on."""
        strand = self.awake.get(name)
        if strand is None:
            strand = self.awake[name] = Strand(name, self._load(name))
        return strand

    def settle(self) -> None:
        """Put what has gathered into the trees where it is much."""
        for strand in self.awake.values():
            if len(strand.hashes) >= _PENDING_MAX:
                strand.settle()

    def cut(self) -> dict[bytes, Packed]:
        """Return all chains that have grown since the last cut, as they are now; from here on none has."""
        changed = {name: strand.cut() for name, strand in self.awake.items() if strand.seq > strand.begin}
        self.awake = {}
        return changed
