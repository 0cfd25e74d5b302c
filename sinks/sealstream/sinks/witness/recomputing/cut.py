"""A round of the root log to begin at: its tree, its map, and how far each source partition is accounted for.

All of it follows from the root of the checkpoint: the last leaf stands in its tree, each leaf names the hash of the one
before, and each commits to its coverage. A coverage speaks only of the partitions that have come forward. So where one
ends is found by going back, round by round, and no further than somebody asks.
"""

from __future__ import annotations

import threading
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.coverage import COVERAGE_BYTES_MIN
from sealstream.schemas.errors import CheckpointRefused, LeafInvalid, ObjectMissing, ProofInvalid, TileInvalid
from sealstream.schemas.merkle import decompose, leaf_hash
from sealstream.schemas.proofs import inclusion_proof, verify_inclusion
from sealstream.schemas.round import Round
from sealstream.schemas.tile_tree import TileNodes
from sealstream.schemas.tiles import TILE_WIDTH
from sealstream.sinks.witness.recomputing.published import PublishedRounds
from sealstream.worker.logs import logger

_TOLD_ROUNDS: Final = 10_000
"""After so many rounds that were gone back it is said how far that is."""

_HINT: Final = "the storage does not hold the log of this checkpoint: see who can write there"


class Cut:
    """What stands in the round that a checkpoint ends with. It may be used by several threads at once.

    Arguments:
        published: The published rounds.
        checkpoint: A root checkpoint that is trusted; of at least one round.

    Raises:
        CheckpointRefused: What is published does not come to its root.
        StoreError, Unreachable: The storage cannot be read.
    """

    def __init__(self, published: PublishedRounds, checkpoint: Checkpoint) -> None:
        self._published = published
        self.tree = _tree(published, checkpoint)
        self._lock = threading.Lock()
        self._ends: dict[tuple[bytes, int], int] = {}
        self._begin = -1
        self._leaves: list[bytes] = []  # of the bundle that begins there
        self._next = checkpoint.size - 1  # the round that is read next, and its leaf's hash
        self._hash = leaf_hash(self._leaf(self._next))
        self.previous = self._hash
        """The hash of the last leaf."""
        try:
            nodes = TileNodes(checkpoint.size, published.root_tile)
            proof = inclusion_proof(self._next, checkpoint.size, nodes)
            verify_inclusion(proof, leaf=self._hash, index=self._next, size=checkpoint.size, root=checkpoint.root)
            self.leaf = Round.parse(self._leaf(self._next))
        except (ProofInvalid, TileInvalid, LeafInvalid) as error:
            raise CheckpointRefused(f"round {self._next} is not the one that was signed", hint=_HINT) from error

    def end(self, topic_id: bytes, partition: int) -> int:
        """Return up to which source offset rounds account for a partition; 0 if none of them speaks of it.

        Raises:
            CheckpointRefused: A round or coverage is not what was signed.
            StoreError, Unreachable: The storage cannot be read.
        """
        with self._lock:
            while (topic_id, partition) not in self._ends and self._next >= 0:
                self._go_back()
            return self._ends.get((topic_id, partition), 0)

    def _go_back(self) -> None:
        number, data = self._next, self._leaf(self._next)
        if leaf_hash(data) != self._hash:
            raise CheckpointRefused(f"round {number} is published as another one than was signed", hint=_HINT)
        published = None if _is_idle(data) else self._published.round(number, data)
        for part in published.parts if published is not None else ():
            self._ends.setdefault(part.place, part.end)
        self._hash = Round.parse(data).previous
        self._next -= 1
        if (self.tree.end - self._next) % _TOLD_ROUNDS == 0:
            logger().info("looking for where each partition is covered up to", round=number)

    def _leaf(self, number: int) -> bytes:
        """Return a round's leaf; those before it in its bundle are kept for when they are asked for."""
        begin = number - number % TILE_WIDTH
        if self._begin != begin or number - begin >= len(self._leaves):
            self._begin, self._leaves = begin, self._published.leaves(begin, number + 1)
        return self._leaves[number - begin]


def _tree(published: PublishedRounds, checkpoint: Checkpoint) -> CompactRange:
    size = checkpoint.size
    nodes = TileNodes(size, published.root_tile)
    try:
        tree = CompactRange.from_hashes(0, size, [nodes(node) for node in decompose(0, size)])
    except (TileInvalid, ObjectMissing) as error:
        message = f"the root log is not published up to size {size}: {error.message}"
        raise CheckpointRefused(message, hint=_HINT) from error
    if tree.root() != checkpoint.root:
        raise CheckpointRefused(f"the root log's published tiles come to another root at size {size}", hint=_HINT)
    return tree


def _is_idle(data: bytes) -> bool:
    return Round.parse(data).length == COVERAGE_BYTES_MIN
