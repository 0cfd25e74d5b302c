"""The whole pipeline on real servers: SDK, processor, sink and verifier as the processes that production runs."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from sealstream.kafka.partition import partition_of
from sealstream.producers import SyncAuditLog
from sealstream.schemas.entry import Kind, Quarantine, parse
from sealstream.schemas.event import Actor, AuditEvent
from support.harness import read_log
from support.publish import RawRecord, event_value, publish_raw, sized_event_value
from support.workers import Pipeline, wait_for

MakePipeline = Callable[..., Pipeline]
ROLES = ("processor", "sink", "verifier")
PARTITIONS = 4


def _event(tenant: str, number: int) -> AuditEvent:
    return AuditEvent(tenant=tenant, actor=Actor("user", f"u-{number % 7}"), action="document.updated")


def _publish(pipeline: Pipeline, *records: RawRecord, **config: str | int) -> None:
    publish_raw(pipeline.bootstrap, pipeline.topics.events, records, partitions=PARTITIONS, **config)


def _load(pipeline: Pipeline, prefix: str, count: int, tenants: int = 10) -> None:
    """Publish events of several tenants, all ids different."""
    records = [
        RawRecord(f"tenant-{n % tenants}".encode(), event_value(f"tenant-{n % tenants}", f"{prefix}-{n}"))
        for n in range(count)
    ]
    _publish(pipeline, *records)


def test_events_pass_every_stage(make_pipeline: MakePipeline) -> None:
    """Whatever `log()` accepted is chained, stored and verified, each exactly once, byte for byte."""
    pipeline = make_pipeline()
    for role in ROLES:
        pipeline.start(role)
    with SyncAuditLog(kafka=pipeline.bootstrap, instance=pipeline.genesis.instance, topics=pipeline.topics) as audit:
        for number in range(1000):
            audit.log(_event(f"tenant-{number % 7}", number))

    result = pipeline.harness().check("stored", "verified")

    assert result.kinds == {Kind.GENESIS: 7, Kind.EVENT: 1000}


def test_bad_records_are_quarantined_and_nothing_else_is_lost(make_pipeline: MakePipeline) -> None:
    """Each thing that can be wrong with a record becomes an entry with its reason, its bytes go to the dead letters,
    and the good events around it pass every stage; none of it counts as a violation.
    """
    pipeline = make_pipeline()
    good = event_value("acme", "good-1")
    elsewhere = (partition_of(b"acme", PARTITIONS) + 1) % PARTITIONS
    bad: list[tuple[Quarantine, RawRecord]] = [
        (Quarantine.NO_KEY, RawRecord(None, good, partition=0)),
        (Quarantine.NO_KEY, RawRecord(b"", good, partition=1)),
        (Quarantine.TENANT_INVALID, RawRecord(b"!partition-0", good)),
        (Quarantine.TENANT_INVALID, RawRecord(b".", event_value(".", "a"))),
        (Quarantine.TENANT_INVALID, RawRecord(b"..", event_value("..", "a"))),
        (Quarantine.TENANT_INVALID, RawRecord("é".encode(), good)),
        (Quarantine.TENANT_INVALID, RawRecord(b"k" * 2000, good)),
        (Quarantine.PARTITION_WRONG, RawRecord(b"acme", good, partition=elsewhere)),
        (Quarantine.VALUE_SIZE, RawRecord(b"acme", None)),
        (Quarantine.VALUE_SIZE, RawRecord(b"acme", b"")),
        (Quarantine.VALUE_SIZE, RawRecord(b"acme", sized_event_value("acme", "large", 1_000_001))),
        (Quarantine.MALFORMED, RawRecord(b"acme", b"\xff")),
        (Quarantine.MALFORMED, RawRecord(b"acme", good[:30])),
        (Quarantine.TENANT_DIFFERS, RawRecord(b"acme", event_value("other", "b"))),
        (Quarantine.EVENT_ID_INVALID, RawRecord(b"acme", event_value("acme", "no spaces"))),
        (Quarantine.EVENT_ID_INVALID, RawRecord(b"acme", event_value("acme", "x" * 129))),
        (Quarantine.EVENT_ID_INVALID, RawRecord(b"first-seen", event_value("first-seen", ""))),
    ]
    for role in ROLES:
        pipeline.start(role)
    for number, (_, record) in enumerate(bad):
        _publish(pipeline, record, RawRecord(b"acme", event_value("acme", f"between-{number}")))

    result = pipeline.harness().check("stored", "verified")

    reasons = sorted(
        parse(r.entry).reason for records in result.expected for r in records if parse(r.entry).kind is Kind.QUARANTINED
    )
    assert reasons == sorted(reason for reason, _ in bad)
    assert result.kinds[Kind.EVENT] == len(bad)


def test_a_value_that_is_huge_only_when_unpacked_is_quarantined(make_pipeline: MakePipeline) -> None:
    """A 20 MB value that slips under the broker's limit by compression is quarantined like any other oversize value."""
    pipeline = make_pipeline()
    for role in ROLES:
        pipeline.start(role)
    before, after = (RawRecord(b"acme", event_value("acme", name)) for name in ("before", "after"))
    _publish(pipeline, before, RawRecord(b"acme", b"\0" * 20_000_000), after, compression_type="zstd")

    result = pipeline.harness().check("stored", "verified")

    assert result.kinds == {Kind.GENESIS: 1, Kind.EVENT: 2, Kind.QUARANTINED: 1}


def test_the_largest_event_fits_with_its_seal(make_pipeline: MakePipeline) -> None:
    """An event of 999,700 bytes, and one of exactly 1,000,000, pass every stage although their seal is added."""
    pipeline = make_pipeline()
    for role in ROLES:
        pipeline.start(role)
    sizes = (999_700, 1_000_000)
    _publish(pipeline, *(RawRecord(b"acme", sized_event_value("acme", f"e-{size}", size)) for size in sizes))

    result = pipeline.harness().check("stored", "verified")

    assert result.kinds == {Kind.GENESIS: 1, Kind.EVENT: 2}


def test_repeats_headers_and_aborted_transactions_do_no_harm(make_pipeline: MakePipeline) -> None:
    """A re-sent event is marked, a reused id with other bytes is kept as a conflict, repeated and huge headers are not
    carried on, and what a transactional publisher aborted was never there.
    """
    pipeline = make_pipeline()
    for role in ROLES:
        pipeline.start(role)
    same, other = event_value("acme", "id-1"), event_value("acme", "id-1", note="forged")
    trace = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    headers = (("traceparent", trace), ("traceparent", b"nonsense"), ("x", b"h" * 300_000), ("x", b"again"))
    _publish(
        pipeline,
        RawRecord(b"acme", same, headers=headers),
        RawRecord(b"acme", same),
        RawRecord(b"acme", other),
        RawRecord(b"acme", other),
        RawRecord(b"acme", same, headers=(("traceparent", b"00-short"),)),
    )
    aborting = Producer({"bootstrap.servers": pipeline.bootstrap, "transactional.id": f"{pipeline.topics.prefix}abort"})
    aborting.init_transactions(30)
    aborting.begin_transaction()
    for number in range(20):
        aborting.produce(pipeline.topics.events, event_value("acme", f"never-{number}"), b"acme")
    aborting.flush(30)
    aborting.abort_transaction(30)
    _publish(pipeline, RawRecord(b"acme", event_value("acme", "after")))

    result = pipeline.harness().check("stored", "verified")

    assert result.kinds == {Kind.GENESIS: 1, Kind.EVENT: 2, Kind.DUPLICATE: 3, Kind.CONFLICT: 1}


def test_a_publisher_with_another_partitioner_is_quarantined(make_pipeline: MakePipeline) -> None:
    """Librdkafka's default partitioner is not Kafka's: what it sends astray is quarantined, not chained twice over."""
    pipeline = make_pipeline(store=False)
    pipeline.start("processor")
    pipeline.start("verifier")
    producer = Producer({"bootstrap.servers": pipeline.bootstrap})  # consistent_random: CRC32 of the key
    for number in range(40):
        producer.produce(pipeline.topics.events, event_value(f"t-{number}", "id"), f"t-{number}".encode())
    assert producer.flush(30) == 0

    result = pipeline.harness().check("verified")

    assert result.kinds[Kind.QUARANTINED] > 10
    assert result.kinds[Kind.EVENT] + result.kinds[Kind.QUARANTINED] == 40


def test_a_source_with_client_times_is_quarantined(make_pipeline: MakePipeline) -> None:
    """On a topic whose times are the clients' own claim, nothing counts as received: all of it is quarantined."""
    pipeline = make_pipeline(topics={"events": {"message.timestamp.type": "CreateTime"}})
    for role in ROLES:
        pipeline.start(role)
    _publish(pipeline, *(RawRecord(b"acme", event_value("acme", f"e-{n}")) for n in range(3)))

    result = pipeline.harness().check("stored", "verified")

    assert result.kinds == {Kind.GENESIS: 1, Kind.QUARANTINED: 3}


@pytest.mark.parametrize("role", ROLES)
def test_sigterm_ends_a_worker_in_time_and_sigkill_loses_nothing(make_pipeline: MakePipeline, role: str) -> None:
    """Under load a worker that is told to stop obeys within 10 s with exit code 0; one that is killed loses nothing."""
    pipeline = make_pipeline()
    workers = {name: pipeline.start(name) for name in ROLES}
    _load(pipeline, "first", 5000)
    wait_for(lambda: _chained_count(pipeline) > 0, timeout_seconds=30, what="the first chained record")
    assert workers[role].terminate(timeout_seconds=10.0) == 0
    again = pipeline.start(role)
    _load(pipeline, "second", 5000)
    time.sleep(0.5)  # not awaited: the kill shall come at any moment, and every moment must be right
    again.kill()
    _load(pipeline, "third", 500)
    pipeline.start(role)

    result = pipeline.harness().check("stored", "verified", timeout_seconds=90.0)

    assert result.kinds == {Kind.GENESIS: 10, Kind.EVENT: 10_500}


def test_a_wrong_partition_count_stops_the_processor(make_pipeline: MakePipeline) -> None:
    """A processor set up for another number of partitions ends with an error that says so, and writes nothing."""
    pipeline = make_pipeline(store=False)
    _load(pipeline, "e", 10)
    worker = pipeline.start("processor", partitions=8)

    assert worker.wait(timeout_seconds=60.0) == 1
    assert "partition" in worker.log()
    assert _chained_count(pipeline) == 0
    pipeline.start("processor")
    assert pipeline.harness().check().kinds[Kind.EVENT] == 10


@pytest.mark.parametrize("role", ROLES)
def test_an_unknown_setting_is_refused(make_pipeline: MakePipeline, role: str) -> None:
    """A misspelt setting stops a worker at once, and the error says what was probably meant."""
    pipeline = make_pipeline(store=False)
    worker = pipeline.start(role, partitons=4)

    assert worker.wait(timeout_seconds=30.0) == 2
    assert "SEALSTREAM_PARTITIONS" in worker.log()


def _chained_count(pipeline: Pipeline) -> int:
    return sum(len(log) for log in read_log(pipeline.connection, pipeline.topics.chained, PARTITIONS))
