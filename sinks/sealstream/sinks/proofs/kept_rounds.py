"""Which rounds a proof can be made from: those whose map is kept. In memory, and read again where they change."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple


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

SizeAt = Callable[[int], int]
"""Returns how many entries a chain has in the map of a round, by the round's number. It never shrinks."""

_STEPS_BY_SIZE: Final = 4
"""So many steps of a search go by size alone. Where a chain grew in bursts, every second one halves from then on."""


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


def first_covering(rounds: Sequence[KeptRound], size_at: SizeAt, seq: int, *, since_seconds: float) -> int | None:
    """Return the place of the first round whose map has an entry; ``None`` if no map has it.

    Each question may be two to the database. Where clocks agree it takes three, the last round's included; where they
    do not, but the chain grew steadily, one more.

    Arguments:
        rounds: The rounds.
        size_at: How many entries the chain has in a round.
        seq: The entry's place in the chain.
        since_seconds: When it was appended, by the brokers' clock: the search begins with the round that was made
            next. It is a guess, which saves questions and decides nothing.
    """
    high = len(rounds) - 1
    if high < 0 or (high_size := size_at(rounds[high].round)) <= seq:
        return None
    low, low_size = -1, 0  # the map of "high" has it, that of "low" has not
    guess = bisect_left(rounds, since_seconds, key=lambda one: one.made_seconds)
    step = 0
    while high - low > 1:
        place = min(max(guess, low + 1), high - 1)
        size = size_at(rounds[place].round)
        if size > seq:
            high, high_size = place, size
        else:
            low, low_size = place, size
        if not step and high == place:
            guess = place - 1  # the guess by time was good, if this one has it not
        elif step > _STEPS_BY_SIZE and step % 2:
            guess = (low + high) // 2
        else:
            guess = low + -(-(seq + 1 - low_size) * (high - low) // (high_size - low_size))
        step += 1
    return high


def first_anchored(rounds: Sequence[KeptRound], round_number: int) -> int | None:
    """Return the number of the first anchored round from one on."""
    begin = bisect_left(rounds, round_number, key=lambda one: one.round)
    return next((one.round for one in rounds[begin:] if one.anchored), None)
