"""``sealstream bench publish``: an application's audit log against a bare producer of the same bytes.

All run in this process: an audit log without a spool, one with a spool (``fsync="batch"``), and a bare producer. The
bare producer gets keys, values and headers that were made before; the audit logs check each event, make them, and keep
a receipt. First all go as fast as they can, from the first call to the last acknowledgement (acks=all), the making of
the events included; then each is called at a steady rate, and the single call is timed: wall clock, and the CPU time of
the calling thread, which other programs on the machine change less.
"""

from __future__ import annotations

import gc
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from confluent_kafka import KafkaError, Message, Producer

from bench.common import Machine, Options, Result, collect
from bench.contest import Contest
from bench.servers import serve
from bench.source import tenant_names
from sealstream.kafka.client import PARTITIONER
from sealstream.kafka.topics import TopicNames
from sealstream.producers import SyncAuditLog
from sealstream.producers.headers import record_headers
from sealstream.schemas.codec import encode_event
from sealstream.schemas.entry import Genesis
from sealstream.schemas.event import Actor, AuditEvent, Context, Target

EVENTS: Final = 200_000
CALL_RATE: Final = 5_000
CALLS: Final = 30_000
_WARM_CALLS: Final = 5_000
_FLUSH_SECONDS: Final = 120.0
_MICROSECONDS: Final = 1e6
_MILLISECONDS: Final = 1e3
_SPOOLED_CALLS: Final = 500

Make: TypeAlias = Callable[[int], Any]
Call: TypeAlias = Callable[[Any], object]


def make_event(number: int, tenants: list[bytes]) -> AuditEvent:
    """Return the event of a number; about 300 bytes as a record's value."""
    return AuditEvent(
        tenant=tenants[number % len(tenants)].decode(),
        occurred_at=datetime.now(UTC),
        actor=Actor("user", f"u-{number % 997}", "Ada Byron"),
        action="document.updated",
        targets=(Target("document", f"d-{number}", "Quarterly report"),),
        context=Context(ip="192.0.2.17", user_agent="acme-cli/3.2.1", session="s-1b2c3d4e5f"),
        metadata={"field": "title", "note": "changed after review"},
    )


def run(options: Options) -> Result:
    """Run the benchmark."""
    machine = Machine.describe()
    name = f"bench-{secrets.token_hex(4)}"
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "with_spool": [], "bare_producer": []}
    with serve() as servers:
        names = TopicNames(prefix=f"{name}.")
        contest = Contest(servers, name, progress=options.progress)
        try:
            instance = Genesis(instance=f"bench.example/{name}", partitions=options.partitions)
            contest.create_source(names.events, instance)
            for number in range(options.runs):
                options.progress(f"run {number + 1} of {options.runs}")
                measures = [("ours", _ours), ("with_spool", _with_spool), ("bare_producer", _bare)]
                for contestant, measure in measures if number % 2 == 0 else reversed(measures):
                    gc.collect()
                    runs[contestant].append(measure(servers.kafka, names, instance.instance, options))
        finally:
            contest.delete_all()
    ours, spool, bare = (collect(runs[name]) for name in ("ours", "with_spool", "bare_producer"))
    rates = {"bare_producer": "events_per_second", "bare_producer_per_cpu_second": "events_per_cpu_second"}
    return Result(
        name="publish",
        options=options,
        ours=ours,
        peers={"with_spool": spool, "bare_producer": bare},
        ratios={ratio: ours[figure].over(bare[figure]) for ratio, figure in rates.items()}
        | {"with_spool": ours["events_per_second"].over(spool["events_per_second"])},
        machine=replace(machine, versions=dict(machine.versions) | servers.versions),
        notes=(
            "the bare producer's keys, values and headers are made beforehand, and are not in its figures",
            "the audit logs' figures flat out contain the making of each AuditEvent, which is the application's part",
            f"calls are timed at {CALL_RATE:,} a second; the spool is on {tempfile.gettempdir()}, fsync batch",
        ),
    )


def _ours(kafka: str, names: TopicNames, instance: str, options: Options) -> dict[str, float]:
    tenants = tenant_names(options.tenants)
    audit = SyncAuditLog(kafka=kafka, instance=instance, topics=names, timeout_seconds=_FLUSH_SECONDS)
    with audit:
        return _measure(lambda number: make_event(number, tenants), audit.log, audit.flush, options)


def _with_spool(kafka: str, names: TopicNames, instance: str, options: Options) -> dict[str, float]:
    tenants = tenant_names(options.tenants)
    with tempfile.TemporaryDirectory(prefix="sealstream-") as directory:
        audit = SyncAuditLog(
            kafka=kafka, instance=instance, topics=names, timeout_seconds=_FLUSH_SECONDS, spool=directory
        )
        with audit:
            return _measure(lambda number: make_event(number, tenants), audit.log, audit.flush, options) | _spooled(
                audit, tenants
            )


def _spooled(audit: SyncAuditLog, tenants: list[bytes]) -> dict[str, float]:
    """Time from a call to the event's being on the disk."""
    taken: list[float] = []
    for number in range(_SPOOLED_CALLS):
        before = time.perf_counter()
        audit.log(make_event(number, tenants)).spooled(_FLUSH_SECONDS)
        taken.append(time.perf_counter() - before)
    percentiles = statistics.quantiles(taken, n=100)
    return {
        "spooled_milliseconds_p50": percentiles[49] * _MILLISECONDS,
        "spooled_milliseconds_p99": percentiles[98] * _MILLISECONDS,
    }


def _bare(kafka: str, names: TopicNames, instance: str, options: Options) -> dict[str, float]:
    tenants, failures = tenant_names(options.tenants), list[KafkaError]()
    events = [make_event(number, tenants) for number in range(max(options.events, CALLS))]
    records = [(event.tenant.encode(), encode_event(event), record_headers(event, instance)) for event in events]
    del events

    def failed(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error)

    settings: dict[str, Any] = {
        "bootstrap.servers": kafka,
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": PARTITIONER,
        "compression.type": "lz4",
        "linger.ms": 5,
        "queue.buffering.max.messages": 100_000,
        "delivery.report.only.error": True,
        "on_delivery": failed,
    }
    producer = Producer(settings)
    produce, topic = producer.produce, names.events

    def call(number: int) -> None:
        key, value, headers = records[number]
        try:
            produce(topic, value, key, headers=headers)
        except BufferError:
            producer.poll(1)
            call(number)

    measured = _measure(lambda number: number, call, lambda: producer.flush(_FLUSH_SECONDS), options)
    assert not failures, failures[:3]
    return measured


def _measure(make: Make, call: Call, flush: Callable[[], int], options: Options) -> dict[str, float]:
    """Measure one contestant: flat out, and call by call at a steady rate."""
    first = min(options.warmup_events, options.events - 1)
    for number in range(first):
        call(make(number))
    assert flush() == 0, "not everything was published in time"
    begin, cpu_begin = time.perf_counter(), time.process_time()
    for number in range(first, options.events):
        call(make(number))
    assert flush() == 0, "not everything was published in time"
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
    count = options.events - first
    return {
        "events_per_second": count / seconds,
        "events_per_cpu_second": count / cpu_seconds,
        "cpu_microseconds_per_event": cpu_seconds / count * _MICROSECONDS,
    } | _time_calls(make, call, flush, min(CALLS, options.events))


def _time_calls(make: Make, call: Call, flush: Callable[[], int], calls: int) -> dict[str, float]:
    """Make calls at a steady rate, as requests come in, and time each."""
    taken, cpu_taken = list[float](), list[float]()
    begin = time.perf_counter()
    for number in range(calls):
        wait_seconds = begin + number / CALL_RATE - time.perf_counter()
        if wait_seconds > 0:
            time.sleep(wait_seconds)
        event = make(number)
        cpu_before, before = time.thread_time(), time.perf_counter()
        call(event)
        taken.append(time.perf_counter() - before)
        cpu_taken.append(time.thread_time() - cpu_before)
    assert flush() == 0, "not everything was published in time"
    warm = min(_WARM_CALLS, calls // 2)
    percentiles, cpu = statistics.quantiles(taken[warm:], n=100), statistics.quantiles(cpu_taken[warm:], n=100)
    return {
        "call_microseconds_p50": percentiles[49] * _MICROSECONDS,
        "call_microseconds_p99": percentiles[98] * _MICROSECONDS,
        "call_cpu_microseconds_p50": cpu[49] * _MICROSECONDS,
        "call_cpu_microseconds_p99": cpu[98] * _MICROSECONDS,
    }
