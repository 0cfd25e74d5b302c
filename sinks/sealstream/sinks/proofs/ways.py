"""Finds a way from a chain up to a root checkpoint with its quorum, verifying each step of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import NotYetProvable, ProofInvalid
from sealstream.schemas.note import Note
from sealstream.schemas.proof_file import RootedMap
from sealstream.schemas.proofs import consistency_proof, inclusion_proof, verify_consistency, verify_inclusion
from sealstream.sinks.proofs.archive import Archive, MapPlace
from sealstream.sinks.proofs.cache import Recent
from sealstream.sinks.proofs.kept_rounds import KeptRound, first_anchored, first_covering

_WAYS_MAX: Final = 1_024
"""How many ways are remembered, of some 3 KB each."""


@dataclass(frozen=True, slots=True)
class Covering:
    """The first kept round whose map has an entry.

    Arguments:
        round: Its number.
        place: Where the chain stands in its map; the size there is larger than the entry's seq.
        before: The kept rounds before it, in their order.
        after: It and those behind it.
    """

    round: int
    place: MapPlace
    before: tuple[KeptRound, ...]
    after: tuple[KeptRound, ...]


class Ways:
    """Finds ways from chains up to root checkpoints.

    Arguments:
        archive: What they are made from.
    """

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        # What was verified once: a tenant's records of one round have the same way up.
        self._rooted: Recent[tuple[int, MapPlace, int, bool], RootedMap] = Recent(_WAYS_MAX)
        self._consistency: Recent[tuple[bytes, bytes], tuple[bytes, ...]] = Recent(_WAYS_MAX)

    def covering(self, key: bytes, seq: int, since_seconds: float) -> Covering | None:
        """Return the first kept round whose map has an entry; ``None`` if none has it so far.

        Arguments:
            key: The chain's key in the map.
            seq: The entry's place in the chain.
            since_seconds: When it was appended, in seconds since the Unix epoch: where to begin to look.

        Raises:
            FormatError: What is kept is no map, or no round.
            StoreError: A map is gone, or the database cannot be used.
            Unreachable: The database does not answer.
        """

        @cache
        def size_at(number: int) -> int:
            place = self.place(number, key)
            return 0 if place is None else place.leaf.size

        rounds = self.archive.rounds.known()
        if not rounds or size_at(rounds[-1].round) <= seq:
            rounds = self.archive.rounds.refresh()
        at = first_covering(rounds, size_at, seq, since_seconds=since_seconds)
        if at is None:
            return None
        place = self.place(rounds[at].round, key)
        assert place is not None  # the map has the chain: it covers the entry
        # No more than a few of them are looked at; rounds of late are at most those of some hours.
        return Covering(rounds[at].round, place, tuple(rounds[max(0, at - 1) : at]), tuple(rounds[at:]))

    def place(self, number: int, key: bytes) -> MapPlace | None:
        """Return where a chain stands in the map of a round; ``None`` if the map does not have it."""
        return self.archive.map_place(number, self.archive.round(number).chains, key)

    def checkpoint_size(self, found: Covering, *, anchored: bool) -> int:
        """Return the size of the smallest root checkpoint that covers a round and has its quorum, or a timestamp.

        Raises:
            NotYetProvable: There is none so far.
        """
        if anchored:
            number = first_anchored(found.after, found.round)
            if number is None:
                number = first_anchored(self.archive.rounds.refresh(), found.round)
            what = "timestamped"
        else:
            number = found.round if found.after[0].witnessed else self.archive.witnessed_from(found.round)
            what = "cosigned by its quorum"
        if number is None:
            raise NotYetProvable(f"round {found.round} has it, and no root checkpoint from there on is {what} yet")
        return number + 1

    def rooted(self, number: int, place: MapPlace, size: int) -> RootedMap:
        """Return the way from a chain's leaf in the map of a round up to the root checkpoint of a size, verified.

        Raises:
            ProofInvalid: What is kept or published does not lead to the roots that were signed.
            FormatError: A part of it is malformed.
            StoreError: A part of it is missing.
            Unreachable: Database or storage do not answer.
        """
        # Nobody is asked for what is known not to be there: maps of rounds with a timestamp are always kept.
        stamped = first_anchored(self.archive.rounds.known(), size - 1) == size - 1
        return self._rooted.get((number, place, size, stamped), lambda: self._made(number, place, size, stamped))

    def _made(self, number: int, place: MapPlace, size: int, stamped: bool) -> RootedMap:
        leaf = self.archive.round(number)
        if leaf.round != number:
            raise ProofInvalid(f"what is kept for round {number} is round {leaf.round}")
        map_path = inclusion_proof(place.index, leaf.chains, self.archive.map_nodes(number, leaf.chains, place.index))
        with_map = f"the map kept of round {number}"
        _verified(with_map, map_path, place.leaf.hash(), place.index, leaf.chains, leaf.map_root)
        note = self.archive.root_checkpoint(size)
        checkpoint = Checkpoint.parse(Note.parse(note).text)
        if checkpoint.size != size:
            raise ProofInvalid(f"the root checkpoint published for size {size} is of size {checkpoint.size}")
        root_path = inclusion_proof(number, size, self.archive.root_nodes(size))
        with_log = f"the root log's tiles at size {size}"
        _verified(with_log, root_path, leaf.hash(), number, size, checkpoint.root)
        timestamp = self.archive.timestamp(size) if stamped else None
        return RootedMap(
            index=place.index,
            map_path=tuple(map_path),
            round=number,
            previous=leaf.previous,
            length=leaf.length,
            coverage=leaf.coverage,
            chains=leaf.chains,
            root_path=tuple(root_path),
            note=note,
            timestamps=() if timestamp is None else (timestamp,),
        )

    def consistency(self, earlier: RootedMap, later: RootedMap) -> tuple[bytes, ...]:
        """Return that the root log at a later checkpoint grew out of that at an earlier one, verified.

        Raises:
            ProofInvalid: It did not, or the published tiles do not show it.
            SealstreamError: As :meth:`rooted`.
        """
        notes = (earlier.note, later.note)
        return self._consistency.get(notes, lambda: self._grown(earlier.checkpoint(), later.checkpoint()))

    def _grown(self, first: Checkpoint, second: Checkpoint) -> tuple[bytes, ...]:
        proof = consistency_proof(first.size, second.size, self.archive.root_nodes(second.size))
        verify_consistency(
            proof,
            first_size=first.size,
            first_root=first.root,
            second_size=second.size,
            second_root=second.root,
        )
        return tuple(proof)


def _verified(name: str, path: list[bytes], leaf: bytes, index: int, size: int, root: bytes) -> None:
    try:
        verify_inclusion(path, leaf=leaf, index=index, size=size, root=root)
    except ProofInvalid as error:
        raise ProofInvalid(f"{name}: {error.message}", hint=error.hint) from error
