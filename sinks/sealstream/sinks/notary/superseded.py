"""Erases the partial tiles and bundles that wider ones have replaced: a chain that grows by one entry a round would
leave 255 of each in the place of one, some 5 MB.

What a round replaces goes when the round after it is public: whoever fetched the last checkpoint but one still finds
its files for a round. Readers of older sizes take wider tiles (:mod:`sealstream.schemas.erased_tiles`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Final, NamedTuple

from sealstream.kafka.patience import call_beside
from sealstream.schemas.errors import StoreError, Unreachable
from sealstream.schemas.tiles import TILE_HEIGHT, TILE_WIDTH, Bundle, Tile
from sealstream.worker.logs import logger
from sealstream.worker.objects import Objects

_REMEMBERED_MAX: Final = 1_000_000
"""Growths that are remembered, some 200 bytes each, while rounds wait for their quorum. What further ones replace goes
when their logs have grown out of the tile."""


class Grown(NamedTuple):
    """How a log has grown.

    Arguments:
        prefix: What all paths of the log begin with.
        old_size: Its size before.
        size: Its size now.
    """

    prefix: str
    old_size: int
    size: int


class Superseded:
    """The partial files that have been replaced, until nobody needs them.

    Arguments:
        objects: Where they are.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._before: dict[Grown, None] = {}  # until the checkpoint that is public now
        self._since: dict[Grown, None] = {}  # behind it
        self._due: dict[Grown, None] = {}
        self._erasing: Future[None] = Future()
        self._erasing.set_result(None)

    def begin(self, before: Iterable[Grown], since: Iterable[Grown]) -> None:
        """Begin anew, with what is known of a process before this one.

        Arguments:
            before: What has grown up to the checkpoint that is public.
            since: What has grown behind it.
        """
        self._before, self._since = dict.fromkeys(before), dict.fromkeys(since)

    def grown(self, logs: Iterable[Grown]) -> None:
        """Remember what has grown in a round whose files are written."""
        if len(self._since) < _REMEMBERED_MAX:
            self._since.update(dict.fromkeys(logs))

    def erase(self) -> None:
        """Begin to erase what nobody needs any more, as a round has become public; a failure costs space, nothing else.

        It goes on beside the rounds: a disk that is busy takes longer to erase files than to write them.
        """
        if len(self._due) < _REMEMBERED_MAX:
            self._due.update(self._before)
        self._before, self._since = self._since, {}
        if self._erasing.done():
            self._erasing.result()
            due, self._due = self._due, {}
            self._erasing = call_beside(lambda: self._erase(due), name="erasing")

    def wait(self, *, timeout_seconds: float) -> None:
        """Wait until what has begun is erased.

        Raises:
            TimeoutError: That takes longer.
        """
        self._erasing.result(timeout_seconds)

    def _erase(self, due: Iterable[Grown]) -> None:
        # A crash here leaves files. The next start knows those of the last two rounds, and all others of a tile go with
        # the folder that they are in, when their log has grown out of it.
        try:
            self._objects.delete_many(path for one in due for path in replaced(one))
            for one in due:
                for folder in outgrown(one):
                    self._objects.delete_below(folder)
        except (StoreError, Unreachable) as error:
            logger().warning(
                "partial tiles that were replaced could not be erased",
                reason=error.message,
                hint="may the notary delete in the storage? They take space, and nobody needs them",
            )


def edge_places(size: int) -> list[Tile | Bundle]:
    """Return the partial tiles at the right edge of a log of a size, and the partial bundle last."""
    found: list[Tile | Bundle] = []
    level = 0
    while count := size >> (TILE_HEIGHT * level):
        index, width = divmod(count, TILE_WIDTH)
        if width:
            found.append(Tile(level, index, width))
        level += 1
    index, width = divmod(size, TILE_WIDTH)
    return [*found, Bundle(index, width)] if width else found


def replaced(one: Grown) -> Iterator[str]:
    """Yield the paths of the partial files that a log had and has not any more, but for those in outgrown folders."""
    for place in edge_places(one.old_size):
        if place.start + place.width < _count(place, one.size) < place.start + TILE_WIDTH:
            yield one.prefix + place.path()


def outgrown(one: Grown) -> Iterator[str]:
    """Yield the paths of folders in which all partial files are replaced: the log has the full ones."""
    if one.size // TILE_WIDTH == one.old_size // TILE_WIDTH:
        return
    for place in edge_places(one.old_size):
        if _count(place, one.size) >= place.start + TILE_WIDTH:
            yield one.prefix + place.path().rpartition("/")[0]


def _count(place: Tile | Bundle, size: int) -> int:
    """Return how many hashes or entries a log of a size has where a tile or bundle is one of them."""
    return size >> (TILE_HEIGHT * place.level) if isinstance(place, Tile) else size
