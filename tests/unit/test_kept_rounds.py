"""The first round that has an entry is found with few questions, wherever the search begins."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sealstream.sinks.proofs.kept_rounds import (
    KeptRound,
    KeptRounds,
    first_anchored,
    first_covering,
)


def _rounds(count: int, *, anchored: frozenset[int] = frozenset()) -> list[KeptRound]:
    return [KeptRound(n * 3, n * 60.0, witnessed=True, anchored=n in anchored) for n in range(count)]


@given(
    grown=st.lists(st.integers(0, 3) | st.just(0) | st.integers(0, 10**6), max_size=300),
    seq=st.integers(0, 400) | st.integers(0, 10**8),
    since=st.floats(-1e6, 1e6),
)
@example(grown=[1] * 250 + [10**9], seq=200, since=0.0)  # one burst: by size alone each step would go on by one
def test_first_covering_round_is_found(grown: list[int], seq: int, since: float) -> None:
    """Whatever the guess, and however the chain grew, it is the first round that has it, or none if none has."""
    sizes, asked = list(accumulate(grown)), list[int]()

    def size_at(number: int) -> int:
        asked.append(number)
        return sizes[number // 3]

    found = first_covering(_rounds(len(sizes)), size_at, seq, since_seconds=since)
    assert found == next((place for place, size in enumerate(sizes) if size > seq), None)
    assert len(asked) == len(set(asked)) <= 2 * max(len(sizes), 1).bit_length() + 6


@pytest.mark.parametrize(("since_seconds", "questions"), [(500 * 60.0 - 30, 3), (100 * 60.0, 4), (900 * 60.0, 5)])
def test_good_guess_takes_three_questions_at_most(since_seconds: float, questions: int) -> None:
    """Where clocks agree, the round made next has it, and the one before has not; else its growth tells where it is."""
    asked: list[int] = []

    def size_at(number: int) -> int:
        asked.append(number)
        return 1_000 * (number // 3 + 1)

    assert first_covering(_rounds(1_000), size_at, 500_100, since_seconds=since_seconds) == 500
    assert len(asked) <= questions


def test_anchored_rounds_are_found() -> None:
    """It is the next one from a round on."""
    rounds = _rounds(10, anchored=frozenset({2, 7}))
    assert [first_anchored(rounds, number) for number in (0, 6, 7, 21, 22)] == [6, 6, 21, 21, None]


def test_only_what_may_change_is_read_again() -> None:
    """Rounds before the first one without an anchor are kept for ever, and not asked for a second time."""
    kept = _rounds(10, anchored=frozenset(range(4)))
    asked: list[int] = []

    def read(begin: int) -> list[KeptRound]:
        asked.append(begin)
        return [one for one in kept if one.round >= begin]

    rounds = KeptRounds(read)
    assert rounds.known() == rounds.known() == kept
    del kept[6:8]
    assert rounds.refresh() == kept
    assert asked == [0, 3 * 3 + 1]
