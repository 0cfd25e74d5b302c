"""Reads what is new in the store since the last round: a bounded part of it, whole as far as it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sealstream.schemas.entry import partition_chain
from sealstream.schemas.errors import TreeDiffers
from sealstream.sinks.notary.gathering import End, Gathered, PlaceGathering
from sealstream.sinks.notary.stored import Snapshot

ROUND_ENTRIES_MAX: Final = 100_000
"""The most entries of one round, some 100 MB in memory; what is left comes with the next one at once."""
GAPS_MAX: Final = 10_000
"""So many more seqs of a partition's own chain are looked at than entries are read."""


class Place(NamedTuple):
    """A source partition that has something new.

    Arguments:
        topic_id: UUID of the source topic.
        partition: The source partition.
        begin: The first offset that is not accounted for.
        left: About how many offsets that is behind the last entry of the store.
    """

    topic_id: bytes
    partition: int
    begin: int
    left: int


@dataclass(slots=True)
class Reading:
    """What was read for a round.

    Arguments:
        gathered: The entries, and what they cover.
        more: Whether the store has more that is new.
        oldest_left: When the broker took the oldest record of what was left, in microseconds; ``None`` if nothing was.
    """

    gathered: Gathered = field(default_factory=Gathered)
    more: bool = False
    oldest_left: int | None = None


class RoundReader:
    """Reads one round.

    Arguments:
        snapshot: The store.
        positions: The first offset that is not accounted for, by topic UUID and partition.
        end_of: Returns where a chain ended before the round.
        entries_max: The most entries.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        positions: Mapping[tuple[bytes, int], int],
        end_of: Callable[[str], End],
        *,
        entries_max: int = ROUND_ENTRIES_MAX,
    ) -> None:
        self._snapshot = snapshot
        self._positions = positions
        self._end_of = end_of
        self._entries_max = entries_max
        self._reading = Reading()

    def read(self) -> Reading:
        """Return what is new: of one source topic, the oldest that has anything, so no round mixes two epochs.

        Raises:
            StoreDamaged: An entry is missing, or not what it says.
            TreeDiffers: The store ends before what was accounted for.
            StoreError: The store refuses.
            Unreachable: It does not answer.
        """
        topics = self._topics()
        for places in topics:
            if self._reading.gathered.parts:
                # Whoever recomputes a round follows one epoch's topics, and chains go on from topic to topic: a later
                # one waits for a round of its own, which is made at once.
                self._reading.more = True
            if self._reading.more:
                break
            self._read_topic(places)
        if self._reading.more:
            self._reading.oldest_left = self._oldest_left([place for places in topics for place in places])
        return self._reading

    def _topics(self) -> list[list[Place]]:
        """Return what has something new, by topic, the oldest topic first."""
        found: dict[bytes, list[Place]] = {}
        known = set(self._positions)
        for partition in self._snapshot.partitions():
            chain = partition_chain(partition)
            gaps = self._snapshot.gap_topics(partition, chain, self._end_of(chain).size, count=self._seqs_max)
            for topic_id in dict.fromkeys((*self._snapshot.topics(partition), *gaps)):
                known.discard((topic_id, partition))
                begin = self._positions.get((topic_id, partition), 0)
                last = self._snapshot.last_offset(topic_id, partition)
                if last + 1 < begin:
                    self._check_gap_behind(topic_id, partition, begin)
                if last >= begin or topic_id in gaps:
                    found.setdefault(topic_id, []).append(Place(topic_id, partition, begin, last + 1 - begin))
        for topic_id, partition in known:
            self._check_gap_behind(topic_id, partition, self._positions[topic_id, partition])
        if len(found) < 2:
            return list(found.values())
        # Epoch n is drained before n + 1 begins, so the broker's times tell topics apart.
        times = {topic_id: self._began(places) for topic_id, places in found.items()}
        return [found[topic_id] for topic_id in sorted(found, key=lambda topic_id: (times[topic_id], topic_id))]

    @property
    def _seqs_max(self) -> int:
        return self._entries_max + GAPS_MAX

    def _began(self, places: list[Place]) -> int:
        times = [self._snapshot.first_time(place.topic_id, place.partition) for place in places]
        return min((time for time in times if time is not None), default=0)

    def _check_gap_behind(self, topic_id: bytes, partition: int, begin: int) -> None:
        """Refuse a store that ends before what was accounted for, unless that is a range that is declared lost.

        Raises:
            TreeDiffers: It does.
        """
        gap = self._snapshot.last_gap(topic_id, partition, partition_chain(partition))
        if gap is not None and gap.last + 1 == begin:
            return
        last = self._snapshot.last_offset(topic_id, partition)
        raise TreeDiffers(
            f"partition {partition}: the store ends at source offset {last}, and rounds were made up to {begin}",
            hint="the store was rolled back or lost its end: restore it, or let a sink store again what is missing",
        )

    def _read_topic(self, places: list[Place]) -> None:
        reading = self._reading
        ordered = sorted(places, key=lambda place: place.left)
        for number, place in enumerate(ordered):
            left = self._entries_max - reading.gathered.entries
            if left <= 0 or reading.gathered.full:
                reading.more = True
                return
            # What a partition with little to read does not take is left to those behind it.
            if not self._read_place(place, max(1, left // (len(ordered) - number))):
                reading.more = True

    def _read_place(self, place: Place, count: int) -> bool:
        """Read a source partition's part of the round, and return whether nothing of it is left."""
        snapshot = self._snapshot
        gathering = PlaceGathering(place.topic_id, place.partition, place.begin, self._end_of, self._reading.gathered)
        for block in snapshot.sourced(place.topic_id, place.partition, place.begin, count=count):
            gathering.add(block)
        exhausted = gathering.entries < count
        if missing := gathering.missing():
            for block in snapshot.at(place.partition, missing):
                gathering.add_sourceless(block)
        chain = partition_chain(place.partition)
        begin = gathering.end(chain).size
        for block in snapshot.sourceless(place.topic_id, place.partition, chain, begin, count=self._seqs_max):
            gathering.add_sourceless(block)
        return gathering.finish(exhausted=exhausted) and exhausted

    def _oldest_left(self, places: list[Place]) -> int | None:
        ends = {part.place: part.end for part in self._reading.gathered.parts}
        times = [
            self._snapshot.first_time(place.topic_id, place.partition, ends.get(place[:2], place.begin))
            for place in places
        ]
        return min((time for time in times if time is not None), default=None)
