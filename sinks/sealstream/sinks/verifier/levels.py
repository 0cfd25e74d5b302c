"""How much a verification excludes, and in words what it does not. Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Level(IntEnum):
    """How much a verification excludes, each level more than the one before."""

    CHAIN = 1
    CHECKPOINT = 2
    WITNESSED = 3
    ANCHORED = 4

    @property
    def word(self) -> str:
        """The level as it is written."""
        return self.name.lower()


_ALWAYS: Final = (
    "that something was changed before it was stored: the verifier compares the chain with Kafka, not this check",
    "that columns kept for search (sealstream.events) were altered: they are derived, and never evidence",
)
_CHAIN: Final = (
    "that the end of a chain was cut off together with the store's own record of where it ended",
    "that a whole chain was written anew from its genesis by somebody who could write the store",
)
_CHECKPOINT: Final = (
    "that whoever has the instance's key signed another history for other readers: no witness compared what it signed",
    "that somebody with that key wrote a chain anew and published it again: nobody else has seen what was there before",
)
_WITNESSED: Final = (
    "that the instance's key and a quorum of its witnesses showed other readers another history together",
    "that the witnesses' clocks were wrong: when they saw the checkpoint is their own word",
)
_ANCHORED: Final = ("that the instance's key, a quorum of its witnesses and the timestamp authority lied together",)

_OF_LEVEL: Final[dict[Level, tuple[str, ...]]] = {
    Level.CHAIN: _CHAIN,
    Level.CHECKPOINT: _CHECKPOINT,
    Level.WITNESSED: _WITNESSED,
    Level.ANCHORED: _ANCHORED,
}

GROWTH: Final = "that what was stored behind the checkpoint was cut off or written anew: the next one will cover it"
OWN_CHECKPOINTS: Final = (
    "that a whole chain has vanished, or was rolled back: each was compared with the last checkpoint of its own alone,"
    " which no witness has seen"
)
NO_TIME: Final = "that the checkpoint is an old one: its only signature states no time"


def not_excluded(level: Level, *more: str) -> tuple[str, ...]:
    """Return in words what a clean result of a level does not exclude.

    Arguments:
        level: What was reached.
        more: What this result does not exclude besides.
    """
    above = () if level is Level.CHAIN else (GROWTH,)
    return (*_OF_LEVEL[level], *above, *more, *_ALWAYS)
