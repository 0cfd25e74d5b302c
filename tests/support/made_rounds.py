"""Rounds as the notary hands them over to be published: chains and a root log that grow, computed plainly."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.merkle import leaf_hash
from sealstream.sinks.notary.made import ChainGrowth, MadeRound


class GrowingLogs:
    """The logs of an instance, which remember all their entries."""

    def __init__(self) -> None:
        self.entries: dict[str, list[bytes]] = {}
        self.leaves: list[bytes] = []
        self._ranges: dict[str, CompactRange] = {}
        self._root = CompactRange()

    def grow(self, growth: Mapping[str, int]) -> MadeRound:
        """Make a round in which chains have grown by so many entries."""
        chains = tuple(self._grow(chain, count) for chain, count in growth.items())
        leaf = hashlib.sha256(b"round %d" % len(self.leaves)).digest() * 4
        self.leaves.append(leaf)
        self._root.append(leaf_hash(leaf))
        number = len(self.leaves) - 1
        return MadeRound(number, leaf, b"coverage %d" % number, self._root.root(), chains)

    def root(self, chain: str) -> bytes:
        """Return the root of a chain's tree as it is."""
        return self._ranges[chain].root()

    def _grow(self, chain: str, count: int) -> ChainGrowth:
        known, tree = self.entries.setdefault(chain, []), self._ranges.setdefault(chain, CompactRange())
        old_size = len(known)
        new = tuple(_entry(chain, seq) for seq in range(old_size, old_size + count))
        hashes = tuple(map(leaf_hash, new))
        known.extend(new)
        tree.extend(hashes)
        return ChainGrowth(chain, old_size, len(known), tree.root(), new, hashes)


def _entry(chain: str, seq: int) -> bytes:
    seed = hashlib.sha256(f"{chain} {seq}".encode()).digest()
    return seed * (1 + seed[0] % 5)  # of different sizes
