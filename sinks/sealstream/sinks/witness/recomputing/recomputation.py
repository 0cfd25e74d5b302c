"""The rounds of one epoch up to one checkpoint, recomputed from audit.chained, in steps that can be gone on with.

First each round is computed to its end and compared with the published one. Then the chains are followed on to where
the verifier stands: only its heads say that what was read is what it has verified. Nothing counts before that.

Where a round of another epoch comes, a recomputation ends: that round is the first one of the next recomputation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Final, cast

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.coverage import PartitionCoverage, coverage_digest, pack_coverage
from sealstream.schemas.entry import Kind, partition_chain
from sealstream.schemas.errors import (
    CheckpointRefused,
    InstanceDiffers,
    LeafInvalid,
    ObjectMissing,
    SealInvalid,
    SourceExpired,
)
from sealstream.schemas.merkle import leaf_hash
from sealstream.schemas.round import Round
from sealstream.schemas.tenant_map import MapLeaf
from sealstream.schemas.violation import ROOT_LOG, Violation, ViolationType
from sealstream.sinks.witness.judging import Behind
from sealstream.sinks.witness.recomputing.confirming import ALTERED, RETRY_SECONDS, Confirmation, stopped
from sealstream.sinks.witness.recomputing.differences import (
    Difference,
    Growth,
    coverage_differs,
    map_differs,
    place_differs,
)
from sealstream.sinks.witness.recomputing.epochs import Epochs
from sealstream.sinks.witness.recomputing.naming import Naming
from sealstream.sinks.witness.recomputing.open_round import OpenRound
from sealstream.sinks.witness.recomputing.published import PublishedRound
from sealstream.sinks.witness.recomputing.refusal import Refusal
from sealstream.sinks.witness.recomputing.sources import Sources
from sealstream.sinks.witness.recomputing.strands import Packed, Strands
from sealstream.sinks.witness.recomputing.stretch import Followed, Place, Stretch, follow
from sealstream.sinks.witness.recomputing.trees import Changes, Log, Tenants, layered
from sealstream.sinks.witness.recomputing.unverifiable import unverifiable

_EPOCH: Final = (
    "start the witness with SEALSTREAM_EPOCH of that epoch: it reads the topics of its own and the one before"
)


class Recomputation:
    """The rounds from where the judge stands up to one checkpoint, or up to a round of another epoch.

    Arguments:
        epochs: What is read.
        checkpoint: The checkpoint.
        log: The root log as the judge has it.
        load: Returns a chain as the judge has it.
        tenants: The tenant map as the judge has it; it is brought forward, so it must be made anew if this fails.
    """

    def __init__(
        self,
        epochs: Epochs,
        checkpoint: Checkpoint,
        *,
        log: Log,
        load: Callable[[bytes], Packed | None],
        tenants: Tenants,
    ) -> None:
        self.checkpoint = checkpoint
        self.changes = Changes(log.copy())
        self.entries = 0
        self.covers = False
        """Whether a round of it covers anything."""
        self._epochs = epochs
        self._sources = epochs.newest
        self._end = checkpoint.size
        self._before = load
        self._tenants = tenants
        self._load = layered(self.changes.chains, below=load)
        self._strands = Strands(self._load)
        self._leaves: list[bytes] = []
        self._reads = False
        self._round: OpenRound | None = None
        self._differs: Difference | None = None
        self._followed: Followed | None = None
        self._targets: dict[int, int] = {}

    def advance(self, deadline: float) -> None:
        """Compute on; when this returns, every round is right.

        Arguments:
            deadline: When to give up for now, on the monotonic clock. Called again it goes on where it was.

        Raises:
            Behind: The verifier or this reading has not come so far.
            Refusal: A round is not what it was published to be.
            UnsafeState, Unreachable, StoreError: It cannot be computed.
        """
        if not self._leaves:
            self._begin()
            self._refresh(deadline)  # what was open may be resolved by now
        while self._differs is None and self.changes.log.size < self._end:
            self._compute(self.changes.log.size, deadline)
        if self._followed is None:
            self._refresh(deadline)
            self._start_reading()
            self._targets = {n: p.chained for n in self._numbers if (p := self._sources.word.position(n)) is not None}
            self._followed = Followed()
        self._follow(self._followed, deadline)
        Confirmation(
            self._epochs, self._sources, self._strands, load=self._load, changed=self.changes.chains, deadline=deadline
        ).confirm(self._followed)
        if self._differs is not None and self._round is not None:
            # Only now: what was compared is what was verified, so it is the published round that is not right.
            raise self._refusal(Naming(self._sources, self._round).name(self._differs))
        self._sources.word.changed.clear()

    @property
    def is_newest(self) -> bool:
        """Whether it is of the newest epoch."""
        return self._sources is self._epochs.newest

    @property
    def _numbers(self) -> range:
        return range(self._sources.partitions)

    # -- what was published --------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Read the leaves, and refuse what does not even come to the root that was signed: it costs nothing to see."""
        log, size = self.changes.log, self.checkpoint.size
        try:
            leaves = self._sources.published.leaves(log.size, size)
        except ObjectMissing as error:
            raise Behind("the rounds are not published yet", retry_after_seconds=RETRY_SECONDS) from error
        except CheckpointRefused as error:
            raise Refusal(error, self._sources.violation(Difference(ViolationType.EDITED, error.message))) from error
        tree = log.tree.copy()
        tree.extend(map(leaf_hash, leaves))
        if tree.root() != self.checkpoint.root:
            message = f"the rounds published for the size {size} come to another root than the one that is signed"
            expected, found = tree.root().hex(), self.checkpoint.root.hex()
            raise self._refusal(Difference(ViolationType.EDITED, message, expected=expected, found=found))
        self._leaves = leaves
        self._first = log.size

    # -- one round -----------------------------------------------------------------------------------------------------

    def _compute(self, number: int, deadline: float) -> None:
        if self._round is None:
            self._round = self._open(number, deadline)
        one = self._round
        if one is None:
            self._end = number
            return
        self._await_verified(number, one, deadline)
        self._read(one, deadline)
        self._refuse_open(one)
        self._differs = self._compare(number, one)
        if self._differs is None:
            self._round = None

    def _open(self, number: int, deadline: float) -> OpenRound | None:
        """Read what a round covers, and begin to read the entries if that has not been begun.

        Returns:
            The round; ``None`` if it is of another epoch than those before it.
        """
        log = self.changes.log
        try:
            published = self._sources.published.round(number, self._leaves[number - self._first])
        except ObjectMissing as error:
            raise Behind("a round's coverage is not published yet", retry_after_seconds=RETRY_SECONDS) from error
        except CheckpointRefused as error:
            raise Refusal(
                error, self._sources.violation(Difference(ViolationType.EDITED, error.message, seq=number))
            ) from error
        differs = place_differs(number, published.leaf, log.previous)
        if differs is not None:
            raise self._refusal(differs)
        sources = self._sources_of(published, deadline)
        if sources is not None and sources is not self._sources:
            if self.covers:
                return None
            self._refresh(deadline, sources)
            self._sources, self._reads = sources, False
        self.covers = self.covers or sources is not None
        one = OpenRound(published)
        topic_id = self._sources.topic_id()
        for part in published.parts:
            if part.topic_id == topic_id and part.partition < self._sources.partitions:
                one.ends[part.partition] = part.end
            else:
                one.elsewhere.append(self._elsewhere(part, topic_id))
        self._start_reading()
        for partition, end in one.ends.items():
            place = self._place(cast("bytes", topic_id), partition)
            if end < place.end:
                message = f"round {number}, partition {partition}: it ends at {end}, before its begin {place.end}"
                raise self._refusal(Difference(ViolationType.FORK, message, partition_chain(partition)))
            one.stretches[partition] = Stretch(place)
            one.began[partition] = place.chained
        return one

    def _sources_of(self, published: PublishedRound, deadline: float) -> Sources | None:
        """Return what a round is to be computed from: the epoch of the source topic of which it has new offsets.

        Returns:
            The epoch; ``None`` if it has no new offsets of any.

        Raises:
            Behind: Nothing of that epoch is verified yet.
            Refusal: It has those of two topics, or of one of which nothing is verified.
        """
        topics = {part.topic_id: part.partition for part in published.parts if part.end != self._covered(part)}
        if not topics:
            return None
        if len(topics) > 1:
            raise Refusal(
                InstanceDiffers("a round covers new offsets of two source topics", hint="a round is of one epoch alone")
            )
        ((topic_id, partition),) = topics.items()
        for sources in (self._sources, self._epochs.newest):
            if self._topic_of(sources, deadline) == topic_id:
                return sources
        older = self._epochs.older()
        if older is not None and self._topic_of(older, deadline) == topic_id:
            return older
        if (verified := self._epochs.newest.topic_id()) is None:
            raise Behind("nothing is verified yet", retry_after_seconds=RETRY_SECONDS)
        raise self._unknown(partition, topic_id, verified)

    def _topic_of(self, sources: Sources, deadline: float) -> bytes | None:
        if sources.topic_id() is None:
            self._refresh(deadline, sources)
        return sources.topic_id()

    @staticmethod
    def _unknown(partition: int, topic_id: bytes, verified: bytes) -> Refusal:
        return Refusal(
            InstanceDiffers(
                f"a round covers partition {partition} of the topic {topic_id.hex()}, and {verified.hex()} is verified",
                hint=_EPOCH,
            )
        )

    def _covered(self, part: PartitionCoverage) -> int:
        """Return up to where a partition is accounted for."""
        place = self.changes.log.places.get(part.place)
        return 0 if place is None else place.end

    def _elsewhere(self, part: PartitionCoverage, topic_id: bytes | None) -> PartitionCoverage:
        """Return our own coverage of a partition of another topic: one that nothing has come to since."""
        end = self._covered(part)
        if part.end != end:
            raise self._unknown(part.partition, part.topic_id, topic_id or b"")
        return PartitionCoverage(part.topic_id, part.partition, end, end, (0,) * len(Kind))

    def _place(self, topic_id: bytes, partition: int) -> Place:
        return self.changes.log.places.setdefault((topic_id, partition), Place(topic_id, partition))

    def _start_reading(self) -> None:
        """Read each partition from where it was cut, unless it is read already; a first reading needs everything.

        Raises:
            SourceExpired: audit.chained no longer has what is to be read next.
        """
        chained, topic_id = self._sources.chained, self._sources.topic_id()
        if topic_id is None or self._reads:
            return
        places = {number: self._place(topic_id, number) for number in self._numbers}
        for number, place in places.items():
            start = chained.start(number)
            if start > place.chained:
                raise SourceExpired(
                    f"{chained.topic} partition {number} begins at offset {start}, and the witness has recomputed it"
                    f" up to {place.chained}",
                    hint="what lies between can no longer be recomputed: begin with an empty SEALSTREAM_WITNESS_PATH"
                    " and --from-checkpoint, with the newest root checkpoint that you trust",
                )
        chained.read({number: place.chained for number, place in places.items()})
        self._reads = True

    def _await_verified(self, number: int, one: OpenRound, deadline: float) -> None:
        """Wait until all that a round covers is verified.

        Raises:
            Behind: It is not in time.
            Refusal: It will not be: a violation has stopped the partition, or there is nothing more to be verified.
        """
        while (partition := self._unverified(one)) is not None:
            if time.monotonic() >= deadline:
                self._refuse_unverifiable(number, one, partition)
                raise Behind(
                    f"partition {partition} is not verified up to offset {one.ends[partition]} yet",
                    retry_after_seconds=RETRY_SECONDS,
                )
            self._refresh(deadline)

    def _refuse_unverifiable(self, number: int, one: OpenRound, partition: int) -> None:
        """Refuse what waiting does not change: the verifier has read all there is, and has not come so far."""
        word, place = self._sources.word, one.stretches[partition].place
        position = word.position(partition) if word.is_whole else None
        if position is None:
            return
        differs = unverifiable(self._sources.chained, place, position, number=number, end=one.ends[partition])
        self._reads = False
        self._start_reading()  # nothing of this round was read yet
        if differs is not None:
            raise self._refusal(differs)

    def _unverified(self, one: OpenRound) -> int | None:
        """Return a partition that is not verified up to the end of a round yet; ``None`` if all of them are."""
        for partition, end in one.ends.items():
            if end == one.stretches[partition].begin:
                continue
            position = self._sources.word.position(partition) if self._sources.word.is_whole else None
            if position is None or (position.verified < end and not position.stopped):
                return partition
            if position.verified < end:
                raise Refusal(
                    CheckpointRefused(
                        f"partition {partition} is verified up to offset {position.verified} and stopped there",
                        hint=f"sealstream violations list: {', '.join(position.stopped)}",
                    )
                )
        return None

    def _read(self, one: OpenRound, deadline: float) -> None:
        """Read each partition up to where the round ends."""
        chained, word = self._sources.chained, self._sources.word
        limits = {n: position.chained for n in one.ends if (position := word.position(n)) is not None}
        while True:
            for partition in [n for n in one.ends if n not in one.done]:
                self._drain(one, partition, limits.get(partition, 0))
            pending = one.ends.keys() - one.done
            if not pending:
                return
            self._check_time(deadline, pending, limits)
            chained.fill(pending)

    def _drain(self, one: OpenRound, partition: int, limit: int) -> None:
        chained, stretch, end = self._sources.chained, one.stretches[partition], one.ends[partition]
        if end == stretch.begin:
            one.done.add(partition)
        while partition not in one.done:
            messages = chained.waiting(partition)
            taken, reached = stretch.take(messages, self._strands, end=end, limit=limit)
            chained.take(partition, taken)
            self.entries += taken
            self._strands.settle()
            if reached or taken < len(messages) or (not messages and chained.has_come_to(partition, limit)):
                one.done.add(partition)
            if not messages:
                return

    def _refuse_open(self, one: OpenRound) -> None:
        """Refuse a round that covers anything of a chain behind an open violation."""
        for partition, stretch in one.stretches.items():
            opened = [chain for chain in self._sources.word.unsound(partition) if chain.open]
            if not opened or one.ends[partition] == stretch.begin:
                continue
            found = self._sources.violations.find({key for chain in opened for key in chain.open})
            for chain in opened:
                size = self._strands[chain.name].seq
                for key in chain.open:
                    if _reaches(found.get(key), size, one.ends[partition], stretch.place.topic_id):
                        raise stopped(chain, key, found.get(key))

    # -- comparing -----------------------------------------------------------------------------------------------------

    def _compare(self, number: int, one: OpenRound) -> Difference | None:
        """Compare a round with the published one, and take it in if they are equal; return what differs if not.

        Raises:
            SealInvalid: It cannot be computed from what was read.
        """
        published, log = one.published, self.changes.log
        ours = {part.place: part for part in one.elsewhere}
        for partition, stretch in one.stretches.items():
            part = stretch.coverage(one.ends[partition])
            ours[part.place] = part
        for part in published.parts:
            differs = coverage_differs(number, part, ours[part.place])
            if differs is not None:
                return differs
        try:
            coverage = pack_coverage(ours.values())
        except LeafInvalid as error:
            raise Refusal(SealInvalid(f"round {number} cannot be recomputed: {error.message}", hint=ALTERED)) from error
        changed = self._strands.cut()
        grown = self._growth(changed) if len(changed) <= _NAMED_MAX else []
        self._tenants.update(changed.items())
        self.changes.chains.update(changed)
        one.grown = grown
        differs = map_differs(number, published.leaf, self._tenants.map, grown)
        if differs is not None:
            return differs
        leaf = Round(
            number, log.previous, len(coverage), coverage_digest(coverage), self._tenants.map.size,
            self._tenants.map.root(),
        ).pack()  # fmt: skip
        if leaf != published.data:
            message = f"round {number} is recomputed with another leaf"
            return Difference(ViolationType.FORK, message, seq=number, expected=leaf.hex(), found=published.data.hex())
        log.append(leaf)
        self.changes.roots[log.size] = log.tree.root()
        return None

    def _growth(self, changed: dict[bytes, Packed]) -> list[Growth]:
        """Return what has grown, and what it was before the round, which is not taken in yet."""
        grown: list[Growth] = []
        for name, packed in sorted(changed.items()):
            before = self._load(name)
            tree = CompactRange() if before is None else CompactRange.from_state(before.tree)
            leaf = None if before is None else self._leaf(name, before)
            grown.append(Growth(name.decode("ascii"), leaf, self._leaf(name, packed), tree))
        return grown

    def _leaf(self, name: bytes, packed: Packed) -> MapLeaf:
        tree = CompactRange.from_state(packed.tree)
        return self._tenants.leaf(name, tree.end, tree.root())

    # -- the verifier's heads ------------------------------------------------------------------------------------------

    def _follow(self, followed: Followed, deadline: float) -> None:
        """Follow the chains to where the verifier stands."""
        chained, places = self._sources.chained, self.changes.log.places
        topic_id = self._sources.topic_id()
        while self._targets:
            for partition, limit in list(self._targets.items()):
                place = places[cast("bytes", topic_id), partition]
                while messages := chained.waiting(partition):
                    taken = follow(messages, followed, self._strands, place, limit)
                    chained.take(partition, taken)
                    self.entries += taken
                    if taken < len(messages):
                        break
                if chained.waiting(partition) or chained.has_come_to(partition, limit):
                    del self._targets[partition]
            if self._targets:
                self._check_time(deadline, self._targets.keys(), self._targets)
                chained.fill(self._targets)

    # -- what all of it needs ------------------------------------------------------------------------------------------

    def _refresh(self, deadline: float, sources: Sources | None = None) -> None:
        if not (sources or self._sources).word.refresh(deadline):
            raise Behind("the verifier's state is still being read", retry_after_seconds=RETRY_SECONDS)

    def _check_time(self, deadline: float, pending: Collection[int], limits: Mapping[int, int]) -> None:
        """Say that this is behind, once the time is over; or that what was verified is not there any more.

        Raises:
            Behind: There is more to read.
            Refusal: There is not, and there was.
        """
        if time.monotonic() < deadline:
            return
        for partition in pending:
            end, limit = self._sources.chained.end(partition), limits.get(partition, 0)
            if end < limit:
                message = f"audit.chained ends at offset {end}, and is verified up to {limit}"
                place = (partition, None, f"at least {limit}", str(end))
                differs = Difference(ViolationType.TRUNCATED, message, partition_chain(partition), None, *place)
                raise Refusal(SealInvalid(message, hint=ALTERED), self._sources.violation(differs))
        raise Behind(
            f"{len(pending)} partitions are still being read, {self.entries} entries so far",
            retry_after_seconds=RETRY_SECONDS,
        )

    def _refusal(self, differs: Difference) -> Refusal:
        where = "" if differs.tenant == ROOT_LOG else f"tenant {differs.tenant}: "
        if where and differs.seq is not None:
            where = f"tenant {differs.tenant} seq {differs.seq}: "
        hint = "the notary, its store or its keys are not what they should be: compare them with the verifier's feed"
        return Refusal(CheckpointRefused(where + differs.message, hint=hint), self._sources.violation(differs))


def _reaches(violation: Violation | None, size: int, end: int, topic_id: bytes) -> bool:
    """Return whether a round covers anything behind the point that a violation names."""
    if violation is None:
        return True
    if violation.seq is not None and size > violation.seq:
        return True
    if violation.offset is not None and violation.topic_id == topic_id:
        return violation.offset < end
    return violation.seq is None


_NAMED_MAX: Final = 10_000
"""Chains that have grown in a round; beyond so many the one at fault is not looked for."""
