"""Recomputes in the plainest way what a notary has come to: every map, leaf and root, from the entries alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sealstream.schemas.coverage import PartitionCoverage
from sealstream.schemas.entry import Entry, Kind, entry_hash, parse
from sealstream.schemas.merkle import leaf_hash, root
from sealstream.schemas.round import RoundFollower
from sealstream.schemas.tenant_map import MapLeaf, TenantMap, derive_nonce, map_key

SECRET = bytes(range(32))


@dataclass(frozen=True, slots=True)
class PlainRounds:
    """What the rounds of a log say, recomputed.

    Arguments:
        roots: The root of the root log behind each round.
        sizes: The size of each chain behind the last one.
        ends: How far each source partition is accounted for.
    """

    roots: tuple[bytes, ...]
    sizes: Mapping[str, int]
    ends: Mapping[tuple[bytes, int], int]


def check_rounds(
    rounds: Sequence[tuple[bytes, bytes]], entries: Iterable[bytes], *, secret: bytes = SECRET
) -> PlainRounds:
    """Check that rounds follow each other, and that each has the map and counts of the entries that it covers.

    Arguments:
        rounds: Leaf and coverage of each, from round 0 on.
        entries: All entries of the source, in the order of each chain; rounds need not have come to their end.
        secret: What the map's nonces are made from.
    """
    chains: dict[str, list[tuple[Entry, bytes]]] = defaultdict(list)
    for data in entries:
        chains[(entry := parse(data)).tenant].append((entry, entry_hash(data)))
    follower, leaves, sizes = RoundFollower(), list[bytes](), dict[str, int]()
    roots: list[bytes] = []
    for leaf, coverage in rounds:
        found, parts = follower.follow(leaf, coverage)
        counts = _grow(sizes, chains, follower.ends)
        for part in parts:
            assert part.counts == tuple(counts[part.place][kind] for kind in Kind), f"counts of round {found.round}"
            check_ranges(part, [entry for chain in chains.values() for entry, _ in chain])
        assert {place for place, kinds in counts.items() if kinds} <= {part.place for part in parts}
        plain = TenantMap(
            MapLeaf(map_key(derive_nonce(secret, chain), chain), size, root(value for _, value in chains[chain][:size]))
            for chain, size in sizes.items()
        )
        assert (found.chains, found.map_root) == (plain.size, plain.root()), f"map of round {found.round}"
        leaves.append(leaf_hash(leaf))
        roots.append(root(leaves))
    return PlainRounds(tuple(roots), sizes, follower.ends)


def check_ranges(part: PartitionCoverage, entries: Iterable[Entry]) -> None:
    """Check that what a part calls invisible has no entry, and that nothing else has none."""
    standing = {
        entry.offset
        for entry in entries
        if (entry.topic_id, entry.partition) == part.place and entry.kind not in (Kind.GENESIS, Kind.GAP, Kind.EPOCH)
    }
    away = {offset for one in (*part.invisible, *part.lost) for offset in range(one.first, one.last + 1)}
    assert away.isdisjoint(standing)
    assert away | standing >= set(range(part.begin, part.end))


def _grow(
    sizes: dict[str, int],
    chains: Mapping[str, Sequence[tuple[Entry, bytes]]],
    ends: Mapping[tuple[bytes, int], int],
) -> dict[tuple[bytes, int], Counter[Kind]]:
    """Let each chain grow by the entries that are accounted for, and return what that were by source partition."""
    counts: dict[tuple[bytes, int], Counter[Kind]] = defaultdict(Counter)
    for chain, entries in chains.items():
        size = sizes.get(chain, 0)
        while size < len(entries) and _is_before(entry := entries[size][0], ends):
            counts[entry.topic_id, entry.partition][entry.kind] += 1
            size += 1
        if size:
            sizes[chain] = size
    return counts


def _is_before(entry: Entry, ends: Mapping[tuple[bytes, int], int]) -> bool:
    return entry.offset < ends.get((entry.topic_id, entry.partition), 0)
