"""An instance whose chains are published and in the root log: small, in memory, and made in the plainest way.

It stands for the notary where proofs are tested: its storage is a dictionary, its database are lists of rows, which
:meth:`MemoryNotary.fill` writes to the notary's own tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg import sql

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.coverage import coverage_digest, pack_coverage
from sealstream.schemas.entry import ZERO_HASH, entry_hash, parse
from sealstream.schemas.log_layout import (
    ROOT_PREFIX,
    chain_prefix,
    coverage_path,
    root_checkpoint_path,
    timestamp_path,
)
from sealstream.schemas.memory_tree import MemoryTree
from sealstream.schemas.note import sign_note
from sealstream.schemas.note_key import KeyType
from sealstream.schemas.policy import Group, Log, Policy, Witness
from sealstream.schemas.round import Round
from sealstream.schemas.tenant_map import MapLeaf, TenantMap, derive_nonce, map_key
from sealstream.schemas.tile_tree import TileEdge
from sealstream.schemas.tiles import TILE_WIDTH
from sealstream.schemas.trust import Reader
from support.chained import INSTANCE, Sealed
from support.memory_objects import MemoryObjects
from support.notes import cosignature_line, signer

MAP_SECRET: Final = bytes(range(32))
LOG_KEY: Final = signer(INSTANCE)
WITNESS_KEYS: Final = tuple(signer(f"w{n}.test/witness", KeyType.COSIGNATURE) for n in (1, 2))
FIRST_ROUND_SECONDS: Final = 1_700_000_060
ROUND_SECONDS: Final = 60
NOW_SECONDS: Final = 1_790_000_000


def policy() -> Policy:
    """Return the policy by which the checkpoints made here are believed: the log, and both witnesses."""
    witnesses = tuple(Witness(f"W{n}", key.verifier) for n, key in enumerate(WITNESS_KEYS, 1))
    return Policy(
        (Log(LOG_KEY.verifier),), witnesses, (Group("both", 2, tuple(one.name for one in witnesses)),), "both"
    )


def reader(judged_by: Policy | None = None) -> Reader:
    """Return somebody who believes that policy."""
    return Reader(judged_by or policy(), NOW_SECONDS)


@dataclass
class RoundRow:
    """A row of the table of rounds."""

    round: int
    leaf: bytes
    coverage: bytes
    root: bytes
    made_seconds: float
    note: bytes
    witnessed: bool
    token: bytes | None = None


@dataclass
class MemoryNotary:
    """Chains, published and in the root log.

    Arguments:
        objects: The storage.
        rounds: The table of rounds.
        leaves: The maps' leaves, by round and block.
        tiles: The maps' tiles, by round, level and index.
    """

    objects: MemoryObjects = field(default_factory=MemoryObjects)
    rounds: list[RoundRow] = field(default_factory=list[RoundRow])
    leaves: dict[tuple[int, int], bytes] = field(default_factory=dict[tuple[int, int], bytes])
    tiles: dict[tuple[int, int, int], bytes] = field(default_factory=dict[tuple[int, int, int], bytes])
    hashes: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict[str, list[bytes]](list))
    _edges: dict[str, TileEdge] = field(default_factory=lambda: defaultdict[str, TileEdge](TileEdge))
    _map: TenantMap = field(default_factory=TenantMap)
    _log: MemoryTree = field(default_factory=MemoryTree)
    _log_edge: TileEdge = field(default_factory=TileEdge)

    def add(self, records: Iterable[Sealed]) -> None:
        """Take in records of chains, which the next round will have."""
        for record in records:
            self.hashes[parse(record.entry).tenant].append(entry_hash(record.entry))

    def add_hashes(self, chain: str, hashes: Sequence[bytes]) -> None:
        """Take in entries of which only the hashes are known."""
        self.hashes[chain].extend(hashes)

    def round(self, *, witnesses: int = 2, token: bytes | None = None) -> RoundRow:
        """Make a round of what was taken in, publish it, and let so many witnesses cosign it."""
        changed = [name for name, known in self.hashes.items() if len(known) > self._edges[name].size]
        self._map.update([self._grow(name) for name in changed])
        number = len(self.rounds)
        coverage = pack_coverage(())
        leaf = Round(
            number,
            Round.parse(self.rounds[-1].leaf).hash() if self.rounds else ZERO_HASH,
            len(coverage),
            coverage_digest(coverage),
            self._map.size,
            self._map.root(),
        )
        self._keep_map(number)
        self._log.append(leaf.hash())
        self._publish(ROOT_PREFIX, self._log_edge, [leaf.hash()])
        self.objects.put(coverage_path(number), coverage)
        seconds = FIRST_ROUND_SECONDS + number * ROUND_SECONDS
        checkpoint = Checkpoint(INSTANCE, number + 1, self._log.root())
        note = sign_note(checkpoint.pack(), [LOG_KEY])
        for key in WITNESS_KEYS[:witnesses]:
            note += cosignature_line(checkpoint, key, seconds + 1)
        row = RoundRow(
            number, leaf.pack(), coverage, checkpoint.root, float(seconds), note, witnesses == len(WITNESS_KEYS)
        )
        self.rounds.append(row)
        if row.witnessed:
            self.objects.put(root_checkpoint_path(number + 1), note)
        if token is not None:
            self.stamp(number, token)
        return row

    def stamp(self, number: int, token: bytes) -> None:
        """Put a timestamp over the root checkpoint of a round."""
        self.rounds[number].token = token
        self.objects.put(timestamp_path(number + 1), token)

    def prune(self, number: int) -> None:
        """Drop the map of a round."""
        self.leaves = {place: data for place, data in self.leaves.items() if place[0] != number}
        self.tiles = {place: data for place, data in self.tiles.items() if place[0] != number}

    def rows(self, query: sql.SQL, *arguments: Any) -> list[tuple[Any, ...]]:
        """Answer what proofs ask the notary's database for."""
        text = query.as_string()
        if "map_tiles" in text:
            number, *places = arguments
            asked = [(number, level, index) for level, index in zip(*places, strict=True)]
            return [(*place[1:], self.tiles[place]) for place in asked if place in self.tiles]
        if "JOIN" in text:
            kept = sorted(round_ for round_, index in self.leaves if index == 0 and round_ >= arguments[0])
            return [
                (n, self.rounds[n].made_seconds, self.rounds[n].witnessed, self.rounds[n].token is not None)
                for n in kept
            ]
        if "map_leaves" in text:
            found = self.leaves.get(arguments)
            return [] if found is None else [(found,)]
        if "DESC" in text:
            return [(row.round,) for row in reversed(self.rounds) if row.witnessed][:1]
        if "witnessed_at" in text:
            return [(row.round,) for row in self.rounds if row.round >= arguments[0] and row.witnessed][:1]
        assert "leaf" in text
        return [(row.leaf,) for row in self.rounds if row.round == arguments[0]]

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def fill(self, url: str) -> None:
        """Write the rows into the notary's tables of a database, as its superuser."""
        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("TRUNCATE sealstream_notary.rounds, sealstream_notary.map_leaves")
            cursor.execute("TRUNCATE sealstream_notary.map_tiles")
            for row in self.rounds:
                made = datetime.fromtimestamp(row.made_seconds, UTC)
                cursor.execute(
                    "INSERT INTO sealstream_notary.rounds (round, leaf, coverage, root, made_at, note, witnessed_at,"
                    " timestamp_token, timestamped_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                    (
                        row.round,
                        row.leaf,
                        row.coverage,
                        row.root,
                        made,
                        row.note.decode(),
                        made if row.witnessed else None,
                        row.token,
                        None if row.token is None else made,
                    ),
                )
            cursor.executemany(
                "INSERT INTO sealstream_notary.map_leaves VALUES (%s, %s, %s)",
                [(*place, data) for place, data in self.leaves.items()],
            )
            cursor.executemany(
                "INSERT INTO sealstream_notary.map_tiles VALUES (%s, %s, %s, %s)",
                [(*place, data) for place, data in self.tiles.items()],
            )

    def _grow(self, name: str) -> MapLeaf:
        edge = self._edges[name]
        self._publish(chain_prefix(name), edge, self.hashes[name][edge.size :])
        return MapLeaf(map_key(derive_nonce(MAP_SECRET, name), name), edge.size, edge.root())

    def _publish(self, prefix: str, edge: TileEdge, hashes: Sequence[bytes]) -> None:
        size = edge.size
        for tile, data in [*edge.extend(hashes), *edge.partial(size)]:
            self.objects.put(prefix + tile.path(), data)

    def _keep_map(self, number: int) -> None:
        leaves, edge = list(self._map), TileEdge()
        for tile, data in [*edge.extend([leaf.hash() for leaf in leaves]), *edge.partial()]:
            self.tiles[number, tile.level, tile.index] = data
        for place in range(0, len(leaves), TILE_WIDTH):
            packed = b"".join(leaf.pack() for leaf in leaves[place : place + TILE_WIDTH])
            self.leaves[number, place // TILE_WIDTH] = packed
