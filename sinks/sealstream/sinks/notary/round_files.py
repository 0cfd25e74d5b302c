"""The files of a round: the tiles and entries by which a chain and the root log have grown, and the round's coverage.

They are written once the heads have been compared and swapped, and before anything is signed: what they are is decided
by then, and nobody believes them before. Each is a function of the entries, so writing a round again, after whatever
happened in between, writes the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from sealstream.schemas.errors import ChainPlace, ObjectMissing, TileInvalid, TilesDamaged, TreeDiffers, TreeInvalid
from sealstream.schemas.log_layout import ROOT_PREFIX, chain_prefix, coverage_path
from sealstream.schemas.merkle import leaf_hash
from sealstream.schemas.tile_tree import TileEdge, TileFile
from sealstream.schemas.tiles import TILE_WIDTH, Bundle, BundleFile, Tile, extend_bundles
from sealstream.schemas.violation import ROOT_LOG as ROOT_CHAIN
from sealstream.sinks.notary.known_edges import Edge, KnownEdges
from sealstream.sinks.notary.made import ChainGrowth, MadeRound
from sealstream.sinks.notary.steps import ChainHead
from sealstream.sinks.notary.superseded import Grown, Superseded, edge_places
from sealstream.worker.objects import Objects

ROOT_LOG: Final = ""
"""The name of the root log where chains have theirs."""

_TOGETHER: Final = 256
"""Logs whose old edges are in memory at the same time, some 50 kB each."""

_BLOCK: Final = 16 * TILE_WIDTH
"""Entries of a log that is made anew which are in memory at the same time."""

_REMEMBERED_MAX: Final = 200_000
"""Logs whose last partial bundle is known to be ours: some 200 bytes each."""

_File = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class _Growth:
    """How a log grows, be it a chain's or the root's."""

    name: str
    prefix: str
    old_size: int
    root: bytes
    entries: Sequence[bytes]
    hashes: Sequence[bytes]

    @property
    def grown(self) -> Grown:
        """From which size to which one."""
        return Grown(self.prefix, self.old_size, self.old_size + len(self.entries))


class RoundFiles:
    """Writes rounds below the place that an instance publishes at.

    Arguments:
        objects: That place.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._superseded = Superseded(objects)
        self._edges = KnownEdges()
        self._tails: dict[str, bytes] = {}  # digests of the partial bundles that this process has checked or made

    def write(self, made: MadeRound) -> None:
        """Write all files of a round, so that they survive a power cut when this returns.

        Raises:
            TilesDamaged: What was read of some logs' old edges is missing, or does not come to the root that the round
                commits to; :mod:`.known_edges` says which are read. Everything of the others was written;
                :meth:`rewrite` makes these anew.
            StoreError: The storage refuses. The round can be written again.
            Unreachable: It does not answer. The same.
        """
        damaged: list[str] = []
        growths = (_root_growth(made), *(_chain_growth(one) for one in made.chains))
        self._superseded.grown(one.grown for one in growths)
        self._edges.begin_round()
        files = self._grown(growths, damaged)
        self._objects.put_many(files, write_once=True)
        self._objects.put(coverage_path(made.round), made.coverage)
        # A crash before this line leaves any part of the round's files. The notary starts with the last round that its
        # database has, and writes it again.
        self._objects.sync()
        if damaged:
            shown = ", ".join(name or "the root log" for name in damaged[:5])
            raise TilesDamaged(
                f"the published tiles of {len(damaged)} logs are missing or are not those of their heads: {shown}",
                logs=tuple(damaged),
                hint="they are made anew from the store; find out who can write to the storage",
            )

    def begin(self, heads: Iterable[ChainHead], *, last: int, published: int) -> None:
        """Begin where a notary before this one has ended: what it has left to erase is erased in time.

        Arguments:
            heads: All chains' heads.
            last: The last round; -1 for none.
            published: The last round that is public; -1 for none.
        """
        before, since = list[Grown](), list[Grown]()
        for head in heads:
            if head.grown_in >= published - 1:  # what an earlier round has replaced was erased when that one was public
                grown = Grown(chain_prefix(head.chain), head.size_before, head.size)
                (since if head.grown_in > published else before).append(grown)
        for number in range(max(0, published - 1), last + 1):
            (since if number > published else before).append(Grown(ROOT_PREFIX, number, number + 1))
        self._superseded.begin(before, since)

    def erase(self) -> None:
        """Begin to erase what was replaced, as the last round has become public: :mod:`.superseded`."""
        self._superseded.erase()

    def wait_erased(self, *, timeout_seconds: float) -> None:
        """Wait until what has begun to be erased is.

        Raises:
            TimeoutError: That takes longer.
        """
        self._superseded.wait(timeout_seconds=timeout_seconds)

    def rewrite(self, name: str, size: int, root: bytes, entries: Iterable[bytes]) -> None:
        """Make all tiles and bundles of a log anew, from its first entry on; they survive a power cut then.

        Made as it is after a round, the log needs nothing more of that round.

        Arguments:
            name: The chain, or :data:`ROOT_LOG`.
            size: The number of its entries.
            root: The root that its head has.
            entries: The bytes of all its entries: of a chain as the store has them, checked against its head before;
                of the root log the leaves.

        Raises:
            TreeDiffers: The entries are not those of the head. Tiles of another tree were written: nothing of this log
                may be signed.
            StoreError: The storage refuses. It can be done again.
            Unreachable: It does not answer. The same.
        """
        edge = TileEdge()
        self._edges.forget(name)
        self._objects.put_many(self._made_anew(_prefix(name), edge, iter(entries)), write_once=True)
        if (edge.size, edge.root()) != (size, root):
            raise TreeDiffers(
                f"{_shown(name)}: {edge.size} entries of the store do not come to the root of its head at {size}",
                places=[ChainPlace(name or ROOT_CHAIN, None)],
                hint="the store, or the notary's database, is not what it was",
            )
        self._objects.sync()

    def _grown(self, growths: Sequence[_Growth], damaged: list[str]) -> Iterator[_File]:
        """Yield the new files of logs, and name those whose old ones are damaged."""
        for begin in range(0, len(growths), _TOGETHER):
            group = growths[begin : begin + _TOGETHER]
            known = [self._known(one) for one in group]
            unread = [edge_places(one.old_size) if edge is None else () for one, edge in zip(group, known, strict=True)]
            stored = self._objects.get_many(
                f"{one.prefix}{place.path()}" for one, places in zip(group, unread, strict=True) for place in places
            )
            for growth, edge, places in zip(group, known, unread, strict=True):
                read = [(place, next(stored)) for place in places]
                try:
                    yield from self._grown_log(growth, self._checked(growth, read) if edge is None else edge)
                except (TileInvalid, TreeInvalid):
                    self._edges.forget(growth.name)
                    if not self._is_written(growth):
                        damaged.append(growth.name)

    def _known(self, growth: _Growth) -> Edge | None:
        """Return the old edge of a log if it need not be read.

        That of the root log always is: it is one, and all others hang on it. So is that of a log which grows out of its
        tile: where somebody has taken all its files away, the partial tile above that one shows it, until it is made
        again.
        """
        size = growth.old_size + len(growth.entries)
        if growth.name == ROOT_LOG or size // TILE_WIDTH != growth.old_size // TILE_WIDTH:
            return None
        return self._edges.get(growth.name, growth.old_size)

    def _checked(self, growth: _Growth, read: Iterable[tuple[Tile | Bundle, bytes | None]]) -> Edge:
        """Return the old edge of a log as it was read.

        Raises:
            TileInvalid: A part of it is missing or malformed, or the entries are not those of the tile.
        """
        found = {place: self._whole(growth, place, data) for place, data in read}
        index, width = divmod(growth.old_size, TILE_WIDTH)
        if width:
            bundle = Bundle(index, width)
            found[bundle] = self._checked_tail(growth, bundle, found[bundle], found[Tile(0, index, width)])
        return found

    def _grown_log(self, growth: _Growth, old: Edge) -> list[_File]:
        """Return the new files of a log.

        Raises:
            TileInvalid: Old tiles and new hashes do not come to the root.
            TreeInvalid: The same, of a size.
        """
        edge = TileEdge.read(growth.old_size, old.__getitem__)
        index, width = divmod(growth.old_size, TILE_WIDTH)
        tail = old[Bundle(index, width)] if width else b""
        tiles = edge.extend(growth.hashes)
        if edge.root() != growth.root:
            raise TileInvalid("the tiles come to another root than the head has")
        bundles = extend_bundles(growth.old_size, tail, growth.entries)
        partial: dict[Tile | Bundle, bytes] = dict(edge.partial())
        if bundles and bundles[-1][0].width < TILE_WIDTH:
            partial.update(bundles[-1:])
            self._remember(growth.name, bundles[-1][1])
        # A crash or a failure before they are written leaves older files: the round is made again from its old size,
        # at which nothing is known here, and what is there is read.
        self._edges.keep(growth.name, edge.size, partial)
        return list(_files(growth.prefix, [*tiles, *edge.partial(growth.old_size)], bundles))

    def _is_written(self, growth: _Growth) -> bool:
        """Return whether the files of a log are there as they are after the round.

        So it is where a log was made anew in this round: it has no older edge then. Where it has grown into another
        tile it is made anew once more if need be.
        """
        size = growth.old_size + len(growth.entries)
        index, width = divmod(size, TILE_WIDTH)
        if not width or growth.old_size // TILE_WIDTH != index:
            return False
        bundle = Bundle(index, width)
        try:
            edge = TileEdge.read(size, lambda tile: self._objects.get(f"{growth.prefix}{tile.path()}"))
            data = self._objects.get(f"{growth.prefix}{bundle.path()}")
            tile = self._objects.get(f"{growth.prefix}{Tile(0, index, width).path()}")
            self._checked_tail(growth, bundle, data, tile)
        except (ObjectMissing, TileInvalid):
            return False
        return edge.root() == growth.root

    def _whole(self, growth: _Growth, place: Tile | Bundle, data: bytes | None) -> bytes:
        """Return the bytes of a partial tile or bundle; those of the full one if somebody has tidied up."""
        if data is None:
            full = Tile(place.level, place.index) if isinstance(place, Tile) else Bundle(place.index)
            (data,) = self._objects.get_many([f"{growth.prefix}{full.path()}"])
        if data is None:
            raise TileInvalid(f"{growth.prefix}{place.path()} is missing")
        return data

    def _checked_tail(self, growth: _Growth, bundle: Bundle, data: bytes, tile: bytes) -> bytes:
        """Return the partial bundle that grows, if its entries are those whose hashes are in the tile.

        The root shows that the tile is the right one; without this a changed entry would go on into bundles for ever.
        """
        if self._tails.get(growth.name) == hashlib.sha256(data).digest():
            return data
        entries = bundle.entries(data)
        if b"".join(map(leaf_hash, entries)) != tile[: bundle.width * len(growth.root)]:
            raise TileInvalid(f"{bundle.path()} has other entries than those of its tile")
        return _cut(data, entries)

    def _remember(self, name: str, tail: bytes) -> None:
        if len(self._tails) >= _REMEMBERED_MAX and name not in self._tails:
            self._tails.clear()  # they are checked again
        self._tails[name] = hashlib.sha256(tail).digest()

    def _made_anew(self, prefix: str, edge: TileEdge, entries: Iterator[bytes]) -> Iterator[_File]:
        tail = b""
        while block := list(islice(entries, _BLOCK)):
            bundles = extend_bundles(edge.size, tail, block)
            bundle, data = bundles[-1]
            tail = data if bundle.width < TILE_WIDTH else b""
            tiles = edge.extend([leaf_hash(entry) for entry in block])
            yield from _files(prefix, tiles, bundles)
        yield from _files(prefix, edge.partial(), ())


def _files(prefix: str, tiles: Iterable[TileFile], bundles: Iterable[BundleFile]) -> Iterator[_File]:
    yield from ((f"{prefix}{tile.path()}", data) for tile, data in tiles)
    yield from ((f"{prefix}{bundle.path()}", data) for bundle, data in bundles)


def _root_growth(made: MadeRound) -> _Growth:
    return _Growth(ROOT_LOG, ROOT_PREFIX, made.round, made.root, (made.leaf,), (leaf_hash(made.leaf),))


def _chain_growth(one: ChainGrowth) -> _Growth:
    return _Growth(one.chain, chain_prefix(one.chain), one.old_size, one.root, one.entries, one.hashes)


def _prefix(name: str) -> str:
    return chain_prefix(name) if name != ROOT_LOG else ROOT_PREFIX


def _shown(name: str) -> str:
    return f"chain {name}" if name != ROOT_LOG else "the root log"


def _cut(data: bytes, entries: Sequence[bytes]) -> bytes:
    """Return the part of a bundle that holds its first entries: a full one may stand in for a partial one."""
    return data[: sum(2 + len(entry) for entry in entries)]
