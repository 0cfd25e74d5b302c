"""Makes rounds: what was read of the store becomes chains' heads, the tenant map, a coverage and a leaf. Pure but for
the one call that commits to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.coverage import coverage_digest, pack_coverage
from sealstream.schemas.entry import ZERO_HASH
from sealstream.schemas.errors import FormatError, TreeDiffers
from sealstream.schemas.merkle import leaf_hash
from sealstream.schemas.round import Round
from sealstream.sinks.notary.chains import Chains
from sealstream.sinks.notary.gathering import Gathered
from sealstream.sinks.notary.made import ChainGrowth, MadeRound
from sealstream.sinks.notary.reading import ROUND_ENTRIES_MAX, Reading, RoundReader
from sealstream.sinks.notary.remade import remake
from sealstream.sinks.notary.steps import LogHead, Memory, PositionStep, RoundRow, RoundStep
from sealstream.sinks.notary.stored import Snapshot

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECONDS_MAX: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


class Rounds:
    """The rounds of one root log, one after the other.

    After any error but one that says that nothing was committed to, make another one from what the database has.

    Arguments:
        memory: What the notary has committed to so far.
        secret: What the map's nonces are made from, 32 bytes.
        commit: Commits to a round.

    Raises:
        TreeDiffers: What the memory says does not hold together.
        LeafInvalid: The secret has another size.
    """

    def __init__(self, memory: Memory, secret: bytes, commit: Callable[[RoundStep], None]) -> None:
        self.chains = Chains(secret, memory.chains)
        self.positions = dict(memory.positions)
        self.last: RoundRow | None = memory.last
        self._head = memory.head
        self._tree = CompactRange.from_state(memory.head.hashes)
        self._previous = ZERO_HASH if memory.last is None else leaf_hash(memory.last.leaf)
        self._commit = commit
        self._check()

    @property
    def head(self) -> LogHead:
        """How far the root log has come."""
        return self._head

    def make(self, snapshot: Snapshot, *, entries_max: int = ROUND_ENTRIES_MAX) -> tuple[MadeRound, Reading]:
        """Make the next round of what is new in the store, and commit to it.

        Returns:
            The round, and what it was made of.

        Raises:
            StoreDamaged: An entry is missing, or not what it says. Nothing was committed to.
            TreeDiffers: The store, or what is remembered, is not what it was. Nothing was committed to.
            WriterConflict: Another notary made the round. Nothing was committed to.
            StoreError: One of the databases refuses. Nothing was committed to.
            Unreachable: One of the databases does not answer. Whether the round was committed to is not known.
        """
        reading = RoundReader(snapshot, self.positions, self.chains.end, entries_max=entries_max).read()
        step = self.step(reading.gathered)
        self._commit(step)
        # A crash here leaves a round that nobody has seen: whoever starts next remakes it from database and store, and
        # publishes it. Nothing is signed yet, and nothing else can be signed at this size any more.
        self._advance(step)
        return _made(step, reading.gathered), reading

    def remake_last(self, snapshot: Snapshot) -> MadeRound | None:
        """Return the last round as it was made, byte for byte; ``None`` if there is none.

        Raises:
            StoreDamaged: The store has other entries than those that were committed to.
            TreeDiffers: It has fewer.
            StoreError: It refuses.
            Unreachable: It does not answer.
        """
        return None if self.last is None else remake(self.last, self.chains, snapshot)

    def step(self, gathered: Gathered) -> RoundStep:
        """Return what entries make of the root log, as its next round. The chains are as after it from here on.

        Raises:
            TreeDiffers: What is remembered of a chain does not hold together.
        """
        number = self._head.size
        chains = [self.chains.grow(chain, gathered.links[chain], number) for chain in sorted(gathered.links)]
        self.chains.apply(chains)
        coverage = pack_coverage(gathered.parts)
        digest, root = coverage_digest(coverage), self.chains.map_root
        leaf = Round(number, self._previous, len(coverage), digest, len(self.chains), root).pack()
        tree = self._tree.copy()
        tree.append(leaf_hash(leaf))
        times = [link.received for links in gathered.links.values() for link in links if link.received]
        return RoundStep(
            before=self._head,
            after=LogHead(tree.end, tree.root(), tree.state()),
            leaf=leaf,
            coverage=coverage,
            chains=chains,
            positions=[
                PositionStep(part.topic_id, part.partition, part.begin, part.end)
                for part in sorted(gathered.parts, key=lambda part: part.place)
            ],
            appended_from=moment(min(times)) if times else None,
            appended_before=moment(max(times)) if times else None,
            map_tiles=self.chains.map_tiles(),
            map_leaves=self.chains.map_leaves(),
        )

    def _advance(self, step: RoundStep) -> None:
        self._head = step.after
        self._tree = CompactRange.from_state(step.after.hashes)
        self._previous = leaf_hash(step.leaf)
        self.positions |= {(one.topic_id, one.partition): one.after for one in step.positions}
        self.last = RoundRow(step.round, step.leaf, step.coverage, step.after.root, datetime.now(UTC))

    def _check(self) -> None:
        """Refuse a memory whose parts are not of one log.

        Raises:
            TreeDiffers: They are not.
        """
        hint = "the notary's database was changed or restored in parts; or SEALSTREAM_MAP_SECRET is another one"
        if (self._tree.begin, self._tree.end, self._tree.root()) != (0, self._head.size, self._head.root):
            raise TreeDiffers("what the notary remembers of the root log does not hold together", hint=hint)
        if self._head.size == 0 and self.last is None and not len(self.chains):
            return
        if self.last is None or (self.last.size, self.last.root) != (self._head.size, self._head.root):
            raise TreeDiffers("the notary's database does not have the last round of its root log", hint=hint)
        try:
            leaf = Round.parse(self.last.leaf)
        except FormatError as error:
            raise TreeDiffers(f"the last round is none: {error.message}", hint=hint) from error
        if (leaf.round, leaf.chains, leaf.map_root) != (self.last.round, len(self.chains), self.chains.map_root):
            raise TreeDiffers(f"round {self.last.round} has another tenant map than the one of all chains", hint=hint)
        if leaf.coverage != coverage_digest(self.last.coverage):
            raise TreeDiffers(f"round {self.last.round} commits to another coverage", hint=hint)


def moment(microseconds: int) -> datetime:
    """Return a broker's time as a datetime; what lies beyond the year 9999 becomes its end."""
    return _EPOCH + timedelta(microseconds=min(microseconds, _MICROSECONDS_MAX))


def _made(step: RoundStep, gathered: Gathered) -> MadeRound:
    return MadeRound(step.round, step.leaf, step.coverage, step.after.root, tuple(_growths(step, gathered)))


def _growths(step: RoundStep, gathered: Gathered) -> Iterator[ChainGrowth]:
    for one in step.chains:
        links, after = gathered.links[one.after.chain], one.after
        yield ChainGrowth(
            after.chain,
            after.size_before,
            after.size,
            after.root,
            tuple(link.entry for link in links),
            tuple(link.hash for link in links),
        )
