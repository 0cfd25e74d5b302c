"""A store is verified in pieces, so that several processes can: many small chains together, a large one in parts.

A piece of a chain that is not its first begins with the last entry of the piece before: that entry is checked by both,
and so the seam is. What such a piece takes from the store without checking it (the duplicate window, what the genesis
pins) lies in the pieces before it: it counts only if all of these hold. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.entry import Genesis
from sealstream.schemas.violation import Violation
from sealstream.sinks.verifier.stored_chain import End

SEQ_MAX: Final = 2**63 - 1
PIECE_ENTRIES: Final = 500_000
"""About how many entries a piece has: two seconds and a half of work."""
PIECE_CHAINS_MAX: Final = 2_000
PARTS_MAX: Final = 1_000
"""Into how many pieces a chain is cut: how long it is, only the store says before it is read."""
WINDOWS_A_PIECE: Final = 4
"""A piece in the middle of a chain reads one duplicate window before it, so it must be a few of them long."""


@dataclass(frozen=True, slots=True)
class Part:
    """A range of one chain.

    Arguments:
        tenant: The chain.
        first: The first seq that is checked.
        last: The last seq that is checked; may lie behind the chain's end.
        seen: The entry at ``first``, as an earlier run verified it, if one did.
        end: Where the chain ends by the store's table of heads, if that has it.
        number: Which of the chain's parts it is, from 0.
        is_last: Whether the chain's end is to be checked.
        is_again: Whether it takes the place of parts that did not hold.
        tree_size: How many entries of the chain were published, for the tree over these; 0 for no tree.
    """

    tenant: str
    first: int
    last: int
    seen: End | None = None
    end: End | None = None
    number: int = 0
    is_last: bool = True
    is_again: bool = False
    tree_size: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether it is a whole chain, of which nothing was verified before."""
        return self.first == 0 and self.last == SEQ_MAX and self.seen is None

    @property
    def reads_from(self) -> int:
        """The first seq that is read: behind a seam, the last one of the part before."""
        return self.first - 1 if self.number else self.first


@dataclass(slots=True)
class PartResult:
    """What a part came to.

    Arguments:
        part: The part.
        entries: Number of entries that were checked, each counted by one part.
        violations: The first violations that were found in it.
        violations_total: Number of violations that were found in it.
        holds_through: The last seq up to which all of it holds; the one before its first if none.
        end: Its last entry, if nothing is wrong or in doubt with it.
        begun: Behind a seam, the entry that it began with, if nothing is wrong with that.
        pinned: What the chain pins at the seam and at the end.
        is_there: Whether there is anything of the chain.
        last: The seq of the last entry that was read; the one before its first if none was.
        tree: The tree over its entries as far as they were published; ``None`` if there is none over what it has.
    """

    part: Part
    entries: int = 0
    violations: list[Violation] = field(default_factory=list[Violation])
    violations_total: int = 0
    holds_through: int = -1
    end: End | None = None
    begun: End | None = None
    pinned: tuple[Genesis | None, Genesis | None] = (None, None)
    is_there: bool = False
    last: int = -1
    tree: CompactRange | None = None

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong with it, and it reaches to where it should."""
        if self.violations_total or (self.part.number and (self.begun is None or self.pinned[0] is None)):
            return False
        return self.part.is_last or (self.end is not None and self.end.seq == self.part.last)

    def follows(self, before: PartResult) -> bool:
        """Return whether it began where another part ended, and took from the store what that had found to hold."""
        return self.begun == before.end and self.pinned[0] == before.pinned[1]


class Piece(NamedTuple):
    """Parts that one process checks together: of several chains, in the order of their names, or a single one.

    Arguments:
        number: Which piece it is, in the order in which they were given out.
        parts: The parts.
    """

    number: int
    parts: tuple[Part, ...]


def together(parts: Sequence[Part]) -> Iterator[Sequence[Part]]:
    """Yield runs of parts that can be read as one: whole chains that stand side by side, and every other part alone."""
    run: list[Part] = []
    for part in parts:
        if not part.is_whole:
            if run:
                yield run
                run = []
            yield [part]
        else:
            run.append(part)
    if run:
        yield run


def cut(whole: Part, *, piece_entries: int, window_offsets: int) -> Iterator[Part]:
    """Yield the parts of a chain.

    Arguments:
        whole: All of it that is to be checked.
        piece_entries: About how many entries a part should have.
        window_offsets: The chain's duplicate window.
    """
    expected = min(whole.last, -1 if whole.end is None else whole.end.seq) - whole.first + 1
    size = max(piece_entries, WINDOWS_A_PIECE * window_offsets, -(-expected // PARTS_MAX))
    count = max(1, -(-expected // size))
    for number in range(count):
        is_last = number == count - 1
        yield Part(
            tenant=whole.tenant,
            first=whole.first + number * size,
            last=whole.last if is_last else whole.first + (number + 1) * size - 1,
            seen=None if number else whole.seen,
            end=whole.end if is_last else None,
            number=number,
            is_last=is_last,
            tree_size=whole.tree_size,
        )


def plan(
    wholes: Iterable[Part], *, piece_entries: int, window_of: Callable[[str], int | None]
) -> Iterator[tuple[Part, ...]]:
    """Yield the parts of each piece, in the order of the chains' names.

    Arguments:
        wholes: The chains, in the order of their names.
        piece_entries: About how many entries a piece should have.
        window_of: Returns the duplicate window of a chain; ``None`` if the chain does not say, so is not to be cut.
    """
    small: list[Part] = []
    entries = 0
    for whole in wholes:
        expected = max(1, min(whole.last, 0 if whole.end is None else whole.end.seq) - whole.first + 1)
        window_offsets = window_of(whole.tenant) if expected > piece_entries else None
        if small and (entries + expected > piece_entries or len(small) >= PIECE_CHAINS_MAX):
            yield tuple(small)
            small, entries = [], 0
        if window_offsets is None:
            small.append(whole)
            entries += expected
        else:
            yield from ((part,) for part in cut(whole, piece_entries=piece_entries, window_offsets=window_offsets))
    if small:
        yield tuple(small)
