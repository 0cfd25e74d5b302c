"""How far a root log was followed by an earlier run: all that its next round is held against. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, cast

from sealstream.schemas.coverage import PartitionCoverage
from sealstream.schemas.entry import Kind
from sealstream.schemas.round import RoundFollower
from sealstream.sinks.verifier.root_log import Place

_HASH: Final = re.compile("[0-9a-f]{64}")
_TOPIC_ID: Final = re.compile("[0-9a-f]{32}")
_COLUMNS: Final = 4


@dataclass(slots=True)
class Accounts:
    """What the rounds account for, all of them together.

    Arguments:
        ends: By source partition, the offset behind the last one.
        counts: By source partition, the number of entries of each kind.
    """

    ends: dict[Place, int] = field(default_factory=dict[Place, int])
    counts: dict[Place, list[int]] = field(default_factory=dict[Place, list[int]])

    def add(self, parts: Iterable[PartitionCoverage]) -> None:
        """Take in a round."""
        for part in parts:
            self.ends[part.place] = part.end
            counts = self.counts.setdefault(part.place, [0] * len(Kind))
            for kind, count in enumerate(part.counts):
                counts[kind] += count

    def copy(self) -> Accounts:
        """Return the same, to be gone on with."""
        return Accounts(dict(self.ends), {place: list(counts) for place, counts in self.counts.items()})

    @property
    def entries(self) -> int:
        """The number of all entries."""
        return sum(map(sum, self.counts.values()))


@dataclass(frozen=True, slots=True)
class Followed:
    """How far a root log was followed.

    Arguments:
        instance: Whose log it is.
        size: The number of rounds that were found to continue one another.
        root: The root of the log at that size, 32 bytes, which a believed checkpoint led to.
        previous: The hash of the last leaf.
        chains: The number of chains in the last round's map.
        accounts: What the rounds account for.
    """

    instance: str
    size: int
    root: bytes
    previous: bytes
    chains: int
    accounts: Accounts

    def follower(self) -> RoundFollower:
        """Return what takes the next round."""
        return RoundFollower(self.size, self.previous, self.chains, self.accounts.ends)

    def to_dict(self) -> dict[str, object]:
        """Return it as plain values, for JSON."""
        accounts = self.accounts
        return {
            "instance": self.instance,
            "size": self.size,
            "root": self.root.hex(),
            "previous": self.previous.hex(),
            "chains": self.chains,
            "accounts": [
                [topic_id.hex(), partition, end, accounts.counts[topic_id, partition]]
                for (topic_id, partition), end in sorted(accounts.ends.items())
            ],
        }

    @classmethod
    def from_dict(cls, fields: object) -> Followed | None:
        """Return what plain values say, the inverse of :meth:`to_dict`; ``None`` if they say nothing of that kind."""
        values = cast("dict[str, object]", fields) if isinstance(fields, dict) else {}
        instance, size, chains = values.get("instance"), values.get("size"), values.get("chains")
        root, previous, accounts = _hash(values.get("root")), _hash(values.get("previous")), values.get("accounts")
        if not (isinstance(instance, str) and isinstance(size, int) and isinstance(chains, int)):
            return None
        taken = _accounts(cast("list[object]", accounts)) if isinstance(accounts, list) else None
        if size < 1 or chains < 0 or root is None or previous is None or taken is None:
            return None
        return cls(instance, size, root, previous, chains, taken)


def _hash(text: object) -> bytes | None:
    return bytes.fromhex(text) if isinstance(text, str) and _HASH.fullmatch(text) else None


def _accounts(rows: list[object]) -> Accounts | None:
    accounts = Accounts()
    for row in rows:
        values = cast("list[object]", row) if isinstance(row, list) else []
        if len(values) != _COLUMNS:
            return None
        topic_id, partition, end, numbers = values
        counts = _counts(cast("list[object]", numbers)) if isinstance(numbers, list) else None
        if not (isinstance(topic_id, str) and _TOPIC_ID.fullmatch(topic_id)) or counts is None:
            return None
        if not (isinstance(partition, int) and partition >= 0 and isinstance(end, int) and end >= 0):
            return None
        place = bytes.fromhex(topic_id), partition
        accounts.ends[place], accounts.counts[place] = end, counts
    return accounts


def _counts(numbers: list[object]) -> list[int] | None:
    counts = [one for one in numbers if isinstance(one, int) and one >= 0]
    return counts if len(counts) == len(numbers) == len(Kind) else None
