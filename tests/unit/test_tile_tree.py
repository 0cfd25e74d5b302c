"""A tree kept as tiles: its proofs, its growth, and the verification of the whole of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas import tile_tree
from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.errors import ProofInvalid, TileInvalid, TreeInvalid
from sealstream.schemas.memory_tree import MemoryTree
from sealstream.schemas.merkle import EMPTY_ROOT, Node, leaf_hash
from sealstream.schemas.proofs import consistency_proof, inclusion_proof, verify_consistency, verify_inclusion
from sealstream.schemas.tile_tree import (
    TileEdge,
    TileNodes,
    tile_of,
    tiles_for_consistency,
    tiles_for_inclusion,
    verify_tiles,
)
from sealstream.schemas.tiles import Bundle, Tile, extend_bundles, new_tiles, pack_entries

SIZE = 66_000  # three levels of tiles
ENTRIES = [b"entry %d" % number for number in range(SIZE)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
TREE = MemoryTree(LEAVES)
SIZES = [0, 1, 2, 255, 256, 257, 511, 512, 1000, 65_535, 65_536, 65_537, SIZE]


def root_of(size: int) -> bytes:
    """Return the root over the first leaves."""
    grown = CompactRange()
    grown.extend(LEAVES[:size])
    return grown.root()


def written(*sizes: int) -> dict[Tile, bytes]:
    """Return what was written for a tree that grew in steps, each a process of its own that reads what is there."""
    store: dict[Tile, bytes] = {}
    old = 0
    for size in sizes:
        edge = TileEdge.read(old, store.__getitem__)
        store |= dict(edge.extend(LEAVES[old:size]))
        store |= dict(edge.partial(old))
        assert edge.root() == root_of(size)
        old = size
    return store


STORE = written(*SIZES)


class Reader:
    """Reads tiles out of a store, and remembers which."""

    def __init__(self, store: dict[Tile, bytes]) -> None:
        self.store = store
        self.read: list[Tile] = []

    def __call__(self, tile: Tile) -> bytes:
        """Return a tile's bytes."""
        self.read.append(tile)
        return self.store[tile]


class TestGrowth:
    """New tiles from old ones."""

    @pytest.mark.parametrize("size", SIZES)
    def test_edge(self, size: int) -> None:
        """The edge of a tree comes out of its partial tiles alone, and has its root and its range."""
        reader = Reader(STORE)

        edge = TileEdge.read(size, reader)

        grown = CompactRange()
        grown.extend(LEAVES[:size])
        assert (edge.size, edge.root(), edge.range()) == (size, grown.root(), grown)
        assert reader.read == [tile for tile in new_tiles(0, size) if tile.width < 256]

    @pytest.mark.parametrize(("old", "new"), [(0, 1), (1, 2), (255, 256), (256, 257), (257, 1000), (1000, 65_537)])
    def test_only_what_is_new(self, old: int, new: int) -> None:
        """Growing writes exactly the tiles that the larger tree has and the smaller one has not."""
        edge = TileEdge.read(old, STORE.__getitem__)
        files = edge.extend(LEAVES[old:new]) + edge.partial(old)
        assert sorted(tile for tile, _ in files) == sorted(new_tiles(old, new))
        assert edge.partial(new) == []

    @settings(max_examples=25)
    @given(st.lists(st.integers(0, 1_500), min_size=1, max_size=5))
    def test_steps_do_not_matter(self, cuts: list[int]) -> None:
        """However a tree grew, its tiles are those of a tree that was made at once, and stay when it is done again."""
        sizes = sorted(cuts)
        in_steps, at_once = written(*sizes, *sizes[-1:]), written(sizes[-1])
        assert {tile: in_steps[tile] for tile in new_tiles(0, sizes[-1])} == at_once

    def test_tiles_are_hashes_of_the_tree(self) -> None:
        """Each hash of a tile is that of the node that the specification says."""
        for tile in new_tiles(0, SIZE):
            for number, value in enumerate(tile.hashes(STORE[tile])):
                if number in (0, tile.width - 1):
                    assert value == TREE.node(Node(8 * tile.level, tile.start + number))

    def test_refuses_what_is_no_hash(self) -> None:
        """A leaf that is no hash is refused, and nothing was added."""
        edge = TileEdge.read(257, STORE.__getitem__)
        with pytest.raises(TreeInvalid, match="leaf hash"):
            edge.extend([LEAVES[257], b"short"])
        assert (edge.size, edge.root()) == (257, root_of(257))

    def test_refuses_a_tile_that_is_cut(self) -> None:
        """A tree is not grown from a tile of another length."""
        for size in (0, 31, 43 * 32, 44 * 32 - 1, 44 * 32 + 1):
            data = bytes(size)
            with pytest.raises(TileInvalid, match="instead of"):
                TileEdge.read(300, dict.fromkeys(new_tiles(0, 300), data).__getitem__)


class TestProofs:
    """Proofs from tiles."""

    @settings(max_examples=80)
    @given(st.sampled_from(SIZES[1:]), st.data())
    def test_inclusion(self, size: int, data: st.DataObject) -> None:
        """A proof from the tiles of a tree is the tree's, and reads each of the tiles named for it once."""
        index = data.draw(st.integers(0, size - 1))
        reader = Reader(STORE)
        proof = inclusion_proof(index, size, TileNodes(size, reader))
        verify_inclusion(proof, leaf=LEAVES[index], index=index, size=size, root=root_of(size))
        assert reader.read == tiles_for_inclusion(index, size)
        assert set(reader.read) <= set(new_tiles(0, size))

    @settings(max_examples=80)
    @given(st.sampled_from(SIZES[1:]), st.data())
    def test_consistency(self, second: int, data: st.DataObject) -> None:
        """A proof between two sizes comes out of the larger tree's tiles, each read once."""
        first = data.draw(st.integers(0, second))
        reader = Reader(STORE)
        proof = consistency_proof(first, second, TileNodes(second, reader))
        verify_consistency(
            proof,
            first_size=first,
            first_root=root_of(first),
            second_size=second,
            second_root=root_of(second),
        )
        assert reader.read == tiles_for_consistency(first, second)

    def test_full_tiles_for_partial_ones(self) -> None:
        """Once a tree has grown, proofs for an older size come out of the full tiles that replaced its partial ones."""
        full = {tile: data for tile, data in STORE.items() if tile.width == 256}
        for size in (1, 255, 257, 1_000, 65_535):

            def read(tile: Tile) -> bytes:
                return full[Tile(tile.level, tile.index)] if tile.level == 0 else STORE[tile]

            for index in (0, size // 2, size - 1):
                proof = inclusion_proof(index, size, TileNodes(size, read))
                verify_inclusion(proof, leaf=LEAVES[index], index=index, size=size, root=root_of(size))

    def test_every_change_shows(self) -> None:
        """A proof that was made from a changed tile is refused, if the change went into the proof at all."""
        size, index = 1_000, 700
        true = inclusion_proof(index, size, TileNodes(size, STORE.__getitem__))
        refused = 0
        for tile in tiles_for_inclusion(index, size):
            data = STORE[tile]
            for place in range(0, len(data), 32):
                changed = STORE | {tile: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]}
                proof = inclusion_proof(index, size, TileNodes(size, changed.__getitem__))
                if proof != true:
                    refused += 1
                    with pytest.raises(ProofInvalid):
                        verify_inclusion(proof, leaf=LEAVES[index], index=index, size=size, root=root_of(size))
        # All hashes of the leaf's tile but its own; all of the last, partial one; and two full tiles by their roots.
        assert refused == 255 + 232 + 2

    def test_few_tiles_for_many_leaves(self) -> None:
        """In a tree of a thousand million leaves a proof needs four levels of tiles, and no more than two of each."""
        size = 10**9
        for index in (0, 1, size // 2, size - 1):
            found = tiles_for_inclusion(index, size)
            assert 4 <= len(found) <= 8
            assert {tile.level for tile in found} == {0, 1, 2, 3}

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A reader keeps the tiles that it used last, and reads the others again."""
        monkeypatch.setattr(tile_tree, "_CACHED_TILES_MAX", 2)
        reader = Reader(STORE)
        nodes = TileNodes(SIZE, reader)
        for index in (0, 256, 0, 512, 0, 256):
            assert nodes(Node(0, index)) == LEAVES[index]
        assert [tile.index for tile in reader.read] == [0, 1, 2, 1]

    @pytest.mark.parametrize(
        ("node", "size"),
        [(Node(0, 5), 5), (Node(0, -1), 5), (Node(1, 2), 5), (Node(8, 1), 511), (Node(3, 1), 15), (Node(64, 0), 5),
         (Node(-1, 0), 5), (Node(0, 0), 0)],
    )  # fmt: skip
    def test_no_such_node(self, node: Node, size: int) -> None:
        """A node that is not perfect in a tree of that size is in none of its tiles."""
        with pytest.raises(TreeInvalid, match="no node"):
            tile_of(node, size)

    def test_no_such_proof(self) -> None:
        """Tiles for a leaf that is not there, or for a tree that shrank, are refused."""
        with pytest.raises(TreeInvalid):
            tiles_for_inclusion(5, 5)
        with pytest.raises(TreeInvalid):
            tiles_for_consistency(6, 5)


class TestVerification:
    """The whole directory."""

    def bundles(self, size: int) -> dict[Bundle, bytes]:
        """Return the entry bundles of a log."""
        return dict(extend_bundles(0, b"", ENTRIES[:size]))

    @pytest.mark.parametrize("size", SIZES)
    def test_accepts(self, size: int) -> None:
        """The tiles that were written hold, with their entries and without."""
        verify_tiles(size, root_of(size), STORE.__getitem__)
        verify_tiles(size, root_of(size), STORE.__getitem__, self.bundles(size).__getitem__)
        with pytest.raises(TileInvalid, match="another root"):
            verify_tiles(size, bytes(32), STORE.__getitem__)

    def test_every_byte_of_every_tile(self) -> None:
        """One changed byte of any tile is found, and so is a tile that is cut or longer."""
        size = 521
        for tile in new_tiles(0, size):
            data = STORE[tile] if tile in STORE else written(size)[tile]
            store = written(size)
            for place in range(0, len(data), 7):
                changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
                self.check_refused(size, store | {tile: changed})
            for other in (b"", data[:-1], data[:-32], data + b"\x00", data + data[:32]):
                self.check_refused(size, store | {tile: other})

    def test_a_full_file_is_no_partial_one(self) -> None:
        """A partial tile or bundle that goes on behind its width is refused, though a reader could use it."""
        store, bundles = written(300), self.bundles(300)
        more = [*LEAVES[300:512]]
        for level, tile in ((0, Tile(0, 1, 44)), (1, Tile(1, 0, 1))):
            fill = b"".join(more) if level == 0 else b"".join(LEAVES[:255])
            self.check_refused(300, store | {tile: store[tile] + fill})
        changed = bundles | {Bundle(1, 44): pack_entries(ENTRIES[256:512])}
        with pytest.raises(TileInvalid, match="256 wide instead of 44"):
            verify_tiles(300, root_of(300), store.__getitem__, changed.__getitem__)

    def check_refused(self, size: int, store: dict[Tile, bytes]) -> None:
        """Check that tiles are refused with the typed error."""
        with pytest.raises(TileInvalid):
            verify_tiles(size, root_of(size), store.__getitem__)

    @pytest.mark.parametrize("level", [1, 2])
    def test_names_the_tile(self, level: int) -> None:
        """A tile above the leaves that does not fit those below it is named."""
        tile = next(tile for tile in new_tiles(0, SIZE) if tile.level == level)
        data = bytes([STORE[tile][0] ^ 1]) + STORE[tile][1:]
        with pytest.raises(TileInvalid, match=tile.path()):
            verify_tiles(SIZE, root_of(SIZE), (STORE | {tile: data}).__getitem__)

    def test_names_the_entry(self) -> None:
        """An entry that was changed, and one that was moved into its neighbour, is named."""
        bundles = self.bundles(300)
        mutations: list[tuple[Callable[[bytes], bytes], str]] = [
            (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "entry 299 of tile/entries/001.p/44"),
            (lambda data: data[:1] + bytes([data[1] + 2]) + data[2:], "tile/entries/001.p/44"),
            (lambda data: data[:-1], "tile/entries/001.p/44"),
        ]
        for mutate, words in mutations:
            changed = bundles | {Bundle(1, 44): mutate(bundles[Bundle(1, 44)])}
            with pytest.raises(TileInvalid, match=words):
                verify_tiles(300, root_of(300), written(300).__getitem__, changed.__getitem__)

    def test_empty(self) -> None:
        """A log without entries has no tile, and the root of an empty tree."""
        verify_tiles(0, EMPTY_ROOT, STORE.__getitem__)
        with pytest.raises(TileInvalid, match="another root"):
            verify_tiles(0, LEAVES[0], STORE.__getitem__)
