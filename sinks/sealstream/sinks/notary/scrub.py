"""Recomputes the roots of all chains from the store, over and over, a bounded share of it at a time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.entry import ZERO_HASH
from sealstream.schemas.errors import ChainPlace, StoreDamaged, TreeDiffers
from sealstream.sinks.notary.chain_check import ANOTHER_END, REWRITTEN_HINT, check_entries
from sealstream.sinks.notary.chains import Chains
from sealstream.sinks.notary.steps import ChainHead
from sealstream.sinks.notary.stored import ChainRange, Snapshot, StoredEntry

SHARE_ENTRIES: Final = 20_000
"""What is read again in each round: some 0.2 s of work."""
START_ENTRIES_MAX: Final = 200_000
"""A store of no more entries is read again as a whole before the first signature."""


@dataclass(slots=True)
class _Walk:
    """A chain on the way to its head."""

    head: ChainHead
    tree: CompactRange = field(default_factory=CompactRange)
    prev: bytes = ZERO_HASH


class Scrub:
    """Walks over all chains in the order of their names, and begins anew at the end.

    Arguments:
        chains: The chains; their heads are taken when a chain's turn comes.
    """

    def __init__(self, chains: Chains) -> None:
        self._chains = chains
        self._names: list[str] = []
        self._place = 0
        self._walk: _Walk | None = None

    def run(self, snapshot: Snapshot, *, entries_max: int = SHARE_ENTRIES) -> int:
        """Read so many entries again, or those of all chains once, and return how many that were.

        After an error begin anew: what was on its way is forgotten.

        Arguments:
            snapshot: The store, at a moment behind that of the chains' heads.
            entries_max: The most entries.

        Raises:
            StoreDamaged: An entry is missing, was changed, or does not continue the one before it.
            TreeDiffers: The store has fewer entries than a head says, or the head does not have their root.
            StoreError: It refuses.
            Unreachable: It does not answer.
        """
        if self._walk is None and self._place >= len(self._names):
            self._names, self._place = self._chains.names(), 0
        planned: list[tuple[_Walk, int]] = []
        left = entries_max
        while left > 0 and (walk := self._next()) is not None:
            count = min(left, walk.head.size - walk.tree.end)
            planned.append((walk, walk.tree.end + count))
            left -= count
            self._walk = walk if planned[-1][1] < walk.head.size else None
        stored: dict[str, list[StoredEntry]] = defaultdict(list)
        for one in snapshot.entries(ChainRange(walk.head.chain, walk.tree.end, end) for walk, end in planned):
            stored[one.chain].append(one)
        for walk, end in planned:
            self._check(walk, end, stored.pop(walk.head.chain, []))
        return entries_max - left

    def _next(self) -> _Walk | None:
        """Return the chain whose turn it is; ``None`` if all had theirs."""
        if self._walk is not None:
            return self._walk
        while self._place < len(self._names):
            head = self._chains.head(self._names[self._place])
            self._place += 1
            if head is not None:
                return _Walk(head)
        return None

    def _check(self, walk: _Walk, end: int, stored: list[StoredEntry]) -> None:
        _, hashes = check_entries(walk.head.chain, walk.tree.end, end, walk.prev, stored)
        walk.tree.extend(hashes)
        walk.prev = hashes[-1]
        if end < walk.head.size:
            return
        if walk.prev != walk.head.last_hash:
            raise StoreDamaged(walk.head.chain, end - 1, ANOTHER_END, hint=REWRITTEN_HINT)
        if walk.tree.root() != walk.head.root:
            # The entries are those committed to, for each commits to all before it: it is the head that is not.
            raise TreeDiffers(
                f"chain {walk.head.chain}: its {end} entries in the store come to another root than its head has",
                places=[ChainPlace(walk.head.chain, None)],
                hint="the notary's database was changed or damaged: restore it, never together with the store",
            )
