"""What is to be verified and what it came to: gives out pieces, takes results in any order, and puts them in order.

A chain that was cut into parts holds if all of its parts do, and each began where the one before it ended. If one does
not hold, what comes behind it was checked on an assumption that was wrong: it is thrown away, and all from the last
good seam on is checked again as one part. So a result is what a single pass over the whole chain finds. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.violation import Violation
from sealstream.sinks.verifier.checking import VIOLATIONS_MAX
from sealstream.sinks.verifier.pieces import Part, PartResult, Piece
from sealstream.sinks.verifier.stored_chain import End

OnChain: TypeAlias = "Callable[[str, int, CompactRange | None], None]"


@dataclass(slots=True)
class _Split:
    """A chain that was cut into parts.

    Arguments:
        entries: Number of entries in the parts that hold, from the first on.
        held: The last of these parts.
        results: Results of later parts, by their numbers.
        is_broken: Whether a part does not hold: what is left of the others no longer counts.
        tree: The tree over the parts that hold, as far as they were published.
    """

    entries: int = 0
    held: PartResult | None = None
    results: dict[int, PartResult] = field(default_factory=dict[int, PartResult])
    is_broken: bool = False
    tree: CompactRange | None = None

    def tree_with(self, result: PartResult) -> CompactRange | None:
        """Return the tree over the parts that hold and one more; ``None`` if there is none over that."""
        if self.tree is None or result.tree is None:
            return result.tree
        if len(result.tree):
            self.tree.merge(result.tree)
        return self.tree


@dataclass(slots=True)
class Findings:
    """What was found so far, or at the end.

    Arguments:
        chains: Number of chains that were checked.
        entries: Number of entries that were checked.
        violations_total: Number of violations that were found.
        checked_through: By chain, the last seq up to which it holds.
        violations: The first violations of each chain that has any.
    """

    chains: int = 0
    entries: int = 0
    violations_total: int = 0
    checked_through: dict[str, int] = field(default_factory=dict[str, int])
    violations: dict[str, list[Violation]] = field(default_factory=dict[str, list[Violation]])

    def first_violations(self) -> list[Violation]:
        """Return the first violations, in the order of the chains' names."""
        return [found for tenant in sorted(self.violations) for found in self.violations[tenant]][:VIOLATIONS_MAX]


class Ledger:
    """One verification, however many do it.

    Arguments:
        pieces: The parts of each piece, drawn when they are needed.
        whole_of: Returns all of a chain that is to be checked, as one part.
        on_end: Told, for each chain, of an entry up to which it certainly holds.
        on_entries: Told of entries that were checked.
        on_chain: Told, of each chain that there is anything of, the seq of its last entry and the tree over its entries
            as far as they were published; ``None`` if what is there is no tree.
    """

    def __init__(
        self,
        pieces: Iterable[tuple[Part, ...]],
        *,
        whole_of: Callable[[str], Part],
        on_end: Callable[[str, End], None],
        on_entries: Callable[[int], None],
        on_chain: OnChain | None = None,
    ) -> None:
        self.found = Findings()
        self._pieces: Iterator[tuple[Part, ...]] = iter(pieces)
        self._again: deque[Part] = deque()
        self._whole_of = whole_of
        self._on_end = on_end
        self._on_chain = on_chain
        self._split: dict[str, _Split] = {}
        self._number = 0
        self.checked = on_entries

    def next(self) -> Piece | None:
        """Return the next piece to be checked; ``None`` if there is none now. A result can make one."""
        if self._again:
            return self._piece((self._again.popleft(),))
        for parts in self._pieces:
            split = self._split.get(parts[0].tenant)
            if split is None or not split.is_broken:
                return self._piece(parts)
        return None

    def _piece(self, parts: tuple[Part, ...]) -> Piece:
        self._number += 1
        return Piece(self._number, parts)

    def done(self, results: Sequence[PartResult]) -> None:
        """Take the results of a piece."""
        for result in results:
            if result.part.number == 0 and result.part.is_last:
                self._settle(result, 0, result.tree)
            else:
                self._done_part(result)

    def _done_part(self, result: PartResult) -> None:
        tenant = result.part.tenant
        split = self._split.setdefault(tenant, _Split())
        if split.is_broken and not result.part.is_again:
            return
        split.results[result.part.number] = result
        while (
            following := split.results.pop(0 if split.held is None else split.held.part.number + 1, None)
        ) is not None:
            is_seam_right = following.part.number == 0 or (
                split.held is not None and following.begun is not None and following.follows(split.held)
            )
            if not is_seam_right or not (following.holds or following.part.is_last):
                self._check_again(split, following, from_here=is_seam_right)
                return
            if split.held is not None and split.held.end is not None and following.holds:
                self._on_end(tenant, split.held.end)  # what was chained to it holds
            if following.part.is_last:
                self._settle(following, split.entries, split.tree_with(following))
                return
            split.tree = split.tree_with(following)
            split.entries += following.entries
            split.held = following

    def _check_again(self, split: _Split, result: PartResult, *, from_here: bool) -> None:
        """Let all that comes behind the parts that hold be checked as one; all of the chain if a seam is not right."""
        whole = self._whole_of(result.part.tenant)
        split.is_broken = True
        split.results.clear()
        if from_here and result.part.number:
            part = result.part
            whole = replace(whole, first=part.first, seen=None, number=part.number)
        self._again.append(replace(whole, is_again=True))

    def _settle(self, result: PartResult, entries: int, tree: CompactRange | None) -> None:
        """Take in what a chain came to."""
        if result.part.is_again:  # parts of it can still be under way, or were not given out yet
            self._split[result.part.tenant] = _Split(is_broken=True)
        else:
            self._split.pop(result.part.tenant, None)
        if not result.is_there:
            return
        found, tenant = self.found, result.part.tenant
        found.chains += 1
        found.entries += entries + result.entries
        if self._on_chain is not None:
            self._on_chain(tenant, result.last, tree)
        found.violations_total += result.violations_total
        if result.holds_through >= 0:
            found.checked_through[tenant] = result.holds_through
        if result.violations:
            found.violations[tenant] = result.violations
            self._bound()
        elif result.end is not None and not result.violations_total:
            self._on_end(tenant, result.end)

    def _bound(self) -> None:
        """Forget violations that can no longer be among the first."""
        if sum(map(len, self.found.violations.values())) <= 2 * VIOLATIONS_MAX:
            return
        before = 0
        for tenant in sorted(self.found.violations):
            if before >= VIOLATIONS_MAX:
                del self.found.violations[tenant]
            else:
                before += len(self.found.violations[tenant])
