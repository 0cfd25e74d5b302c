"""Acceptances of gaps: recorded exactly, in effect for exactly their range, and chained to the same bytes each time."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.processors.assignment import Observed
from sealstream.processors.chaining import PartitionState, Rules
from sealstream.processors.gap_listing import GapState, gaps_of
from sealstream.processors.gaps import Gap, begin_behind, chain_gap, find_gap, gap_key
from sealstream.processors.heads import HeadsReader, PackedHeads, PartitionHead
from sealstream.schemas.entry import GapReason, Genesis
from sealstream.schemas.errors import FormatError, HeadsDiffer
from support.model import LostRange, Model

GENESIS = Genesis("test.example/audit", 4)
TOPIC_ID = bytes(range(16))
RULES = Rules(GENESIS, TOPIC_ID)
GAP = Gap(
    first=10,
    last=14,
    reason=GapReason.DELETED,
    received=1_700_000_000_000_000,
    topic_id=TOPIC_ID,
    by="ada",
    why="the disk was full",
    accepted_at="2026-01-02T03:04:05+00:00",
)


@given(
    st.integers(0, 2**62),
    st.integers(0, 2**62),
    st.sampled_from(GapReason),
    st.integers(0, 2**62),
    st.text(max_size=20),
)
def test_an_acceptance_comes_back_as_it_was(first: int, more: int, reason: GapReason, received: int, why: str) -> None:
    """What is recorded is what is read."""
    gap = replace(GAP, first=first, last=min(first + more, 2**63 - 1), reason=reason, received=received, why=why)

    assert Gap.parse(gap.pack()) == gap


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"first": 15},
        {"first": -1},
        {"last": True},
        {"last": 2**63},
        {"reason": "lost"},
        {"topic_id": "xy"},
        {"by": None},
        {"received": "0"},
    ],
)
def test_what_is_no_acceptance_is_refused(change: dict[str, object]) -> None:
    """A record that no command writes is an error, never half an acceptance."""
    with pytest.raises(FormatError):
        Gap.parse(json.dumps(json.loads(GAP.pack()) | change).encode())
    for value in (b"", b"[]", b"{}", b"\xff", b"1"):
        with pytest.raises(FormatError):
            Gap.parse(value)


def test_an_acceptance_is_for_exactly_one_range_of_one_topic() -> None:
    """Another beginning, another end, another topic, or nothing lost: no effect."""
    recorded = {GAP.key(2): GAP.pack()}

    assert find_gap(recorded, 2, (10, 14), TOPIC_ID) == GAP
    assert find_gap(recorded, 2, (10, 15), TOPIC_ID) is None
    assert find_gap(recorded, 2, (9, 14), TOPIC_ID) is None
    assert find_gap(recorded, 3, (10, 14), TOPIC_ID) is None
    assert find_gap(recorded, 2, (10, 14), bytes(16)) is None
    assert find_gap(recorded, 2, None, TOPIC_ID) is None


def test_acceptances_stand_in_the_heads_until_they_are_taken_back() -> None:
    """The reader of heads keeps them apart from the chains."""
    reader = HeadsReader(2)
    reader.feed(GAP.key(2), GAP.pack())
    reader.feed(gap_key(2, 99), b"whatever")
    assert (set(reader.acceptances), reader.head, len(reader.heads)) == ({b"gap/2/10", b"gap/2/99"}, None, 0)
    reader.feed(gap_key(2, 99), None)
    assert reader.acceptances.keys() == {b"gap/2/10"}
    reader.require_sound()


def observed(position: int, last_offset: int, start: int) -> Observed:
    """Return a partition that is chained up to a position, with its source beginning at an offset."""
    head = PartitionHead(position, last_offset, 1, TOPIC_ID, 0, 0, GENESIS.payload())
    return Observed(2, position, head, start, start)


def test_what_is_lost_begins_behind_the_last_record() -> None:
    """What the position has passed over belongs to the range as soon as something behind it is lost, and not before."""
    assert observed(10, 9, 15).lost == (10, 14)
    assert observed(12, 9, 15).lost == (10, 14)
    assert observed(12, 9, 12).lost is None
    assert observed(12, 9, 11).lost is None
    assert Observed(2, None, None, 5, 9).lost == (0, 4)
    assert Observed(2, None, None, 0, 9).lost is None
    assert replace(observed(10, 9, 15), committed=11).lost is None


def test_the_entry_is_the_models() -> None:
    """Genesis and gap have the bytes that the tests' own model gives them, and the state stands behind the range."""
    model = Model(GENESIS, TOPIC_ID, 2)
    expected = model.expect(
        [LostRange(2, 10, 14, GAP.received, GAP.reason), LostRange(2, 15, 15, 0, GapReason.EXPIRED)]
    )
    state = PartitionState(2, PackedHeads(), RULES.window(), position=10, last_offset=9, last_received=7)
    begin_behind(state, GAP)
    assert (state.gap, state.position) == (GAP, 15)
    first = chain_gap(RULES, state, GAP)
    second = chain_gap(RULES, state, replace(GAP, first=15, last=15, received=0, reason=GapReason.EXPIRED))

    sealed = [*first.sealed, *second.sealed]
    assert [(key, value, entry) for key, value, entry, _ in sealed] == [(r.key, r.value, r.entry) for r in expected]
    assert (state.gap, state.position, state.last_offset, state.last_received) == (None, 16, 15, GAP.received)
    assert begin_behind(state, None) is state


def test_a_damaged_acceptance_says_so() -> None:
    """A reader of heads leaves judging to the restore, which names the way out; other keys are refused at once."""
    reader = HeadsReader(2)
    reader.feed(b"nonsense", b"1")
    with pytest.raises(HeadsDiffer):
        reader.require_sound()


def states(seen: Observed, *gaps: Gap) -> list[tuple[int, int, str]]:
    """Return what is listed of partition 2, of which these acceptances are recorded."""
    listed = gaps_of(seen, {gap.key(2): gap.pack() for gap in gaps}, TOPIC_ID)
    assert [one.acceptance for one in listed if one.acceptance] == sorted(gaps, key=lambda gap: gap.first)
    return [(one.first, one.last, one.state.value) for one in listed]


def test_a_gap_is_listed_with_what_has_become_of_it() -> None:
    """Open until somebody accepts it, accepted until a worker has chained it, and chained for ever after."""
    before, behind = observed(10, 9, 15), observed(15, 14, 15)

    assert states(before) == [(10, 14, GapState.OPEN)]
    assert states(before, GAP) == [(10, 14, GapState.ACCEPTED)]
    assert states(behind, GAP) == [(10, 14, GapState.CHAINED)]
    assert states(observed(20, 19, 15)) == []
    later = replace(GAP, first=30, last=30)
    assert states(observed(30, 29, 31), later, GAP) == [(10, 14, GapState.CHAINED), (30, 30, GapState.ACCEPTED)]
    assert states(Observed(2, None, None, 5, 9)) == [(0, 4, GapState.OPEN)]
    assert states(Observed(2, None, None, 0, 9)) == []


def test_an_acceptance_that_is_not_for_what_is_lost_is_listed_beside_what_is() -> None:
    """If more was lost since, or from another topic, the range that is lost is open."""
    elsewhere = replace(GAP, topic_id=bytes(16))

    assert states(observed(10, 9, 17), GAP) == [(10, 14, GapState.WITHOUT_EFFECT), (10, 16, GapState.OPEN)]
    assert states(observed(10, 9, 15), elsewhere) == [(10, 14, GapState.WITHOUT_EFFECT), (10, 14, GapState.OPEN)]
    assert states(observed(99, 98, 15), elsewhere) == [(10, 14, GapState.WITHOUT_EFFECT)]


@pytest.mark.parametrize(("key", "value"), [(b"gap/2/10", b"{}"), (b"gap/3/10", GAP.pack()), (b"gap/2/11", GAP.pack())])
def test_what_is_no_acceptance_is_not_listed_but_named(key: bytes, value: bytes) -> None:
    """A damaged record, or one under another one's key, is an error that names it."""
    with pytest.raises(HeadsDiffer, match=f"partition 2, {key.decode()}"):
        gaps_of(observed(15, 14, 15), {key: value}, TOPIC_ID)
