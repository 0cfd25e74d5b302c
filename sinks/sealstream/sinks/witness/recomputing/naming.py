"""Which chain and which entry a difference is about, found by reading again: only once a round is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from confluent_kafka import Message

from sealstream.schemas.violation import ROOT_LOG, ViolationType
from sealstream.sinks.witness.recomputing.differences import Difference, entry_differs
from sealstream.sinks.witness.recomputing.open_round import OpenRound
from sealstream.sinks.witness.recomputing.sources import Sources
from sealstream.sinks.witness.recomputing.stretch import entry_at, hashes_of

_NAMING_SECONDS: Final = 5.0


class Naming:
    """Finds what a difference is about.

    Arguments:
        sources: What is read; nothing else may be read of it meanwhile, and it is not gone on with.
        one: The round that differs.
    """

    def __init__(self, sources: Sources, one: OpenRound) -> None:
        self._sources = sources
        self._round = one

    def name(self, differs: Difference) -> Difference:
        """Return a difference with the chain and the entry that it is about, where they can be found."""
        deadline = time.monotonic() + _NAMING_SECONDS
        if differs.offset is not None and differs.expected in ("an entry", "lost"):
            partition, at, place = differs.partition, differs.offset, self._round.stretches[differs.partition].place
            for messages in self._again(partition, deadline):
                found = entry_at(messages, at, place)
                if found is not None:
                    return differs._replace(tenant=found[0].decode("ascii", "replace"), seq=found[1])
        if differs.type is ViolationType.FORK and differs.tenant == ROOT_LOG:
            return self._edited(deadline) or differs
        return differs

    def _edited(self, deadline: float) -> Difference | None:
        """Return the first entry that was published otherwise, by the published tiles of the chains that have grown."""
        for growth in self._round.grown:
            begin, size = growth.tree.end, growth.now.size
            if time.monotonic() >= deadline:
                return None
            found = self._sources.published.chain_hashes(growth.chain, begin, size)
            if found is None or growth.comes_to(found):
                continue
            name, ours = growth.chain.encode(), list[bytes]()
            partition = self._sources.partition(name)
            for messages in self._again(partition, deadline):
                ours += hashes_of(messages, name, begin + len(ours))
                if begin + len(ours) >= size:
                    differs = entry_differs(self._round.published.leaf.round, growth, found, ours[: size - begin])
                    return differs._replace(partition=partition)
        return None

    def _again(self, partition: int, deadline: float) -> Iterator[list[Message]]:
        """Read a partition again from where a round begins."""
        chained = self._sources.chained
        chained.read({partition: self._round.began[partition]})
        while time.monotonic() < deadline:
            chained.fill({partition})
            while messages := chained.waiting(partition):
                yield messages
                chained.take(partition, len(messages))
