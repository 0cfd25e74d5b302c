"""A partition's log in memory, made by the tests' own model, to hold the verifier's rules against."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME

from sealstream.kafka.partition import partition_of
from sealstream.kafka.topics import SEAL_ENTRY_HEADER, TRACEPARENT_HEADER
from sealstream.schemas.entry import Genesis
from sealstream.sinks.verifier.ahead import Ahead
from sealstream.sinks.verifier.partition import PartitionVerifier
from sealstream.sinks.verifier.records import ChainedRecord, Outcome
from sealstream.sinks.verifier.records import SourceMessage as AnySourceMessage
from sealstream.sinks.verifier.records import source_record as source_record_of
from sealstream.sinks.verifier.rules import Rules, SourceRecord
from support.model import ExpectedRecord, Model
from support.model import SourceRecord as ModelRecord
from support.records import RecordMessage

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


def published_seqs(outcome: Outcome, tenant: bytes) -> list[int]:
    """Return the seqs of a tenant's records that are published, in their order."""
    return [seq for key, _, _, seq, *_ in outcome.published if key == tenant]


class SourceMessage(RecordMessage[SourceRecord]):
    """A source record that answers like confluent-kafka's ``Message``."""

    __slots__ = ()

    def timestamp(self) -> tuple[int, int]:
        """Return the type of the time and the time in milliseconds."""
        if self.record.received is None:
            return TIMESTAMP_CREATE_TIME, START_MS
        return TIMESTAMP_LOG_APPEND_TIME, self.record.received // 1000


class ChainedMessage(RecordMessage[ChainedRecord]):
    """A chained record that answers like confluent-kafka's ``Message``."""

    __slots__ = ()

    def headers(self) -> list[tuple[str, bytes]] | None:
        """Return the headers; ``None`` where there are none."""
        named = ((SEAL_ENTRY_HEADER, self.record.entry), (TRACEPARENT_HEADER, self.record.traceparent))
        return [(name, value) for name, value in named if value is not None] or None


class MemorySource:
    """A source partition that is all there, from an offset on."""

    def __init__(self, records: Sequence[SourceRecord], *, begins_at: int = 0) -> None:
        self.begins_at = begins_at
        self._messages: deque[AnySourceMessage] = deque(SourceMessage(record) for record in records)
        self.taken_bytes = 0

    def ready(self) -> SourceRecord | None:
        """Return the next record."""
        return source_record_of(self._messages.popleft()) if self._messages else None

    def wait(self, until: int) -> SourceRecord | None:
        """Return the next record; nobody needs to wait for memory."""
        del until
        return self.ready()

    def find(self, offset: int) -> SourceRecord | None:
        """Return the record at an offset."""
        return next((source_record_of(m) for m in self._messages if m.offset() == offset), None)

    def upcoming(self) -> Iterable[SourceRecord]:
        """Return the records that come next."""
        return map(source_record_of, self._messages)

    def start(self) -> int:
        """Return the first offset that is there."""
        return self.begins_at

    def skip_to(self, offset: int) -> None:
        """Move to an offset."""
        while self._messages and (self._messages[0].offset() or 0) < offset:
            self._messages.popleft()

    def messages(self) -> deque[AnySourceMessage]:
        """Return the messages that come next."""
        return self._messages

    def take(self, count: int, size_bytes: int) -> int:
        """Move behind messages that come next."""
        self.taken_bytes += size_bytes
        for _ in range(count - 1):
            self._messages.popleft()
        return (self._messages.popleft().offset() or 0) + 1


class WholeRules(PartitionVerifier):
    """The plain twin: each record is judged by the whole rules, as if none were ordinary."""

    def _pass_ordinary(self, ahead: Ahead, outcome: Outcome, latest: int) -> None:
        del ahead, outcome, latest


def verify_log(
    source: Sequence[SourceRecord],
    log: Sequence[ChainedRecord],
    *,
    genesis: Genesis = GENESIS,
    batch: int = 1_000_000,
    made_by: type[PartitionVerifier] = PartitionVerifier,
    begins_at: int = 0,
) -> tuple[PartitionVerifier, Outcome]:
    """Check a whole log in batches and return the verifier with all that it found."""
    verifier = made_by(Rules(genesis, TOPIC_ID, PARTITION), MemorySource(source, begins_at=begins_at))
    whole = Outcome()
    rest = [ChainedMessage(record) for record in log]
    while rest:
        messages, rest = rest[:batch], rest[batch:]
        following = [rest]

        def more(following: list[list[ChainedMessage]] = following) -> list[ChainedMessage]:
            taken, following[0] = following[0][:batch], following[0][batch:]
            return taken

        outcome = verifier.check(messages, more, latest=LATEST)
        rest = following[0]
        whole.published += outcome.published
        whole.violations += outcome.violations
        whole.touched |= outcome.touched
        whole.kinds += outcome.kinds
        whole.records += outcome.records
    return verifier, whole
