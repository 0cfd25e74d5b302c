"""A round of the root log: what one leaf of it commits to, and what must hold from round to round.

The layout is fixed and big-endian; ``SPEC.md`` gives it with test vectors. All leaves have the same size: they are part
of every proof, and entries of the log's bundles, which C2SP tlog-tiles limits to 65,535 bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from sealstream.schemas.coverage import (
    COVERAGE_BYTES_MAX,
    COVERAGE_BYTES_MIN,
    PartitionCoverage,
    coverage_digest,
    parse_coverage,
)
from sealstream.schemas.entry import ZERO_HASH, Kind
from sealstream.schemas.errors import LeafInvalid
from sealstream.schemas.merkle import EMPTY_ROOT, HASH_BYTES, SIZE_MAX, leaf_hash

ROUND_LABEL: Final = b"sealstream/round1\n"

_ROUND: Final = struct.Struct(">18sQ32sI32sQ32s")  # label, round, previous, length, coverage, chains, map_root
ROUND_BYTES: Final = _ROUND.size


@dataclass(frozen=True, slots=True)
class Round:
    """One leaf of the root log.

    Arguments:
        round: The number of the round, from 0; the index of the leaf in the root log.
        previous: Hash of the leaf of the round before, 32 bytes; zeros for round 0.
        length: Size of the coverage in bytes.
        coverage: Digest of the coverage (:func:`coverage_digest`), 32 bytes.
        chains: The number of chains in the tenant map.
        map_root: The root of the tenant map, 32 bytes.
    """

    round: int
    previous: bytes
    length: int
    coverage: bytes
    chains: int
    map_root: bytes

    def pack(self) -> bytes:
        """Return the leaf's bytes.

        Raises:
            LeafInvalid: A field is out of range, or the fields contradict each other.
        """
        self._check()
        return _ROUND.pack(
            ROUND_LABEL, self.round, self.previous, self.length, self.coverage, self.chains, self.map_root
        )

    @classmethod
    def parse(cls, data: bytes) -> Round:
        """Return the leaf that the bytes are, the inverse of :meth:`pack`.

        Raises:
            LeafInvalid: They are not exactly a leaf.
        """
        if len(data) != ROUND_BYTES:
            raise LeafInvalid(f"a leaf of the root log has {len(data)} bytes instead of {ROUND_BYTES}")
        label, *fields = _ROUND.unpack(data)
        if label != ROUND_LABEL:
            raise LeafInvalid("a leaf of the root log does not begin with its label", hint="it is of a newer format")
        leaf = cls(*fields)
        leaf._check()
        return leaf

    def hash(self) -> bytes:
        """Return the leaf's hash in the root log's tree, which the next round names as ``previous``.

        Raises:
            LeafInvalid: A field is out of range, or the fields contradict each other.
        """
        return leaf_hash(self.pack())

    def _check(self) -> None:
        if not 0 <= self.round < SIZE_MAX:
            raise LeafInvalid(f"a leaf of the root log has the round {self.round}, outside 0 to {SIZE_MAX - 1}")
        name = f"round {self.round}"
        for what, value in (("previous", self.previous), ("coverage", self.coverage), ("map_root", self.map_root)):
            if len(value) != HASH_BYTES:
                raise LeafInvalid(f"{name} has a {what} of {len(value)} bytes instead of {HASH_BYTES}")
        if (self.round == 0) != (self.previous == ZERO_HASH):
            raise LeafInvalid(f"{name} has zeros for the round before, or the first one has not")
        if not COVERAGE_BYTES_MIN <= self.length <= COVERAGE_BYTES_MAX:
            raise LeafInvalid(f"{name} has a coverage of {self.length} bytes")
        if not 0 <= self.chains <= SIZE_MAX or (self.chains == 0) != (self.map_root == EMPTY_ROOT):
            raise LeafInvalid(f"{name} has {self.chains} chains, and a map with another number of them")


class RoundFollower:
    """Reads the rounds of one root log in order, and refuses what does not continue the rounds before.

    It says nothing about whether the coverage is true, and the map the right one: that takes the source or the chains.

    Arguments:
        next_round: The number of the first round to come.
        previous: The hash of the leaf before it; zeros if it is round 0.
        chains: The number of chains in the map of the round before.
        ends: The offset up to which each source partition, by topic UUID and number, is accounted for.
    """

    def __init__(
        self,
        next_round: int = 0,
        previous: bytes = ZERO_HASH,
        chains: int = 0,
        ends: dict[tuple[bytes, int], int] | None = None,
    ) -> None:
        self.next_round: int = next_round
        self.previous: bytes = previous
        self.chains: int = chains
        self.ends = dict(ends or {})

    def follow(self, leaf: bytes, coverage: bytes) -> tuple[Round, tuple[PartitionCoverage, ...]]:
        """Take the next round, and return what its leaf and its coverage say.

        Arguments:
            leaf: The bytes of the leaf.
            coverage: The bytes of the coverage.

        Raises:
            LeafInvalid: It is malformed, is another round than the next one, does not continue the round before, has
                another coverage, leaves offsets out or accounts for them again, or has lost chains. Nothing was taken.
        """
        found, parts = Round.parse(leaf), parse_coverage(coverage)
        name = f"round {found.round}"
        if found.round != self.next_round or found.previous != self.previous:
            raise LeafInvalid(f"{name} does not follow the round before, where {self.next_round} was to come")
        if (len(coverage), coverage_digest(coverage)) != (found.length, found.coverage):
            raise LeafInvalid(f"{name} commits to another coverage than the one given")
        if found.chains < self.chains:
            raise LeafInvalid(f"{name} has {found.chains} chains, and there were {self.chains}")
        begun = sum(part.counts[Kind.GENESIS] for part in parts)
        if found.chains - self.chains != begun:
            raise LeafInvalid(f"{name} has {found.chains - self.chains} new chains, and {begun} were begun")
        for part in parts:
            end = self.ends.get(part.place, 0)
            if part.begin != end:
                raise LeafInvalid(f"{name} covers partition {part.partition} from {part.begin}, and {end} was to come")
        self.next_round, self.previous, self.chains = found.round + 1, found.hash(), found.chains
        self.ends |= {part.place: part.end for part in parts}
        return found, parts
