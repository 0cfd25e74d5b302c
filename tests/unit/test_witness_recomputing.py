"""What the recomputing witness computes and compares, over a log in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.coverage import OffsetRange, PartitionCoverage
from sealstream.schemas.entry import Genesis, Kind, entry_hash, epoch_payload, pack, partition_chain
from sealstream.schemas.errors import CheckpointRefused, InstanceDiffers, SealInvalid
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.sinks.verifier.records import Chain
from sealstream.sinks.witness.judging import Behind
from sealstream.sinks.witness.recomputing.refusal import Refusal
from support.chained import INSTANCE, Chains
from support.recomputing import (
    PARTITIONS,
    TOPIC_ID,
    MemoryJudge,
    MemoryViolations,
    busy_log,
    by_partition,
    word_of,
)
from support.rounds import Head, PlainRound, Sealed, coverage_of, heads_of, last_ends, make_round, seal_round

Entries = dict[int, list[Sealed]]


def _rounds(entries: Entries, *cuts: Mapping[int, int]) -> list[PlainRound]:
    """Return the rounds that are cut at these ends, and the last one behind all."""
    rounds: list[PlainRound] = []
    for ends in (*cuts, last_ends(entries)):
        rounds.append(make_round(entries, ends, topic_id=TOPIC_ID, before=rounds))
    return rounds


def _whole_ends(entries: Entries, partition: int) -> list[int]:
    """Return the offsets that a round may end at: not within a lost range."""
    end = last_ends(entries)[partition]
    part = coverage_of(entries[partition], TOPIC_ID, partition, 0, end)
    return [at for at in range(end + 1) if not any(one.first < at <= one.last for one in part.lost)]


@st.composite
def _cut_logs(draw: st.DrawFn) -> tuple[Entries, list[dict[int, int]]]:
    """Draw a log and the ends of rounds over it; a round may leave partitions out, or add nothing."""
    entries = busy_log(draw(st.integers(0, 10_000)), draw(st.integers(0, 40)))
    columns = [
        sorted(draw(st.lists(st.sampled_from(_whole_ends(entries, number)), min_size=3, max_size=3)))
        for number in range(PARTITIONS)
    ]
    cuts: list[dict[int, int]] = []
    for row in zip(*columns, strict=True):
        covered = draw(st.sets(st.sampled_from(range(PARTITIONS))))
        cuts.append({number: end for number, end in enumerate(row) if number in covered})
    return entries, cuts


@settings(max_examples=100, deadline=None)
@given(drawn=_cut_logs(), judged=st.sets(st.integers(1, 4)), at_once=st.integers(1, 7))
def test_any_cutting_into_rounds_equals_the_plain_recomputation(
    drawn: tuple[Entries, list[dict[int, int]]], judged: set[int], at_once: int
) -> None:
    """However a log is cut into rounds, and wherever questions come between them, each truthful round is accepted,
    and what is kept is what all entries together come to.
    """
    entries, cuts = drawn
    rounds = _rounds(entries, *cuts)
    judge = MemoryJudge(entries, word_of(entries), at_once=at_once)

    for size in sorted(judged | {len(rounds)}):
        judge.judge(rounds[:size])

    assert judge.changes.log.size == len(rounds)
    kept = {name.decode(): packed for name, packed in judge.changes.chains.items()}
    assert kept.keys() == rounds[-1].heads.keys()
    ends = {place.partition: place.end for place in judge.changes.log.places.values()}
    assert ends == last_ends(entries)


def _left_out(entries: Entries, ends: dict[int, int]) -> PlainRound:
    """A round without one tenant's last entry: its offset is called invisible."""
    index = max(i for i, one in enumerate(entries[0]) if one.parsed.tenant == "acme")
    fewer = entries | {0: [*entries[0][:index], *entries[0][index + 1 :]]}
    return make_round(fewer, ends, topic_id=TOPIC_ID)


def _edited(entries: Entries, ends: dict[int, int]) -> PlainRound:
    """A round in which one entry says something else, and all of its chain is hashed anew."""
    chain = [(i, one) for i, one in enumerate(entries[0]) if one.parsed.tenant == "acme"]
    index, one = chain[-1]
    forged = replace(one.parsed, received=1)
    changed = [*entries[0][:index], one._replace(entry=pack(forged)), *entries[0][index + 1 :]]
    return make_round(entries | {0: changed}, ends, topic_id=TOPIC_ID)


def _with_part(
    entries: Entries, ends: dict[int, int], change: Callable[[PartitionCoverage], PartitionCoverage]
) -> PlainRound:
    parts = [coverage_of(entries[number], TOPIC_ID, number, 0, end) for number, end in ends.items()]
    return seal_round(None, [change(part) if part.partition == 0 else part for part in parts], heads_of(entries, ends))


def _miscounted(entries: Entries, ends: dict[int, int]) -> PlainRound:
    """A round that calls an event imported."""

    def change(part: PartitionCoverage) -> PartitionCoverage:
        counts = list(part.counts)
        counts[Kind.EVENT] -= 1
        counts[Kind.IMPORTED] += 1
        return replace(part, counts=tuple(counts))

    return _with_part(entries, ends, change)


def _loss_hidden(entries: Entries, ends: dict[int, int]) -> PlainRound:
    """A round that calls what is lost invisible; the entry that says so stays in its chain."""

    def change(part: PartitionCoverage) -> PartitionCoverage:
        counts = list(part.counts)
        counts[Kind.GAP] = 0
        counts[Kind.GENESIS] = min(counts[Kind.GENESIS], sum(counts[1:7]))
        return replace(part, counts=tuple(counts), invisible=(*part.invisible, *part.lost), lost=())

    return _with_part(entries, ends, change)


def _loss_invented(entries: Entries, ends: dict[int, int]) -> PlainRound:
    """A round that calls offsets lost which no reader sees."""

    def change(part: PartitionCoverage) -> PartitionCoverage:
        counts = list(part.counts)
        counts[Kind.GAP] += len(part.invisible)
        lost = tuple(sorted((*part.invisible, *part.lost), key=lambda one: one.first))
        return replace(part, counts=tuple(counts), invisible=(), lost=lost)

    return _with_part(entries, ends, change)


def _invented(entries: Entries, ends: dict[int, int]) -> PlainRound:
    """A round that counts an entry for an offset that no reader sees."""

    def change(part: PartitionCoverage) -> PartitionCoverage:
        counts = list(part.counts)
        first = part.invisible[0]
        counts[Kind.EVENT] += first.count
        return replace(part, counts=tuple(counts), invisible=part.invisible[1:])

    return _with_part(entries, ends, change)


def _shrunk(entries: Entries, ends: dict[int, int]) -> PlainRound:
    """A round whose map has a chain with its first entries only."""
    true = make_round(entries, ends, topic_id=TOPIC_ID)
    shorter = heads_of({0: [one for one in entries[0] if one.parsed.tenant == "acme"][:2]}, {0: 1_000})
    return seal_round(None, true.parts, true.heads | shorter)


def _dropped(entries: Entries, ends: dict[int, int]) -> PlainRound:
    """A round whose map lacks a chain."""
    true = make_round(entries, ends, topic_id=TOPIC_ID)
    return seal_round(None, true.parts, {name: head for name, head in true.heads.items() if name != "acme"})


def _added(entries: Entries, ends: dict[int, int]) -> PlainRound:
    """A round whose map has a chain that Kafka has not."""
    true = make_round(entries, ends, topic_id=TOPIC_ID)
    return seal_round(None, true.parts, true.heads | {"ghost": Head(1, bytes(32))})


def _skipped(entries: Entries, ends: dict[int, int]) -> PlainRound:
    """A round with the number of the one behind it."""
    true = make_round(entries, ends, topic_id=TOPIC_ID)
    return replace(true, leaf=replace(true.leaf, round=1, previous=b"p" * 32))


def _acme_in_partition_0() -> Entries:
    """Return a log in which acme stands in partition 0, with aborted records, and others in both."""
    chains = Chains(partitions=PARTITIONS)
    records = [record for n in range(4) for record in chains.event("acme", f"a-{n}")]
    partition = records[0].partition
    chains.offsets[partition] += 3
    records += chains.event("acme", "a-4")
    gap = b"first %d\nlast %d\n" % (chains.offsets[partition], chains.offsets[partition] + 1)
    records += chains.record(partition_chain(partition), gap, kind=Kind.GAP, reason=1)
    chains.offsets[partition] += 1
    records += [record for n in range(12) for record in chains.event(f"t-{n % 6}", f"b-{n}")]
    records += chains.event("acme", "a-last")
    entries = by_partition(records)
    assert partition == 0
    return entries


Lie = tuple[Callable[[Entries, dict[int, int]], PlainRound], ViolationType, str, str]
LIES: dict[str, Lie] = {
    "left out": (_left_out, ViolationType.GAP, "acme", "is called invisible"),
    "edited": (_edited, ViolationType.FORK, "!root", "come to another map"),
    "miscounted": (_miscounted, ViolationType.EDITED, "!partition-0", "of the kinds 0 to 8"),
    "loss hidden": (_loss_hidden, ViolationType.GAP, "!partition-0", "are lost is left out"),
    "loss invented": (_loss_invented, ViolationType.EDITED, "!partition-0", "nobody has declared"),
    "entry invented": (_invented, ViolationType.EDITED, "!partition-0", "none stands for it"),
    "shrunk": (_shrunk, ViolationType.FORK, "!root", "come to another map"),
    "dropped": (_dropped, ViolationType.TRUNCATED, "acme", "chains, and there are"),
    "added": (_added, ViolationType.FOREIGN, "!root", "there are only"),
    "skipped": (_skipped, ViolationType.GAP, "!root", "round 0 was to come"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_round_that_lies_is_refused_by_what_it_lies_about(lie: str) -> None:
    """Whatever a published round says otherwise than Kafka is refused, typed, with the chain where it can be told, and
    nothing of it is kept; the true round is accepted then.
    """
    entries = _acme_in_partition_0()
    tell, kind, tenant, words = LIES[lie]
    judge = MemoryJudge(entries, word_of(entries))

    with pytest.raises(Refusal, match=words) as refused:
        judge.judge([tell(entries, last_ends(entries))])

    assert isinstance(refused.value.error, CheckpointRefused)
    violation = refused.value.violation
    assert violation is not None
    assert (violation.type, violation.tenant) == (kind, tenant)
    assert violation.seq == 0 or tenant != "!root", "a finding about the root log names the round"
    assert judge.changes.log.size == 0
    judge.judge(_rounds(entries))
    assert judge.changes.log.size == 1


def test_a_chain_left_as_it_was_is_named() -> None:
    """A chain that has grown and stands in the map as before is named, with the first seq that is missing."""
    entries = _acme_in_partition_0()
    first = make_round(entries, {0: 2}, topic_id=TOPIC_ID)
    true = make_round(entries, last_ends(entries), topic_id=TOPIC_ID, before=[first])
    lie = seal_round(first, true.parts, true.heads | {"acme": first.heads["acme"]})

    with pytest.raises(Refusal) as refused:
        MemoryJudge(entries, word_of(entries)).judge([first, lie])

    violation = refused.value.violation
    assert violation is not None
    assert (violation.type, violation.tenant, violation.seq) == (ViolationType.TRUNCATED, "acme", 3)


@pytest.mark.parametrize(("seq", "already"), [(2, 0), (6, 0), (4, 2), (6, 2)])
def test_an_entry_that_was_edited_is_named_by_the_published_tiles(seq: int, already: int) -> None:
    """Where the log publishes the tiles of a chain that was changed in the store, tenant and entry are named."""
    entries = _acme_in_partition_0()
    ends = last_ends(entries)
    before = [make_round(entries, {0: already}, topic_id=TOPIC_ID)] if already else []
    edited = _rehashed(entries, seq)
    judge = MemoryJudge(entries, word_of(entries), stored=edited)

    with pytest.raises(Refusal) as refused:
        judge.judge([*before, make_round(edited, ends, topic_id=TOPIC_ID, before=before)])

    violation = refused.value.violation
    assert violation is not None
    assert (violation.type, violation.tenant, violation.seq) == (ViolationType.EDITED, "acme", seq)


def test_offsets_that_nobody_accounts_for_are_refused() -> None:
    """A round that begins behind the end of the one before leaves offsets out, and is refused as a gap there."""
    entries = _acme_in_partition_0()
    first = make_round(entries, {0: 2}, topic_id=TOPIC_ID)
    ends = last_ends(entries)
    part = coverage_of(entries[0], TOPIC_ID, 0, 3, ends[0])
    lie = seal_round(first, [part], heads_of(entries, {0: ends[0]}))

    with pytest.raises(Refusal) as refused:
        MemoryJudge(entries, word_of(entries)).judge([first, lie])

    violation = refused.value.violation
    assert violation is not None
    assert (violation.type, violation.offset) == (ViolationType.GAP, 2)


def test_another_signed_root_than_that_of_the_published_rounds_is_refused() -> None:
    """A log that publishes true rounds and signs another root is refused before anything is computed."""
    entries = _acme_in_partition_0()

    with pytest.raises(Refusal) as refused:
        MemoryJudge(entries, word_of(entries)).judge(_rounds(entries), Checkpoint(INSTANCE, 1, bytes(32)))

    violation = refused.value.violation
    assert violation is not None
    assert (violation.type, violation.tenant, violation.seq) == (ViolationType.EDITED, "!root", None)


def test_nothing_counts_beyond_what_is_verified() -> None:
    """A round that reaches beyond what the verifier has verified has to wait, and one beyond a stopped partition is
    refused, with the violation that stopped it.
    """
    entries = _acme_in_partition_0()
    word = word_of(entries)
    behind = word.positions[0]
    word.positions[0] = replace(behind, verified=behind.verified - 1, chained=behind.chained - 1)
    with pytest.raises(Behind, match="partition 0 is not verified"):
        MemoryJudge(entries, word).judge(_rounds(entries), deadline=0)
    word.positions[0] = replace(behind, verified=behind.verified - 1, stopped=("f" * 32,))

    with pytest.raises(Refusal) as refused:
        MemoryJudge(entries, word).judge(_rounds(entries))

    assert "f" * 32 in refused.value.error.hint


def test_what_stands_nowhere_is_refused_and_not_waited_for() -> None:
    """A round that ends behind all that is chained, and verified, is refused: nobody will ever verify it."""
    entries = _acme_in_partition_0()
    stored = {number: list(records) for number, records in entries.items()}
    ends = last_ends(entries)
    ahead = make_round(stored, ends | {0: ends[0] + 3}, topic_id=TOPIC_ID)

    with pytest.raises(Refusal) as refused:
        MemoryJudge(entries, word_of(entries)).judge([ahead], deadline=0)

    violation = refused.value.violation
    assert violation is not None
    assert (violation.type, violation.tenant, violation.seq) == (ViolationType.EDITED, "!partition-0", None)
    assert (violation.offset, violation.found) == (ends[0], str(ends[0] + 3))


def test_a_record_that_was_copied_into_another_partition_is_named() -> None:
    """Where a round covers an entry of another partition as the partition's own it is refused, and the entry named as
    the verifier names it; where it does not, it goes on.
    """
    entries = _acme_in_partition_0()
    word = word_of(entries)
    copied = entries[0][-1]
    with_copy = entries | {1: [*entries[1], copied]}
    word.positions[1] = replace(word.positions[1], chained=word.positions[1].chained + 1)
    lie = make_round(with_copy, last_ends(entries) | {1: copied.parsed.offset + 1}, topic_id=TOPIC_ID)
    assert copied.parsed.offset + 1 > word.positions[1].verified

    with pytest.raises(Refusal) as refused:
        MemoryJudge(with_copy, word).judge([lie], deadline=0)

    violation, entry = refused.value.violation, copied.parsed
    assert violation is not None
    assert (violation.type, violation.tenant, violation.seq) == (ViolationType.FOREIGN, entry.tenant, entry.seq)
    assert (violation.partition, violation.offset) == (1, entry.offset)
    assert f"tenant {entry.tenant} seq {entry.seq}" in refused.value.error.message

    MemoryJudge(with_copy, word).judge(_rounds(entries))


def test_a_partition_of_which_nothing_is_verified_waits_for_nobody_if_nothing_of_it_is_covered() -> None:
    """A round that says of an empty partition that there was nothing is accepted, whatever is verified of it."""
    entries = _acme_in_partition_0()
    only = {0: entries[0], 1: list[Sealed]()}
    word = word_of(only)
    del word.positions[1]

    MemoryJudge(only, word).judge(_rounds(only), deadline=time.monotonic() + 20)


def test_a_chain_with_an_open_violation_is_refused_behind_it_and_goes_on_after_the_resolution() -> None:
    """A round up to before an open violation is accepted, one that covers it is refused and names tenant, seq and id,
    and after the resolution it is accepted.
    """
    entries = _acme_in_partition_0()
    word = word_of(entries)
    violation = Violation(type=ViolationType.EDITED, tenant="acme", message="", seq=3, partition=0)
    chain = word.chain(0, b"acme")
    assert chain is not None
    chain.open.append(violation.id)
    judge = MemoryJudge(entries, word, MemoryViolations(violation))
    rounds = _rounds(entries, {0: 2})
    judge.judge(rounds[:1])

    with pytest.raises(Refusal) as refused:
        judge.judge(rounds)

    assert "tenant acme seq 3" in refused.value.error.message
    assert violation.id in refused.value.error.hint
    chain.open.clear()
    judge.judge(rounds)
    assert judge.changes.log.size == 2


_NOTHING = Sealed(b"", b"")


def _without(entries: Entries, seq: int) -> Entries:
    """Return a log with another record, which is none of ours, in the place of one."""
    there = [(one.parsed.tenant, one.parsed.seq) != ("acme", seq) for one in entries[0]]
    return entries | {0: [one if kept else _NOTHING for one, kept in zip(entries[0], there, strict=True)]}


def _rehashed(entries: Entries, seq: int) -> Entries:
    return entries | {
        0: [
            one._replace(entry=pack(replace(one.parsed, received=7)))
            if (one.parsed.tenant, one.parsed.seq) == ("acme", seq)
            else one
            for one in entries[0]
        ]
    }


@pytest.mark.parametrize(
    ("alter", "seq", "kind"),
    [
        (_without, 2, ViolationType.GAP),
        (_rehashed, 2, ViolationType.EDITED),
        (_rehashed, 5, ViolationType.EDITED),
        (_without, 5, ViolationType.GAP),
        (_without, 6, ViolationType.TRUNCATED),
    ],
)
def test_a_log_that_was_altered_after_it_was_verified_is_refused(
    alter: Callable[[Entries, int], Entries], seq: int, kind: ViolationType
) -> None:
    """A round that agrees with an altered audit.chained is refused all the same: what the verifier has verified ends
    in another entry. The chain and the entry at fault are named.
    """
    entries = _acme_in_partition_0()
    altered = alter(entries, seq)
    word = word_of(entries)
    stored = {number: [one for one in records if one != _NOTHING] for number, records in altered.items()}

    with pytest.raises(Refusal) as refused:
        MemoryJudge(altered, word).judge([make_round(stored, {0: 8}, topic_id=TOPIC_ID)])

    violation = refused.value.violation
    assert isinstance(refused.value.error, SealInvalid)
    assert violation is not None
    assert (violation.type, violation.tenant, violation.seq) == (kind, "acme", seq)


def test_a_chain_that_is_gone_from_the_log_is_missed() -> None:
    """A chain whose every entry was taken out after it was verified is named, though there is nothing of it to read."""
    entries = _acme_in_partition_0()
    name = next(one.parsed.tenant for one in entries[0] if one.parsed.tenant not in ("acme", partition_chain(0)))
    altered = entries | {0: [one if one.parsed.tenant != name else _NOTHING for one in entries[0]]}
    stored = altered | {0: [one for one in altered[0] if one != _NOTHING]}

    with pytest.raises(Refusal) as refused:
        MemoryJudge(altered, word_of(entries)).judge([make_round(stored, last_ends(entries), topic_id=TOPIC_ID)])

    violation = refused.value.violation
    assert violation is not None
    assert (violation.type, violation.tenant, violation.seq) == (ViolationType.TRUNCATED, name, 0)


def test_a_record_that_does_not_follow_its_chain_is_passed_over() -> None:
    """A record that somebody has added, and whose violation is resolved, changes nothing: the chain is the one whose
    end the verifier has.
    """
    entries = _acme_in_partition_0()
    twice = entries | {0: [*entries[0], entries[0][2]]}
    word = word_of(entries)
    word.positions[0] = replace(word.positions[0], chained=len(twice[0]))
    judge = MemoryJudge(twice, word)

    judge.judge(_rounds(entries))

    assert judge.changes.log.size == 1


def test_another_topic_needs_the_settings_of_its_epoch() -> None:
    """A round that covers another source topic than the one that is verified is refused, and says why."""
    entries = _acme_in_partition_0()
    part = PartitionCoverage(b"o" * 16, 0, 0, 3, (0, 0, 0, 0, 0, 0, 0, 0, 0), (OffsetRange(0, 2),))

    with pytest.raises(Refusal) as refused:
        MemoryJudge(entries, word_of(entries)).judge([seal_round(None, [part], {})])

    assert isinstance(refused.value.error, InstanceDiffers)


def test_a_chain_that_the_verifier_does_not_know_is_refused() -> None:
    """Entries of a chain that was never verified do not count, though they follow one another."""
    entries = _acme_in_partition_0()
    word = word_of(entries)
    word.chains[0].put(Chain(b"acme"))

    with pytest.raises(Refusal) as refused:
        MemoryJudge(entries, word).judge(_rounds(entries))

    assert refused.value.violation is not None
    assert refused.value.violation.tenant == "acme"


def test_chains_go_on_in_another_topic() -> None:
    """In a new epoch the chains go on from where they were, and each new source partition is covered from 0 on."""
    entries = _acme_in_partition_0()
    judge = MemoryJudge(entries, word_of(entries))
    [first] = _rounds(entries)
    judge.judge([first])
    old = Chains(partitions=PARTITIONS, topic_id=b"n" * 16)
    old.heads = {one.parsed.tenant: (one.parsed.seq, entry_hash(one.entry)) for one in (*entries[0], *entries[1])}
    epoch = epoch_payload(Genesis(INSTANCE, PARTITIONS), TOPIC_ID)
    records = old.record("acme", epoch, kind=Kind.EPOCH)
    old.offsets.clear()
    new = by_partition([*records, *old.event("acme", "a-8"), *old.event("ghost", "g-1")])
    word = word_of(new)
    word.positions = {n: replace(one, source_topic_id=b"n" * 16) for n, one in word.positions.items()}
    parts = [coverage_of(new[number], b"n" * 16, number, 0, end) for number, end in last_ends(new).items()]
    both = {number: [*entries[number], *new[number]] for number in entries}
    second = seal_round(first, parts, heads_of(both, dict.fromkeys(both, 1_000)))
    judge.entries, judge.word = new, word

    judge.judge([first, second])

    assert judge.changes.log.size == 2
