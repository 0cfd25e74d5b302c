"""The chains of one partition by their names, of which there may be a million.

Nearly all of them rest, and nothing is known of them but where they go on: that is kept as 40 packed bytes, a seventh
of what an object with its fields takes, and out of the garbage collector's sight.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from typing import Final

from sealstream.sinks.verifier.records import Chain

_HEAD: Final = struct.Struct(">Q32s")  # seq, prev; a previous topic, if there is one, stands behind them


class Chains:
    """The chains of one partition as far as they were verified."""

    def __init__(self) -> None:
        self._resting: dict[bytes, bytes] = {}  # what stands in both is as it is among those awake
        self._awake: dict[bytes, Chain] = {}

    def get(self, name: bytes) -> Chain | None:
        """Return a chain to be read and changed until the next :meth:`rest`; ``None`` if there is none of that name."""
        chain = self._awake.get(name)
        if chain is None:
            packed = self._resting.get(name)
            if packed is None:
                return None
            chain = self._awake[name] = _unpacked(name, packed)
        return chain

    def put(self, chain: Chain) -> None:
        """Add a chain, or replace the one of that name."""
        self._awake[chain.name] = chain

    def rest(self, keep: Collection[bytes] = ()) -> None:
        """Pack what is faultless; chains that were got before must not be changed any more.

        Arguments:
            keep: Names of chains that somebody still holds and will change.
        """
        kept: dict[bytes, Chain] = {}
        for name, chain in self._awake.items():
            if chain.is_faultless and chain.seq and name not in keep:
                self._resting[name] = _HEAD.pack(chain.seq, chain.prev) + chain.previous_topic
            else:
                kept[name] = chain
        self._awake = kept

    def unsound(self) -> list[Chain]:
        """Return the chains of which more is known than where they go on, such as those with open violations."""
        return [chain for chain in self._awake.values() if not chain.is_faultless]

    def all(self) -> Iterator[Chain]:
        """Return all chains, to be read."""
        for name in self._resting.keys() | self._awake.keys():
            yield self._awake.get(name) or _unpacked(name, self._resting[name])

    @property
    def begun(self) -> bool:
        """Whether any chain has an entry."""
        return bool(self._resting) or any(chain.seq for chain in self._awake.values())


def _unpacked(name: bytes, packed: bytes) -> Chain:
    seq, prev = _HEAD.unpack_from(packed)
    return Chain(name, seq, prev, previous_topic=packed[_HEAD.size :])
