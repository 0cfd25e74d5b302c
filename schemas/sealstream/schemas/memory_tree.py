"""A tree all of whose nodes are in memory, so that a changed leaf costs one hash a level and a proof costs none.

For trees whose leaves change (the tenant map), and for trees that are small. It takes about 130 bytes a leaf.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sealstream.schemas.errors import TreeInvalid
from sealstream.schemas.merkle import Node, check_hash, node_hash, node_hashes, subtree_hash
from sealstream.schemas.proofs import consistency_proof, inclusion_proof
from sealstream.schemas.tiles import TILE_HEIGHT, TILE_WIDTH, Tile


class MemoryTree:
    """An RFC 6962 tree over leaf hashes, which may be changed in any place.

    Arguments:
        leaves: The hashes of its first leaves.

    Raises:
        TreeInvalid: One of them is no hash.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._rows: list[list[bytes]] = [[]]  # the hashes of the perfect nodes of each level
        self.rewrite(0, leaves)

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self._rows[0])

    def node(self, place: Node) -> bytes:
        """Return the hash of a node: the tree is a source for proofs.

        Raises:
            TreeInvalid: The tree has no such perfect node.
        """
        row = self._rows[place.level] if 0 <= place.level < len(self._rows) else []
        if not 0 <= place.index < len(row):
            raise TreeInvalid(f"a tree of {self.size} leaves has no node {place.index} at level {place.level}")
        return row[place.index]

    def tiles(self) -> Iterator[tuple[Tile, bytes]]:
        """Yield all tiles of the tree with their bytes, as C2SP tlog-tiles has them, level by level."""
        for level, row in enumerate(self._rows[::TILE_HEIGHT]):
            for begin in range(0, len(row), TILE_WIDTH):
                hashes = row[begin : begin + TILE_WIDTH]
                yield Tile(level, begin // TILE_WIDTH, len(hashes)), b"".join(hashes)

    def append(self, leaf: bytes) -> None:
        """Add a leaf's hash behind the last one.

        Raises:
            TreeInvalid: It is no hash.
        """
        self.rewrite(self.size, (leaf,))

    def replace(self, leaves: Mapping[int, bytes]) -> None:
        """Change the hashes of leaves, by their places; each node above them is hashed once.

        Raises:
            TreeInvalid: One is no hash, or has no such place; then nothing was changed.
        """
        for index, leaf in leaves.items():
            check_hash(leaf, "leaf hash")
            if not 0 <= index < self.size:
                raise TreeInvalid(f"a tree of {self.size} leaves has no leaf {index}")
        for index, leaf in leaves.items():
            self._rows[0][index] = leaf
        changed = set(leaves)
        for below, row in zip(self._rows, self._rows[1:], strict=False):
            changed = {index >> 1 for index in changed if index >> 1 < len(row)}
            for index in changed:
                row[index] = node_hash(below[2 * index], below[2 * index + 1])

    def rewrite(self, begin: int, leaves: Iterable[bytes]) -> None:
        """Make these the leaves from a place on; the leaves before it stay as they are, and so do the nodes over them.

        Raises:
            TreeInvalid: One is no hash, or the tree has fewer leaves than ``begin``; then nothing was changed.
        """
        if not 0 <= begin <= self.size:
            raise TreeInvalid(f"a tree of {self.size} leaves cannot go on from leaf {begin}")
        new = list(leaves)
        for leaf in new:
            check_hash(leaf, "leaf hash")
        for level, row in enumerate(self._rows):
            del row[begin >> level :]
        self._rows[0].extend(new)
        level = 0
        while len(self._rows[level]) > 1:
            if level + 1 == len(self._rows):
                self._rows.append([])
            above = self._rows[level + 1]
            above.extend(node_hashes(self._rows[level][2 * len(above) :]))
            level += 1
        del self._rows[level + 1 :]

    def root(self) -> bytes:
        """Return the tree's root."""
        return subtree_hash(0, self.size, self.node)

    def inclusion_proof(self, index: int) -> list[bytes]:
        """Return the proof that a leaf stands at its place.

        Raises:
            TreeInvalid: The tree has no such leaf.
        """
        return inclusion_proof(index, self.size, self.node)

    def consistency_proof(self, first_size: int) -> list[bytes]:
        """Return the proof that the tree begins with the leaves of an older one.

        It is one only if no leaf below ``first_size`` was changed since.

        Raises:
            TreeInvalid: The tree has fewer leaves.
        """
        return consistency_proof(first_size, self.size, self.node)
