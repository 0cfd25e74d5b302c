"""Compares what stands in audit.heads, and the committed offsets, with what audit.chained leads to (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sealstream.processors.heads import HeadsReader, PackedHeads, parse_link
from sealstream.processors.recomputation import FAULTS_MAX, Recomputation
from sealstream.processors.window import Window

DIFFERENCES_MAX: Final = 100
"""How many differences of a partition are told one by one; all of them are counted."""


class DifferenceType(StrEnum):
    """What differs."""

    CHAINED = "chained-broken"
    MALFORMED = "head-malformed"
    POSITION_MISSING = "position-missing"
    POSITION = "position-differs"
    CHAIN_MISSING = "chain-missing"
    CHAIN = "chain-differs"
    CHAIN_UNKNOWN = "chain-unknown"
    INCOMPLETE = "heads-incomplete"
    OFFSET_MISSING = "offset-missing"
    OFFSET = "offset-differs"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference.

    Arguments:
        partition: The partition.
        type: What differs.
        chain: The chain, if it is one's.
        message: In words.
        expected: What audit.chained leads to.
        found: What stands there.
    """

    partition: int
    type: DifferenceType
    chain: str | None
    message: str
    expected: str = ""
    found: str = ""


@dataclass(frozen=True, slots=True)
class SourceState:
    """What the source has behind the last record that was chained.

    Arguments:
        start: The source's first offset.
        next_offset: The offset of the first record behind the last chained one; the source's end if there is none.
    """

    start: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Examination:
    """All that is known of one partition.

    Arguments:
        partition: The partition.
        recomputed: What audit.chained leads to.
        reader: What stands in audit.heads.
        committed: The group's committed offset, if there is one.
        pinned: Whether it is one that a processor with these settings committed.
        source: What the source has behind it.
        settled: Whether the committed offset agrees with the heads; by comparison of both over time, if a worker runs.
    """

    partition: int
    recomputed: Recomputation
    reader: HeadsReader
    committed: int | None
    pinned: bool
    source: SourceState
    settled: bool

    @property
    def last_offset(self) -> int:
        """The offset of the last chained record; by the heads alone where all of audit.chained has expired."""
        head = self.reader.head
        alone = not self.recomputed.entries and self.recomputed.partial and head is not None
        return head.last_offset if alone and head is not None else self.recomputed.last_offset

    @property
    def last_received(self) -> int:
        """Its append time in microseconds."""
        head = self.reader.head
        alone = not self.recomputed.entries and self.recomputed.partial and head is not None
        return head.last_received if alone and head is not None else self.recomputed.last_received

    @property
    def kept(self) -> Iterator[tuple[bytes, bytes]]:
        """The heads of chains of which audit.chained has no entry left."""
        known = self.recomputed.heads.packed
        return ((name, value) for name, value in self.reader.heads.packed.items() if name not in known)

    def window(self, position: int) -> Window:
        """Return the duplicate window of a worker that goes on from a source offset."""
        window = self.recomputed.window(position)
        if self.recomputed.beginning_gone and not self.recomputed.entries:
            window.lacks(self.last_offset + 1, self.last_received)
        return window

    def expected_heads(self) -> PackedHeads:
        """Return what audit.heads must say of the chains, as far as audit.chained and audit.heads can tell."""
        expected = self.recomputed.heads.copy()
        if self.recomputed.partial:
            for name, value in self.kept:
                expected.put_packed(name, value)
        return expected


@dataclass(slots=True)
class Comparison:
    """What a comparison found: some differences one by one, and how many there are."""

    differences: list[Difference]
    total: int


def compare(examination: Examination, *, offsets: bool = True) -> Comparison:
    """Compare heads, position and committed offset of a partition with what audit.chained leads to.

    Arguments:
        examination: What was read.
        offsets: Whether the committed offset counts.
    """
    comparison = Comparison([], 0)
    recomputed, partition = examination.recomputed, examination.partition
    for message in recomputed.faults:
        _add(comparison, Difference(partition, DifferenceType.CHAINED, None, f"audit.chained: {message}"))
    comparison.total += max(recomputed.faults_total - FAULTS_MAX, 0)
    for message in examination.reader.malformed.values():
        _add(comparison, Difference(partition, DifferenceType.MALFORMED, None, message))
    for found in (_chains(examination), _position(examination), _offset(examination) if offsets else ()):
        for difference in found:
            _add(comparison, difference)
    return comparison


def _add(comparison: Comparison, difference: Difference) -> None:
    comparison.total += 1
    if len(comparison.differences) < DIFFERENCES_MAX:
        comparison.differences.append(difference)


def _chains(examination: Examination) -> Iterator[Difference]:
    recomputed, found, partition = examination.recomputed, examination.reader.heads, examination.partition
    for name, value in recomputed.heads.packed.items():
        stands = found.packed.get(name)
        if stands == value:
            continue
        kind = DifferenceType.CHAIN_MISSING if stands is None else DifferenceType.CHAIN
        words = "has no head" if stands is None else "does not end where its head says"
        shown = "" if stands is None else _shown(name, stands)
        yield Difference(partition, kind, name.decode(), f"chain {name.decode()} {words}", _shown(name, value), shown)
    if not recomputed.partial:
        for name, value in examination.kept:
            chain = name.decode(errors="backslashreplace")
            words = f"chain {chain} has a head, and no entry in audit.chained"
            yield Difference(partition, DifferenceType.CHAIN_UNKNOWN, chain, words, "", _shown(name, value))
    head = examination.reader.head
    if head is not None and not head.covers(found):
        lost = "some of them got lost, or changed" if len(found) == head.chains else "some are missing, or too many"
        yield Difference(
            partition, DifferenceType.INCOMPLETE, None, f"{lost}, since the last transaction wrote the heads",
            f"{head.chains} chains", f"{len(found)} chains",
        )  # fmt: skip


def _position(examination: Examination) -> Iterator[Difference]:
    head, partition, last = examination.reader.head, examination.partition, examination.last_offset
    if head is None:
        if examination.recomputed.entries or len(examination.reader.heads):
            words = "audit.heads does not say how far the partition is chained"
            yield Difference(partition, DifferenceType.POSITION_MISSING, None, words, str(last + 1))
        return
    if (head.last_offset, head.last_received) != (last, examination.last_received) and (last, head.last_offset) != (
        -1,
        -1,
    ):
        words = "the last chained record is not the one that the heads name"
        yield Difference(partition, DifferenceType.POSITION, None, words, str(last), str(head.last_offset))
    elif not last < head.position <= max(examination.source.next_offset, last + 1):
        words = "the position does not follow the last chained record, or passes over a record of the source"
        yield Difference(partition, DifferenceType.POSITION, None, words, str(last + 1), str(head.position))


def _offset(examination: Examination) -> Iterator[Difference]:
    head, partition, committed = examination.reader.head, examination.partition, examination.committed
    if examination.settled:
        return
    if committed is None:
        position = "" if head is None else str(head.position)
        words = "the group has no committed offset, and there are heads"
        yield Difference(partition, DifferenceType.OFFSET_MISSING, None, words, position)
    else:
        position = "none" if head is None else str(head.position)
        words = "the committed offset is not the heads' position"
        yield Difference(partition, DifferenceType.OFFSET, None, words, position, str(committed))


def _shown(name: bytes, value: bytes) -> str:
    link = parse_link(name, value)
    return f"seq {link.seq - 1} {link.hash.hex()}"
