"""From one epoch to the next: what the recomputing witness makes of rounds of both, over logs in memory."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.coverage import PartitionCoverage
from sealstream.schemas.entry import Genesis, Kind, epoch_payload
from sealstream.schemas.errors import InstanceDiffers, SealInvalid
from sealstream.schemas.log_layout import ROOT_CHECKPOINT
from sealstream.schemas.merkle import root
from sealstream.schemas.note import sign_note
from sealstream.sinks.verifier.chains import Chains as VerifiedChains
from sealstream.sinks.verifier.records import Chain
from sealstream.sinks.witness.recomputing.refusal import Refusal
from support.chain_files import entries_by_chain, publish_chain_files
from support.chained import INSTANCE, Chains
from support.chained import Sealed as Record
from support.memory_objects import MemoryObjects
from support.notes import signer
from support.recomputing import MemoryJudge, MemoryWord, word_of
from support.rounds import (
    Head,
    PlainRound,
    Sealed,
    chains_of,
    coverage_of,
    last_ends,
    publish_rounds,
    root_checkpoint,
    seal_round,
)

Entries = dict[int, list[Sealed]]
Step = tuple[int, dict[int, int]]
OLD, NEW = bytes(range(16)), b"n" * 16
OLD_PARTITIONS, NEW_PARTITIONS = 2, 3


def _placed(records: list[Record], partitions: int) -> Entries:
    return {n: [Sealed(one.entry, one.value) for one in records if one.partition == n] for n in range(partitions)}


@dataclass
class TwoEpochs:
    """An instance that went from two partitions to three: all that was chained in either epoch.

    Arguments:
        seed: Decides what was chained.
        count: How many events there are in each epoch.
    """

    seed: int
    count: int

    def __post_init__(self) -> None:
        """Chain everything."""
        chance = random.Random(self.seed)
        chains = Chains(partitions=OLD_PARTITIONS, topic_id=OLD)
        old = [one for n in range(self.count) for one in chains.event(f"t-{chance.randrange(5)}", f"old-{n}")]
        going_on, records = set(chains.heads), list[Record]()
        chains.partitions, chains.topic_id = NEW_PARTITIONS, NEW
        chains.offsets.clear()
        for number in range(self.count):
            tenant = f"t-{chance.randrange(8)}"
            if tenant in going_on:
                going_on.remove(tenant)
                epoch = epoch_payload(Genesis(INSTANCE, NEW_PARTITIONS), OLD)
                records += chains.record(tenant, epoch, kind=Kind.EPOCH)
                chains.offsets[records[-1].partition] -= 1  # it has the offset of the entry behind it
            records += chains.event(tenant, f"new-{number}")
        self.logs: tuple[Entries, Entries] = _placed(old, OLD_PARTITIONS), _placed(records, NEW_PARTITIONS)

    def words(self) -> tuple[MemoryWord, MemoryWord]:
        """Return what the verifier says: of the new epoch, also what it carried over."""
        old, new = (word_of(log) for log in self.logs)
        new.positions = {n: replace(one, source_topic_id=NEW) for n, one in new.positions.items()}
        chains = Chains(partitions=NEW_PARTITIONS)
        for name, number in old.changed.items():
            carried, place = old.chains[number].get(name), chains.event(name.decode(), "any")[0].partition
            assert carried is not None
            if new.chains[place].get(name) is None:
                new.chains[place].put(Chain(name, carried.seq, carried.prev, previous_topic=OLD))
                new.changed[name] = place
        return old, new

    def rounds(self, steps: list[Step]) -> list[PlainRound]:
        """Return rounds, each of them of one epoch, cut where the steps say as far as a store has it by then.

        Arguments:
            steps: The epoch, 0 or 1, and the most offsets by partition.
        """
        ends: tuple[dict[int, int], dict[int, int]] = {}, {}
        made: list[PlainRound] = []
        for epoch, wanted in (*steps, (0, {}), (1, {})):
            log, topic_id = self.logs[epoch], (OLD, NEW)[epoch]
            parts: list[PartitionCoverage] = []
            for number, last in last_ends(log).items():
                begin = ends[epoch].get(number, 0)
                end = max(begin, min(wanted.get(number, last), self._stored(log[number], ends[0]) if epoch else last))
                ends[epoch][number] = end
                parts.append(coverage_of(log[number], topic_id, number, begin, end))
            hashes = chains_of(self.logs[0], ends[0])
            for name, more in chains_of(self.logs[1], ends[1]).items():
                hashes[name] = hashes.get(name, []) + more
            heads = {name: Head(len(found), root(found)) for name, found in hashes.items()}
            made.append(seal_round(made[-1] if made else None, parts, heads))
        return made

    def _stored(self, records: list[Sealed], ends: Mapping[int, int]) -> int:
        """Return up to where a partition of the new epoch can be stored: each chain waits for all of its old one."""
        whole = chains_of(self.logs[0], last_ends(self.logs[0]))
        there = chains_of(self.logs[0], ends)
        waiting = (one.parsed.offset for one in records if there.get(one.parsed.tenant) != whole.get(one.parsed.tenant))
        return next(waiting, last_ends({0: records})[0])

    def firsts(self, rounds: list[PlainRound]) -> dict[int, int]:
        """Return where each partition of the new epoch goes on behind rounds."""
        ends = {part.place: part.end for one in rounds for part in one.parts}
        return {
            number: next(
                (at for at, one in enumerate(log) if one.parsed.offset >= ends.get((NEW, number), 0)), len(log)
            )
            for number, log in self.logs[1].items()
        }

    def judge(self) -> MemoryJudge:
        """Return a judge with the settings of the new epoch, and nothing remembered."""
        old, new = self.words()
        return MemoryJudge(self.logs[1], new, older=(self.logs[0], old))


_STEPS = st.lists(
    st.tuples(st.integers(0, 1), st.dictionaries(st.integers(0, NEW_PARTITIONS - 1), st.integers(0, 12))), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 30),
    steps=_STEPS,
    judged=st.sets(st.integers(1, 9)),
    again=st.sets(st.integers(1, 9)),
)
def test_rounds_of_two_epochs_are_recomputed_in_any_order(
    seed: int, count: int, steps: list[Step], judged: set[int], again: set[int]
) -> None:
    """However a store comes to an epoch's end, chain by chain, and whenever the witness is asked or started anew: each
    truthful round is accepted, as long as it is of one epoch.
    """
    world = TwoEpochs(seed, count)
    rounds = world.rounds(steps)
    judge = world.judge()

    for size in sorted({one for one in judged if one < len(rounds)} | {len(rounds)}):
        if size in again:
            old, judge.word = world.words()  # read anew, everything in it is news
            judge.older = world.logs[0], old
        judge.judge(rounds[:size])

    assert judge.changes.log.size == len(rounds)
    assert {name.decode() for name in judge.changes.chains} == rounds[-1].heads.keys()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 30), steps=_STEPS, data=st.data())
def test_beginning_in_the_middle_of_two_epochs(seed: int, count: int, steps: list[Step], data: st.DataObject) -> None:
    """Whichever round is begun at, of the epoch before, of the new one or in between: what is remembered behind all
    rounds is what a witness remembers that has seen everything.
    """
    world = TwoEpochs(seed, count)
    rounds = world.rounds(steps)
    size = data.draw(st.integers(1, len(rounds)))
    key, objects = signer(INSTANCE), MemoryObjects()
    publish_rounds(objects, rounds)
    objects.put(ROOT_CHECKPOINT, sign_note(root_checkpoint(INSTANCE, rounds).pack(), [key]))
    publish_chain_files(objects, key, entries_by_chain(*world.logs))
    whole, judge = world.judge(), world.judge()
    firsts = world.firsts(rounds[:size])
    judge.starts = {number: data.draw(st.sampled_from([first, 0])) for number, first in firsts.items()}

    judge.begin(root_checkpoint(INSTANCE, rounds[:size]), objects, [key.verifier])

    assert {name.decode() for name in judge.changes.chains} == rounds[size - 1].heads.keys()
    for one in (judge, whole):
        one.judge(rounds)
    assert (judge.changes.log.tree, judge.changes.chains) == (whole.changes.log.tree, whole.changes.chains)


def test_a_round_of_two_epochs_is_refused() -> None:
    """New offsets of two source topics in one round cannot be computed by following one epoch, and it says so."""
    world = TwoEpochs(1, 12)
    rounds = world.rounds([])
    mixed = seal_round(None, (*rounds[0].parts, *rounds[1].parts), rounds[1].heads)

    with pytest.raises(Refusal) as refused:
        world.judge().judge([mixed])

    assert isinstance(refused.value.error, InstanceDiffers)
    assert "two source topics" in refused.value.error.message


def test_the_epoch_before_is_needed_for_its_rounds() -> None:
    """Where the topics of the epoch before are not there, a round of it is refused, and says which setting is wrong."""
    world = TwoEpochs(1, 12)
    judge = world.judge()
    judge.older = None

    with pytest.raises(Refusal) as refused:
        judge.judge(world.rounds([]))

    assert "SEALSTREAM_EPOCH" in (refused.value.error.hint or "")


def _late(world: TwoEpochs) -> tuple[list[PlainRound], str]:
    """Return a first round of the new epoch, made before anything is covered of a chain that goes on in it."""
    first = world.rounds([(1, {})])[:1]
    covered = first[0].heads
    late = [one.parsed.tenant for log in world.logs[1].values() for one in log if one.parsed.kind is Kind.EPOCH]
    assert covered
    return first, next(name for name in late if name not in covered)


def test_a_chain_that_is_ahead_of_its_rounds_goes_on_where_it_was_verified_to_end() -> None:
    """A chain whose old entries no round covers yet must go on from the end that the verifier knows, and no other."""
    world = TwoEpochs(3, 25)
    first, name = _late(world)
    world.judge().judge(first)
    judge = world.judge()
    assert judge.older is not None
    word = judge.older[1]
    known = word.chains[word.changed[name.encode()]].get(name.encode())
    assert known is not None
    word.chains[word.changed[name.encode()]].put(Chain(name.encode(), known.seq, b"x" * 32))

    with pytest.raises(Refusal) as refused:
        judge.judge(first)

    assert isinstance(refused.value.error, SealInvalid)
    assert refused.value.violation is not None
    assert refused.value.violation.tenant == name


class LateWord(MemoryWord):
    """The word of a verifier that comes to its end only when it is asked once more."""

    asked = 0

    def refresh(self, deadline: float) -> bool:
        """Read on: at first nothing, and then all."""
        self.asked += 1
        if self.asked == 1:
            self.final, self.chains = self.chains, {n: VerifiedChains() for n in self.chains}
        else:
            self.chains = self.final
        return super().refresh(deadline)


def test_the_epoch_before_is_read_on_before_chains_are_compared_with_it() -> None:
    """What the verifier says of the old epoch is as new as of the new one, and read once for all chains."""
    world = TwoEpochs(3, 25)
    first, _ = _late(world)
    judge = world.judge()
    assert judge.older is not None
    log, word = judge.older
    late = LateWord(word.positions, word.chains, word.changed)
    assert late.refresh(0)
    judge.older = log, late

    judge.judge(first)

    assert judge.changes.log.size == 1
    assert late.asked == 2


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_end_that_is_gone_is_missed_in_either_epoch(epoch: int) -> None:
    """A chain's last entry that was verified and is gone from the log is missed, though a round leaves it out, too."""
    world = TwoEpochs(4, 25)
    last = max((len(log), number) for number, log in world.logs[epoch].items())[1]
    judge = world.judge()
    gone = world.logs[epoch][last].pop()
    rounds = world.rounds([(0, {last: 3}), (1, {})])
    world.logs[epoch][last].append(Sealed(b"no entry", b""))

    with pytest.raises(Refusal) as refused:
        judge.judge(rounds)

    assert refused.value.violation is not None
    assert refused.value.violation.tenant == gone.parsed.tenant
    assert isinstance(refused.value.error, SealInvalid)
