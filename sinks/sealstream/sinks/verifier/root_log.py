"""The published root log, round by round up to a checkpoint that is believed, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sealstream.schemas.coverage import PartitionCoverage, coverage_digest, parse_coverage
from sealstream.schemas.entry import partition_chain
from sealstream.schemas.errors import LeafInvalid, ObjectMissing, StoreError, TileInvalid
from sealstream.schemas.merkle import leaf_hash
from sealstream.schemas.round import Round, RoundFollower
from sealstream.schemas.violation import ROOT_LOG, Violation, ViolationType
from sealstream.sinks.verifier.trusted_tiles import TrustedTiles

Place = tuple[bytes, int]
"""A source partition: the topic's UUID, and the number."""


class RoundWrong(Exception):  # no error: what was found
    """A round does not hold.

    Arguments:
        violation: What was found.
    """

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation.message)
        self.violation = violation


class RootLog:
    """Reads rounds that the believed root commits to.

    Arguments:
        instance: Whose log it is.
        tiles: The log's tiles, held against the root.
        coverages: Return the bytes that may be the coverage of a round, where it is kept; asked one after the other.
    """

    def __init__(
        self, instance: str, tiles: TrustedTiles, coverages: tuple[Callable[[int], bytes | None], ...]
    ) -> None:
        self._instance = instance
        self._tiles = tiles
        self._coverages = coverages

    @property
    def size(self) -> int:
        """The number of rounds."""
        return self._tiles.size

    def leaf(self, number: int) -> bytes:
        """Return the bytes of a round's leaf.

        Raises:
            RoundWrong: What is published there is not what the root commits to.
            StoreError: It is not there.
        """
        try:
            data, wanted = self._tiles.entry(number), self._tiles.leaf(number)
        except ObjectMissing as error:
            raise StoreError(f"round {number} cannot be read: {error.message}", hint="publish it again") from error
        except TileInvalid as error:
            raise self.wrong(number, ViolationType.EDITED, error.message) from error
        if leaf_hash(data) != wanted:
            raise self.wrong(number, ViolationType.EDITED, "the leaf published is not the one that was signed")
        return data

    def round(self, number: int) -> Round:
        """Return a round.

        Raises:
            RoundWrong: It is none, or another one than its place says.
            StoreError: It is not there.
        """
        try:
            found = Round.parse(self.leaf(number))
        except LeafInvalid as error:
            raise self.wrong(number, ViolationType.EDITED, error.message) from error
        if found.round != number:
            raise self.wrong(number, ViolationType.GAP, f"round {found.round} stands where {number} belongs")
        return found

    def rounds(self, follower: RoundFollower | None = None) -> Iterator[tuple[Round, tuple[PartitionCoverage, ...]]]:
        """Yield rounds with what they cover, each found to continue the one before.

        Arguments:
            follower: What has taken the rounds before; ``None`` to begin with the first one.

        Raises:
            RoundWrong: One does not.
            StoreError: One of them, or its coverage, is not there.
        """
        follower = RoundFollower() if follower is None else follower
        for number in range(follower.next_round, self.size):
            leaf = self.round(number)
            coverage = self._coverage(leaf)
            self._check(leaf, follower, coverage)
            try:
                yield follower.follow(leaf.pack(), coverage)
            except LeafInvalid as error:
                raise self.wrong(number, ViolationType.EDITED, error.message) from error

    def wrong(self, number: int | None, kind: ViolationType, what: str) -> RoundWrong:
        """Return what to raise where a round is wrong."""
        return RoundWrong(
            Violation(type=kind, tenant=ROOT_LOG, seq=number, instance=self._instance, message=f"root log: {what}")
        )

    def _coverage(self, leaf: Round) -> bytes:
        found = False
        for source in self._coverages:
            data = source(leaf.round)
            if data is not None and (len(data), coverage_digest(data)) == (leaf.length, leaf.coverage):
                return data
            found = found or data is not None
        if not found:
            raise StoreError(f"the coverage of round {leaf.round} is not there", hint="publish it again")
        raise self.wrong(leaf.round, ViolationType.EDITED, "the coverage published is not the one that was signed")

    def _check(self, leaf: Round, follower: RoundFollower, coverage: bytes) -> None:
        """Name what the follower would only refuse."""
        number = leaf.round
        if leaf.previous != follower.previous:
            raise self.wrong(number, ViolationType.FORK, "the round names another one than the round before it")
        if leaf.chains < follower.chains:
            what = f"{leaf.chains} chains are left of {follower.chains}"
            raise self.wrong(number, ViolationType.TRUNCATED, what)
        try:
            parts = parse_coverage(coverage)
        except LeafInvalid as error:
            raise self.wrong(number, ViolationType.EDITED, error.message) from error
        for part in parts:
            end = follower.ends.get(part.place, 0)
            if part.begin != end:
                raise RoundWrong(self._unaccounted(number, part, end))

    def _unaccounted(self, number: int, part: PartitionCoverage, end: int) -> Violation:
        """Offsets that two rounds leave out between them, or both have."""
        left_out = part.begin > end
        first, last = (end, part.begin - 1) if left_out else (part.begin, end - 1)
        message = (
            f"root log: offsets {first} to {last} are accounted for by no round before round {number}"
            if left_out
            else f"root log: offsets {first} to {last} are accounted for by round {number} and before it"
        )
        return Violation(
            type=ViolationType.GAP if left_out else ViolationType.FORK,
            tenant=partition_chain(part.partition),
            message=message,
            instance=self._instance,
            partition=part.partition,
            offset=first,
            topic_id=part.topic_id,
        )
