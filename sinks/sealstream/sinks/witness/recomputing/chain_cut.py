"""One chain as it was in a round to begin at, out of its published files. Pure, but for the reading that is given.

Where the round cuts a chain is not published. It follows from the entries: those before the source offsets up to which
rounds account for their partitions. All that is used of the files is held against the chain's own checkpoint, signed by
the log, so that a file that was changed or swapped is found, and named, chain by chain. That all chains together are
those of the round shows the root of the tenant map.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.entry import Entry, parse
from sealstream.schemas.erased_tiles import ReadFile, read_place
from sealstream.schemas.errors import CheckpointRefused, FormatError, ObjectMissing, Untrusted
from sealstream.schemas.merkle import decompose, leaf_hash
from sealstream.schemas.note import verify_note
from sealstream.schemas.note_key import VerifierKey
from sealstream.schemas.proofs import consistency_proof, inclusion_proof, verify_consistency, verify_inclusion
from sealstream.schemas.tile_tree import TileNodes
from sealstream.schemas.tiles import TILE_WIDTH, Bundle
from sealstream.sinks.witness.recomputing.strands import Packed

_CHECKPOINT: Final = "checkpoint"
_HINT: Final = "its published files are not those that the notary wrote: see who can write to the storage"


class NotPublished(Exception):
    """Nothing is published of a chain: it is newer than the round, or its files are missing."""


class ChainFiles:
    """A chain as it is published by now.

    Arguments:
        name: Its name.
        origin: The origin of its checkpoints.
        read: Reads its files by their paths.
        keys: The keys that have ever signed the log, under whatever name.

    Raises:
        NotPublished: It has no checkpoint.
        CheckpointRefused: Its checkpoint is not one that the log has signed for it, or its tiles come to another root.
        StoreError, Unreachable: The storage cannot be read.
    """

    def __init__(self, name: str, origin: str, read: ReadFile, keys: Collection[VerifierKey]) -> None:
        self._name = name
        self._read = read
        self._checkpoint = self._signed(origin, [key.renamed(origin) for key in keys])
        self._nodes = TileNodes(self.size, lambda tile: read_place(read, tile))
        self._bundle = -1
        self._entries: list[bytes] = []  # of that bundle
        if self._tree(self.size).root() != self._checkpoint.root:
            raise self._refused("its tiles come to another root than its checkpoint has")

    @property
    def size(self) -> int:
        """The number of entries that are published."""
        return self._checkpoint.size

    def cut(self, end: Callable[[bytes, int], int]) -> Packed | None:
        """Return the chain as it was when rounds accounted for the source up to these ends.

        Arguments:
            end: Returns the end of a source partition, by its topic's UUID and number.

        Returns:
            The chain; ``None`` if it had not begun.

        Raises:
            CheckpointRefused: A file is not what the chain's checkpoint says, or is missing.
            StoreError, Unreachable: The storage cannot be read.
        """

        def is_before(seq: int) -> bool:
            entry, _ = self._shown(seq)
            return entry.offset < end(entry.topic_id, entry.partition)

        size = _count_before(self.size, is_before)
        if size == 0:
            return None
        tree = self._tree(size)
        self._check_beginning(tree)
        return Packed(self._shown(size - 1)[1], tree.state())

    def _signed(self, origin: str, keys: Collection[VerifierKey]) -> Checkpoint:
        try:
            data = self._read(_CHECKPOINT)
        except ObjectMissing as error:
            raise NotPublished from error
        try:
            checkpoint = Checkpoint.parse(verify_note(data, keys).text)
        except (Untrusted, FormatError) as error:
            raise self._refused(f"its checkpoint is not signed by the log: {error.message}") from error
        if checkpoint.origin != origin:
            raise self._refused(f"its checkpoint is of {checkpoint.origin[:200]!r}")
        return checkpoint

    def _tree(self, size: int) -> CompactRange:
        """Return the tree of the first entries as the tiles have it."""
        try:
            return CompactRange.from_hashes(0, size, [self._nodes(node) for node in decompose(0, size)])
        except (FormatError, ObjectMissing) as error:
            raise self._refused(error.message) from error

    def _check_beginning(self, tree: CompactRange) -> None:
        """Refuse a tree that is not what the signed one begins with: it is made of tiles below that one's own."""
        try:
            verify_consistency(
                consistency_proof(tree.end, self.size, self._nodes),
                first_size=tree.end,
                second_size=self.size,
                first_root=tree.root(),
                second_root=self._checkpoint.root,
            )
        except (FormatError, ObjectMissing) as error:
            raise self._refused(f"its tiles do not hold together: {error.message}") from error

    def _shown(self, seq: int) -> tuple[Entry, bytes]:
        """Return an entry that is shown to stand in the chain's signed tree, and its hash."""
        data = self._entry(seq)
        digest, size, root = leaf_hash(data), self.size, self._checkpoint.root
        try:
            proof = inclusion_proof(seq, size, self._nodes)
            verify_inclusion(proof, leaf=digest, index=seq, size=size, root=root)
            entry = parse(data)
        except (FormatError, ObjectMissing) as error:
            raise self._refused(f"entry {seq}: {error.message}") from error
        if (entry.tenant, entry.seq) != (self._name, seq):
            raise self._refused(f"entry {entry.seq} of {entry.tenant} stands at {seq}")
        return entry, digest

    def _entry(self, seq: int) -> bytes:
        index, place = divmod(seq, TILE_WIDTH)
        if self._bundle != index:
            bundle = Bundle(index, min(TILE_WIDTH, self.size - index * TILE_WIDTH))
            try:
                self._entries = bundle.entries(read_place(self._read, bundle))
            except (FormatError, ObjectMissing) as error:
                raise self._refused(error.message) from error
            self._bundle = index
        return self._entries[place]

    def _refused(self, message: str) -> CheckpointRefused:
        return CheckpointRefused(f"chain {self._name}: {message}", hint=_HINT)


def _count_before(size: int, is_before: Callable[[int], bool]) -> int:
    """Return how many of the first places are before a cut; they are looked for from the end, where the cut mostly is.

    Arguments:
        size: The number of places.
        is_before: Whether a place is before the cut: all up to one of them, and none behind it.
    """
    low, high, step = 0, size, 1  # all below low are before it, and none from high on
    while high > low:
        place = max(low, high - step)
        if is_before(place):
            low = place + 1
            break
        high, step = place, step * 2
    while low < high:
        middle = (low + high) // 2
        if is_before(middle):
            low = middle + 1
        else:
            high = middle
    return low
