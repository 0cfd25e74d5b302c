"""Publishers of every kind: well-behaved, raw, broken and hostile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import KafkaError, Message, Producer

from sealstream.kafka.client import ClientConfig
from sealstream.kafka.partition import partition_of
from sealstream.schemas.codec import encode_event
from sealstream.schemas.event import Actor, AuditEvent, EventKind

FLUSH_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record just as it is to be written.

    Arguments:
        key: Its key.
        value: Its value.
        partition: Where to; ``None`` for where Kafka's own partitioner sends the key.
        headers: Its headers.
    """

    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def event_value(tenant: str, event_id: str, *, note: str = "", kind: EventKind = EventKind.EVENT) -> bytes:
    """Return the value of a small event whose bytes depend on nothing but the arguments."""
    event = AuditEvent(
        id=event_id,
        tenant=tenant,
        kind=kind,
        salt=bytes(16),
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
        actor=Actor("user", "u-1"),
        action="document.updated",
        metadata={"note": note} if note else {},
    )
    return encode_event(event)


def sized_event_value(tenant: str, event_id: str, size_bytes: int) -> bytes:
    """Return the value of an event of exactly so many bytes."""
    value = event_value(tenant, event_id, note="x" * (size_bytes - 200))
    return event_value(tenant, event_id, note="x" * (size_bytes - 200 + size_bytes - len(value)))


def publish_raw(
    bootstrap: str, topic: str, records: Iterable[RawRecord], *, partitions: int, **config: str | int | bool
) -> None:
    """Write records just as they are, in their order, and wait until the brokers have them.

    Arguments:
        bootstrap: The brokers.
        topic: The topic.
        records: What to write.
        partitions: Number of partitions of the topic.
        config: librdkafka settings with underscores for dots, such as ``compression_type="zstd"``.
    """
    failures: list[KafkaError] = []

    def report(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error)

    settings: ClientConfig = {
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "message.max.bytes": 40_000_000,
        "queue.buffering.max.kbytes": 1_048_576,
    }
    producer = Producer(settings | {name.replace("_", "."): value for name, value in config.items()})
    for record in records:
        partition = record.partition
        if partition is None:
            partition = partition_of(record.key or b"", partitions)
        producer.produce(
            topic,
            value=record.value,
            key=record.key,
            partition=partition,
            headers=list(record.headers),
            on_delivery=report,
        )
        producer.poll(0)
    assert producer.flush(FLUSH_SECONDS) == 0, "not everything was delivered in time"
    assert not failures, failures
