"""A round that is being computed: how it was published, and how far ours has come."""

from __future__ import annotations

from sealstream.schemas.coverage import PartitionCoverage
from sealstream.sinks.witness.recomputing.differences import Growth
from sealstream.sinks.witness.recomputing.published import PublishedRound
from sealstream.sinks.witness.recomputing.stretch import Stretch


class OpenRound:
    """A round that is being computed.

    Arguments:
        published: How it was published.
    """

    def __init__(self, published: PublishedRound) -> None:
        self.published = published
        self.ends: dict[int, int] = {}
        self.elsewhere: list[PartitionCoverage] = []
        self.stretches: dict[int, Stretch] = {}
        self.began: dict[int, int] = {}
        self.done: set[int] = set()
        self.grown: list[Growth] = []
