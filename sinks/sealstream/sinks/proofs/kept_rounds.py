"""Which rounds a proof can be made from: those whose map is kept. In memory, and read again where they change."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import NamedTuple


class KeptRound(NamedTuple):
    """A round whose map is kept.

    Arguments:
        round: Its number.
        made_seconds: When it was made, by the notary's clock, in seconds since the Unix epoch.
        witnessed: Whether its own root checkpoint has reached its quorum.
        anchored: Whether that checkpoint was timestamped.
    """

    round: int
    made_seconds: float
    witnessed: bool
    anchored: bool


ReadRounds = Callable[[int], Sequence[KeptRound]]
"""Returns the kept rounds from a number on, in their order."""

Covers = Callable[[int], bool]
"""Whether the map of a round has what is looked for. Once one has it, all later ones have."""


class KeptRounds:
    """The kept rounds, for several threads.

    A map of late is kept for an hour, and one that was anchored for ever. So the rounds before the first one that is
    not anchored do not change, and only those from there on are read again.

    Arguments:
        read: Reads them.
    """

    def __init__(self, read: ReadRounds) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._rounds: list[KeptRound] = []

    def refresh(self) -> Sequence[KeptRound]:
        """Read what may have changed, and return all of them."""
        with self._lock:
            stable = next((n for n, one in enumerate(self._rounds) if not one.anchored), len(self._rounds))
            begin = self._rounds[stable - 1].round + 1 if stable else 0
            self._rounds = [*self._rounds[:stable], *self._read(begin)]
            return self._rounds

    def known(self) -> Sequence[KeptRound]:
        """Return those that were read last; reads them if they never were."""
        return self._rounds or self.refresh()


def first_covering(rounds: Sequence[KeptRound], covers: Covers, *, since_seconds: float) -> int | None:
    """Return the place of the first round whose map has something; ``None`` if no map has it.

    Arguments:
        rounds: The rounds.
        covers: Whether a round's map has it, by the round's number.
        since_seconds: When it was appended, by the brokers' clock: the search begins with the round that was made
            next. It is a guess, which saves questions and decides nothing.
    """
    if not rounds:
        return None
    guess = min(bisect_left(rounds, since_seconds, key=lambda one: one.made_seconds), len(rounds) - 1)
    step = 1
    if covers(rounds[guess].round):
        high = guess
        low = guess - 1
        while low >= 0 and covers(rounds[low].round):
            high, low, step = low, low - step, step * 2
        low = max(low, -1)
    else:
        low = guess
        high = guess + 1
        while high < len(rounds) and not covers(rounds[high].round):
            low, high, step = high, high + step, step * 2
        if high >= len(rounds):
            high = len(rounds) - 1
            if high == low or not covers(rounds[high].round):
                return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if covers(rounds[middle].round) else (middle, high)
    return high


def first_anchored(rounds: Sequence[KeptRound], round_number: int) -> int | None:
    """Return the number of the first anchored round from one on."""
    begin = bisect_left(rounds, round_number, key=lambda one: one.round)
    return next((one.round for one in rounds[begin:] if one.anchored), None)
