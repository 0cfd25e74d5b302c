"""A published log's tiles, each verified against a root that is believed before anything is taken from it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.erased_tiles import read_place
from sealstream.schemas.errors import FormatError, ObjectMissing, TileInvalid
from sealstream.schemas.merkle import Node, decompose, fold, node_hashes
from sealstream.schemas.tile_tree import TileEdge
from sealstream.schemas.tiles import TILE_HEIGHT, TILE_WIDTH, Bundle, Tile

Read = Callable[[str], bytes]
"""Returns the bytes of a file of the log, by its path below the log's prefix; raises ObjectMissing if there is none."""

TILES_KEPT_MAX: Final = 256
"""Tiles that are kept in memory, some 16 KiB each."""


class TrustedTiles:
    """The hashes of a tree, out of tiles that nobody vouches for and a root that is believed.

    The partial tiles at the right edge must come to the root. Each full tile must come to the hash that the tile above
    it has in its place. So a tile that was altered is refused, whichever it is.

    Arguments:
        size: The number of leaves.
        root: The root of the tree over them.
        read: Reads a file of the log.

    Raises:
        ObjectMissing: A tile of the right edge is gone.
        TileInvalid: The right edge does not come to the root.
    """

    def __init__(self, size: int, root: bytes, read: Read) -> None:
        self.size = size
        self._read = read
        self._edge: dict[tuple[int, int], list[bytes]] = {}
        self._tiles: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()
        self._bundle: tuple[int, list[bytes]] = (-1, [])
        if TileEdge.read(size, self._read_edge).root() != root:
            raise TileInvalid(f"the tiles at the edge of a tree of {size} leaves come to another root")

    def leaf(self, index: int) -> bytes:
        """Return a leaf's hash.

        Raises:
            ObjectMissing: A tile that it takes is gone.
            TileInvalid: One of them was altered.
        """
        return self.hashes(0, index // TILE_WIDTH)[index % TILE_WIDTH]

    def hashes(self, level: int, index: int) -> list[bytes]:
        """Return the hashes of a tile, as many as there are in this tree.

        Raises:
            ObjectMissing: It, or one above it, is gone.
            TileInvalid: It, or one above it, was altered.
        """
        place = level, index
        found = self._edge.get(place) or self._tiles.get(place)
        if found is None:
            tile = Tile(level, index)
            wanted = self.hashes(level + 1, index // TILE_WIDTH)[index % TILE_WIDTH]
            found = tile.hashes(self._read(tile.path()))
            if fold(_up(found, TILE_HEIGHT)) != wanted:
                raise TileInvalid(f"{tile.path()} does not come to the hash that is above it")
            self._tiles[place] = found
            if len(self._tiles) > TILES_KEPT_MAX:
                self._tiles.popitem(last=False)
        return found

    def node(self, node: Node) -> bytes:
        """Return the hash of a node.

        Raises:
            ObjectMissing: A tile that it takes is gone.
            TileInvalid: One of them was altered.
        """
        level, height = divmod(node.level, TILE_HEIGHT)
        index, begin = divmod(node.index << height, TILE_WIDTH)
        return _up(self.hashes(level, index)[begin : begin + (1 << height)], height)[0]

    def root_at(self, size: int) -> bytes:
        """Return the root that the tree had at a smaller size.

        Raises:
            ObjectMissing: A tile that it takes is gone.
            TileInvalid: One of them was altered.
        """
        return CompactRange.from_hashes(0, size, [self.node(node) for node in decompose(0, size)]).root()

    def entry(self, index: int) -> bytes:
        """Return the data of a leaf, unverified: compare its hash with :meth:`leaf`.

        Raises:
            ObjectMissing: Its bundle is gone.
            TileInvalid: Its bundle is malformed.
        """
        number, place = divmod(index, TILE_WIDTH)
        if self._bundle[0] != number:
            bundle = Bundle(number, min(TILE_WIDTH, self.size - number * TILE_WIDTH))
            self._bundle = number, bundle.entries(read_place(self._read, bundle))
        return self._bundle[1][place]

    def _read_edge(self, tile: Tile) -> bytes:
        data = read_place(self._read, tile)
        self._edge[tile.level, tile.index] = tile.hashes(data)
        return data


UNUSABLE: Final = (ObjectMissing, FormatError)
"""What is raised where a published file cannot serve as evidence."""


def _up(hashes: list[bytes], levels: int) -> list[bytes]:
    for _ in range(levels):
        hashes = node_hashes(hashes)
    return hashes
