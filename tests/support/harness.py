"""The strong checker: re-reads Kafka and PostgreSQL and recomputes everything that must follow from the source.

Every integration test ends with :meth:`AuditHarness.check`. It shares the entry's layout with the product and nothing
else, so an error in a writer cannot hide in its checker.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, cast
from uuid import UUID

import psycopg
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, KafkaException, Message, TopicPartition

from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import DEAD_LETTER_BYTES_MAX, TopicNames
from sealstream.kafka.transactions import CONNECTIVITY_CODES
from sealstream.schemas.entry import Genesis, Kind, entry_hash, parse
from support.model import ExpectedRecord, LostRange, Model, SourceRecord, next_epoch

Stage = Literal["chained", "stored", "verified"]
READ_TIMEOUT_SECONDS = 60.0
ASK_SECONDS = 15.0
LOOK_SECONDS = 0.05
KEY_BYTES_MAX = 1024
NOT_YET_CODES = CONNECTIVITY_CODES | {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}
"""What a broker says that has just come back, or of a topic that was just created."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record as a read_committed reader sees it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int | None

    def header(self, name: str) -> bytes | None:
        """Return the one header of that name; more than one is an error of its own."""
        found = [value for key, value in self.headers if key == name]
        assert len(found) <= 1, f"{len(found)} headers {name}"
        return found[0] if found else None


def read_log(connection: KafkaConnection, topic: str, partitions: int) -> list[list[LogRecord]]:
    """Read a whole topic as a read_committed reader, to the end that it has now, partition by partition."""
    config = connection.config("harness") | {
        "group.id": "harness-never-commits",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "fetch.message.max.bytes": 4_194_304,
        "receive.message.max.bytes": 100_000_000,
    }
    consumer = Consumer(config)
    logs: list[list[LogRecord]] = [[] for _ in range(partitions)]
    try:
        places = [TopicPartition(topic, n) for n in range(partitions)]
        starts = [TopicPartition(topic, n, log_bounds(consumer, place)[0]) for n, place in enumerate(places)]
        consumer.assign(starts)
        ended: set[int] = set()
        deadline = time.monotonic() + READ_TIMEOUT_SECONDS
        while len(ended) < partitions:
            assert time.monotonic() < deadline, f"{topic} could not be read to its end, only {sorted(ended)}"
            for message in consumer.consume(5000, 0.2):
                error = message.error()
                if error is not None:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    ended.add(message.partition() or 0)
                else:
                    logs[message.partition() or 0].append(_record(message))
    finally:
        consumer.close()
    return logs


def log_bounds(consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
    """Return a partition's first offset and its end, also of a topic just created and a broker just come back."""
    deadline = time.monotonic() + READ_TIMEOUT_SECONDS
    while True:
        try:
            found = consumer.get_watermark_offsets(place, timeout=ASK_SECONDS)
            if cast("tuple[int, int] | None", found) is not None:  # its type leaves out that nothing may come in time
                return found
        except KafkaException as exception:
            if exception.args[0].code() not in NOT_YET_CODES:
                raise
        assert time.monotonic() < deadline, f"{place.topic} has no leader that answers"
        time.sleep(LOOK_SECONDS)


def _record(message: Message) -> LogRecord:
    kind, timestamp = message.timestamp()
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return LogRecord(
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        key=message.key(),
        value=message.value(),
        headers=tuple(headers),
        timestamp_ms=timestamp if kind == TIMESTAMP_LOG_APPEND_TIME else None,
    )


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What the checker counted, by kind; geneses stand under their own kind."""

    kinds: Counter[Kind]
    expected: list[list[ExpectedRecord]] = field(repr=False)

    @property
    def events(self) -> int:
        """Number of entries that are no genesis."""
        return sum(self.kinds.values()) - self.kinds[Kind.GENESIS]


class AuditHarness:
    """Checks one instance from its source to its last stage.

    Arguments:
        bootstrap: The brokers.
        topics: The instance's topics.
        genesis: What its chains pin.
        database_url: Its store, as somebody who may read all of it.
    """

    def __init__(
        self, bootstrap: str, topics: TopicNames, genesis: Genesis, *, database_url: str | None = None
    ) -> None:
        self.connection = KafkaConnection(bootstrap)
        self.topics = topics
        self.genesis = genesis
        self.database_url = database_url
        self.before: AuditHarness | None = None
        """The epoch before, if there was one; what it held must stand where its chains now go on."""
        self.gone = False
        """Whether the source topic is gone; what was kept of it counts."""
        self.lost: list[LostRange] = []
        """Ranges of the source that were accepted as lost."""
        self._kept: dict[tuple[int, int], LogRecord] = {}
        self._topic_id = b""  # once the source was kept: it may be deleted

    def keep(self) -> None:
        """Remember the source as it is now, because records of it, or all of it, are about to go."""
        self._topic_id = self._ask_topic_id()
        self._kept |= {(record.partition, record.offset): record for records in self.source() for record in records}

    def source(self) -> list[list[LogRecord]]:
        """Return the source as it is now, with what was kept of it and is no longer there."""
        now = [] if self.gone else read_log(self.connection, self.topics.events, self.genesis.partitions)
        found = self._kept | {(record.partition, record.offset): record for records in now for record in records}
        there = [found[place] for place in sorted(found) if not self._is_lost(*place)]
        return [[record for record in there if record.partition == n] for n in range(self.genesis.partitions)]

    def _is_lost(self, partition: int, offset: int) -> bool:
        return any(lost.partition == partition and lost.first <= offset <= lost.last for lost in self.lost)

    def expected(self) -> list[list[ExpectedRecord]]:
        """Return what audit.chained must hold of the source as it is now."""
        return self._run()[1]

    def _run(self) -> tuple[list[Model], list[list[ExpectedRecord]]]:
        """Return models that have seen all of the source, and what they expect."""
        topic_id = self._topic_id or self._ask_topic_id()
        models = (
            [Model(self.genesis, topic_id, n) for n in range(self.genesis.partitions)]
            if self.before is None
            else next_epoch(self.before._run()[0], self.genesis, topic_id)
        )
        records = zip(models, self.source(), strict=True)
        return models, [model.expect(self._with_lost(model.partition, source)) for model, source in records]

    def _ask_topic_id(self) -> bytes:
        return TopicAdmin(self.connection).describe([self.topics.events])[self.topics.events].topic_id

    def _expected_before(self) -> list[list[ExpectedRecord]]:
        """Return what the epochs before made, which the store holds as well."""
        return [] if self.before is None else [*self.before._expected_before(), *self.before.expected()]

    def _with_lost(self, partition: int, records: list[LogRecord]) -> list[SourceRecord | LostRange]:
        """Return a partition's records and the ranges lost between them, in the order of their offsets."""
        there = [SourceRecord(r.partition, r.offset, r.key, r.value, r.timestamp_ms, r.headers) for r in records]
        lost = [lost for lost in self.lost if lost.partition == partition]
        return sorted([*there, *lost], key=lambda record: record.offset)

    def check(
        self,
        *stages: Stage,
        timeout_seconds: float = 60.0,
        violations: int = 0,
    ) -> CheckResult:
        """Wait until the stages have taken in the whole source, then compare everything, byte for byte.

        Arguments:
            stages: The stages to check; ``chained`` is always checked.
            timeout_seconds: How long the stages may take to get there.
            violations: How many violations the verifier must have reported.

        Raises:
            AssertionError: Something is missing, there twice, or differs; says what and where.
        """
        expected = self.expected()
        deadline = time.monotonic() + timeout_seconds
        self._check_chained(expected, deadline)
        self._check_deadletters(expected)
        if "stored" in stages:
            self._check_stored([*self._expected_before(), *expected], deadline)
        if "verified" in stages:
            self._check_verified(expected, deadline)
            found = read_log(self.connection, self.topics.violations, 1)[0]
            assert len(found) == violations, (
                f"{len(found)} violations reported: {[record.value for record in found[:5]]}"
            )
        kinds = Counter(parse(record.entry).kind for records in expected for record in records)
        return CheckResult(kinds, expected)

    def _settled(self, topic: str, wanted: list[int], deadline: float) -> list[list[LogRecord]]:
        """Read a topic again and again until each partition has as many records as wanted."""
        while True:
            logs = read_log(self.connection, topic, self.genesis.partitions)
            counts = [len(records) for records in logs]
            if counts == wanted or any(have > want for have, want in zip(counts, wanted, strict=True)):
                return logs
            assert time.monotonic() < deadline, f"{topic} has {counts} records, not {wanted}"
            time.sleep(0.2)

    def _check_chained(self, expected: list[list[ExpectedRecord]], deadline: float) -> None:
        logs = self._settled(self.topics.chained, [len(records) for records in expected], deadline)
        for partition, (found, wanted) in enumerate(zip(logs, expected, strict=True)):
            for index, (record, want) in enumerate(zip(found, wanted, strict=False)):
                where = f"{self.topics.chained} partition {partition} record {index} (offset {record.offset})"
                seal = record.header("seal-entry")
                assert seal is not None, f"{where} has no seal"
                assert seal == want.entry, f"{where} is {parse(seal)}, not {parse(want.entry)}"
                assert record.value == want.value, f"{where} has another value"
                assert record.key == want.key, f"{where} has the key {record.key!r}, not {want.key!r}"
                assert record.header("traceparent") == want.traceparent, f"{where} has another traceparent"
            assert len(found) == len(wanted), (
                f"{self.topics.chained} partition {partition}: {len(found)} records, not {len(wanted)}"
            )

    def _check_deadletters(self, expected: list[list[ExpectedRecord]]) -> None:
        logs = read_log(self.connection, self.topics.deadletter, self.genesis.partitions)
        for partition, (letters, source) in enumerate(zip(logs, self.source(), strict=True)):
            by_offset = {record.offset: record for record in source}
            wanted = [e for e in (parse(r.entry) for r in expected[partition]) if e.kind is Kind.QUARANTINED]
            assert len(letters) == len(wanted), f"{len(letters)} letters in partition {partition}, not {len(wanted)}"
            for letter, entry in zip(letters, wanted, strict=True):
                origin = by_offset[entry.offset]
                assert letter.header("offset") == str(entry.offset).encode()
                assert letter.header("reason") == str(entry.reason).encode()
                assert letter.header("digest") == entry.payload.hex().encode()
                assert letter.header("length") == str(entry.length).encode()
                assert (letter.value or b"") == (origin.value or b"")[:DEAD_LETTER_BYTES_MAX]
                assert (letter.key or b"") == (origin.key or b"")[:KEY_BYTES_MAX]

    def _check_verified(self, expected: list[list[ExpectedRecord]], deadline: float) -> None:
        wanted = [
            [r for r in records if parse(r.entry).kind in (Kind.EVENT, Kind.IMPORTED, Kind.CONFLICT)]
            for records in expected
        ]
        logs = self._settled(self.topics.verified, [len(records) for records in wanted], deadline)
        for partition, (found, wants) in enumerate(zip(logs, wanted, strict=True)):
            assert len(found) == len(wants), f"{len(found)} verified in partition {partition}, not {len(wants)}"
            for record, want in zip(found, wants, strict=True):
                entry = parse(want.entry)
                assert record.header("seal-entry") == want.entry
                assert record.value == want.value
                assert record.key == want.key
                assert record.header("seal-seq") == str(entry.seq).encode()
                assert record.header("seal-hash") == want.hash.hex().encode()
                assert record.header("seal-prev") == entry.prev.hex().encode()
                assert record.header("ce_id") == entry.event_id.encode()
                assert record.header("traceparent") == want.traceparent

    def _check_stored(self, expected: list[list[ExpectedRecord]], deadline: float) -> None:
        assert self.database_url is not None, "the harness was given no store"
        total = sum(len(records) for records in expected)
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            while (have := self._count(connection)) < total:
                assert time.monotonic() < deadline, f"the store has {have} entries, not {total}"
                time.sleep(0.2)
            assert have == total, f"the store has {have} entries, not {total}"
            wanted = {(r.partition, r.key.decode(), parse(r.entry).seq): r for records in expected for r in records}
            for partition, tenant, seq, kind, topic_id, offset, event_id, received, digest, entry in connection.execute(
                'SELECT partition, tenant, seq, kind, topic_id, "offset", event_id, received, hash, entry'
                " FROM sealstream.entries"
            ):
                want = wanted[partition, tenant, seq]
                parsed = parse(want.entry)
                assert bytes(entry) == want.entry, f"stored entry {tenant} {seq} differs"
                assert bytes(digest) == entry_hash(want.entry), f"stored hash {tenant} {seq} differs"
                columns = (kind, _topic_id(topic_id), offset, event_id or "", received)
                assert columns == (parsed.kind, parsed.topic_id, parsed.offset, parsed.event_id, parsed.received)
            self._check_payloads(connection, expected)

    @staticmethod
    def _count(connection: psycopg.Connection) -> int:
        row = connection.execute("SELECT count(*) FROM sealstream.entries").fetchone()
        assert row is not None
        return int(row[0])

    @staticmethod
    def _check_payloads(connection: psycopg.Connection, expected: list[list[ExpectedRecord]]) -> None:
        carried = {
            (r.key.decode(), parse(r.entry).seq): r.value
            for records in expected
            for r in records
            if parse(r.entry).kind not in (Kind.DUPLICATE, Kind.QUARANTINED)
        }
        stored = {(tenant, seq): bytes(data) for tenant, seq, data in _payload_rows(connection)}
        assert stored.keys() == carried.keys(), f"payloads differ: {list(stored.keys() ^ carried.keys())[:5]}"
        assert stored == carried, "a stored payload differs"


def _payload_rows(connection: psycopg.Connection) -> Iterator[tuple[str, int, bytes]]:
    yield from connection.execute("SELECT tenant, seq, bytes FROM sealstream.payloads")


def _topic_id(value: UUID | bytes) -> bytes:
    """Return a topic's UUID as bytes, whether the column is of type uuid or bytea."""
    return value.bytes if isinstance(value, UUID) else bytes(value)
