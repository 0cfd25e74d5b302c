"""Chains of the store held against what was published of them: which differ, from which entry on, and what that is.

The decisions are a table in this package's README, and held by tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, NamedTuple

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.entry import entry_hash
from sealstream.schemas.merkle import root
from sealstream.schemas.tiles import TILE_HEIGHT, TILE_WIDTH
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.sinks.verifier.published import Head
from sealstream.sinks.verifier.trusted_tiles import UNUSABLE, TrustedTiles

Row = tuple[int, bytes]
"""A stored entry: its seq and its bytes."""

COMPARED_MAX: Final = 1_000
"""So many chains that differ are compared entry by entry; of further ones it is only said that they do."""


class Difference(NamedTuple):
    """Where a chain begins to be another one than was published.

    Arguments:
        first: The first seq that differs, or that can differ.
        last: The last seq that may be the first one that differs: equal to ``first`` where it is known.
    """

    first: int
    last: int


class Reached(NamedTuple):
    """How far a chain was found in the store, where that is not what was published.

    Arguments:
        last: The seq of its last entry; -1 if there is none.
        tree: The tree over its entries as far as they were published; ``None`` if they are none.
    """

    last: int
    tree: CompactRange | None


@dataclass(slots=True)
class Comparison:
    """Takes what the store has of each chain, in any order, and keeps what differs.

    Arguments:
        heads: How far chains were published.
        held: The seq of the last entry of each chain that is what was published.
        differing: What the others came to.
        unpublished: Chains of which nothing was published.
    """

    heads: Mapping[str, Head]
    held: dict[str, int] = field(default_factory=dict[str, int])
    differing: dict[str, Reached] = field(default_factory=dict[str, Reached])
    unpublished: set[str] = field(default_factory=set[str])

    def take(self, chain: str, last: int, tree: CompactRange | None) -> None:
        """Take in a chain."""
        head = self.heads.get(chain)
        if head is None:
            self.unpublished.add(chain)
        elif tree is not None and tree.begin == 0 and tree.end == head.size and tree.root() == head.root:
            self.held[chain] = last
        else:
            self.differing[chain] = Reached(last, tree)

    def vanished(self) -> list[str]:
        """Return the chains that were published, and that the store has nothing of."""
        return sorted(self.heads.keys() - self.held.keys() - self.differing.keys())


def first_difference(rows: Iterable[Row], tiles: TrustedTiles) -> Difference | None:
    """Return where entries are not those that were published; ``None`` if all of them are.

    Where tiles are gone, those above them tell a range of 256 entries, or of 65,536, in which it is.

    Arguments:
        rows: The entries, in the order of their seqs; some may be missing, and one can be there twice.
        tiles: The published tree.
    """
    for number, block in groupby(rows, key=lambda row: row[0] // TILE_WIDTH):
        found = _in_block(number, [(seq, entry_hash(entry)) for seq, entry in block if seq < tiles.size], tiles)
        if found is not None:
            return found
    return None


def _in_block(number: int, block: list[tuple[int, bytes]], tiles: TrustedTiles) -> Difference | None:
    if not block:
        return None
    try:
        published = tiles.hashes(0, number)
    except UNUSABLE:
        return _by_above(number, block, tiles)
    differs = (seq for seq, digest in block if published[seq % TILE_WIDTH] != digest)
    seq = next(differs, None)
    return None if seq is None else Difference(seq, seq)


def _by_above(number: int, block: list[tuple[int, bytes]], tiles: TrustedTiles) -> Difference | None:
    """Compare 256 entries by the hash above them, where their own are gone."""
    first = number * TILE_WIDTH
    last = min(first + TILE_WIDTH, tiles.size) - 1
    try:
        published = tiles.hashes(1, number // TILE_WIDTH)[number % TILE_WIDTH]
    except (*UNUSABLE, IndexError):
        # Even that is gone: it can be from here on, and somewhere below the hash that is still there.
        return Difference(first, min(tiles.size, (first | ((1 << 2 * TILE_HEIGHT) - 1)) + 1) - 1)
    is_whole = [seq for seq, _ in block] == list(range(first, first + TILE_WIDTH))
    if is_whole and root([digest for _, digest in block]) == published:
        return None
    return Difference(first, last)


class Judge:
    """Says what is wrong with chains that are not what was published.

    Arguments:
        instance: Whose chains they are.
        heads: How far they were published.
        tiles_of: Returns a chain's tiles.
        entries_of: Returns a chain's entries, up to a seq, with their seqs.
        known: By chain, what the check of the chain by itself has found.
    """

    def __init__(
        self,
        instance: str,
        heads: Mapping[str, Head],
        *,
        tiles_of: Callable[[str], TrustedTiles],
        entries_of: Callable[[str, int], Iterable[Row]],
        known: Mapping[str, list[Violation]],
    ) -> None:
        self._instance = instance
        self._heads = heads
        self._tiles_of = tiles_of
        self._entries_of = entries_of
        self._known = known
        self.short: dict[str, int] = {}
        """By chain, the first seq that is missing, where all before it is what was published."""

    def differing(self, chains: Mapping[str, Reached]) -> Iterator[Violation]:
        """Yield what is wrong with chains, in the order of their names; short ones are noted as such."""
        for number, (chain, reached) in enumerate(sorted(chains.items())):
            if number < COMPARED_MAX:
                yield from self._differs(chain, reached)
            else:
                yield self.at(ViolationType.FORK, chain, None, "the chain is not the one that was published")

    def _differs(self, chain: str, reached: Reached) -> Iterator[Violation]:
        head, last, tree = self._heads[chain], reached.last, reached.tree
        known = [(one.type, one.seq) for one in self._known.get(chain, []) if one.seq is not None]
        named = {seq for _, seq in known}
        # What stands behind a later entry is out of order, and that one is the first that differs.
        named |= {seq - 1 for kind, seq in known if kind is ViolationType.REORDERED}
        is_short = last + 1 < head.size
        try:
            tiles = self._tiles_of(chain)
            if is_short and not named and tree is not None and tiles.root_at(last + 1) == tree.root():
                self.short[chain] = last + 1
                return
            found = first_difference(self._entries_of(chain, head.size - 1), tiles)
        except UNUSABLE:
            found = None if is_short or named else Difference(0, head.size - 1)
            if is_short and not named:  # what is left was not compared: nothing says that it is another history
                self.short[chain] = last + 1
                return
        if found is not None and not self._is_named(found, named):
            yield self.at(ViolationType.FORK, chain, found.first, _differs_from(found, head))
        elif is_short and not any(v.type is ViolationType.TRUNCATED for v in self._known.get(chain, [])):
            yield self.at(ViolationType.TRUNCATED, chain, last + 1, _missing(last, head))

    @staticmethod
    def _is_named(found: Difference, named: set[int]) -> bool:
        """Return whether the chain's own check has named it, or the entry before it, which was not chained to it."""
        return any(found.first - 1 <= seq <= found.last for seq in named)

    def missing(self, chain: str, first: int) -> Violation:
        """Return that a chain ends before what was published of it."""
        return self.at(ViolationType.TRUNCATED, chain, first, _missing(first - 1, self._heads[chain]))

    def rolled_back(self, chain: str, first: int, to: str) -> Violation:
        """Return that a chain is at an older state, together with all others."""
        message = f"{_missing(first - 1, self._heads[chain])}: the whole store is as it was at {to}"
        return self.at(ViolationType.ROLLBACK, chain, first, message)

    def at(self, kind: ViolationType, chain: str, seq: int | None, message: str) -> Violation:
        """Return a finding."""
        return Violation(type=kind, tenant=chain, seq=seq, message=message, instance=self._instance)


def _missing(last: int, head: Head) -> str:
    if last < 0:
        return f"the whole chain is missing, of which {head.size} entries were published"
    return f"the chain ends at seq {last}, and was published up to seq {head.size - 1}"


def _differs_from(found: Difference, head: Head) -> str:
    where = f"seq {found.first}" if found.first == found.last else f"a seq from {found.first} to {found.last}"
    why = "" if found.first == found.last else " (the hashes that would tell are no longer published)"
    return f"the chain is another one from {where} on than was published up to seq {head.size - 1}{why}"
