"""A tree that is kept as tiles: read for proofs, extended, and verified as a whole.

Reading is the caller's: a function from coordinates to bytes, over a directory, an object store or HTTP. What it
returns is checked for its form here, and for its truth only by :func:`verify_tiles`; whoever makes a proof from tiles
verifies it against a root that he trusts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.errors import TileInvalid, TreeInvalid
from sealstream.schemas.merkle import HASH_BYTES, Node, check_hash, check_size, decompose, leaf_hash, node_hashes
from sealstream.schemas.proofs import consistency_nodes, inclusion_nodes
from sealstream.schemas.tiles import TILE_HEIGHT, TILE_WIDTH, Bundle, Tile, new_bundles, pack_entries

ReadTile: TypeAlias = Callable[[Tile], bytes]
"""Returns the bytes that are stored for a tile; raises what its store raises if there are none."""

ReadBundle: TypeAlias = Callable[[Bundle], bytes]
"""Returns the bytes that are stored for an entry bundle, as :data:`ReadTile`."""

TileFile: TypeAlias = tuple[Tile, bytes]
"""A tile and the bytes to be served for it."""

_CACHED_TILES_MAX: Final = 64
"""Tiles that are kept in memory by a reader, 16 KiB each: one proof needs no more than some two a level."""


def tile_of(node: Node, size: int) -> Tile:
    """Return the tile from which a node is computed, in a tree of so many leaves.

    Raises:
        TreeInvalid: That tree has no such perfect node.
    """
    check_size(size)
    if node.level < 0 or not 0 <= node.index < size >> node.level:
        raise TreeInvalid(f"a tree of {size} leaves has no node {node.index} at level {node.level}")
    level, height = divmod(node.level, TILE_HEIGHT)
    index = (node.index << height) // TILE_WIDTH
    return Tile(level, index, min(TILE_WIDTH, (size >> (TILE_HEIGHT * level)) - index * TILE_WIDTH))


def tiles_for_inclusion(index: int, size: int) -> list[Tile]:
    """Return the tiles that an inclusion proof is made from, each once.

    Raises:
        TreeInvalid: The tree has no such leaf.
    """
    return list(dict.fromkeys(tile_of(node, size) for node in inclusion_nodes(index, size)))


def tiles_for_consistency(first_size: int, second_size: int) -> list[Tile]:
    """Return the tiles of the newer tree that a consistency proof is made from, each once.

    Raises:
        TreeInvalid: The first tree is larger than the second.
    """
    return list(dict.fromkeys(tile_of(node, second_size) for node in consistency_nodes(first_size, second_size)))


class TileNodes:
    """The nodes of a tree out of its tiles: a source for proofs, which reads each tile once as long as it is in use.

    Arguments:
        size: The number of leaves of the tree whose tiles are read.
        read: Reads a tile.
    """

    def __init__(self, size: int, read: ReadTile) -> None:
        check_size(size)
        self.size = size
        self._read = read
        self._tiles: OrderedDict[Tile, list[bytes]] = OrderedDict()

    def __call__(self, node: Node) -> bytes:
        """Return the hash of a node.

        Raises:
            TreeInvalid: The tree has no such perfect node.
            TileInvalid: The tile that it is computed from is malformed.
        """
        tile = tile_of(node, self.size)
        hashes = self._tiles.get(tile)
        if hashes is None:
            hashes = self._tiles[tile] = tile.hashes(self._read(tile))
            if len(self._tiles) > _CACHED_TILES_MAX:
                self._tiles.popitem(last=False)
        else:
            self._tiles.move_to_end(tile)
        height = node.level % TILE_HEIGHT
        begin = (node.index << height) - tile.start
        return _subtree(hashes, begin, height)


class TileEdge:
    """The right edge of a tree that is kept as tiles: what its growth needs, and gives the new tiles.

    The tiles are a function of the leaves. Where writing them was interrupted, growing again from the same size writes
    the same bytes.
    """

    def __init__(self) -> None:
        self.size = 0
        self._rows: list[list[bytes]] = []  # the hashes of the partial tile of each level

    @classmethod
    def read(cls, size: int, read: ReadTile) -> TileEdge:
        """Return the edge of a tree of so many leaves, out of its tiles; compare its root with the one you signed.

        Raises:
            TileInvalid: A tile is malformed.
        """
        check_size(size)
        edge = cls()
        edge.size = size
        while count := size >> (TILE_HEIGHT * len(edge._rows)):
            index, width = divmod(count, TILE_WIDTH)
            tile = Tile(len(edge._rows), index, width) if width else None
            edge._rows.append(tile.hashes(read(tile)) if tile else [])
        return edge

    def root(self) -> bytes:
        """Return the tree's root."""
        return self.range().root()

    def range(self) -> CompactRange:
        """Return the range of all leaves."""
        hashes = [
            _subtree(row, node.index << node.level, node.level)
            for row in reversed(self._rows)
            for node in decompose(0, len(row))
        ]
        return CompactRange.from_hashes(0, self.size, hashes)

    def extend(self, leaves: Sequence[bytes]) -> list[TileFile]:
        """Add the hashes of the next leaves, and return the tiles that became full.

        Raises:
            TreeInvalid: One of them is no hash, or the tree would be too large; then nothing was added.
        """
        for leaf in leaves:
            check_hash(leaf, "leaf hash")
        check_size(self.size + len(leaves))
        files: list[TileFile] = []
        self._add(0, leaves, files)
        self.size += len(leaves)
        return files

    def partial(self, since: int = 0) -> list[TileFile]:
        """Return the partial tiles of the tree as it is, without those that it had at an older size."""
        files: list[TileFile] = []
        for level, row in enumerate(self._rows):
            count = self.size >> (TILE_HEIGHT * level)
            if row and count > since >> (TILE_HEIGHT * level):
                files.append((Tile(level, count // TILE_WIDTH, len(row)), b"".join(row)))
        return files

    def _add(self, level: int, hashes: Sequence[bytes], files: list[TileFile]) -> None:
        """Add hashes to a level of tiles, and those of the tiles that became full to the level above."""
        if level == len(self._rows):
            self._rows.append([])
        row = [*self._rows[level], *hashes]
        index = (self.size >> (TILE_HEIGHT * level)) // TILE_WIDTH
        above: list[bytes] = []
        for place in range(0, len(row) - TILE_WIDTH + 1, TILE_WIDTH):
            data = b"".join(row[place : place + TILE_WIDTH])
            files.append((Tile(level, index + place // TILE_WIDTH), data))
            above.append(_subtree(row, place, TILE_HEIGHT))
        self._rows[level] = row[len(above) * TILE_WIDTH :]
        if above:
            self._add(level + 1, above, files)


def _subtree(hashes: Sequence[bytes], begin: int, height: int) -> bytes:
    """Return the hash of the perfect subtree of a height over the hashes from a place on."""
    row = list(hashes[begin : begin + (1 << height)])
    for _ in range(height):
        row = node_hashes(row)
    return row[0]


def verify_tiles(size: int, root: bytes, read: ReadTile, read_bundle: ReadBundle | None = None) -> None:
    """Verify every tile of a tree against its root, and every entry against the tiles where bundles are given.

    Unlike a reader it does not take a full tile for a partial one: it says what is stored, not what can be used.

    Arguments:
        size: The number of leaves.
        root: The root, from a checkpoint that you trust.
        read: Reads a tile.
        read_bundle: Reads an entry bundle.

    Raises:
        TileInvalid: A tile or bundle is malformed or does not fit the others, or they come to another root.
    """
    check_size(size)
    edge = TileEdge()
    for bundle in new_bundles(0, size):
        tile = Tile(0, bundle.index, bundle.width)
        data = read(tile)
        stored = tile.hashes(data)
        _check_width(tile, len(data) // HASH_BYTES)
        if read_bundle is not None:
            _check_entries(bundle, read_bundle(bundle), stored)
        _compare((file for file in edge.extend(stored) if file[0].level), read)
    _compare((file for file in edge.partial() if file[0].level), read)
    if edge.root() != root:
        raise TileInvalid(
            f"the tiles of {size} leaves come to another root than the one given",
            hint="they were changed, or are another log's; or the root is not of this size",
        )


def _check_entries(bundle: Bundle, data: bytes, stored: Sequence[bytes]) -> None:
    """Refuse a bundle that has not the entries whose hashes are in its tile."""
    entries = bundle.entries(data)
    for place, (entry, value) in enumerate(zip(entries, stored, strict=True), bundle.start):
        if leaf_hash(entry) != value:
            raise TileInvalid(f"entry {place} of {bundle.path()} is not the one whose hash is in its tile")
    if len(pack_entries(entries)) != len(data):
        _check_width(bundle, TILE_WIDTH)


def _check_width(place: Tile | Bundle, width: int) -> None:
    if width != place.width:
        raise TileInvalid(f"{place.path()} is {width} wide instead of {place.width}")


def _compare(computed: Iterable[TileFile], read: ReadTile) -> None:
    """Compare tiles that were computed from those below them with those that are stored."""
    for tile, data in computed:
        if read(tile) != data:
            raise TileInvalid(f"{tile.path()} does not have the hashes of the tiles below it")
