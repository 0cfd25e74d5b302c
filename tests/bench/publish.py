"""``sealstream bench publish``: an application's audit log against a bare producer of the same bytes.

Both run in this process. The bare producer gets keys, values and headers that were made before; the audit log checks
each event, makes them, and keeps a receipt. First both go as fast as they can, from the first call to the last
acknowledgement (acks=all); then each is called at a steady rate, and the single call is timed.
"""

from __future__ import annotations

import gc
import secrets
import statistics
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
CALL_RATE: Final = 1_000
CALLS: Final = 10_000
_WARM_CALLS: Final = 2_000
_FLUSH_SECONDS: Final = 120.0
_MICROSECONDS: Final = 1e6

Call: TypeAlias = Callable[[int], object]


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
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "bare_producer": []}
    with serve() as servers:
        names = TopicNames(prefix=f"{name}.")
        contest = Contest(servers, name, progress=options.progress)
        try:
            instance = Genesis(instance=f"bench.example/{name}", partitions=options.partitions)
            contest.create_source(names.events, instance)
            for number in range(options.runs):
                options.progress(f"run {number + 1} of {options.runs}")
                measures = [("ours", _ours), ("bare_producer", _bare)]
                for contestant, measure in measures if number % 2 == 0 else reversed(measures):
                    gc.collect()
                    runs[contestant].append(measure(servers.kafka, names, instance.instance, options))
        finally:
            contest.delete_all()
    ours, bare = collect(runs["ours"]), collect(runs["bare_producer"])
    rates = {"bare_producer": "events_per_second", "bare_producer_per_cpu_second": "events_per_cpu_second"}
    return Result(
        name="publish",
        options=options,
        ours=ours,
        peers={"bare_producer": bare},
        ratios={ratio: ours[figure].over(bare[figure]) for ratio, figure in rates.items()},
        machine=replace(machine, versions=dict(machine.versions) | servers.versions),
        notes=("the bare producer's keys, values and headers are made beforehand, and are not in its figures",),
    )


def _ours(kafka: str, names: TopicNames, instance: str, options: Options) -> dict[str, float]:
    tenants = tenant_names(options.tenants)
    audit = SyncAuditLog(kafka=kafka, instance=instance, topics=names, timeout_seconds=_FLUSH_SECONDS)
    with audit:
        return _measure(lambda number: audit.log(make_event(number, tenants)), audit.flush, options)


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

    measured = _measure(call, lambda: producer.flush(_FLUSH_SECONDS), options)
    assert not failures, failures[:3]
    return measured


def _measure(call: Call, flush: Callable[[], int], options: Options) -> dict[str, float]:
    """Measure one contestant: flat out, and call by call at a steady rate."""
    first = min(options.warmup_events, options.events - 1)
    for number in range(first):
        call(number)
    assert flush() == 0, "not everything was published in time"
    begin, cpu_begin = time.perf_counter(), time.process_time()
    for number in range(first, options.events):
        call(number)
    assert flush() == 0, "not everything was published in time"
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
    count = options.events - first
    return {
        "events_per_second": count / seconds,
        "events_per_cpu_second": count / cpu_seconds,
        "cpu_microseconds_per_event": cpu_seconds / count * _MICROSECONDS,
    } | _time_calls(call, flush, min(CALLS, options.events))


def _time_calls(call: Call, flush: Callable[[], int], calls: int) -> dict[str, float]:
    """Make calls at a steady rate, as requests come in, and time each."""
    taken: list[float] = []
    begin = time.perf_counter()
    for number in range(calls):
        wait_seconds = begin + number / CALL_RATE - time.perf_counter()
        if wait_seconds > 0:
            time.sleep(wait_seconds)
        before = time.perf_counter()
        call(number)
        taken.append(time.perf_counter() - before)
    assert flush() == 0, "not everything was published in time"
    percentiles = statistics.quantiles(taken[min(_WARM_CALLS, calls // 2) :], n=100)
    return {
        "call_microseconds_p50": percentiles[49] * _MICROSECONDS,
        "call_microseconds_p99": percentiles[98] * _MICROSECONDS,
    }
