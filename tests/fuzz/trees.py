"""Targets: trees, tiles, proofs, and the leaves that trees are made of."""

from __future__ import annotations

from typing import Final

from fuzz.target import Target, bytes_of, same, text_of
from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.coverage import (
    COVERAGE_LABEL,
    OffsetRange,
    PartitionCoverage,
    coverage_digest,
    pack_coverage,
    parse_coverage,
)
from sealstream.schemas.entry import ZERO_HASH, entry_hash
from sealstream.schemas.errors import LeafInvalid, NameInvalid, ProofInvalid, TileInvalid, TreeInvalid
from sealstream.schemas.memory_tree import MemoryTree
from sealstream.schemas.merkle import EMPTY_ROOT, HASH_BYTES
from sealstream.schemas.proofs import verify_consistency, verify_inclusion
from sealstream.schemas.round import Round, RoundFollower
from sealstream.schemas.tenant_map import MapLeaf
from sealstream.schemas.tenant_name import decode_tenant, encode_tenant
from sealstream.schemas.tile_tree import TileEdge, verify_tiles
from sealstream.schemas.tiles import (
    TILE_WIDTH,
    Bundle,
    Tile,
    extend_bundles,
    pack_entries,
    parse_path,
)
from support.published import TOPIC_ID, chain_of

ENTRIES: Final = tuple(chain_of("acme", 300))
HASHES: Final = tuple(entry_hash(entry) for entry in ENTRIES)
TREE: Final = MemoryTree(HASHES)
PARTITION: Final = PartitionCoverage(
    TOPIC_ID,
    2,
    0,
    20,
    (1, 7, 0, 2, 1, 0, 0, 1, 0),
    invisible=(OffsetRange(2, 2), OffsetRange(4, 6)),
    lost=(OffsetRange(10, 15),),
)
COVERAGE: Final = pack_coverage([PARTITION, PartitionCoverage(TOPIC_ID, 3, 0, 0, (0,) * 9)])
ROUND: Final = Round(0, ZERO_HASH, len(COVERAGE), coverage_digest(COVERAGE), 1, TREE.root())


def tiles_of(hashes: tuple[bytes, ...]) -> dict[Tile, bytes]:
    """Return the tiles of a tree."""
    edge = TileEdge()
    return dict(edge.extend(hashes) + edge.partial())


def bundles_of(entries: tuple[bytes, ...]) -> dict[Bundle, bytes]:
    """Return the entry bundles of a log."""
    return dict(extend_bundles(0, b"", entries))


_TILES: Final = tiles_of(HASHES)
_BUNDLES: Final = bundles_of(ENTRIES)


def _tile(data: bytes) -> None:
    """The first byte is the tile's width, 0 for a full one."""
    width = data[0] if data else 0
    tile = Tile(0, 0, width or TILE_WIDTH)
    hashes = tile.hashes(data[1:])
    assert len(hashes) == tile.width
    assert data[1:].startswith(b"".join(hashes))


def _bundle(data: bytes) -> None:
    """The first byte is the bundle's width, 0 for a full one."""
    bundle = Bundle(0, (data[0] if data else 0) or TILE_WIDTH)
    entries = bundle.entries(data[1:])
    assert len(entries) == bundle.width
    assert data[1:].startswith(pack_entries(entries))


def _tail(data: bytes) -> None:
    """The first byte is the number of entries that the partial bundle is said to have."""
    size = data[0] if data else 0
    (bundle, grown), *_ = extend_bundles(size, data[1:], [b"one more"])
    assert bundle.entries(grown)[-1] == b"one more"


def _path(data: bytes) -> None:
    path = text_of(data)
    assert parse_path(path).path() == path


def _whole(data: bytes) -> None:
    """The first byte says in which file's place the rest stands: who verifies takes the right bytes, and no others."""
    files: list[Tile | Bundle] = [*_TILES, *_BUNDLES]
    place = files[(data[0] if data else 0) % len(files)]
    right = _TILES[place] if isinstance(place, Tile) else _BUNDLES[place]
    verify_tiles(
        len(HASHES),
        TREE.root(),
        lambda tile: data[1:] if tile == place else _TILES[tile],
        lambda bundle: data[1:] if bundle == place else _BUNDLES[bundle],
    )
    assert data[1:] == right


def _follow(data: bytes) -> None:
    """The leaf and the coverage of a round, one behind the other."""
    size = len(ROUND.pack())
    follower = RoundFollower()
    leaf, _ = follower.follow(data[:size], data[size:])
    assert (follower.next_round, follower.chains) == (1, leaf.chains)


def _hashes(data: bytes) -> list[bytes]:
    return [data[place : place + HASH_BYTES] for place in range(0, len(data), HASH_BYTES)]


def _inclusion(data: bytes) -> None:
    """Index and size in 8 bytes each, the leaf, and the proof."""
    index, size, leaf = int.from_bytes(data[:8], "big"), int.from_bytes(data[8:16], "big"), data[16:48]
    verify_inclusion(_hashes(data[48:]), leaf=leaf, index=index, size=size, root=TREE.root())
    if size == TREE.size:
        assert HASHES[index] == leaf


def _consistency(data: bytes) -> None:
    """The older size in 8 bytes, its root, and the proof."""
    first, first_root = int.from_bytes(data[:8], "big"), data[8:40]
    verify_consistency(
        _hashes(data[40:]), first_size=first, first_root=first_root, second_size=TREE.size, second_root=TREE.root()
    )
    assert first_root == (MemoryTree(HASHES[:first]).root() if first else EMPTY_ROOT)


def _range(data: bytes) -> None:
    found = CompactRange.from_state(data)
    assert found.state() == data
    if not found.begin:
        found.root()
    found.append(HASHES[0])
    found.extend(HASHES[1:3])
    assert CompactRange.from_state(found.state()) == found


def _eight(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _prefixed(width: int, data: bytes) -> bytes:
    return bytes((width % TILE_WIDTH,)) + data


_STATE: Final = CompactRange()
_STATE.extend(HASHES)

TARGETS: Final = (
    Target("tile", _tile, (_prefixed(0, _TILES[Tile(0, 0)]), _prefixed(44, _TILES[Tile(0, 1, 44)])), (TileInvalid,)),
    Target(
        "bundle",
        _bundle,
        (_prefixed(44, _BUNDLES[Bundle(1, 44)]), _prefixed(2, pack_entries([b"", b"ab"]))),
        (TileInvalid,),
    ),
    Target("bundle-tail", _tail, (_prefixed(0, b""), _prefixed(3, pack_entries([b"", b"ab", b"c"]))), (TileInvalid,)),
    Target(
        "tile-path",
        _path,
        (b"tile/0/000", b"tile/1/x001/x234/067.p/255", b"tile/entries/x999/000", b"tile/entries/000.p/1"),
        (TileInvalid,),
    ),
    Target(
        "tile-tree",
        _whole,
        tuple(_prefixed(number, data) for number, data in enumerate((*_TILES.values(), *_BUNDLES.values()))),
        (TileInvalid,),
    ),
    Target(
        "coverage",
        same(parse_coverage, pack_coverage),
        (COVERAGE, COVERAGE_LABEL + bytes(4)),
        (LeafInvalid,),
    ),
    Target("round", same(Round.parse, Round.pack), (ROUND.pack(),), (LeafInvalid,)),
    Target("round-follower", _follow, (ROUND.pack() + COVERAGE,), (LeafInvalid,)),
    Target("map-leaf", same(MapLeaf.parse, MapLeaf.pack), (MapLeaf(HASHES[0], 300, TREE.root()).pack(),)),
    Target(
        "tenant-name",
        same(lambda data: decode_tenant(text_of(data)), lambda chain: bytes_of(encode_tenant(chain))),
        (b"acme", b"_acme", b"a__b", b"acme_0", b"_1partition-0", b"_1partition-2147483647"),
        (NameInvalid,),
    ),
    Target("compact-range", _range, (_STATE.state(), CompactRange(7).state()), (TreeInvalid,)),
    Target(
        "inclusion",
        _inclusion,
        tuple(
            _eight(index) + _eight(300) + HASHES[index] + b"".join(TREE.inclusion_proof(index))
            for index in (0, 17, 299)
        ),
        (ProofInvalid,),
    ),
    Target(
        "consistency",
        _consistency,
        tuple(
            _eight(size) + MemoryTree(HASHES[:size]).root() + b"".join(TREE.consistency_proof(size))
            for size in (0, 1, 128, 299, 300)
        ),
        (ProofInvalid,),
    ),
)
