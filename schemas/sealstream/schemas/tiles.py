"""The files of a log that others can read: C2SP tlog-tiles. Which there are, how they are named, what is in them.

A tile has up to 256 consecutive hashes of one level in eight of the tree; an entry bundle has the entries below a tile
of level 0. A full one never changes. A partial one is the right edge of a tree of one size.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sealstream.schemas.errors import TileInvalid, TreeInvalid
from sealstream.schemas.merkle import HASH_BYTES, SIZE_MAX, check_size

TILE_HEIGHT: Final = 8
"""Levels of the tree that one level of tiles stands for."""

TILE_WIDTH: Final = 1 << TILE_HEIGHT
ENTRY_BYTES_MAX: Final = 65_535
"""The largest entry of a bundle: its length has two bytes."""

_PATHS_CACHED: Final = 4_096  # ten thousand chains that grow have the same few indexes
_LENGTH: Final = struct.Struct(">H")
_PATH: Final = re.compile(
    r"tile/(0|[1-9][0-9]?|entries)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII
)
_PATH_CHARACTERS_MAX: Final = 64


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """A tile's coordinates.

    Arguments:
        level: The level of tiles: 0 has leaf hashes, each further one the hashes of the full tiles below it.
        index: The place within the level.
        width: How many hashes it has; fewer than 256 in a partial tile.

    Raises:
        TileInvalid: No tree has such a tile.
    """

    level: int
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        _check(self.level, self.index, self.width)

    @property
    def start(self) -> int:
        """The place of its first hash among the hashes of its level."""
        return self.index * TILE_WIDTH

    def path(self) -> str:
        """Return where it is served, below the log's prefix, such as ``tile/0/x001/x234/067``."""
        return f"tile/{self.level}/{index_path(self.index)}{_suffix(self.width)}"

    def hashes(self, data: bytes) -> list[bytes]:
        """Return its hashes out of the bytes that were read for it.

        A full tile is taken for a partial one: a log may have erased the partial one by then.

        Raises:
            TileInvalid: The bytes are neither it nor the full tile.
        """
        if len(data) not in (self.width * HASH_BYTES, TILE_WIDTH * HASH_BYTES):
            raise TileInvalid(f"{self.path()} has {len(data)} bytes instead of {self.width * HASH_BYTES}")
        return [data[place : place + HASH_BYTES] for place in range(0, self.width * HASH_BYTES, HASH_BYTES)]


@dataclass(frozen=True, slots=True, order=True)
class Bundle:
    """An entry bundle's coordinates: those of the tile of level 0 that has the hashes of its entries.

    Arguments:
        index: The place among the bundles.
        width: How many entries it has; fewer than 256 in a partial bundle.

    Raises:
        TileInvalid: No tree has such a bundle.
    """

    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        _check(0, self.index, self.width)

    @property
    def start(self) -> int:
        """The index of its first entry in the log."""
        return self.index * TILE_WIDTH

    def path(self) -> str:
        """Return where it is served, below the log's prefix, such as ``tile/entries/x001/x234/067.p/12``."""
        return f"tile/entries/{index_path(self.index)}{_suffix(self.width)}"

    def entries(self, data: bytes) -> list[bytes]:
        """Return its entries out of the bytes that were read for it; a full bundle is taken for a partial one.

        Raises:
            TileInvalid: The bytes are neither it nor the full bundle.
        """
        found = _unpack_entries(data, self.path())
        if len(found) not in (self.width, TILE_WIDTH):
            raise TileInvalid(f"{self.path()} has {len(found)} entries instead of {self.width}")
        return found[: self.width]


BundleFile: TypeAlias = tuple[Bundle, bytes]
"""A bundle and the bytes to be served for it."""


def parse_path(path: str) -> Tile | Bundle:
    """Return the tile or bundle that is served at a path, the inverse of their ``path()``.

    Raises:
        TileInvalid: There is none: another form, or a place that no tree reaches.
    """
    match = _PATH.fullmatch(path) if len(path) <= _PATH_CHARACTERS_MAX else None
    if match is None:
        raise TileInvalid(f"{path[:_PATH_CHARACTERS_MAX]!r} is the path of no tile")
    level, number, width = match.groups()
    index = int(re.sub("[x/]", "", number))
    wide = TILE_WIDTH if width is None else int(width)
    found = Bundle(index, wide) if level == "entries" else Tile(int(level), index, wide)
    if found.path() != path:  # a number with more zeros than it needs, or a partial one that is 256 wide
        raise TileInvalid(f"{path!r} is not the one path of {found.path()}")
    return found


def new_tiles(old_size: int, new_size: int) -> Iterator[Tile]:
    """Yield the tiles that a tree of ``new_size`` leaves has and one of ``old_size`` has not, level by level.

    Raises:
        TreeInvalid: The tree would shrink.
    """
    _check_growth(old_size, new_size)
    level = 0
    while count := new_size >> (TILE_HEIGHT * level):
        for index, width in _places(old_size >> (TILE_HEIGHT * level), count):
            yield Tile(level, index, width)
        level += 1


def new_bundles(old_size: int, new_size: int) -> Iterator[Bundle]:
    """Yield the entry bundles that a log of ``new_size`` entries has and one of ``old_size`` has not.

    Raises:
        TreeInvalid: The log would shrink.
    """
    _check_growth(old_size, new_size)
    for index, width in _places(old_size, new_size):
        yield Bundle(index, width)


def pack_entries(entries: Sequence[bytes]) -> bytes:
    """Return entries as a bundle has them: each behind its length in two bytes, big-endian.

    Raises:
        TileInvalid: One of them is too large.
    """
    for entry in entries:
        if len(entry) > ENTRY_BYTES_MAX:
            raise TileInvalid(f"an entry of {len(entry)} bytes does not fit into a bundle: at most {ENTRY_BYTES_MAX}")
    return b"".join(part for entry in entries for part in (_LENGTH.pack(len(entry)), entry))


def extend_bundles(size: int, tail: bytes, entries: Sequence[bytes]) -> list[BundleFile]:
    """Return the bundles that a log gets by more entries, those of :func:`new_bundles`.

    Arguments:
        size: The number of entries that it had.
        tail: The bytes of its partial bundle then; empty if it had none. Of the next call it is what this one returned
            last, if that bundle is partial.
        entries: The further entries.

    Raises:
        TileInvalid: The tail is not the partial bundle of that size, or an entry is too large.
    """
    _check_growth(size, size + len(entries))
    if len(_unpack_entries(tail, "the partial bundle given")) != size % TILE_WIDTH:
        raise TileInvalid(f"the partial bundle given is not that of a log of {size} entries")
    files: list[BundleFile] = []
    done = 0
    for bundle in new_bundles(size, size + len(entries)):
        more = bundle.start + bundle.width - size
        files.append((bundle, tail + pack_entries(entries[done:more])))
        done, tail = more, b""
    return files


def _unpack_entries(data: bytes, name: str) -> list[bytes]:
    """Return the entries of bundle data, the inverse of :func:`pack_entries`."""
    found: list[bytes] = []
    place = 0
    while place < len(data):
        begin = place + _LENGTH.size
        end = begin + int.from_bytes(data[place:begin], "big")
        if max(begin, end) > len(data):
            raise TileInvalid(f"{name} is cut within entry {len(found)} of it")
        found.append(data[begin:end])
        place = end
    return found


def _places(old_count: int, new_count: int) -> Iterator[tuple[int, int]]:
    """Yield index and width of what holds the new ones of so many items, 256 to each."""
    if new_count > old_count:
        for index in range(old_count // TILE_WIDTH, new_count // TILE_WIDTH):
            yield index, TILE_WIDTH
        if rest := new_count % TILE_WIDTH:
            yield new_count // TILE_WIDTH, rest


@functools.lru_cache(maxsize=_PATHS_CACHED)
def index_path(index: int) -> str:
    """Return a number as it stands in a path: groups of three digits, all but the last one behind an ``x``."""
    digits = str(index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[place : place + 3] for place in range(0, len(digits), 3)]
    return "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])


def _suffix(width: int) -> str:
    return "" if width == TILE_WIDTH else f".p/{width}"


def _check(level: int, index: int, width: int) -> None:
    """Refuse coordinates that no tree of a size that we know reaches."""
    if level < 0 or index < 0 or not 0 < width <= TILE_WIDTH:
        raise TileInvalid(f"no tile has level {level}, index {index} and width {width}")
    # Compared without shifting by the level, which may be any number.
    if index * TILE_WIDTH + width > SIZE_MAX >> min(TILE_HEIGHT * level, SIZE_MAX.bit_length()):
        raise TileInvalid(f"no tree is so large that it has a tile of level {level}, index {index} and width {width}")


def _check_growth(old_size: int, new_size: int) -> None:
    check_size(new_size)
    if not 0 <= old_size <= new_size:
        raise TreeInvalid(f"a tree of {old_size} leaves does not grow to one of {new_size}")
