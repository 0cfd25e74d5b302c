"""What the notary remembers between two rounds, and the step from one to the next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class LogHead:
    """How far the root log has come.

    Arguments:
        size: The number of its leaves, which is the number of the next round.
        root: Its root, 32 bytes.
        hashes: The state of its compact range.
    """

    size: int
    root: bytes
    hashes: bytes


@dataclass(frozen=True, slots=True)
class ChainHead:
    """How far a chain has come by the rounds so far.

    Arguments:
        chain: Its name: a tenant, or ``!partition-<n>``.
        partition: The source partition of its last entry.
        size: The number of its entries.
        root: The root of its tree, 32 bytes.
        last_hash: The hash of its last entry, 32 bytes.
        hashes: The state of its compact range.
        grown_in: The last round in which it grew.
        size_before: Its size before that round.
    """

    chain: str
    partition: int
    size: int
    root: bytes
    last_hash: bytes
    hashes: bytes
    grown_in: int
    size_before: int


@dataclass(frozen=True, slots=True)
class ChainStep:
    """A chain's head before and after a round.

    Arguments:
        before: Its head before; ``None`` if it began in the round.
        after: Its head after it.
    """

    before: ChainHead | None
    after: ChainHead


@dataclass(frozen=True, slots=True)
class PositionStep:
    """How far a source partition is accounted for, before and after a round.

    Arguments:
        topic_id: UUID of the source topic, 16 bytes.
        partition: The source partition.
        before: The first offset that was not accounted for; 0 if the partition was unknown.
        after: The same, after the round.
    """

    topic_id: bytes
    partition: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class MapTile:
    """A tile of a round's tenant map.

    Arguments:
        level: The level of tiles.
        index: The place within the level.
        data: The hashes, one behind the other; fewer than 256 at the right edge.
    """

    level: int
    index: int
    data: bytes


@dataclass(frozen=True, slots=True)
class RoundStep:
    """All that one round changes in the notary's database, in one transaction.

    Arguments:
        before: The root log before it.
        after: The root log with it.
        leaf: Its leaf.
        coverage: The coverage that the leaf commits to.
        chains: What has grown.
        positions: How far the source is accounted for, where that has changed.
        appended_from: When the broker took its oldest entry; ``None`` if it has no entry with a time.
        appended_before: When the broker took its newest entry.
        map_tiles: The tiles of the whole tenant map as it is after the round.
        map_leaves: The map's leaves, 256 to a piece.
    """

    before: LogHead
    after: LogHead
    leaf: bytes
    coverage: bytes
    chains: Sequence[ChainStep] = ()
    positions: Sequence[PositionStep] = ()
    appended_from: datetime | None = None
    appended_before: datetime | None = None
    map_tiles: Sequence[MapTile] = ()
    map_leaves: Sequence[bytes] = ()

    @property
    def round(self) -> int:
        """The round's number."""
        return self.before.size


@dataclass(frozen=True, slots=True)
class RoundRow:
    """A round as the notary's database has it.

    Arguments:
        round: Its number.
        leaf: Its leaf in the root log.
        coverage: Its coverage.
        root: The root of the root log with it.
        made_at: When it was made, by the database's clock.
        note: The root checkpoint of size ``round + 1``, signed and maybe cosigned; empty as long as there is none.
        witnessed_at: When its quorum was complete.
        published_at: When that checkpoint, and those of the chains, had been published.
    """

    round: int
    leaf: bytes
    coverage: bytes
    root: bytes
    made_at: datetime
    note: str = ""
    witnessed_at: datetime | None = None
    published_at: datetime | None = None

    @property
    def size(self) -> int:
        """The size of the root log with it."""
        return self.round + 1


@dataclass(slots=True)
class Memory:
    """What the notary knows when it starts.

    Arguments:
        instance: Whose log it is.
        key: The vkey that the log began with.
        head: How far the root log has come.
        last: The last round; ``None`` before the first one.
        positions: The first offset that is not accounted for, by topic UUID and partition.
        chains: All chains' heads.
    """

    instance: str
    key: str
    head: LogHead
    last: RoundRow | None
    positions: dict[tuple[bytes, int], int] = field(default_factory=dict[tuple[bytes, int], int])
    chains: list[ChainHead] = field(default_factory=list[ChainHead])
