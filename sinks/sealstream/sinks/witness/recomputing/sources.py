"""What a recomputation reads of one epoch: all of it, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from sealstream.kafka.partition import partition_of
from sealstream.schemas.violation import Violation
from sealstream.sinks.verifier.records import Chain
from sealstream.sinks.witness.recomputing.chained_log import ChainedLog
from sealstream.sinks.witness.recomputing.differences import Difference
from sealstream.sinks.witness.recomputing.open_violations import OpenViolations
from sealstream.sinks.witness.recomputing.published import PublishedRounds
from sealstream.sinks.witness.recomputing.word import VerifiersWord


@dataclass(frozen=True, slots=True)
class Sources:
    """What a recomputation reads of one epoch.

    Arguments:
        word: What the verifier says.
        chained: The entries.
        violations: What is open; the same in all epochs, and not closed with this.
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

    def close(self) -> None:
        """Close the connections of this epoch."""
        self.word.close()
        self.chained.close()

    def topic_id(self) -> bytes | None:
        """Return the UUID of the source topic that is verified; ``None`` if nothing of it is."""
        positions = (self.word.position(number) for number in range(self.partitions))
        return next((position.source_topic_id for position in positions if position is not None), None)

    def partition(self, name: bytes) -> int:
        """Return the partition that a chain goes on in."""
        if name.startswith(b"!"):
            return int(name.rpartition(b"-")[2])
        return partition_of(name, self.partitions)

    def chain(self, name: bytes) -> Chain | None:
        """Return a chain where the verifier stands in this epoch; ``None`` if it has not begun there."""
        partition = self.partition(name)
        return self.word.chain(partition, name) if partition < self.partitions else None

    def violation(self, differs: Difference) -> Violation:
        """Return what is recorded of a difference that was found in this epoch."""
        return Violation(
            type=differs.type,
            tenant=differs.tenant,
            message=differs.message,
            seq=differs.seq,
            partition=differs.partition,
            offset=differs.offset,
            topic_id=self.topic_id() or b"",
            instance=self.instance,
            expected=differs.expected,
            found=differs.found,
        )
