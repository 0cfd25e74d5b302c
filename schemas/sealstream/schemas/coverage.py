"""What became of the source's offsets in one round of the root log: each of them accounted for, and none twice.

The layout is fixed and big-endian; ``SPEC.md`` gives it with test vectors. A leaf of the root log commits to it by
digest and does not contain it: the offsets that no reader sees may be many, and the leaf is part of every proof.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from sealstream.schemas.entry import SOURCELESS_KINDS, Kind
from sealstream.schemas.errors import LeafInvalid

COVERAGE_LABEL: Final = b"sealstream/coverage1\n"
COVERAGE_BYTES_MAX: Final = 4 * 2**20
"""A round that would cover more ends earlier: some 35,000 partitions, or 260,000 ranges that no reader sees."""

OFFSET_MAX: Final = 2**63 - 1
PARTITION_MAX: Final = 2**31 - 1
TOPIC_ID_BYTES: Final = 16

_COUNT: Final = struct.Struct(">I")
COVERAGE_BYTES_MIN: Final = len(COVERAGE_LABEL) + _COUNT.size
_PARTITION: Final = struct.Struct(f">16sIQQ{len(Kind)}Q")  # topic_id, partition, begin, end, counts
_RANGE: Final = struct.Struct(">QQ")  # first, last
_SOURCED: Final = tuple(kind for kind in Kind if kind not in SOURCELESS_KINDS)


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Source offsets, both ends included.

    Arguments:
        first: The first of them.
        last: The last of them.
    """

    first: int
    last: int

    @property
    def count(self) -> int:
        """How many offsets they are."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class PartitionCoverage:
    """What became of the offsets of one source partition since the round before.

    Arguments:
        topic_id: UUID of the source topic, 16 bytes.
        partition: The source partition.
        begin: The first offset of this round: where the round before ended.
        end: The offset behind the last one of this round; equal to ``begin`` if there was none.
        counts: The number of entries of each kind, 0 to 8, that stand for these offsets.
        invisible: The offsets that no ``read_committed`` reader sees: of aborted records, and of transactions' markers.
        lost: The offsets that entries of kind 7 declare lost, a range for each of them.
    """

    topic_id: bytes
    partition: int
    begin: int
    end: int
    counts: tuple[int, ...]
    invisible: tuple[OffsetRange, ...] = ()
    lost: tuple[OffsetRange, ...] = ()

    @property
    def place(self) -> tuple[bytes, int]:
        """Topic UUID and partition: a coverage has its parts in this order."""
        return self.topic_id, self.partition

    def check(self) -> None:
        """Refuse what accounts for an offset twice or not at all.

        Raises:
            LeafInvalid: A field is out of range, or the sums do not agree.
        """
        name = f"coverage of partition {self.partition}"
        if len(self.topic_id) != TOPIC_ID_BYTES:
            raise LeafInvalid(f"{name} has a topic UUID of {len(self.topic_id)} bytes instead of {TOPIC_ID_BYTES}")
        if not 0 <= self.partition <= PARTITION_MAX:
            raise LeafInvalid(f"{name} is that of no partition")
        if not 0 <= self.begin <= self.end <= OFFSET_MAX:
            raise LeafInvalid(f"{name} has the offsets {self.begin} to {self.end}")
        if len(self.counts) != len(Kind) or not all(0 <= count <= OFFSET_MAX for count in self.counts):
            raise LeafInvalid(f"{name} has not one count for each of {len(Kind)} kinds")
        self._check_ranges(name)
        self._check_sums(name)

    def _check_ranges(self, name: str) -> None:
        """Refuse ranges out of order, over one another, out of the round, or in another form than the one."""
        for one in (*self.invisible, *self.lost):
            if not self.begin <= one.first <= one.last < self.end:
                raise LeafInvalid(f"{name} has the range {one.first} to {one.last}, outside its offsets")
        for before, one in pairwise(self.invisible):
            if one.first <= before.last + 1:
                raise LeafInvalid(f"{name} has invisible ranges that overlap, touch or are not in order")
        for before, one in pairwise(self.lost):
            if one.first <= before.last:
                raise LeafInvalid(f"{name} has lost ranges that overlap or are not in order")
        both = sorted((*self.invisible, *self.lost), key=lambda one: one.first)
        for before, one in pairwise(both):
            if one.first <= before.last:
                raise LeafInvalid(f"{name} has offset {one.first} both invisible and lost")

    def _check_sums(self, name: str) -> None:
        """Refuse counts that are not those of so many offsets."""
        records = sum(self.counts[kind] for kind in _SOURCED)
        accounted = records + sum(one.count for one in (*self.invisible, *self.lost))
        if accounted != self.end - self.begin:
            raise LeafInvalid(f"{name} accounts for {accounted} of its {self.end - self.begin} offsets")
        if self.counts[Kind.GAP] != len(self.lost):
            raise LeafInvalid(f"{name} has {len(self.lost)} lost ranges, and {self.counts[Kind.GAP]} entries of kind 7")
        if self.counts[Kind.GENESIS] + self.counts[Kind.EPOCH] > records + self.counts[Kind.GAP]:
            raise LeafInvalid(f"{name} begins more chains than it has entries")


def pack_coverage(partitions: Iterable[PartitionCoverage]) -> bytes:
    """Return the bytes of a coverage; the partitions are put in their order.

    Raises:
        LeafInvalid: A partition's part contradicts itself, a partition comes twice, or all of it is too large.
    """
    parts = sorted(partitions, key=lambda part: part.place)
    _check_order(parts)
    pieces = [COVERAGE_LABEL, _COUNT.pack(len(parts))]
    for part in parts:
        part.check()
        pieces.append(_PARTITION.pack(part.topic_id, part.partition, part.begin, part.end, *part.counts))
        for ranges in (part.invisible, part.lost):
            pieces.append(_COUNT.pack(len(ranges)))
            pieces.extend(_RANGE.pack(one.first, one.last) for one in ranges)
    data = b"".join(pieces)
    if len(data) > COVERAGE_BYTES_MAX:
        raise LeafInvalid(
            f"a coverage of {len(data)} bytes is larger than {COVERAGE_BYTES_MAX}",
            hint="end the round at earlier offsets",
        )
    return data


def parse_coverage(data: bytes) -> tuple[PartitionCoverage, ...]:
    """Return the partitions of a coverage in their order, the inverse of :func:`pack_coverage`.

    Raises:
        LeafInvalid: The bytes are not exactly a coverage.
    """
    if len(data) > COVERAGE_BYTES_MAX:
        raise LeafInvalid(f"a coverage of {len(data)} bytes is larger than {COVERAGE_BYTES_MAX}")
    if not data.startswith(COVERAGE_LABEL):
        raise LeafInvalid("a coverage does not begin with its label", hint="it is none, or of a newer format")
    parts: list[PartitionCoverage] = []
    try:
        place = len(COVERAGE_LABEL)
        (count,) = _COUNT.unpack_from(data, place)
        place += _COUNT.size
        for _ in range(count):
            topic_id, partition, begin, end, *counts = _PARTITION.unpack_from(data, place)
            invisible, place = _parse_ranges(data, place + _PARTITION.size)
            lost, place = _parse_ranges(data, place)
            parts.append(PartitionCoverage(topic_id, partition, begin, end, tuple(counts), invisible, lost))
    except struct.error as error:
        raise LeafInvalid(f"a coverage is cut short: {len(data)} bytes") from error
    if place != len(data):
        raise LeafInvalid(f"a coverage has {len(data) - place} bytes behind its end")
    _check_order(parts)
    for part in parts:
        part.check()
    return tuple(parts)


def coverage_digest(data: bytes) -> bytes:
    """Return the digest by which a round commits to the bytes of a coverage, which begin with a label of their own."""
    return hashlib.sha256(data).digest()


def _check_order(parts: list[PartitionCoverage]) -> None:
    for before, part in pairwise(parts):
        if before.place >= part.place:
            raise LeafInvalid(f"a coverage has partition {part.partition} twice or not in its order")


def _parse_ranges(data: bytes, place: int) -> tuple[tuple[OffsetRange, ...], int]:
    """Return the ranges at a place, and where they end."""
    (count,) = _COUNT.unpack_from(data, place)
    place += _COUNT.size
    end = place + count * _RANGE.size
    if end > len(data):
        raise LeafInvalid(f"a coverage is cut short: {len(data)} bytes")
    return tuple(OffsetRange(*fields) for fields in _RANGE.iter_unpack(data[place:end])), end
