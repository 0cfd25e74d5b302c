"""The store's entries held against what the rounds account for: source offsets, kinds, and older states. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from sealstream.schemas.coverage import OffsetRange, PartitionCoverage
from sealstream.schemas.entry import SOURCELESS_KINDS, Kind, partition_chain
from sealstream.schemas.round import Round
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.sinks.verifier.root_log import Place

Rounds = Iterable[tuple[Round, tuple[PartitionCoverage, ...]]]

SOURCED: tuple[Kind, ...] = tuple(kind for kind in Kind if kind not in SOURCELESS_KINDS)
"""The kinds of entries that stand for one source record each."""


def older_state(rounds: Rounds, positions: Mapping[Place, int], stored: Callable[[Place], int]) -> int | None:
    """Return which round a store is at, if it is as a whole what it was between that round and the next one.

    That is so if it has all that rounds up to this one account for, nothing from behind the next one, and of the next
    one, in each source partition, all up to some offset.

    Arguments:
        rounds: The rounds, from the first on.
        positions: By source partition, the offset behind the last one that the store has an entry of.
        stored: Returns the number of records of a source partition that the store has entries of.

    Returns:
        The number of the last round of which all is there; -1 if that is none; ``None`` if it is no older state.
    """
    ends: dict[Place, int] = {}
    records: dict[Place, int] = {}
    last = -1
    for leaf, parts in rounds:
        reached = ends | {part.place: part.end for part in parts}
        if any(positions.get(place, 0) < end for place, end in reached.items()):
            if any(position > reached.get(place, 0) for place, position in positions.items()):
                return None
            for part in parts:
                before = records.get(part.place, 0)
                records[part.place] = before + _records_before(part, positions.get(part.place, 0))
            return last if all(stored(place) == count for place, count in records.items()) else None
        for part in parts:
            records[part.place] = records.get(part.place, 0) + sum(part.counts[kind] for kind in SOURCED)
        ends, last = reached, leaf.round
    return None


def disagreement(rounds: Rounds, place: Place, offsets: Iterable[int], instance: str) -> Violation:
    """Return where the store and the rounds first disagree on which offsets of a source partition are records.

    Arguments:
        rounds: The rounds, from the first on.
        place: The source partition.
        offsets: The offsets that the store has entries of, rising.
        instance: Whose they are.
    """
    stored = iter(offsets)
    here = next(stored, None)
    offset: int | None = None
    message = "the kinds of its entries are not those that the rounds count"
    for number, expected in _expected(rounds, place):
        if here == expected:
            here = next(stored, None)
            continue
        is_more = here is not None and here < expected
        offset = here if is_more else expected
        message = (
            f"round {number} says that offset {offset} has no record, and the store has an entry of it"
            if is_more
            else f"round {number} accounts for a record at offset {offset}, and the store has no entry of it"
        )
        break
    topic_id, partition = place
    return Violation(
        type=ViolationType.EDITED if offset is None else ViolationType.GAP,
        tenant=partition_chain(partition),
        message=message,
        instance=instance,
        partition=partition,
        offset=offset,
        topic_id=topic_id,
    )


def _expected(rounds: Rounds, place: Place) -> Iterator[tuple[int, int]]:
    """Yield each offset that is accounted for as a record, with its round."""
    for leaf, parts in rounds:
        for part in parts:
            if part.place == place:
                yield from ((leaf.round, offset) for offset in _records(part))


def _records(part: PartitionCoverage) -> Iterator[int]:
    begin = part.begin
    for one in sorted((*part.invisible, *part.lost), key=lambda found: found.first):
        yield from range(begin, one.first)
        begin = one.last + 1
    yield from range(begin, part.end)


def _records_before(part: PartitionCoverage, position: int) -> int:
    """Return how many records a round accounts for before an offset."""
    end = min(max(position, part.begin), part.end)
    return end - part.begin - sum(_overlap(one, end) for one in (*part.invisible, *part.lost))


def _overlap(one: OffsetRange, end: int) -> int:
    return max(0, min(one.last + 1, end) - one.first)
