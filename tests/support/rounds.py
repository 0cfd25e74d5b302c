"""Rounds of a root log as they must be, computed from all entries by the plainest code that could: the tests' opinion.

Nothing is kept from round to round. A lying log is made by changing what goes in, or one of the steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.coverage import OffsetRange, PartitionCoverage, coverage_digest, pack_coverage
from sealstream.schemas.entry import ZERO_HASH, Entry, Kind, entry_hash, parse, parse_gap_payload
from sealstream.schemas.log_layout import ROOT_PREFIX, chain_prefix, coverage_path
from sealstream.schemas.merkle import leaf_hash, root
from sealstream.schemas.round import Round
from sealstream.schemas.tenant_map import MapLeaf, derive_nonce, map_key
from sealstream.schemas.tile_tree import TileEdge
from sealstream.schemas.tiles import new_bundles, pack_entries
from sealstream.worker.objects import Objects
from support.harness import read_log
from support.workers import Pipeline

SECRET = bytes(range(32))
"""What the nonces of the tests' tenant maps are made from."""


class Sealed(NamedTuple):
    """A record of audit.chained.

    Arguments:
        entry: Its entry.
        value: Its value.
    """

    entry: bytes
    value: bytes

    @property
    def parsed(self) -> Entry:
        """The entry, unpacked."""
        return parse(self.entry)


Entries = Mapping[int, Sequence[Sealed]]
"""All records of audit.chained, by partition."""


class Head(NamedTuple):
    """What a map says of a chain."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class PlainRound:
    """A round and what it was made from.

    Arguments:
        leaf: Its leaf.
        parts: Its coverage.
        heads: The chains in its map.
    """

    leaf: Round
    parts: tuple[PartitionCoverage, ...]
    heads: dict[str, Head]

    @property
    def ends(self) -> dict[tuple[bytes, int], int]:
        """How far each partition is covered by this round."""
        return {part.place: part.end for part in self.parts}


def entries_of(pipeline: Pipeline) -> dict[int, list[Sealed]]:
    """Return all that stands on an instance's audit.chained."""
    logs = read_log(pipeline.connection, pipeline.topics.chained, pipeline.genesis.partitions)
    return {
        number: [Sealed(record.header("seal-entry") or b"", record.value or b"") for record in records]
        for number, records in enumerate(logs)
    }


def last_ends(entries: Entries) -> dict[int, int]:
    """Return the source offsets behind all that is chained, by partition."""
    return {number: max((_behind(one) for one in records), default=0) for number, records in entries.items()}


def coverage_of(records: Sequence[Sealed], topic_id: bytes, partition: int, begin: int, end: int) -> PartitionCoverage:
    """Return what became of a partition's offsets from one up to another, by the entries that stand for them."""
    inside = [one for one in records if begin <= one.parsed.offset < end]
    counts = Counter(one.parsed.kind for one in inside)
    lost = [OffsetRange(*parse_gap_payload(one.value)) for one in inside if one.parsed.kind is Kind.GAP]
    there = {one.parsed.offset for one in inside if one.parsed.kind not in (Kind.GENESIS, Kind.GAP, Kind.EPOCH)}
    there |= {offset for one in lost for offset in range(one.first, one.last + 1)}
    missing = [offset for offset in range(begin, end) if offset not in there]
    firsts = [offset for offset in missing if offset - 1 not in missing]
    lasts = [offset for offset in missing if offset + 1 not in missing]
    invisible = tuple(OffsetRange(*pair) for pair in zip(firsts, lasts, strict=True))
    all_counts = tuple(counts[kind] for kind in Kind)
    return PartitionCoverage(topic_id, partition, begin, end, all_counts, invisible, tuple(lost))


def heads_of(entries: Entries, ends: Mapping[int, int]) -> dict[str, Head]:
    """Return size and root of each chain, of the entries before the ends."""
    return {name: Head(len(hashes), root(hashes)) for name, hashes in chains_of(entries, ends).items()}


def chains_of(entries: Entries, ends: Mapping[int, int]) -> dict[str, list[bytes]]:
    """Return the hashes of each chain's entries before the ends."""
    chains: dict[str, list[bytes]] = {}
    for number, records in entries.items():
        for one in records:
            if one.parsed.offset < ends.get(number, 0):
                chains.setdefault(one.parsed.tenant, []).append(entry_hash(one.entry))
    return chains


def map_root(heads: Mapping[str, Head], secret: bytes = SECRET) -> bytes:
    """Return the root of the tenant map over these chains."""
    leaves = [MapLeaf(map_key(derive_nonce(secret, name), name), *head) for name, head in heads.items()]
    return root(leaf.hash() for leaf in sorted(leaves, key=lambda leaf: leaf.key))


def seal_round(
    before: PlainRound | None, parts: Iterable[PartitionCoverage], heads: dict[str, Head], *, secret: bytes = SECRET
) -> PlainRound:
    """Return the round that commits to these parts and chains, whether they are true or not."""
    several = tuple(parts)
    coverage = pack_coverage(several)
    number, previous = (0, ZERO_HASH) if before is None else (before.leaf.round + 1, before.leaf.hash())
    chains = len(heads)
    leaf = Round(number, previous, len(coverage), coverage_digest(coverage), chains, map_root(heads, secret))
    return PlainRound(leaf, several, heads)


def make_round(
    entries: Entries,
    ends: Mapping[int, int],
    *,
    topic_id: bytes,
    before: Sequence[PlainRound] = (),
    secret: bytes = SECRET,
) -> PlainRound:
    """Return the next round.

    Arguments:
        entries: All entries from the beginning on; those behind the ends are left for later.
        ends: Where the round ends, by partition; partitions that are left out are not covered.
        topic_id: UUID of the source topic.
        before: The rounds before.
        secret: What the nonces are made from.
    """
    covered: dict[tuple[bytes, int], int] = {}
    for one in before:
        covered |= one.ends
    parts = [
        coverage_of(entries.get(number, ()), topic_id, number, covered.get((topic_id, number), 0), end)
        for number, end in ends.items()
    ]
    reached = {number: covered.get((topic_id, number), 0) for number in entries} | dict(ends)
    return seal_round(before[-1] if before else None, parts, heads_of(entries, reached), secret=secret)


def root_checkpoint(instance: str, rounds: Sequence[PlainRound]) -> Checkpoint:
    """Return the root log's checkpoint behind rounds."""
    return Checkpoint(instance, len(rounds), root(one.leaf.hash() for one in rounds))


def publish_rounds(objects: Objects, rounds: Sequence[PlainRound]) -> None:
    """Write the files of a root log of these rounds, as the notary does: bundles, tiles, coverages."""
    leaves = [one.leaf.pack() for one in rounds]
    files = [
        (ROOT_PREFIX + bundle.path(), pack_entries(leaves[bundle.start : bundle.start + bundle.width]))
        for bundle in new_bundles(0, len(leaves))
    ]
    edge = TileEdge()
    tiles = edge.extend([leaf_hash(leaf) for leaf in leaves])
    files += [(ROOT_PREFIX + tile.path(), data) for tile, data in (*tiles, *edge.partial())]
    files += [(coverage_path(number), pack_coverage(one.parts)) for number, one in enumerate(rounds)]
    objects.put_many(files)
    objects.sync()


def publish_chains(objects: Objects, entries: Entries, ends: Mapping[int, int]) -> None:
    """Write the tiles of the chains' hashes, of the entries before the ends."""
    for name, hashes in chains_of(entries, ends).items():
        edge = TileEdge()
        tiles = edge.extend(hashes)
        objects.put_many((chain_prefix(name) + tile.path(), data) for tile, data in (*tiles, *edge.partial()))


def _behind(one: Sealed) -> int:
    """Return the offset behind what an entry stands for."""
    if one.parsed.kind is Kind.GAP:
        return parse_gap_payload(one.value)[1] + 1
    return one.parsed.offset + 1
