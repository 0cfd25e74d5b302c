"""The processor as a process of its own on a real Kafka: every record becomes one entry, whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.producer import message_accumulator  # type: ignore[import-untyped]
from aiokafka.producer import producer as aiokafka_producer
from aiokafka.record import default_records  # type: ignore[import-untyped]

from sealstream.kafka.partition import partition_of
from sealstream.schemas.entry import Kind, Quarantine, parse
from support.processing import (
    PARTITIONS,
    abort,
    chained_count,
    committed,
    expire,
    publish,
    verify_chains,
    wait_ready,
)
from support.publish import RawRecord, event_value, sized_event_value
from support.workers import Pipeline, wait_for

MakePipeline = Callable[..., Pipeline]


def test_every_thing_wrong_with_a_record_has_its_entry_and_its_dead_letter(make_pipeline: MakePipeline) -> None:
    """Each reason of quarantine, among good events: one entry each, its bytes a dead letter, and nothing else lost."""
    pipeline = make_pipeline(store=False)
    good = event_value("acme", "good")
    elsewhere = (partition_of(b"acme", PARTITIONS) + 1) % PARTITIONS
    bad: list[tuple[Quarantine, RawRecord]] = [
        (Quarantine.NO_KEY, RawRecord(None, good, partition=0)),
        (Quarantine.NO_KEY, RawRecord(b"", good, partition=1)),
        (Quarantine.TENANT_INVALID, RawRecord(b"!partition-0", good, partition=0)),
        (Quarantine.TENANT_INVALID, RawRecord(b".", event_value(".", "a"))),
        (Quarantine.TENANT_INVALID, RawRecord(b"k" * 5_000, good)),
        (Quarantine.PARTITION_WRONG, RawRecord(b"acme", good, partition=elsewhere)),
        (Quarantine.VALUE_SIZE, RawRecord(b"acme", None)),
        (Quarantine.VALUE_SIZE, RawRecord(b"acme", b"")),
        (Quarantine.VALUE_SIZE, RawRecord(b"acme", sized_event_value("acme", "large", 1_000_001))),
        (Quarantine.MALFORMED, RawRecord(b"acme", b"\xff" * 600_000)),
        (Quarantine.TENANT_DIFFERS, RawRecord(b"acme", event_value("other", "b"))),
        (Quarantine.EVENT_ID_INVALID, RawRecord(b"acme", event_value("acme", "no spaces"))),
    ]
    pipeline.start("processor")
    for number, (_, record) in enumerate(bad):
        publish(pipeline, record, RawRecord(b"acme", event_value("acme", f"between-{number}")))

    result = pipeline.harness().check()

    entries = [parse(record.entry) for records in result.expected for record in records]
    assert sorted(entry.reason for entry in entries if entry.reason) == sorted(reason for reason, _ in bad)
    assert result.kinds[Kind.EVENT] == len(bad)
    verify_chains(pipeline)


def test_values_of_any_size_are_taken(make_pipeline: MakePipeline) -> None:
    """The largest event fits with its seal; 20 MB that slip through by compression are quarantined, within memory."""
    pipeline = make_pipeline(store=False)
    worker = pipeline.start("processor")
    sizes = (999_700, 1_000_000)
    publish(pipeline, *(RawRecord(b"acme", sized_event_value("acme", f"e-{size}", size)) for size in sizes))
    huge = [RawRecord(b"acme", b"\0" * 20_000_000)] * 4
    publish(pipeline, *huge, RawRecord(b"acme", event_value("acme", "after")), compression_type="zstd")

    result = pipeline.harness().check()

    assert result.kinds == {Kind.GENESIS: 1, Kind.EVENT: 3, Kind.QUARANTINED: 4}
    peak = next(line for line in Path(f"/proc/{worker.process.pid}/status").read_text().splitlines() if "VmHWM" in line)
    assert int(peak.split()[1]) < 700_000, f"the worker took {peak}"


def test_repeats_headers_and_aborted_transactions_do_no_harm(make_pipeline: MakePipeline) -> None:
    """Re-sent events are marked, forged ones are conflicts, headers stay behind, aborted records were never there."""
    pipeline = make_pipeline(store=False)
    same, forged = event_value("acme", "id-1"), event_value("acme", "id-1", note="forged")
    trace = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    headers = (("traceparent", trace), ("traceparent", b"nonsense"), ("x", b"h" * 300_000), ("x", b"again"))
    publish(pipeline, RawRecord(b"acme", same, headers=headers), RawRecord(b"acme", same))
    publish(pipeline, RawRecord(b"acme", forged), RawRecord(b"acme", forged))
    worker = pipeline.start("processor")
    wait_for(lambda: chained_count(pipeline) == 5, timeout_seconds=30, what="the first four records")
    assert worker.terminate() == 0
    pipeline.start("processor")  # the window survives a restart
    publish(pipeline, RawRecord(b"acme", same))
    abort(pipeline, 20)
    publish(pipeline, RawRecord(b"acme", event_value("acme", "after")))

    result = pipeline.harness().check()

    assert result.kinds == {Kind.GENESIS: 1, Kind.EVENT: 2, Kind.DUPLICATE: 3, Kind.CONFLICT: 1}


def test_offsets_that_are_no_records_are_passed_over(make_pipeline: MakePipeline) -> None:
    """What was aborted at the end of a partition is no lag, and is never taken for a gap once it expired."""
    pipeline = make_pipeline(store=False)
    worker = pipeline.start("processor")
    publish(pipeline, RawRecord(b"acme", event_value("acme", "e")))
    abort(pipeline, 5)
    own = partition_of(b"acme", PARTITIONS)
    wait_for(lambda: committed(pipeline).get(own) == 7, timeout_seconds=30, what="the position behind the marker")
    line = f'sealstream_processor_lag_records{{partition="{own}"}} 0.0'
    wait_for(lambda: line in worker.get("/metrics")[1], timeout_seconds=10, what="a lag of 0")
    assert worker.terminate() == 0
    expire(pipeline, own, 7)
    wait_ready(pipeline.start("processor"))
    publish(pipeline, RawRecord(b"acme", event_value("acme", "next")))
    wait_for(lambda: chained_count(pipeline) == 3, timeout_seconds=30, what="the event behind what expired")
    verify_chains(pipeline)


def test_a_header_whose_name_is_no_text_does_no_harm(
    make_pipeline: MakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record with a header name that is no UTF-8 is chained, although the client cannot show its headers."""
    pipeline = make_pipeline(store=False)

    class NotText(str):
        """Text that encodes to what is none."""

        __slots__ = ()

        def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
            del encoding, errors
            return b"\xff\xfe"

    # confluent-kafka would refuse to send it; aiokafka's records in pure Python encode what they are given.
    for module in (message_accumulator, aiokafka_producer):
        builder = default_records._DefaultRecordBatchBuilderPy  # pyright: ignore[reportPrivateUsage]
        monkeypatch.setattr(module, "DefaultRecordBatchBuilder", builder)
    asyncio.run(publish_with_aiokafka(pipeline, [(NotText("x"), b"1"), ("traceparent", b"nonsense")]))
    pipeline.start("processor")
    publish(pipeline, RawRecord(b"acme", event_value("acme", "after")))
    wait_for(lambda: chained_count(pipeline) == 3, timeout_seconds=30, what="both events")
    verify_chains(pipeline)


async def publish_with_aiokafka(pipeline: Pipeline, headers: list[tuple[str, bytes]]) -> None:
    """Publish one event with any headers."""
    producer = AIOKafkaProducer(bootstrap_servers=pipeline.bootstrap)
    await producer.start()
    try:
        value, own = event_value("acme", "odd"), partition_of(b"acme", PARTITIONS)
        await producer.send_and_wait(pipeline.topics.events, value, key=b"acme", partition=own, headers=headers)
    finally:
        await producer.stop()
