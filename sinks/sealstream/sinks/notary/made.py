"""What a round has come to, between the part that reads the store and the part that signs and publishes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChainGrowth:
    """A chain that has grown in a round.

    Arguments:
        chain: Its name: a tenant, or ``!partition-<n>``.
        old_size: How many entries it had before.
        size: How many it has now.
        root: The root of its tree now, 32 bytes.
        entries: The bytes of the entries from ``old_size`` on, in their order.
        hashes: Their hashes, which are the leaves' hashes.
    """

    chain: str
    old_size: int
    size: int
    root: bytes
    entries: tuple[bytes, ...]
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class MadeRound:
    """A round whose heads have been compared and swapped: from here on it can be made public, again and again.

    Arguments:
        round: Its number; the root log has one leaf more than that.
        leaf: Its leaf in the root log.
        coverage: The coverage that the leaf commits to.
        root: The root of the root log with it.
        chains: What has grown.
    """

    round: int
    leaf: bytes
    coverage: bytes
    root: bytes
    chains: tuple[ChainGrowth, ...]

    @property
    def size(self) -> int:
        """The size of the root log with it."""
        return self.round + 1
