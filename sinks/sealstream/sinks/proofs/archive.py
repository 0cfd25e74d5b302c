"""What proofs are made from: the maps that the notary keeps, and the published logs. All of it is a hint.

Whoever takes something from here holds it to a root that was signed. Tiles, notes and maps never change once they are
there, so they are remembered, up to a bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from sealstream.schemas.erased_tiles import read_place
from sealstream.schemas.errors import ObjectMissing, StoreError
from sealstream.schemas.log_layout import ROOT_PREFIX, chain_prefix, root_checkpoint_path, timestamp_path
from sealstream.schemas.merkle import HASH_BYTES, Node, NodeSource
from sealstream.schemas.round import Round
from sealstream.schemas.tenant_map import MAP_LABEL, MAP_LEAF_BYTES, MapLeaf
from sealstream.schemas.tile_tree import TileNodes, tiles_for_inclusion
from sealstream.schemas.tiles import TILE_WIDTH, Tile
from sealstream.sinks.proofs.cache import BytesCache
from sealstream.sinks.proofs.kept_rounds import KeptRound, KeptRounds
from sealstream.sinks.proofs.notary_reader import NotaryReader
from sealstream.worker.objects import Objects

CACHE_BYTES: Final = 64 * 2**20
_TILE_BYTES_MAX: Final = TILE_WIDTH * HASH_BYTES
_NOTE_BYTES_MAX: Final = 1_000_000
_TOKEN_BYTES_MAX: Final = 1_000_000
_STEPS_MAX: Final = 80  # a map of the most chains that there can be is halved 63 times
_NEAR_STEPS: Final = 8
_PRUNED_HINT: Final = "it may have been pruned: try again"

# From the leaves of the maps, which are few: of most rounds only the rows in "rounds" are still there.
_KEPT: Final = sql.SQL(
    "SELECT r.round, extract(epoch FROM r.made_at)::float8, r.witnessed_at IS NOT NULL, r.timestamped_at IS NOT NULL"
    " FROM sealstream_notary.map_leaves AS m JOIN sealstream_notary.rounds AS r USING (round)"
    " WHERE m.index = 0 AND m.round >= %s ORDER BY m.round"
)
_LEAF: Final = sql.SQL("SELECT leaf FROM sealstream_notary.rounds WHERE round = %s")
_MAP_LEAVES: Final = sql.SQL("SELECT data FROM sealstream_notary.map_leaves WHERE round = %s AND index = %s")
_MAP_TILES: Final = sql.SQL(
    "SELECT level, index, data FROM sealstream_notary.map_tiles"
    " WHERE round = %s AND (level, index) IN (SELECT * FROM unnest(%s::integer[], %s::bigint[]))"
)
_WITNESSED: Final = sql.SQL(
    "SELECT round FROM sealstream_notary.rounds WHERE round >= %s AND witnessed_at IS NOT NULL ORDER BY round LIMIT 1"
)
_LAST_WITNESSED: Final = sql.SQL(
    "SELECT round FROM sealstream_notary.rounds WHERE witnessed_at IS NOT NULL ORDER BY round DESC LIMIT 1"
)


class NotKept(StoreError):
    """A round or a part of a map is not there: it was pruned, and what was known of it is out of date."""


@dataclass(frozen=True, slots=True)
class MapPlace:
    """Where a chain stands in the map of a round.

    Arguments:
        index: Its place.
        leaf: What the map says of it.
    """

    index: int
    leaf: MapLeaf


class Archive:
    """Reads what proofs are made from; for several threads.

    Arguments:
        database: The notary's database.
        objects: Where the logs are published.
        cache_bytes: How much of what was read is remembered.
    """

    def __init__(self, database: NotaryReader, objects: Objects, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._database = database
        self._objects = objects
        self._cache = BytesCache(cache_bytes)
        self.rounds = KeptRounds(self._read_rounds)

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def round(self, number: int) -> Round:
        """Return the leaf of a round.

        Raises:
            LeafInvalid: What is kept is no leaf.
            StoreError: There is no such round, or the database cannot be used.
            Unreachable: The database does not answer.
        """
        return Round.parse(self._cache.get(("round", number), lambda: self._one(_LEAF, f"round {number}", number)))

    def map_place(self, number: int, chains: int, key: bytes) -> MapPlace | None:
        """Return where a chain stands in the map of a round; ``None`` if the map does not have it.

        Keys are hashes, so the place of one is nearly known: one or two blocks of leaves are read, of however many.

        Arguments:
            number: The round.
            chains: The number of chains in its map.
            key: The chain's key in the map.

        Raises:
            LeafInvalid: What is kept is no map.
            StoreError: The map is not kept, or the database cannot be used.
            Unreachable: The database does not answer.
        """
        low, high = 0, -(-chains // TILE_WIDTH)  # blocks that it can stand in
        guess = min(high - 1, (int.from_bytes(key[:8], "big") * chains >> 64) // TILE_WIDTH)
        for step in range(_STEPS_MAX):
            if low >= high:
                return None
            count = min(TILE_WIDTH, chains - guess * TILE_WIDTH)
            data = self._map_block(number, guess, count)
            place = bisect_left(range(count), key, key=lambda at: _key(data, at))
            if place < count and _key(data, place) == key:
                leaf = MapLeaf.parse(data[place * MAP_LEAF_BYTES : (place + 1) * MAP_LEAF_BYTES])
                return MapPlace(guess * TILE_WIDTH + place, leaf)
            if place not in (0, count):
                return None
            if place:
                low, guess = guess + 1, guess + 1
            else:
                high, guess = guess, guess - 1
            if step >= _NEAR_STEPS or not low <= guess < high:
                guess = (low + high) // 2
        return None

    def map_nodes(self, number: int, chains: int, index: int) -> TileNodes:
        """Return the nodes of the map of a round, as it is kept, that prove a leaf's place in it: read at once.

        Arguments:
            number: The round.
            chains: The number of chains in its map.
            index: The leaf's place.

        Raises:
            TreeInvalid: The map has no such place.
            StoreError: The map is not kept, or the database cannot be used.
            Unreachable: The database does not answer.
        """
        keys = {tile: ("map", number, tile.level, tile.index) for tile in tiles_for_inclusion(index, chains)}
        tiles = {tile: data for tile, key in keys.items() if (data := self._cache.known(key)) is not None}
        for tile, data in self._map_tiles(number, [tile for tile in keys if tile not in tiles]):
            tiles[tile] = data
            self._cache.keep(keys[tile], data)
        return TileNodes(chains, tiles.__getitem__)

    def chain_nodes(self, chain: str, size: int) -> NodeSource:
        """Return the nodes of a chain's tree of a size, as it is published."""
        return self._published(chain_prefix(chain), size)

    def root_nodes(self, size: int) -> NodeSource:
        """Return the nodes of the root log of a size, as it is published."""
        return self._published(ROOT_PREFIX, size)

    def witnessed_from(self, number: int) -> int | None:
        """Return the first round from one on whose root checkpoint has reached its quorum; ``None`` for none."""
        rows = self._database.rows(_WITNESSED, number)
        return int(rows[0][0]) if rows else None

    def last_witnessed(self) -> int | None:
        """Return the last round whose root checkpoint has reached its quorum; ``None`` for none."""
        rows = self._database.rows(_LAST_WITNESSED)
        return int(rows[0][0]) if rows else None

    def root_checkpoint(self, size: int) -> bytes:
        """Return the published root checkpoint of a size, a signed note.

        Raises:
            ObjectMissing: It is not published.
            StoreError: The storage refuses.
            Unreachable: The storage does not answer.
        """
        path = root_checkpoint_path(size)
        return self._cache.get(path, lambda: self._objects.get(path, bytes_max=_NOTE_BYTES_MAX))

    def timestamp(self, size: int) -> bytes | None:
        """Return the timestamp over the root checkpoint of a size; ``None`` if there is none.

        Raises:
            StoreError: The storage refuses.
            Unreachable: The storage does not answer.
        """
        path = timestamp_path(size)
        try:
            return self._cache.get(path, lambda: self._objects.get(path, bytes_max=_TOKEN_BYTES_MAX))
        except ObjectMissing:
            return None

    def _read_rounds(self, begin: int) -> list[KeptRound]:
        return [KeptRound(*row) for row in self._database.rows(_KEPT, begin)]

    def _map_block(self, number: int, index: int, count: int) -> bytes:
        name = f"leaves {index} of the map of round {number}"
        data = self._cache.get(("leaves", number, index), lambda: self._one(_MAP_LEAVES, name, number, index))
        if len(data) != count * MAP_LEAF_BYTES:
            raise StoreError(f"the notary's database has {len(data)} bytes for {name}: not {count} leaves")
        return data

    def _map_tiles(self, number: int, tiles: Sequence[Tile]) -> Iterator[tuple[Tile, bytes]]:
        if not tiles:
            return
        levels, indexes = [tile.level for tile in tiles], [tile.index for tile in tiles]
        rows = self._database.rows(_MAP_TILES, number, levels, indexes)
        kept = {(level, index): bytes(data) for level, index, data in rows}
        for tile in tiles:
            if (tile.level, tile.index) not in kept:
                raise NotKept(
                    f"the notary's database has no tile {tile.level}/{tile.index} of the map of round {number}",
                    hint=_PRUNED_HINT,
                )
            yield tile, kept[tile.level, tile.index]

    def _one(self, query: sql.SQL, name: str, *arguments: object) -> bytes:
        rows = self._database.rows(query, *arguments)
        if not rows:
            raise NotKept(f"the notary's database has no {name}", hint=_PRUNED_HINT)
        return bytes(rows[0][0])

    def _published(self, prefix: str, size: int) -> NodeSource:
        def below(path: str) -> bytes:
            return self._objects.get(prefix + path, bytes_max=_NOTE_BYTES_MAX)

        def read(tile: Tile) -> bytes:
            full = Tile(tile.level, tile.index).path()
            if (known := self._cache.known(prefix + full)) is not None:
                return known
            # A wider one stands in for one that was erased, cut to what was asked for: that never changes.
            data = self._cache.get(prefix + tile.path(), lambda: read_place(below, tile))
            # The full one is of use for all other sizes as well.
            return data if len(data) < _TILE_BYTES_MAX else self._cache.get(prefix + full, lambda: data)

        nodes = TileNodes(size, read)

        def node(place: Node) -> bytes:
            # One in the middle of a tile is the hash of up to 128 others, and is the same in all sizes that have it.
            return self._cache.get((prefix, place), lambda: nodes(place))

        return node


def _key(leaves: bytes, place: int) -> bytes:
    """Return the key of the leaf at a place among leaves that stand one behind the other."""
    begin = place * MAP_LEAF_BYTES + len(MAP_LABEL)
    return leaves[begin : begin + HASH_BYTES]
