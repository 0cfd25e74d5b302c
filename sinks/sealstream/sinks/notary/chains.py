"""All chains' heads, and the tenant map over them: kept in memory from round to round, as a function of the rounds.

A million chains must fit. So a head is kept as its bytes (some 0.4 KB with its name) and unpacked when it is needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.errors import ChainPlace, TreeDiffers
from sealstream.schemas.merkle import HASH_BYTES
from sealstream.schemas.tenant_map import MapLeaf, TenantMap, derive_nonce, map_key
from sealstream.schemas.tiles import TILE_WIDTH
from sealstream.sinks.notary.gathering import BEGINNING, End
from sealstream.sinks.notary.steps import ChainHead, ChainStep, MapTile
from sealstream.sinks.notary.stored_rows import Link

_HEAD: Final = struct.Struct(">QQQI32s32s")  # size, grown_in, size_before, partition, root, last_hash


class Chains:
    """The heads of an instance's chains, and the map over them.

    Arguments:
        secret: What the map's nonces are made from, 32 bytes.
        heads: The heads to begin with.

    Raises:
        LeafInvalid: The secret has another size.
        TreeDiffers: A head is none.
    """

    def __init__(self, secret: bytes, heads: Iterable[ChainHead] = ()) -> None:
        self._secret = secret
        self._heads: dict[str, bytes] = {}
        self._map = TenantMap()
        rest = iter(heads)
        while block := list(islice(rest, _BLOCK_CHAINS)):
            self._heads.update((head.chain, _pack(head)) for head in block)
        self._map.update(self._leaf(head) for head in self)

    def __len__(self) -> int:
        return len(self._heads)

    def __iter__(self) -> Iterator[ChainHead]:
        return (_unpack(chain, data) for chain, data in self._heads.items())

    def names(self) -> list[str]:
        """Return the names of all chains, in order."""
        return sorted(self._heads)

    def head(self, chain: str) -> ChainHead | None:
        """Return how far a chain has come; ``None`` if it has not begun."""
        data = self._heads.get(chain)
        return None if data is None else _unpack(chain, data)

    def end(self, chain: str) -> End:
        """Return where a chain ends."""
        data = self._heads.get(chain)
        if data is None:
            return BEGINNING
        size, _, _, _, _, last_hash = _HEAD.unpack_from(data)
        return End(size, last_hash)

    @property
    def map_root(self) -> bytes:
        """The root of the tenant map."""
        return self._map.root()

    def grow(self, chain: str, links: Sequence[Link], round_number: int) -> ChainStep:
        """Return what entries make of a chain; nothing is changed by it.

        Arguments:
            chain: The chain.
            links: Its next entries, in their order; at least one.
            round_number: The round.

        Raises:
            TreeDiffers: What is remembered of the chain does not hold together.
        """
        before = self.head(chain)
        tree = CompactRange() if before is None else tree_of(before)
        size_before = tree.end
        tree.extend([link.hash for link in links])
        last = links[-1]
        after = ChainHead(
            chain, last.partition, tree.end, tree.root(), last.hash, tree.state(), round_number, size_before
        )
        return ChainStep(before, after)

    def apply(self, steps: Iterable[ChainStep]) -> None:
        """Take chains that have grown into the heads and the map.

        Raises:
            TreeDiffers: A chain would shrink, or be another one at the same size.
        """
        heads = [step.after for step in steps]
        self._map.update(self._leaf(head) for head in heads)
        self._heads.update((head.chain, _pack(head)) for head in heads)

    def map_tiles(self) -> list[MapTile]:
        """Return all tiles of the map's tree."""
        return [MapTile(tile.level, tile.index, data) for tile, data in self._map.tiles()]

    def map_leaves(self) -> list[bytes]:
        """Return the map's leaves in their order, 256 to a piece."""
        rest = iter(self._map)
        pieces: list[bytes] = []
        while piece := b"".join(leaf.pack() for leaf in islice(rest, TILE_WIDTH)):
            pieces.append(piece)
        return pieces

    def _leaf(self, head: ChainHead) -> MapLeaf:
        return MapLeaf(map_key(derive_nonce(self._secret, head.chain), head.chain), head.size, head.root)


_BLOCK_CHAINS: Final = 10_000


def tree_of(head: ChainHead) -> CompactRange:
    """Return the compact range of a chain.

    Raises:
        TreeDiffers: It does not give the chain's root.
    """
    tree = CompactRange.from_state(head.hashes)
    if (tree.begin, tree.end) != (0, head.size) or tree.root() != head.root:
        raise TreeDiffers(
            f"what the notary remembers of chain {head.chain} does not hold together",
            places=[ChainPlace(head.chain, None)],
            hint="its database was changed or damaged: restore it, never together with the store",
        )
    return tree


def _pack(head: ChainHead) -> bytes:
    if len(head.root) != HASH_BYTES or len(head.last_hash) != HASH_BYTES:
        raise TreeDiffers(
            f"what the notary remembers of chain {head.chain} are no hashes", places=[ChainPlace(head.chain, None)]
        )
    numbers = (head.size, head.grown_in, head.size_before, head.partition)
    return _HEAD.pack(*numbers, head.root, head.last_hash) + head.hashes


def _unpack(chain: str, data: bytes) -> ChainHead:
    size, grown_in, size_before, partition, root, last_hash = _HEAD.unpack_from(data)
    return ChainHead(chain, partition, size, root, last_hash, data[_HEAD.size :], grown_in, size_before)
