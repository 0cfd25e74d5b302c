"""A partition's log in memory, made by the tests' own model, to hold the verifier's rules against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sealstream.kafka.partition import partition_of
from sealstream.schemas.entry import Genesis
from sealstream.sinks.verifier.partition import PartitionVerifier
from sealstream.sinks.verifier.records import ChainedRecord, Outcome
from sealstream.sinks.verifier.rules import Rules, SourceRecord
from support.model import ExpectedRecord, Model
from support.model import SourceRecord as ModelRecord

TOPIC_ID = bytes(range(16))
GENESIS = Genesis(instance="test.example/audit", partitions=4, window_offsets=50, window_seconds=60)
PARTITION = partition_of(b"acme", GENESIS.partitions)
START_MS = 1_700_000_000_000
LATEST = 2_000_000_000_000_000


def tenants_here(count: int, genesis: Genesis = GENESIS, partition: int = PARTITION) -> list[bytes]:
    """Return so many tenants that belong to a partition."""
    names = (f"tenant-{number}".encode() for number in range(10_000))
    return [name for name in names if partition_of(name, genesis.partitions) == partition][:count]


def source_record(offset: int, key: bytes | None, value: bytes | None, ms: int | None = START_MS) -> SourceRecord:
    """Return a source record, received at a time in milliseconds."""
    return SourceRecord(offset, key, value, None if ms is None else ms * 1000)


def model_chain(
    records: Iterable[SourceRecord], genesis: Genesis = GENESIS, partition: int = PARTITION
) -> list[ExpectedRecord]:
    """Return what the tests' own model makes of source records."""
    model = Model(genesis, TOPIC_ID, partition)
    return model.expect(
        ModelRecord(partition, r.offset, r.key, r.value, None if r.received is None else r.received // 1000)
        for r in records
    )


def chained(expected: Iterable[ExpectedRecord], first_offset: int = 0) -> list[ChainedRecord]:
    """Return the model's records as they would be read from audit.chained."""
    return [
        ChainedRecord(first_offset + number, r.key, r.value, r.entry, r.traceparent)
        for number, r in enumerate(expected)
    ]


class MemorySource:
    """A source partition that is all there."""

    def __init__(self, records: Sequence[SourceRecord]) -> None:
        self._records = list(records)
        self._at = 0

    def ready(self) -> SourceRecord | None:
        """Return the next record."""
        if self._at == len(self._records):
            return None
        self._at += 1
        return self._records[self._at - 1]

    def wait(self, until: int) -> SourceRecord | None:
        """Return the next record; nobody needs to wait for memory."""
        del until
        return self.ready()

    def find(self, offset: int) -> SourceRecord | None:
        """Return the record at an offset."""
        return next((record for record in self._records if record.offset == offset), None)

    def upcoming(self) -> Sequence[SourceRecord]:
        """Return the records that come next."""
        return self._records[self._at :]


def verify_log(
    source: Sequence[SourceRecord], log: Sequence[ChainedRecord], *, genesis: Genesis = GENESIS, batch: int = 1_000_000
) -> tuple[PartitionVerifier, Outcome]:
    """Check a whole log in batches and return the verifier with all that it found."""
    verifier = PartitionVerifier(Rules(genesis, TOPIC_ID, PARTITION), MemorySource(source))
    whole = Outcome()
    rest = list(log)
    while rest:
        records, rest = rest[:batch], rest[batch:]
        following = [rest]

        def more(following: list[list[ChainedRecord]] = following) -> list[ChainedRecord]:
            taken, following[0] = following[0][:batch], following[0][batch:]
            return taken

        outcome = verifier.check(records, more, latest=LATEST)
        rest = following[0]
        whole.published += outcome.published
        whole.violations += outcome.violations
        whole.touched |= outcome.touched
        whole.kinds += outcome.kinds
        whole.records += outcome.records
    return verifier, whole
