"""A chainer of the tests' own that writes audit.chained as it should be, or as a forger would."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from confluent_kafka import Producer

from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.partition import partition_of
from sealstream.kafka.topics import SEAL_ENTRY_HEADER, TRACEPARENT_HEADER
from sealstream.schemas.codec import schema_fingerprint
from sealstream.schemas.entry import Entry, pack, parse
from sealstream.schemas.violation import Violation
from support.harness import read_log
from support.model import ExpectedRecord, LostRange, Model, SourceRecord
from support.publish import RawRecord, event_value, publish_raw
from support.workers import Pipeline, wait_for

Log = list[ExpectedRecord]
Alter = Callable[[Log], Log]


class Chainer:
    """Stands in for the processor: chains what is in the source, and lets a test alter that before it is written.

    Arguments:
        pipeline: The instance.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.partitions = pipeline.genesis.partitions
        source = pipeline.topics.events
        topic_id = TopicAdmin(pipeline.connection).describe([source])[source].topic_id
        self._models = [Model(pipeline.genesis, topic_id, n) for n in range(self.partitions)]
        self._chained = [0] * self.partitions
        self._producer = Producer(
            {
                "bootstrap.servers": pipeline.bootstrap,
                "transactional.id": f"{pipeline.topics.prefix}test-chainer",
                "message.max.bytes": 2_000_000,
            }
        )
        self._producer.init_transactions(30)

    def publish(self, *events: tuple[str, str]) -> None:
        """Publish events, given by tenant and id."""
        records = [RawRecord(tenant.encode(), event_value(tenant, event_id)) for tenant, event_id in events]
        publish_raw(self.pipeline.bootstrap, self.pipeline.topics.events, records, partitions=self.partitions)

    def skip(self, records: int) -> None:
        """Count so many records of partition 0 as chained that have expired since."""
        self._chained[0] -= records

    def expected(self) -> list[Log]:
        """Return what the source's new records must become, by partition."""
        logs: list[Log] = []
        for number, records in enumerate(
            read_log(self.pipeline.connection, self.pipeline.topics.events, self.partitions)
        ):
            new = records[self._chained[number] :]
            self._chained[number] = len(records)
            logs.append(
                self._models[number].expect(
                    SourceRecord(number, r.offset, r.key, r.value, r.timestamp_ms, r.headers) for r in new
                )
            )
        return logs

    def expect_lost(self, lost: LostRange) -> Log:
        """Return what a range that is declared lost must become."""
        return self._models[lost.partition].expect([lost])

    def follow(self, logs: Iterable[Log]) -> None:
        """Go on from where these records end their chains, as a chainer does that believes in what it wrote."""
        for record in (record for log in logs for record in log):
            entry = parse(record.entry)
            chain = self._models[record.partition].chains[entry.tenant]
            chain.seq, chain.prev = entry.seq + 1, record.hash

    def ends(self) -> dict[str, int]:
        """Return the seq of each chain's last entry."""
        return {name: chain.seq - 1 for model in self._models for name, chain in model.chains.items()}

    def chain(self, alter: Alter = lambda log: log, *, abort: bool = False) -> None:
        """Write the source's new records to audit.chained in one transaction, altered partition by partition."""
        self.write([alter(log) for log in self.expected()], abort=abort)

    def write(self, logs: Iterable[Log], *, abort: bool = False) -> None:
        """Write records to audit.chained, partition by partition, just as they are."""
        self._producer.begin_transaction()
        for number, log in enumerate(logs):
            for record in log:
                headers: list[tuple[str, str | bytes | None]] = [(SEAL_ENTRY_HEADER, record.entry)]
                if record.traceparent is not None:
                    headers.append((TRACEPARENT_HEADER, record.traceparent))
                self._producer.produce(self.pipeline.topics.chained, record.value, record.key, number, headers=headers)
        (self._producer.abort_transaction if abort else self._producer.commit_transaction)(30)


def cut_log(directory: Path, partition: str) -> None:
    """Take the last batches off a partition's log, as somebody with the broker's disk could; the broker must be down.

    Arguments:
        directory: Somewhere above the broker's data.
        partition: The partition, as its folder is called.
    """
    (folder,) = (path for path in directory.rglob(partition) if path.is_dir())
    (log,) = folder.glob("*.log")
    data, starts, at = log.read_bytes(), list[int](), 0
    while at < len(data):  # a batch: base offset (8 bytes), length of the rest (4 bytes), the rest
        starts.append(at)
        at += 12 + int.from_bytes(data[at + 8 : at + 12], "big")
    log.write_bytes(data[: starts[len(starts) // 2]])
    for path in folder.iterdir():  # what the broker rebuilds from the log
        if path.suffix in (".index", ".timeindex", ".txnindex", ".snapshot"):
            path.unlink()
    for clean in directory.rglob(".kafka_cleanshutdown"):
        clean.unlink()


def abort_events(pipeline: Pipeline, count: int) -> None:
    """Publish events of a tenant in a transaction, and abort it."""
    producer = Producer({"bootstrap.servers": pipeline.bootstrap, "transactional.id": f"{pipeline.topics.prefix}abort"})
    producer.init_transactions(30)
    producer.begin_transaction()
    partition = partition_of(b"acme", pipeline.genesis.partitions)
    for number in range(count):
        producer.produce(pipeline.topics.events, event_value("acme", f"never-{number}"), b"acme", partition)
    producer.flush(30)
    producer.abort_transaction(30)


@dataclass(frozen=True, slots=True)
class At:
    """A place in a log, found by tenant and seq."""

    tenant: str
    seq: int

    def index(self, log: Log) -> int | None:
        """Return where the place's record stands; ``None`` if the log has none."""
        for index, record in enumerate(log):
            entry = parse(record.entry)
            if (entry.tenant, entry.seq) == (self.tenant, self.seq):
                return index
        return None


def altering(*alterations: tuple[At, Callable[[Log, int], Log]]) -> Alter:
    """Return an alteration of a log that makes others at their places, wherever a log has these."""

    def alter(log: Log) -> Log:
        for place, alteration in alterations:
            index = place.index(log)
            if index is not None:
                log = alteration(log, index)
        return log

    return alter


def with_entry(record: ExpectedRecord, **fields: object) -> ExpectedRecord:
    """Return a record whose entry says something else."""
    entry: Entry = replace(parse(record.entry), **fields)  # type: ignore[arg-type]  # the fields are the test's
    return replace(record, entry=pack(entry))


def violations_of(pipeline: Pipeline) -> list[Violation]:
    """Return what stands on audit.violations."""
    records = read_log(pipeline.connection, pipeline.topics.violations, 1)[0]
    values = (record.value or b"" for record in records)
    return [Violation.decode(value) for value in values if value[2:10] == schema_fingerprint("Violation")]


def wait_for_violations(pipeline: Pipeline, count: int) -> list[tuple[str, str, int | None]]:
    """Wait for so many violations and return all that are there: type, tenant and seq."""
    wait_for(lambda: len(violations_of(pipeline)) >= count, timeout_seconds=60, what=f"{count} violations")
    return [(v.type.value, v.tenant, v.seq) for v in violations_of(pipeline)]


def verified_seqs(pipeline: Pipeline) -> dict[str, list[int]]:
    """Return the seqs on audit.verified by tenant, in their order."""
    found: dict[str, list[int]] = {}
    for records in read_log(pipeline.connection, pipeline.topics.verified, pipeline.genesis.partitions):
        for record in records:
            seq = int(record.header("seal-seq") or b"-1")
            found.setdefault((record.key or b"").decode(), []).append(seq)
    return found


def wait_for_verified(pipeline: Pipeline, tenant: str, last_seq: int) -> None:
    """Wait until a tenant's verified feed has come to a seq."""
    wait_for(
        lambda: (verified_seqs(pipeline).get(tenant) or [0])[-1] >= last_seq,
        timeout_seconds=60,
        what=f"seq {last_seq} of {tenant} on audit.verified",
    )
