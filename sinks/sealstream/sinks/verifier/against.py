"""A store under verification, held against what was published, on top of the check of each chain by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.coverage import OffsetRange
from sealstream.schemas.entry import entry_hash
from sealstream.schemas.errors import ConfigError, StoreError
from sealstream.schemas.tenant_name import is_chain
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.sinks.verifier.accounting import SOURCED, disagreement, older_state
from sealstream.sinks.verifier.comparing import Comparison, Judge, Reached
from sealstream.sinks.verifier.followed import Accounts
from sealstream.sinks.verifier.ledger import Findings
from sealstream.sinks.verifier.pieces import SEQ_MAX, Part
from sealstream.sinks.verifier.published import Head, Published
from sealstream.sinks.verifier.root_log import Place
from sealstream.sinks.verifier.stored_places import StorePlaces
from sealstream.sinks.verifier.trusted_tiles import UNUSABLE

NAMELESS: Final = "!map-"
"""What the name of a chain begins with that the map has, and that nobody tells the name of; its key follows in hex."""
_CHAINS_ASKED: Final = 1_000
_RANGES_ASKED: Final = 10_000
_WHOLE_CHAINS_MIN: Final = 2
"""So many chains that end too early, and no fewer, can make a store an older one: one alone has lost its end."""


@dataclass(slots=True)
class _Seen:
    """What was seen of chains whose tree is not computed, because only a part of them is verified.

    Arguments:
        parts: The part that is verified, by chain.
        lasts: The seq of the last entry that was read, by chain.
    """

    parts: dict[str, Part] = field(default_factory=dict[str, Part])
    lasts: dict[str, int] = field(default_factory=dict[str, int])


class PublishedCheck:
    """Holds chains against what was published of them.

    Arguments:
        published: What was published.
        places: The store.
        tenant: The only chain that is verified; ``None`` for all.
        names: The chains of the store.

    Raises:
        ConfigError: All chains are asked for, and this login does not see all of them.
        SealstreamError: What was published of a chain cannot be read.
    """

    def __init__(self, published: Published, places: StorePlaces, *, tenant: str | None, names: Iterable[str]) -> None:
        self._published = published
        self._places = places
        self._tenant = tenant
        self._heads: dict[str, Head] = {}
        if not published.findings:
            if tenant is None and published.is_mapped and not places.sees_all():
                raise ConfigError(
                    "this login sees only some of the tenants, and would take the others for vanished",
                    hint="verify one of them with --tenant, or as a login that may read all of them",
                )
            if published.is_mapped:
                names = {*names, *published.names()} if tenant is None else names
                published.name(filter(is_chain, names))  # what has no chain's name was never published
            self._heads = published.heads
        self._comparison = Comparison(self._heads)
        self._seen = _Seen()
        self.growth = 0

    def part(self, whole: Part) -> Part:
        """Return a chain's part that asks for its tree, where all of the chain is verified."""
        if whole.is_whole:
            head = self._heads.get(whole.tenant)
            return whole if head is None else replace(whole, tree_size=head.size)
        self._seen.parts[whole.tenant] = whole
        return whole

    def take(self, chain: str, last: int, tree: CompactRange | None) -> None:
        """Take in what a chain came to."""
        if chain in self._seen.parts:
            self._seen.lasts[chain] = last
        else:
            self._comparison.take(chain, last, tree)

    def finish(self, found: Findings) -> None:
        """Add to what was found what only the comparison shows.

        Raises:
            StoreError: There is nothing to compare with.
        """
        new = list(self._published.findings)
        if not new:
            self._take_seen()
            judge = Judge(
                self._published.instance,
                self._heads,
                tiles_of=self._published.tiles_of,
                entries_of=self._places.entries_of,
                known=found.violations,
            )
            forks = list(judge.differing(self._comparison.differing))
            new = [*forks, *self._missing(judge, is_sound=not (forks or found.violations_total))]
            new += self._ungrown()
            if not new and not found.violations_total:
                new += self._unaccounted()
            if not new and not self._comparison.held and not found.violations_total:
                raise StoreError(
                    "no checkpoint covers any of it", hint="wait for the next round, and see whether the notary runs"
                )
            self._cover(found)
        _add(found, new)

    # -- chains --------------------------------------------------------------------------------------------------------

    def _take_seen(self) -> None:
        """Compare chains of which only a part was read, by the last entry of it that was published.

        An entry has the hash of the one before in it, so its hash stands for all entries up to it.
        """
        asked: dict[str, int] = {}
        for chain, part in self._seen.parts.items():
            head = self._heads.get(chain)
            if head is None:
                self._comparison.take(chain, self._seen.lasts.get(chain, -1), None)
                continue
            asked[chain] = min(head.size - 1, part.last)
            if part.seen is None and asked[chain] < part.first:
                raise StoreError(
                    f"the checkpoint covers {chain} up to seq {head.size - 1}, and not the range from {part.first} on",
                    hint="wait for the next round, or verify from further ahead",
                )
        for seqs in _batches(asked):
            stored = self._places.entries_at(seqs)
            for chain, seq in seqs.items():
                self._take_last(chain, seq, stored[chain][0] if chain in stored else None)

    def _take_last(self, chain: str, seq: int, entry: bytes | None) -> None:
        head, last = self._heads[chain], self._seen.lasts.get(chain, -1)
        if entry is None:
            self._comparison.differing[chain] = Reached(last, None)
            return
        try:
            is_it = self._published.tiles_of(chain).leaf(seq) == entry_hash(entry)
        except UNUSABLE as error:
            raise StoreError(
                f"a part of {chain} cannot be compared: {error.message}",
                hint="verify all of the chain instead",
            ) from error
        if is_it:
            self._comparison.held[chain] = last
        else:
            self._comparison.differing[chain] = Reached(max(last, head.size - 1), None)

    def _missing(self, judge: Judge, *, is_sound: bool) -> Iterator[Violation]:
        """Name chains that end too early, or are gone: each by itself, or all together as an older store."""
        missing = judge.short | dict.fromkeys(self._comparison.vanished(), 0)
        if self._tenant is None:
            for key, head in self._published.nameless().items():
                name = f"{NAMELESS}{key.hex()}"
                self._heads[name] = head
                missing[name] = 0
        state = self._older() if is_sound and len(missing) >= _WHOLE_CHAINS_MIN else None
        for chain, first in sorted(missing.items()):
            yield judge.missing(chain, first) if state is None else judge.rolled_back(chain, first, state)

    def _older(self) -> str | None:
        """Return in words which older state the whole store is at; ``None`` if it is at none."""
        log, accounts = self._published.root_log, self._published.accounts
        if log is None or accounts is None:
            return None
        positions = {place: self._places.position(place, end) for place, end in accounts.ends.items()}
        number = older_state(log.rounds(), positions, lambda place: self._records(place, accounts))
        if number is None:
            return None
        if number < 0:
            return "its beginning, before round 0"
        when = self._published.when(number)
        return f"round {number}{f', of {when}' if when else ''}"

    def _records(self, place: Place, accounts: Accounts) -> int:
        counts = self._places.counts(place, accounts.ends[place])
        return sum(counts[kind] for kind in SOURCED)

    # -- what stands behind and beside ---------------------------------------------------------------------------------

    def _ungrown(self) -> Iterator[Violation]:
        """Name what is no growth: entries that no round has, of offsets that the rounds account for."""
        accounts = self._published.accounts
        if accounts is None:
            return
        first_new = dict.fromkeys(self._comparison.unpublished, 0)
        for chain, last in self._comparison.held.items():
            if last >= self._heads[chain].size:
                first_new[chain] = self._heads[chain].size
        for seqs in _batches(dict(sorted(first_new.items()))):
            for chain, (_, place, offset) in sorted(self._places.entries_at(seqs).items()):
                if offset < accounts.ends.get(place, 0):
                    yield Violation(
                        type=ViolationType.FOREIGN,
                        tenant=chain,
                        seq=seqs[chain],
                        message=f"the entry is in no published tree, and offset {offset} is accounted for without it",
                        instance=self._published.instance,
                        partition=place[1],
                        offset=offset,
                        topic_id=place[0],
                    )

    def _unaccounted(self) -> Iterator[Violation]:
        """Name source partitions of which the store has other entries than the rounds account for.

        Where there are as many as the rounds count, and none of an offset that they say nobody sees or is lost, there
        is one for each other offset.
        """
        log, accounts = self._published.root_log, self._published.accounts
        if log is None or accounts is None:
            return
        counts = {place: self._places.counts(place, end) for place, end in accounts.ends.items()}
        differ = {place for place, found in counts.items() if found != accounts.counts[place]}
        differ |= self._denied()
        for place in sorted(differ):
            offsets = self._places.offsets(place, accounts.ends[place])
            yield disagreement(log.rounds(), place, offsets, self._published.instance)

    def _denied(self) -> set[Place]:
        """Return source partitions with an entry of an offset that has no record by the rounds.

        Rounds that an earlier run has found to agree with the store are left out, as are the entries that it has read.
        """
        denied: set[Place] = set()
        waiting: dict[Place, list[OffsetRange]] = {}
        for _, parts in self._published.new_rounds():
            for part in parts:
                ranges = waiting.setdefault(part.place, [])
                ranges += (*part.invisible, *part.lost)
                if len(ranges) >= _RANGES_ASKED:
                    if self._places.any_within(part.place, ranges):
                        denied.add(part.place)
                    ranges.clear()
        return denied | {place for place, ranges in waiting.items() if self._places.any_within(place, ranges)}

    def _cover(self, found: Findings) -> None:
        """Let what was checked reach as far as it was published; what stands behind that is growth."""
        for chain, last in self._comparison.held.items():
            size = self._heads[chain].size
            self.growth += max(0, last + 1 - size)
            if chain in found.checked_through:
                found.checked_through[chain] = min(found.checked_through[chain], size - 1)
        for chain in self._comparison.unpublished:
            self.growth += max(0, found.checked_through.pop(chain, -1) + 1)


def _add(found: Findings, new: Iterable[Violation]) -> None:
    for violation in new:
        named = found.violations.setdefault(violation.tenant, [])
        if any((one.type, one.seq) == (violation.type, violation.seq) for one in named):
            continue  # the chain's own check has shown it
        found.violations_total += 1
        named.append(violation)
        named.sort(key=lambda one: SEQ_MAX if one.seq is None else one.seq)
        through = found.checked_through.get(violation.tenant)
        if through is not None and violation.seq is not None and violation.seq <= through:
            found.checked_through[violation.tenant] = violation.seq - 1
            if not violation.seq:
                del found.checked_through[violation.tenant]


def _batches(seqs: Mapping[str, int]) -> Iterator[dict[str, int]]:
    rest = iter(seqs.items())
    while batch := dict(islice(rest, _CHAINS_ASKED)):
        yield batch
