"""Puts the entries that were read of the store in their chains, and refuses what does not continue them. Pure.

A round is gathered one source partition after the other. Entries with a source offset of their own come first, in the
order of their offsets; those without one (genesis, gap, epoch) are asked for where a chain has a hole without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, NamedTuple

from sealstream.schemas.coverage import PartitionCoverage
from sealstream.schemas.entry import SOURCELESS_KINDS, ZERO_HASH, Kind
from sealstream.schemas.errors import StoreDamaged
from sealstream.sinks.notary.coverage_of import BUDGET_BYTES, PART_BYTES, RANGE_BYTES, cover
from sealstream.sinks.notary.stored_rows import Link

_HINT: Final = "run sealstream verify: the store lost, changed or exchanged entries; nothing of them was signed"
_SEQ: Final = attrgetter("seq")


class End(NamedTuple):
    """Where a chain ends.

    Arguments:
        size: The number of its entries.
        last_hash: The hash of the last one; zeros if it has none.
    """

    size: int
    last_hash: bytes


BEGINNING: Final = End(0, ZERO_HASH)


@dataclass(slots=True)
class Gathered:
    """What a round has come to so far.

    Arguments:
        links: The new entries of each chain, in their order.
        parts: The coverage's parts.
        bytes_left: How many bytes the coverage may still take.
        entries: How many entries there are.
    """

    links: dict[str, list[Link]] = field(default_factory=dict[str, list[Link]])
    parts: list[PartitionCoverage] = field(default_factory=list[PartitionCoverage])
    bytes_left: int = BUDGET_BYTES
    entries: int = 0

    @property
    def full(self) -> bool:
        """Whether the coverage has no room for another source partition."""
        return self.bytes_left < PART_BYTES + 2 * RANGE_BYTES


class PlaceGathering:
    """The entries of one source partition in a round.

    Arguments:
        topic_id: UUID of the source topic.
        partition: The source partition.
        begin: The first offset that no round has accounted for.
        end_of: Returns where a chain ended before this round.
        gathered: What the round has so far; added to by :meth:`finish` alone.
    """

    def __init__(
        self, topic_id: bytes, partition: int, begin: int, end_of: Callable[[str], End], gathered: Gathered
    ) -> None:
        self._topic_id = topic_id
        self._partition = partition
        self._begin = begin
        self._end_of = end_of
        self._gathered = gathered
        self._chains: dict[str, list[Link]] = {}
        self._next_offset = begin
        self.entries = 0

    def add(self, links: Iterable[Link]) -> None:
        """Add entries with a source offset of their own, in the order of their offsets.

        Raises:
            StoreDamaged: One belongs elsewhere, or stands for an offset that another one stands for.
        """
        for link in links:
            if link.partition != self._partition or link.topic_id != self._topic_id or link.kind in SOURCELESS_KINDS:
                raise _damaged(link, "it stands among entries of another place or kind")
            if link.offset < self._next_offset:
                raise _damaged(link, f"offset {link.offset} of partition {self._partition} comes twice")
            self._next_offset = link.offset + 1
            self._chains.setdefault(link.tenant, []).append(link)
            self.entries += 1

    def end(self, chain: str) -> End:
        """Return where a chain ends, what this round has added to it before this place included."""
        links = self._gathered.links.get(chain)
        return End(links[-1].seq + 1, links[-1].hash) if links else self._end_of(chain)

    def missing(self) -> list[tuple[str, int]]:
        """Return the chains and seqs that are missing between what was added: they must be entries without an offset.

        Only a chain's first entries here can be: a genesis, an epoch. The partition's own chain may have gaps anywhere:
        all of its entries without an offset are read apart.

        Raises:
            StoreDamaged: More are missing than such entries can be.
        """
        found: list[tuple[str, int]] = []
        for chain, links in self._chains.items():
            size, seq = self.end(chain).size, links[0].seq
            if seq == size or chain.startswith("!"):
                continue
            if seq < size:
                raise _damaged(links[0], f"it stands for a new offset, and the chain has {size} entries already")
            if seq > size + 1:
                raise StoreDamaged(chain, size, f"it is missing: the next one here is {seq}", hint=_HINT)
            found.append((chain, size))
        return found

    def add_sourceless(self, links: Iterable[Link]) -> None:
        """Add entries without a source offset of their own, in the order of their seqs within a chain.

        Raises:
            StoreDamaged: One belongs elsewhere, or is of another kind.
        """
        for link in links:
            if link.partition != self._partition or link.topic_id != self._topic_id:
                raise _damaged(link, "it stands in another source partition than the entry behind it")
            if link.kind not in SOURCELESS_KINDS:
                raise _damaged(link, "it stands for a source offset, and is not found by it")
            self._chains.setdefault(link.tenant, []).append(link)
            self.entries += 1

    def finish(self, *, exhausted: bool) -> bool:
        """Add what is complete to the round, and return whether that is all that was added here.

        Arguments:
            exhausted: Whether the store has no entry with an offset behind those that were added.

        Raises:
            StoreDamaged: An entry is missing, comes twice, or does not continue its chain.
        """
        links = [link for chain in self._chains.values() for link in chain]
        if not exhausted:  # what stands without an offset behind the last one comes with the next round
            links = [link for link in links if link.offset < self._next_offset]
        covered = cover(self._topic_id, self._partition, self._begin, links, bytes_max=self._gathered.bytes_left)
        if covered.part is not None:
            end = covered.part.end
            kept = {
                chain: sorted((link for link in found if link.offset < end), key=_SEQ)
                for chain, found in self._chains.items()
            }
            for chain, found in kept.items():
                self._check(chain, found)
            self._take(kept)
            self._gathered.parts.append(covered.part)
            self._gathered.bytes_left -= covered.bytes
        return covered.whole

    def _check(self, chain: str, links: list[Link]) -> None:
        """Refuse entries that do not go on where their chain ends."""
        size, last_hash = self.end(chain)
        before: Link | None = None
        for link in links:
            if link.seq != size:
                if link.seq < size:
                    raise _damaged(link, f"it comes twice, or behind the {size} entries that the chain has")
                raise StoreDamaged(chain, size, f"it is missing: the next one is {link.seq}", hint=_HINT)
            if link.prev != last_hash:
                raise _damaged(link, "it does not continue the entry before it, as that was read or signed")
            if before is not None and not _follows(before, link):
                raise _damaged(link, f"it stands at offset {link.offset}, behind one at {before.offset}")
            size, last_hash, before = size + 1, link.hash, link
        if before is not None and before.kind in (Kind.GENESIS, Kind.EPOCH):
            raise _damaged(before, "nothing stands behind it that it could have been written for")

    def _take(self, kept: Mapping[str, list[Link]]) -> None:
        gathered = self._gathered
        for chain, links in kept.items():
            if links:
                gathered.links.setdefault(chain, []).extend(links)
                gathered.entries += len(links)


def _follows(before: Link, link: Link) -> bool:
    """Return whether an entry may stand behind another one of its chain and source partition."""
    if before.kind in (Kind.GENESIS, Kind.EPOCH):
        return link.offset == before.offset
    return link.offset > max(before.offset, before.last)


def _damaged(link: Link, message: str) -> StoreDamaged:
    return StoreDamaged(link.tenant, link.seq, message, hint=_HINT)
