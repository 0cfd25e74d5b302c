"""Reading a log's tiles for a size that it has outgrown: partial ones of older sizes are erased after a while.

C2SP tlog-tiles lets a log erase a partial tile once the full one is there. Ours erases it as soon as wider ones have
been public for a round. What a partial tile had is what any wider one of the same place begins with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import CheckpointInvalid, NoteInvalid, ObjectMissing
from sealstream.schemas.merkle import HASH_BYTES
from sealstream.schemas.note import Note
from sealstream.schemas.tiles import TILE_HEIGHT, TILE_WIDTH, Bundle, Tile, pack_entries

ReadFile: TypeAlias = Callable[[str], bytes]
"""Returns the bytes of a file of a log, by its path below the log's prefix; raises ObjectMissing if there is none."""

_CHECKPOINT: Final = "checkpoint"
_ATTEMPTS: Final = 3
"""The log may grow between two looks at it; so often within the time of one look it does not."""


def read_place(read: ReadFile, place: Tile | Bundle) -> bytes:
    """Return a tile's or bundle's bytes; out of a wider one where a partial one has been erased.

    How wide it is by now is taken from the checkpoint that the log shows, unverified: a wrong one leads to bytes that
    do not come to the root that the reader believes, as any wrong tile does.

    Raises:
        ObjectMissing: None of them is there.
        TileInvalid: A wider bundle is none.
    """
    try:
        return read(place.path())
    except ObjectMissing as error:
        if place.width == TILE_WIDTH:
            raise
        missing = error
    for _ in range(_ATTEMPTS):
        wider = _wider(place, TILE_WIDTH)
        try:
            return read(wider.path())
        except ObjectMissing:
            width = min(TILE_WIDTH - 1, _width(place, _size(read)))
        if width <= place.width:
            break
        wider = _wider(place, width)
        try:
            return _cut(place, wider, read(wider.path()))
        except ObjectMissing:  # it has grown since then
            continue
    raise ObjectMissing(f"{missing.message}, nor is there a wider one", hint=missing.hint) from missing


def _size(read: ReadFile) -> int:
    """Return the size that a log shows; 0 if it shows none."""
    try:
        return Checkpoint.parse(Note.parse(read(_CHECKPOINT)).text).size
    except (ObjectMissing, NoteInvalid, CheckpointInvalid):
        return 0


def _width(place: Tile | Bundle, size: int) -> int:
    """Return how wide a tile or bundle is in a log of a size; nothing or less if that has none."""
    count = size >> (TILE_HEIGHT * place.level) if isinstance(place, Tile) else size
    return count - place.start


def _wider(place: Tile | Bundle, width: int) -> Tile | Bundle:
    return Tile(place.level, place.index, width) if isinstance(place, Tile) else Bundle(place.index, width)


def _cut(place: Tile | Bundle, wider: Tile | Bundle, data: bytes) -> bytes:
    """Return what a partial tile or bundle had of a wider one's bytes."""
    if isinstance(place, Tile):
        return data[: place.width * HASH_BYTES]
    assert isinstance(wider, Bundle)
    return pack_entries(wider.entries(data)[: place.width])
