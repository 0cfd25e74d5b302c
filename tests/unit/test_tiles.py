"""Tiles and entry bundles: their places, paths and bytes are those of C2SP tlog-tiles."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.errors import TileInvalid, TreeInvalid
from sealstream.schemas.merkle import SIZE_MAX
from sealstream.schemas.tiles import (
    ENTRY_BYTES_MAX,
    TILE_WIDTH,
    Bundle,
    Tile,
    extend_bundles,
    new_bundles,
    new_tiles,
    pack_entries,
    parse_path,
)
from support import rfc_trees

ENTRIES = [b"entry %d" % number for number in range(1_000)]

tiles = st.builds(Tile, st.integers(0, 5), st.integers(0, 2**14), st.integers(1, 256))
bundles = st.builds(Bundle, st.integers(0, 2**54), st.integers(1, 256))


class TestPaths:
    """Where tiles and bundles are served."""

    @pytest.mark.parametrize(
        ("place", "path"),
        [
            (Tile(0, 1234067), "tile/0/x001/x234/067"),  # the example of the specification
            (Tile(0, 0), "tile/0/000"),
            (Tile(0, 999), "tile/0/999"),
            (Tile(0, 1000), "tile/0/x001/000"),
            (Tile(1, 273, 17), "tile/1/273.p/17"),
            (Tile(7, 0, 127), "tile/7/000.p/127"),
            (Tile(0, 2**55 - 1, 255), "tile/0/x036/x028/x797/x018/x963/967.p/255"),
            (Bundle(1234067, 1), "tile/entries/x001/x234/067.p/1"),
            (Bundle(5), "tile/entries/005"),
        ],
    )
    def test_examples(self, place: Tile | Bundle, path: str) -> None:
        """An index is written in groups of three digits, and a width only where it is not full."""
        assert place.path() == path
        assert parse_path(path) == place

    @given(tiles | bundles)
    def test_one_path(self, place: Tile | Bundle) -> None:
        """Each place has a path of its own, from which it is read back."""
        assert parse_path(place.path()) == place

    @pytest.mark.parametrize(
        "path",
        [
            "", "tile", "tile/0", "tile/0/", "tile/0/0", "tile/0/00", "tile/0/0000", "tile/0/x000", "tile/0/x000/000",
            "tile/0/x000/001", "tile/0/001/002", "tile/0/x001/x002", "tile/0/x1/002", "tile/00/000", "tile/01/000",
            "tile/-1/000", "tile/64/000", "tile/100/000", "tile/8/000", "tile/63/000", "tile/7/001", "tile/7/000",
            "tile/0/000.p/0", "tile/0/000.p/00", "tile/0/000.p/01", "tile/0/000.p/256", "tile/0/000.p/257",
            "tile/0/000.p/-1", "tile/0/000.p/", "tile/0/000.p", "tile/0/000.p/1/", "tile/0/000/", "/tile/0/000",
            "tile/0/000\n", " tile/0/000", "tile/0/\u0660\u0660\u0660", "tile/0/0\u00b20",
            "tile/x/000", "tile/8/0/000", "tile/data/000", "tile/Entries/000",
            "tile/entries/x036/x028/x797/x018/x963/968",
            "tile/0/../000", "tile/0//000", "tile/0/" + "x999/" * 6 + "999", "tile/0/" + "x000/" * 9 + "000",
            "checkpoint",
        ],
    )  # fmt: skip
    def test_other_forms(self, path: str) -> None:
        """What is not the one path of a place is refused: longer numbers, other levels, widths, places of no tree."""
        with pytest.raises(TileInvalid):
            parse_path(path)

    @settings(max_examples=60)
    @given(st.text(max_size=30) | st.from_regex(r"tile/[0-9a-z]{1,7}/(x[0-9]{3}/){0,3}[0-9]{3}(\.p/[0-9]{1,3})?"))
    def test_any_text(self, path: str) -> None:
        """Whatever somebody asks for, it is the one path of a place, or is refused."""
        try:
            place = parse_path(path)
        except TileInvalid:
            return
        assert place.path() == path

    @pytest.mark.parametrize(
        ("level", "index", "width"),
        [(-1, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, -1), (0, 0, 257), (7, 0, 128), (8, 0, 1), (2**70, 0, 1),
         (0, 2**55, 1), (0, 2**55 - 1, 256), (0, 2**80, 1)],
    )  # fmt: skip
    def test_no_such_tile(self, level: int, index: int, width: int) -> None:
        """Coordinates that no tree reaches are refused."""
        with pytest.raises(TileInvalid):
            Tile(level, index, width)
        if level == 0:
            with pytest.raises(TileInvalid):
                Bundle(index, width)


class TestTiles:
    """Which tiles a tree has."""

    def test_the_example_of_the_specification(self) -> None:
        """A tree of 70,000 leaves has 273 full tiles of level 0, one of level 1, and three partial ones."""
        found = list(new_tiles(0, 70_000))
        assert sum(tile.level == 0 and tile.width == TILE_WIDTH for tile in found) == 273
        assert [tile for tile in found if tile.level or tile.width < TILE_WIDTH] == [
            Tile(0, 273, 112), Tile(1, 0), Tile(1, 1, 17), Tile(2, 0, 1),
        ]  # fmt: skip

    def test_a_full_tile_has_one_above(self) -> None:
        """A tree of 256 leaves has a full tile, and a partial one of width 1 above it."""
        assert list(new_tiles(0, 256)) == [Tile(0, 0), Tile(1, 0, 1)]
        assert list(new_bundles(0, 256)) == [Bundle(0)]
        assert list(new_tiles(0, 255)) == [Tile(0, 0, 255)]
        assert list(new_tiles(0, 0)) == []

    @settings(max_examples=100)
    @given(st.integers(0, 140_000), st.integers(0, 140_000))
    def test_growth(self, one: int, other: int) -> None:
        """What is new in a larger tree is what it has and the smaller one has not, and full tiles never change."""
        old, new = sorted((one, other))
        before, after = set(new_tiles(0, old)), set(new_tiles(0, new))
        grown = list(new_tiles(old, new))
        assert set(grown) == after - before
        assert len(grown) == len(set(grown))
        assert {tile for tile in before if tile.width == TILE_WIDTH} <= after
        assert [(tile.index, tile.width) for tile in grown if tile.level == 0] == [
            (bundle.index, bundle.width) for bundle in new_bundles(old, new)
        ]

    @pytest.mark.parametrize(("old", "new"), [(1, 0), (-1, 0), (0, -1), (0, SIZE_MAX + 1)])
    def test_a_tree_does_not_shrink(self, old: int, new: int) -> None:
        """A tree that would shrink, or that is too large, is refused."""
        for grow in (new_tiles, new_bundles):
            with pytest.raises(TreeInvalid):
                list(grow(old, new))

    def test_hashes(self) -> None:
        """A tile is its hashes, one behind the other; a full one may be given for a partial one, and nothing else."""
        hashes = rfc_trees.leaves(256)
        data = b"".join(hashes)
        assert Tile(0, 0).hashes(data) == hashes
        for width in (1, 17, 255):
            assert Tile(0, 0, width).hashes(data[: 32 * width]) == Tile(0, 0, width).hashes(data) == hashes[:width]
            for length in {0, 1, 32 * width - 1, 32 * width + 1, 32 * width - 32, 32 * width + 32, 8191, 8193, 8224}:
                if length not in (32 * width, 8192):
                    with pytest.raises(TileInvalid, match="instead of"):
                        Tile(0, 0, width).hashes((data + bytes(64))[:length])


class TestBundles:
    """The entries of a log."""

    @settings(max_examples=40)
    @given(st.lists(st.binary(max_size=100), min_size=1, max_size=40))
    def test_one_form(self, entries: list[bytes]) -> None:
        """Entries are packed behind their lengths, and read back as they were."""
        data = pack_entries(entries)
        assert len(data) == sum(2 + len(entry) for entry in entries)
        assert Bundle(0, len(entries)).entries(data) == entries

    def test_bytes(self) -> None:
        """A length is two bytes, big-endian, the largest one included."""
        largest = bytes(ENTRY_BYTES_MAX)
        assert pack_entries([b"", b"abc", largest]) == b"\x00\x00" + b"\x00\x03abc" + b"\xff\xff" + largest
        with pytest.raises(TileInvalid, match="does not fit"):
            pack_entries([largest + b"\x00"])

    def test_cut_and_longer(self) -> None:
        """A bundle that is cut at any length, or longer, is refused."""
        bundle, data = Bundle(0, 3), pack_entries(ENTRIES[:3])
        for length in range(len(data)):
            with pytest.raises(TileInvalid):
                bundle.entries(data[:length])
        for more in (b"\x00", b"\x00\x00", b"\x00\x01", b"\x00\x01x", b"\xff\xff"):
            with pytest.raises(TileInvalid):
                bundle.entries(data + more)

    def test_a_full_one_for_a_partial_one(self) -> None:
        """A log that has erased a partial bundle gives the full one, and its first entries are those wanted."""
        assert Bundle(0, 3).entries(pack_entries(ENTRIES[:256])) == ENTRIES[:3]
        with pytest.raises(TileInvalid, match="4 entries instead of 3"):
            Bundle(0, 3).entries(pack_entries(ENTRIES[:4]))
        with pytest.raises(TileInvalid, match="257 entries"):
            Bundle(0).entries(pack_entries(ENTRIES[:257]))

    @settings(max_examples=40)
    @given(st.lists(st.integers(0, 1_000), max_size=4))
    def test_growth(self, cuts: list[int]) -> None:
        """However a log grows, its bundles are those of its entries, and only new ones are given."""
        sizes = sorted({0, *cuts})
        tail = b""
        for old, new in pairwise(sizes):
            files = extend_bundles(old, tail, ENTRIES[old:new])
            assert [bundle for bundle, _ in files] == list(new_bundles(old, new))
            for bundle, data in files:
                assert data == pack_entries(ENTRIES[bundle.start : bundle.start + bundle.width])
            tail = files[-1][1] if new % TILE_WIDTH else b""

    @pytest.mark.parametrize(
        ("size", "tail"),
        [(0, pack_entries(ENTRIES[:1])), (1, b""), (256, pack_entries(ENTRIES[:256])), (3, pack_entries(ENTRIES[:2])),
         (3, pack_entries(ENTRIES[:3])[:-1]), (3, pack_entries(ENTRIES[:256])), (-1, b"")],
    )  # fmt: skip
    def test_grows_from_its_own_end(self, size: int, tail: bytes) -> None:
        """A log that is extended from anything but its own partial bundle is refused."""
        with pytest.raises((TileInvalid, TreeInvalid)):
            extend_bundles(size, tail, ENTRIES[:5])
