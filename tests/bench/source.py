"""What benchmarks publish: different events of one size, as an application's audit log writes them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from confluent_kafka import KafkaError, Message, Producer

from bench.common import Options
from sealstream.kafka.partition import partition_of
from sealstream.schemas.codec import encode_event
from sealstream.schemas.entry import ZERO_HASH
from sealstream.schemas.event import Actor, AuditEvent, Context, Target
from support.workers import Pipeline, wait_for

EVENT_BYTES: Final = 300
_FRAME_BYTES: Final = 10
_ID: Final = "00000000-0000-7000-8000-000000000000"
_SALT_BYTES: Final = 16
_REPORT_EVENTS: Final = 100_000
_FLUSH_SECONDS: Final = 120.0
_CHAIN_SECONDS: Final = 900.0
_END_SECONDS: Final = 30.0


def tenant_names(count: int) -> list[bytes]:
    """Return that many tenants."""
    return [b"tenant-%06d" % number for number in range(count)]


def event_id(number: int) -> bytes:
    """Return the id of the event of that number; it has the form of a UUIDv7."""
    digits = b"%012x" % number
    return b"0199a1b2-c3d4-7000-8000-" + digits


def event_maker(tenant: bytes) -> Callable[[int, bytes], bytes]:
    """Return what makes events of a tenant out of a number and a salt: all of :data:`EVENT_BYTES`, all different."""
    template = _template(tenant.decode(), 1)
    template = _template(tenant.decode(), 1 + EVENT_BYTES - len(template))
    assert len(template) == EVENT_BYTES
    id_start = _FRAME_BYTES + 1
    id_end = id_start + len(_ID)
    salt_start = id_end + 1 + len(tenant) + 1
    head, middle, tail = template[:id_start], template[id_end:salt_start], template[salt_start + _SALT_BYTES :]
    return lambda number, salt: b"".join((head, event_id(number), middle, salt, tail))


def keyed_events(tenants: int, first: int, last: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield tenant and value of the events of numbers ``first`` to ``last - 1``, round the tenants."""
    names = tenant_names(tenants)
    makers: dict[int, Callable[[int, bytes], bytes]] = {}
    salts = random.Random(first)
    for number in range(first, last):
        index = number % tenants
        maker = makers.get(index)
        if maker is None:
            maker = makers[index] = event_maker(names[index])
        yield names[index], maker(number, salts.randbytes(_SALT_BYTES))


def publish_events(
    bootstrap: str,
    topic: str,
    *,
    first: int = 0,
    last: int,
    tenants: int,
    partitions: int,
    repeats_every: int = 0,
    compression: str = "lz4",
    progress: Callable[[str], None],
) -> list[int]:
    """Publish events as fast as it goes, and wait until the broker has them.

    Arguments:
        bootstrap: The brokers.
        topic: The source.
        first: The number of the first event.
        last: The number behind the last one.
        tenants: Number of tenants.
        partitions: Number of partitions.
        repeats_every: After each so many events, one is sent once more, just as it was; 0 for never.
        compression: How batches are compressed.
        progress: Told how far it is.

    Returns:
        How many records went to each partition.
    """
    failures: list[KafkaError] = []

    def failed(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "compression.type": compression,
            "linger.ms": 20,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 200_000,
            "delivery.report.only.error": True,
            "on_delivery": failed,
        }
    )
    places = {name: partition_of(name, partitions) for name in tenant_names(tenants)}
    counts = [0] * partitions
    for number, (tenant, value) in enumerate(keyed_events(tenants, first, last), start=1):
        partition = places[tenant]
        for _ in range(2 if repeats_every and number % repeats_every == 0 else 1):
            _produce(producer, topic, tenant, value, partition)
            counts[partition] += 1
        if number % _REPORT_EVENTS == 0:
            progress(f"publishing: {number:,} of {last - first:,} events")
    assert producer.flush(_FLUSH_SECONDS) == 0, "not everything was published in time"
    producer.close()
    assert not failures, failures[:3]
    return counts


def chain_events(pipeline: Pipeline, options: Options) -> int:
    """Make an instance's topics, publish events there, and let the real processor chain them.

    Arguments:
        pipeline: The instance.
        options: How many events, of how many tenants.

    Returns:
        How many entries that makes: each chain begins with a genesis.
    """
    pipeline.create_topics()
    publish_events(
        pipeline.bootstrap,
        pipeline.topics.events,
        last=options.events,
        tenants=options.tenants,
        partitions=options.partitions,
        progress=options.progress,
    )
    processor = pipeline.start("processor")
    wanted = f'sealstream_processor_entries_total{{kind="event"}} {float(options.events)}\n'

    def chained() -> bool:
        assert processor.process.poll() is None, processor.log()[-3000:]
        return wanted in processor.get("/metrics")[1]

    wait_for(chained, timeout_seconds=_CHAIN_SECONDS, what=f"{options.events} chained events")
    assert processor.terminate(timeout_seconds=_END_SECONDS) == 0
    return options.events + options.tenants


def _produce(producer: Producer, topic: str, key: bytes, value: bytes, partition: int) -> None:
    while True:
        try:
            producer.produce(topic, value, key, partition)
        except BufferError:
            producer.poll(0.1)
        else:
            return


def _template(tenant: str, note_size: int) -> bytes:
    return encode_event(
        AuditEvent(
            id=_ID,
            tenant=tenant,
            salt=ZERO_HASH[:_SALT_BYTES],
            occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
            actor=Actor("user", "u-4711", "Ada Byron"),
            action="document.updated",
            targets=(Target("document", "d-0815", "Quarterly report"),),
            context=Context(
                ip="192.0.2.17",
                user_agent="acme-cli/3.2.1 (linux; x86_64)",
                session="s-1b2c3d4e5f",
                request_id="0198c2d1-7a60-7f31-8e55-1c2d3e4f5a6b",
            ),
            metadata={"field": "title", "note": "x" * note_size},
        )
    )
