"""What differs between a round as it was published and as it was recomputed, and what that is called. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.coverage import OffsetRange, PartitionCoverage
from sealstream.schemas.entry import Kind, partition_chain
from sealstream.schemas.merkle import EMPTY_ROOT
from sealstream.schemas.merkle import root as tree_root
from sealstream.schemas.proofs import root_from_inclusion
from sealstream.schemas.round import Round
from sealstream.schemas.tenant_map import MapLeaf, TenantMap
from sealstream.schemas.violation import ROOT_LOG, ViolationType

CANDIDATES_MAX: Final = 1_000
"""Chains that are tried as the one at fault: so many that a refusal stays quick."""
DROPPED_MAX: Final = 300
"""Chains of a map from which each is left out once, to see whether it is the missing one."""


class Difference(NamedTuple):
    """What differs.

    Arguments:
        type: What kind of wrong it is.
        message: What, for a person.
        tenant: The chain, where it can be told; else :data:`~sealstream.schemas.violation.ROOT_LOG`.
        seq: The first entry at fault, where it can be told; of the root log, the round.
        partition: The source partition, where it is one.
        offset: The source offset, where it is one.
        expected: What was recomputed.
        found: What was published.
    """

    type: ViolationType
    message: str
    tenant: str = ROOT_LOG
    seq: int | None = None
    partition: int = 0
    offset: int | None = None
    expected: str = ""
    found: str = ""


class Growth(NamedTuple):
    """A chain that has grown in a round.

    Arguments:
        chain: Its name.
        before: Its leaf in the map before; ``None`` if it has begun.
        now: Its leaf now.
        tree: The range of its tree before.
    """

    chain: str
    before: MapLeaf | None
    now: MapLeaf
    tree: CompactRange

    def comes_to(self, hashes: Iterable[bytes]) -> bool:
        """Return whether these hashes of its new entries come to its root."""
        tree = self.tree.copy()
        tree.extend(hashes)
        return (tree.end, tree.root()) == (self.now.size, self.now.root)


def place_differs(number: int, found: Round, previous: bytes) -> Difference | None:
    """Return how a round does not follow the one before, if it does not."""
    if found.round != number:
        message = f"round {found.round} stands where round {number} was to come"
        kind = ViolationType.GAP if found.round > number else ViolationType.FORK
        return Difference(kind, message, seq=number, expected=str(number), found=str(found.round))
    if found.previous != previous:
        message = f"round {number} follows another round than the one before it"
        return Difference(ViolationType.FORK, message, seq=number, expected=previous.hex(), found=found.previous.hex())
    return None


def coverage_differs(number: int, found: PartitionCoverage, ours: PartitionCoverage) -> Difference | None:
    """Return the first difference between two coverages of a partition up to the same end.

    An offset in it is that of an entry, if the entry is what one of them does not know.
    """
    name, chain = f"round {number}, partition {ours.partition}", partition_chain(ours.partition)
    if found.begin != ours.begin:
        kind = ViolationType.GAP if found.begin > ours.begin else ViolationType.FORK
        message = f"{name}: it is covered from offset {found.begin}, and {ours.begin} was to come"
        place = (ours.partition, min(found.begin, ours.begin), str(ours.begin), str(found.begin))
        return Difference(kind, message, chain, None, *place)
    differs = _ranges_differ(name, found, ours)
    if differs is not None:
        return differs
    if found.counts != ours.counts:
        message = f"{name}: the entries of the kinds 0 to 8 are {_words(ours.counts)}, not {_words(found.counts)}"
        words = _words(ours.counts), _words(found.counts)
        return Difference(ViolationType.EDITED, message, chain, None, ours.partition, None, *words)
    return None


def _ranges_differ(name: str, found: PartitionCoverage, ours: PartitionCoverage) -> Difference | None:
    """Return the first difference between what is lost and what is invisible."""
    chain = partition_chain(ours.partition)
    for lost in ours.lost:
        if lost not in found.lost:
            message = f"{name}: that offsets {lost.first} to {lost.last} are lost is left out"
            return Difference(ViolationType.GAP, message, chain, None, ours.partition, lost.first, "lost")
    for lost in found.lost:
        if lost not in ours.lost:
            message = f"{name}: offsets {lost.first} to {lost.last} are called lost, and nobody has declared that"
            return Difference(ViolationType.EDITED, message, chain, None, ours.partition, lost.first, "", "lost")
    hidden = _first_beyond(found.invisible, ours.invisible)
    if hidden is not None:
        message = f"{name}: offset {hidden} is called invisible, and an entry stands for it"
        return Difference(ViolationType.GAP, message, chain, None, ours.partition, hidden, "an entry", "invisible")
    claimed = _first_beyond(ours.invisible, found.invisible)
    if claimed is not None:
        message = f"{name}: offset {claimed} is counted as an entry, and none stands for it"
        return Difference(ViolationType.EDITED, message, chain, None, ours.partition, claimed, "invisible", "an entry")
    return None


def map_differs(number: int, found: Round, ours: TenantMap, grown: Sequence[Growth]) -> Difference | None:
    """Return how the chains in the map differ, with the tenant where it can be told, if they do.

    It can be told where a chain that has grown was left as it was, or one was left out of a small map. The log shows
    nobody's names, so for anything else each name that could be at fault is as good as another.
    """
    root = ours.root()
    if (found.chains, found.map_root) == (ours.size, root):
        return None
    expected, got = f"{ours.size} {root.hex()}", f"{found.chains} {found.map_root.hex()}"
    if found.chains < ours.size:
        name = _dropped(found, ours, grown)
        message = f"round {number}: the map has {found.chains} chains, and there are {ours.size}"
        place = (name, 0) if name else (ROOT_LOG, number)
        return Difference(ViolationType.TRUNCATED, message, *place, expected=expected, found=got)
    if found.chains > ours.size:
        message = f"round {number}: the map has {found.chains} chains, and there are only {ours.size}"
        return Difference(ViolationType.FOREIGN, message, seq=number, expected=expected, found=got)
    for growth in grown[:CANDIDATES_MAX]:
        if growth.before is not None and _with(ours, growth.before) == found.map_root:
            message = f"round {number}: a chain of {growth.now.size} entries stands in the map with those before only"
            kind, seq = ViolationType.TRUNCATED, growth.before.size
            return Difference(kind, message, growth.chain, seq, expected=expected, found=got)
    message = f"round {number}: the chains come to another map than the one that is published"
    return Difference(ViolationType.FORK, message, seq=number, expected=expected, found=got)


def entry_differs(number: int, growth: Growth, found: Sequence[bytes], ours: Sequence[bytes]) -> Difference:
    """Return the first entry of a chain that was published as another one.

    Arguments:
        number: The round.
        growth: The chain.
        found: The published hashes of its new entries.
        ours: The hashes of those that Kafka has.
    """
    index = next(index for index, digest in enumerate(ours) if found[index : index + 1] != [digest])
    message = f"round {number}: the entry is published as another one than Kafka has"
    words = ours[index].hex(), found[index].hex() if index < len(found) else ""
    return Difference(ViolationType.EDITED, message, growth.chain, growth.tree.end + index, 0, None, *words)


def _dropped(found: Round, ours: TenantMap, grown: Sequence[Growth]) -> str:
    """Return the chain without which the map is the published one; empty if it cannot be told."""
    if ours.size - found.chains != 1 or ours.size > DROPPED_MAX:
        return ""
    hashes = {leaf.key: leaf.hash() for leaf in ours}
    names = {growth.now.key: growth.chain for growth in grown}
    for key in hashes:
        rest = [digest for other, digest in hashes.items() if other != key]
        if (tree_root(rest) if rest else EMPTY_ROOT) == found.map_root:
            return names.get(key, "")
    return ""


def _with(ours: TenantMap, leaf: MapLeaf) -> bytes:
    """Return the root that the map would have with another leaf in the place of the one with the same key."""
    proof = ours.proof(leaf.key)
    return root_from_inclusion(proof.path, leaf=leaf.hash(), index=proof.index, size=proof.size)


def _first_beyond(found: Sequence[OffsetRange], ours: Sequence[OffsetRange]) -> int | None:
    """Return the first offset that is in ranges and not in others."""
    rest = iter(ours)
    other = next(rest, None)
    for one in found:
        at = one.first
        while at <= one.last:
            while other is not None and other.last < at:
                other = next(rest, None)
            if other is None or other.first > at:
                return at
            at = other.last + 1
    return None


def _words(counts: Sequence[int]) -> str:
    return " ".join(str(counts[kind]) for kind in Kind)
