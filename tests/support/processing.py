"""What the tests of the processor have in common: loads, looks at its topics and group, and damage done to them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from typing import cast

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigEntry, ConfigResource, ConsumerGroupDescription

from sealstream.processors.engine import Engine
from sealstream.processors.status import Status
from sealstream.schemas.chain import Link, verify_chain
from sealstream.schemas.entry import CARRIED_KINDS, parse
from sealstream.worker.settings import PREFIX, load_settings
from support.harness import ASK_SECONDS, LogRecord, read_log
from support.publish import RawRecord, event_value, publish_raw
from support.workers import Pipeline, Worker, wait_for

PARTITIONS = 4
ENGINE_SECONDS = 60.0
SESSION_SECONDS = 2.0
"""How long a worker within the test's process stays a member behind its end, where the brokers allow it: commands wait
for that.
"""
TENANTS = [f"tenant-{n}" for n in range(10)]


def publish(pipeline: Pipeline, *records: RawRecord, **config: str | int) -> None:
    """Write records to the source just as they are."""
    publish_raw(pipeline.bootstrap, pipeline.topics.events, records, partitions=pipeline.genesis.partitions, **config)


def load(pipeline: Pipeline, prefix: str, count: int) -> None:
    """Publish different events of ten tenants."""
    named = [(TENANTS[n % len(TENANTS)], f"{prefix}-{n}") for n in range(count)]
    publish(pipeline, *(RawRecord(tenant.encode(), event_value(tenant, name)) for tenant, name in named))


def verify_chains(*epochs: Pipeline) -> None:
    """Verify every chain of audit.chained, over all epochs of an instance, by the verifier's own code."""
    chains: dict[bytes, list[Link]] = {}
    for pipeline in epochs:
        for record in (r for log in _chained_logs(pipeline) for r in log):
            seal = record.header("seal-entry")
            assert seal is not None
            assert record.key is not None
            entry = parse(seal)
            payload = record.value if entry.kind in CARRIED_KINDS else None
            chains.setdefault(record.key, []).append(Link(entry.seq, seal, payload))
    assert chains
    for name, links in chains.items():
        assert verify_chain(name.decode(), links) == []


def chained_count(pipeline: Pipeline) -> int:
    """Return how many records audit.chained holds."""
    return sum(len(log) for log in _chained_logs(pipeline))


def _chained_logs(pipeline: Pipeline) -> list[list[LogRecord]]:
    return read_log(pipeline.connection, pipeline.topics.chained, pipeline.genesis.partitions)


def wait_ready(worker: Worker, *, ready: bool = True, timeout_seconds: float = 60.0) -> None:
    """Wait until a worker's readiness is as given."""
    wanted, words = 200 if ready else 503, ""

    def is_so() -> bool:
        nonlocal words
        status, words = worker.get("/readyz")
        return status == wanted

    try:
        wait_for(is_so, timeout_seconds=timeout_seconds, what=f"readiness {wanted}")
    except AssertionError as error:
        raise AssertionError(f"{error}; the {worker.role} says: {words}") from None


def group_of(pipeline: Pipeline) -> str:
    """Return the processor's consumer group."""
    return f"{pipeline.genesis.instance}-processor"


def committed(pipeline: Pipeline) -> dict[int, int]:
    """Return the group's committed offsets."""
    places = [TopicPartition(pipeline.topics.events, n) for n in range(pipeline.genesis.partitions)]
    client = AdminClient({"bootstrap.servers": pipeline.bootstrap})
    group = group_of(pipeline)
    futures = cast(
        "dict[str, Future[ConsumerGroupTopicPartitions]]",
        client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)]),
    )
    found = futures[group].result().topic_partitions or []
    return {place.partition: place.offset for place in found if place.offset >= 0}


def wait_until_left(pipeline: Pipeline) -> None:
    """Wait until the group has no member any more: a static one stays for a session behind its end."""
    client, group = AdminClient({"bootstrap.servers": pipeline.bootstrap}), group_of(pipeline)

    def is_empty() -> bool:
        described = cast("dict[str, Future[ConsumerGroupDescription]]", client.describe_consumer_groups([group]))
        return not described[group].result().members

    wait_for(is_empty, timeout_seconds=60, what="the end of the last session")


def abort(pipeline: Pipeline, count: int) -> None:
    """Publish events in a transaction, and abort it."""
    config = {"bootstrap.servers": pipeline.bootstrap, "partitioner": "murmur2"}
    producer = Producer(config | {"transactional.id": f"abort-{uuid.uuid4().hex}"})
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(count):
        producer.produce(pipeline.topics.events, event_value("acme", f"never-{number}"), b"acme")
    producer.flush(30)
    producer.abort_transaction(30)


def expire(pipeline: Pipeline, partition: int, before: int) -> None:
    """Delete a partition's records before an offset, as retention does."""
    client = AdminClient({"bootstrap.servers": pipeline.bootstrap})
    futures = cast(
        "dict[TopicPartition, Future[object]]",
        client.delete_records([TopicPartition(pipeline.topics.events, partition, before)]),
    )
    [future] = futures.values()
    future.result()


@cache
def least_session_seconds(bootstrap: str) -> float:
    """Return the shortest session that brokers allow: those that were given may be set up as anybody's."""
    client = AdminClient({"bootstrap.servers": bootstrap})
    broker = ConfigResource(ConfigResource.Type.BROKER, str(min(client.list_topics(timeout=ASK_SECONDS).brokers)))
    [answer] = cast(
        "dict[ConfigResource, Future[dict[str, ConfigEntry]]]",
        client.describe_configs([broker], request_timeout=ASK_SECONDS),
    ).values()
    return int(str(answer.result()["group.min.session.timeout.ms"].value)) / 1000


def run_engine(pipeline: Pipeline, *, until: Callable[[], bool], **settings: object) -> None:
    """Run a worker within this process, without Faust around it, until a condition holds.

    Raises:
        SealstreamError: The worker refuses to go on.
    """
    session_seconds = max(SESSION_SECONDS, least_session_seconds(pipeline.bootstrap))
    environment = pipeline.environment | {f"{PREFIX}WORKER_ID": "engine"}
    environment |= {f"{PREFIX}SESSION_TIMEOUT_SECONDS": str(session_seconds)}
    environment |= {f"{PREFIX}{name.upper()}": str(value) for name, value in settings.items()}
    engine = Engine(load_settings(environment), Status(pipeline.topics.events))
    deadline = time.monotonic() + ENGINE_SECONDS
    try:
        while not until():
            assert time.monotonic() < deadline, "the engine neither gets there nor refuses"
            for _ in range(5):
                batch = engine.step()
                if batch is not None:
                    engine.process(batch)
        engine.settle()
    finally:
        engine.close()
