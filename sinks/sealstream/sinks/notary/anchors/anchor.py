"""What an anchor is, and what it leaves to be remembered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """A published root checkpoint.

    Arguments:
        round: The number of its round.
        note: The bytes of ``root/checkpoints/<round + 1>``.
    """

    round: int
    note: bytes

    @property
    def size(self) -> int:
        """The size of the root log that it speaks of."""
        return self.round + 1


@dataclass(frozen=True, slots=True)
class Anchored:
    """A root checkpoint that was anchored.

    Arguments:
        round: The number of its round.
        at: Since when: the time that the timestamp states, or that of the lock.
        token: The timestamp, DER; empty for another anchor.
    """

    round: int
    at: datetime
    token: bytes = b""


class Anchor(Protocol):
    """A way to anchor root checkpoints. It is called from a thread of its own, once at a time."""

    @property
    def name(self) -> str:
        """How logs and metrics call it."""
        ...

    def anchor(self, published: Checkpointed) -> Anchored:
        """Anchor a root checkpoint; doing it again is harmless.

        Raises:
            SealstreamError: It could not be anchored now.
        """
        ...
