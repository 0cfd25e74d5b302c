"""What became of a source partition's offsets in a round: made from the entries that stand for them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from sealstream.schemas.coverage import COVERAGE_BYTES_MAX, COVERAGE_BYTES_MIN, OffsetRange, PartitionCoverage
from sealstream.schemas.entry import SOURCELESS_KINDS, Kind
from sealstream.schemas.errors import StoreDamaged
from sealstream.sinks.notary.stored_rows import Link

PART_BYTES: Final = 116
"""What a source partition takes in a coverage, without its ranges."""
RANGE_BYTES: Final = 16
BUDGET_BYTES: Final = COVERAGE_BYTES_MAX - COVERAGE_BYTES_MIN
_ACCOMPANYING: Final = SOURCELESS_KINDS - {Kind.GAP}
"""Kinds that stand for no offset: they accompany the entry behind them, and have its coordinates."""

_HINT: Final = "run sealstream verify: the store holds entries that contradict each other"


class Covered(NamedTuple):
    """What one source partition has in a round.

    Arguments:
        part: Its part of the coverage; ``None`` if nothing of it is new.
        bytes: How many bytes that takes.
        whole: Whether all that was given is in it. Otherwise entries from ``part.end`` on belong to a later round.
    """

    part: PartitionCoverage | None
    bytes: int
    whole: bool


def cover(
    topic_id: bytes, partition: int, begin: int, links: Sequence[Link], *, bytes_max: int = BUDGET_BYTES
) -> Covered:
    """Return what a source partition has in a round: each offset accounted for, up to the last entry.

    An offset between two entries that no entry stands for is invisible. Whether that is true takes the source.

    Arguments:
        topic_id: UUID of the source topic.
        partition: The source partition.
        begin: The first offset that no round has accounted for.
        links: The entries that stand for offsets from there on, of whatever chain and in any order.
        bytes_max: How many bytes of the coverage are left for it.

    Raises:
        StoreDamaged: Two entries stand for one offset, or an entry for one before ``begin``.
    """
    standing = sorted((link for link in links if link.kind not in _ACCOMPANYING), key=lambda link: link.offset)
    invisible: list[OffsetRange] = []
    lost: list[OffsetRange] = []
    end, whole, used = begin, True, PART_BYTES
    for link in standing:
        if link.offset < end:
            raise StoreDamaged(
                link.tenant, link.seq, f"offset {link.offset} of partition {partition} is accounted for", hint=_HINT
            )
        more = RANGE_BYTES * ((link.offset > end) + (link.kind == Kind.GAP))
        if used + more > bytes_max:
            whole = False
            break
        used += more
        if link.offset > end:
            invisible.append(OffsetRange(end, link.offset - 1))
        end = max(link.offset, link.last) + 1
        if link.kind == Kind.GAP:
            lost.append(OffsetRange(link.offset, link.last))
    if end == begin:
        return Covered(None, 0, whole)
    kinds = Counter(link.kind for link in links if link.offset < end)
    counts = tuple(kinds[kind] for kind in Kind)
    part = PartitionCoverage(topic_id, partition, begin, end, counts, tuple(invisible), tuple(lost))
    return Covered(part, used, whole)
