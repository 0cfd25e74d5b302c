"""The right edges of logs in memory: the partial tiles and the partial bundle with which a log goes on growing.

To read them back takes longer than to make the next ones. What is here was checked or made by this process, and has
come to the root that its log's head has. What somebody does to the files meanwhile is noticed when the edge is read
back, which it is at the latest when its log grows for the sixteenth time; until then the next ones, which have all that
the old ones had, are right whatever the old ones are.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from sealstream.schemas.tiles import Bundle, Tile

Edge: TypeAlias = Mapping[Tile | Bundle, bytes]
"""The bytes of each place of :func:`sealstream.sinks.notary.superseded.edge_places`."""

READ_EVERY: Final = 16
"""Of so many times that a log grows, its edge is read back once: a sixteenth of all in each round."""

EDGES_BYTES_MAX: Final = 64 * 1024 * 1024
"""What all edges take at most: those of twenty thousand small chains, or of some two thousand large ones."""

_OVERHEAD_BYTES: Final = 1_000
"""What an edge takes beside its bytes: its places, and where it is found by its log's name."""

_IDLE_ROUNDS: Final = 64
"""An edge that was not used for so many rounds is forgotten, and for not more than twice as many."""


@dataclass(frozen=True, slots=True)
class _Known:
    """An edge.

    Arguments:
        size: The size of its log.
        edge: Its bytes.
        size_bytes: How much it takes.
        left: How often it is taken from here until it is read back.
    """

    size: int
    edge: Edge
    size_bytes: int
    left: int


class KnownEdges:
    """The edges of as many logs as fit.

    Where they do not fit, those that are here stay: most logs grow in each round, one behind the other, and to put the
    oldest one out would put out each just before it is needed.

    Arguments:
        bytes_max: What they may take.
    """

    def __init__(self, *, bytes_max: int = EDGES_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._used: dict[str, _Known] = {}
        self._idle: dict[str, _Known] = {}  # not used since the last time that idle ones were forgotten
        self._size_bytes = 0
        self._rounds = 0

    def begin_round(self) -> None:
        """Count a round, and forget the edges of logs that do not grow any more."""
        self._rounds += 1
        if self._rounds % _IDLE_ROUNDS == 0:
            self._size_bytes -= sum(one.size_bytes for one in self._idle.values())
            self._idle, self._used = self._used, {}

    def get(self, name: str, size: int) -> Edge | None:
        """Return the edge of a log at a size; ``None`` if it has to be read."""
        known = self._used.get(name) or self._idle.get(name)
        return known.edge if known is not None and known.size == size and known.left else None

    def keep(self, name: str, size: int, edge: Edge) -> None:
        """Remember the edge of a log that has grown to a size, if there is space."""
        before = self.forget(name)
        # Begun at different places, so that those of logs that grow together are read in different rounds.
        left = zlib.crc32(name.encode()) if before is None else before.left - 1
        size_bytes = _OVERHEAD_BYTES + sum(map(len, edge.values()))
        if self._size_bytes + size_bytes <= self._bytes_max:
            self._used[name] = _Known(size, edge, size_bytes, left % READ_EVERY)
            self._size_bytes += size_bytes

    def forget(self, name: str) -> _Known | None:
        """Forget the edge of a log, and return it."""
        known = self._used.pop(name, None) or self._idle.pop(name, None)
        if known is not None:
            self._size_bytes -= known.size_bytes
        return known
