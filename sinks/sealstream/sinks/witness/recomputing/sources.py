"""What a recomputation reads: all of it, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from sealstream.kafka.partition import partition_of
from sealstream.sinks.witness.recomputing.chained_log import ChainedLog
from sealstream.sinks.witness.recomputing.open_violations import OpenViolations
from sealstream.sinks.witness.recomputing.published import PublishedRounds
from sealstream.sinks.witness.recomputing.word import VerifiersWord


@dataclass(frozen=True, slots=True)
class Sources:
    """What a recomputation reads.

    Arguments:
        word: What the verifier says.
        chained: The entries.
        violations: What is open.
        published: The rounds as they were published.
        instance: The instance.
        partitions: The number of source partitions.
    """

    word: VerifiersWord
    chained: ChainedLog
    violations: OpenViolations
    published: PublishedRounds
    instance: str
    partitions: int

    def topic_id(self) -> bytes | None:
        """Return the UUID of the source topic that is verified; ``None`` if nothing of it is."""
        positions = (self.word.position(number) for number in range(self.partitions))
        return next((position.source_topic_id for position in positions if position is not None), None)

    def partition(self, name: bytes) -> int:
        """Return the partition that a chain goes on in."""
        if name.startswith(b"!"):
            return int(name.rpartition(b"-")[2])
        return partition_of(name, self.partitions)
