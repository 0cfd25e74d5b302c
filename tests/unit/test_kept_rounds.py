"""The first round that has an entry is found with few questions, wherever the search begins."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sealstream.sinks.proofs.kept_rounds import (
    KeptRound,
    KeptRounds,
    first_anchored,
    first_covering,
)


def _rounds(count: int, *, anchored: frozenset[int] = frozenset()) -> list[KeptRound]:
    return [KeptRound(n * 3, n * 60.0, witnessed=True, anchored=n in anchored) for n in range(count)]


@given(count=st.integers(0, 300), first=st.integers(0, 320), since=st.floats(-1e6, 1e6))
def test_first_covering_round_is_found(count: int, first: int, since: float) -> None:
    """Whatever the guess, it is the first one that has it, or none if none has."""
    asked: list[int] = []

    def covers(number: int) -> bool:
        asked.append(number)
        return number >= first * 3

    found = first_covering(_rounds(count), covers, since_seconds=since)
    assert found == (first if first < count else None)
    assert len(asked) <= 2 * max(count, 1).bit_length() + 2


def test_good_guess_takes_three_questions_at_most() -> None:
    """Where clocks agree, the round made next has it, and the one before has not."""
    asked: list[int] = []

    def covers(number: int) -> bool:
        asked.append(number)
        return number >= 500 * 3

    assert first_covering(_rounds(1_000), covers, since_seconds=500 * 60.0 - 30) == 500
    assert len(asked) <= 3


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
