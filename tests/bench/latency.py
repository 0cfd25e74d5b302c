"""How long an event takes from ``produce()`` to a committed record on audit.chained, at a steady rate."""

from __future__ import annotations

import secrets
import statistics
import threading
import time
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, Producer, TopicPartition

from bench.common import Options
from bench.source import keyed_events
from sealstream.kafka.partition import partition_of
from sealstream.schemas.codec import read_prefix
from support.processing import wait_ready
from support.workers import Pipeline

WARMUP_SECONDS: Final = 5.0
_STEP_SECONDS: Final = 0.005
_LAST_SECONDS: Final = 30.0
_MILLISECONDS: Final = 1000


def measure_latency(bootstrap: str, options: Options, directory: Path) -> dict[str, float]:
    """Offer events at a steady rate to a processor of its own, and read what it makes of them.

    Arguments:
        bootstrap: The brokers.
        options: Rate, seconds, tenants and partitions.
        directory: Where logs go.

    Returns:
        Figures by name: median, 99th percentile and maximum in milliseconds.
    """
    rate = options.rate or 0.0
    options.progress(f"latency at {rate:,.0f} events a second")
    pipeline = Pipeline(bootstrap, f"bench-{secrets.token_hex(4)}", directory, partitions=options.partitions)
    pipeline.create_topics()
    try:
        wait_ready(pipeline.start("processor"))
        count = int(rate * (WARMUP_SECONDS + options.seconds))
        sent = [0.0] * count
        offering = threading.Thread(target=_offer, args=(pipeline, options, sent), name="offer", daemon=True)
        offering.start()
        got = _receive(pipeline, count)
        offering.join()
    finally:
        pipeline.close()
    # The first seconds, in which Python and the broker get warm, do not count.
    first = int(rate * WARMUP_SECONDS)
    waits = sorted((got[number] - sent[number]) * _MILLISECONDS for number in range(first, count))
    percentiles = statistics.quantiles(waits, n=100)
    return {
        "latency_milliseconds_p50": percentiles[49],
        "latency_milliseconds_p99": percentiles[98],
        "latency_milliseconds_max": waits[-1],
    }


def _offer(pipeline: Pipeline, options: Options, sent: list[float]) -> None:
    """Publish at the rate, a few events every few milliseconds, and note when each was handed over."""
    producer = Producer({"bootstrap.servers": pipeline.bootstrap, "enable.idempotence": True, "linger.ms": 0})
    begin, rate = time.monotonic(), options.rate or 1.0
    for number, (tenant, value) in enumerate(keyed_events(options.tenants, 0, len(sent))):
        while number > (time.monotonic() - begin) * rate:
            producer.poll(0)
            time.sleep(_STEP_SECONDS / 5)
        sent[number] = time.monotonic()
        producer.produce(pipeline.topics.events, value, tenant, partition_of(tenant, options.partitions))
    producer.flush(_LAST_SECONDS)
    producer.close()


def _receive(pipeline: Pipeline, count: int) -> list[float]:
    """Read committed records, and note when each event was seen."""
    consumer = Consumer(
        {
            "bootstrap.servers": pipeline.bootstrap,
            "group.id": "bench-never-commits",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,
        }
    )
    got, seen, deadline = [0.0] * count, 0, time.monotonic() + _LAST_SECONDS
    try:
        consumer.assign([TopicPartition(pipeline.topics.chained, n, 0) for n in range(pipeline.genesis.partitions)])
        while seen < count:
            assert time.monotonic() < deadline, f"only {seen} of {count} events were chained"
            message = consumer.poll(0.5)
            if message is None:
                continue
            now, value = time.monotonic(), message.value() or b""
            if value.startswith(b"instance "):
                continue  # a genesis
            identifier, _, _ = read_prefix(value)
            got[int(identifier[-12:], 16)] = now
            seen, deadline = seen + 1, now + _LAST_SECONDS
    finally:
        consumer.close()
    return got
