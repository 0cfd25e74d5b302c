"""Looks at audit.heads, and damage done to it, by somebody who has the rights."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from sealstream.kafka.partition import partition_of
from sealstream.processors.heads import HeadsReader, PartitionHead, chain_key, partition_key
from sealstream.processors.keeper import HeadsKeeper
from sealstream.worker.settings import load_settings
from support.harness import read_log
from support.processing import group_of
from support.workers import Pipeline, wait_for

SESSION_SECONDS = 60.0


def read_heads(pipeline: Pipeline) -> list[HeadsReader]:
    """Return what stands in audit.heads, by partition."""
    readers = [HeadsReader(n) for n in range(pipeline.genesis.partitions)]
    for reader, records in zip(
        readers, read_log(pipeline.connection, pipeline.topics.heads, len(readers)), strict=True
    ):
        for record in records:
            reader.feed(record.key, record.value)
    return readers


def write_heads(pipeline: Pipeline, partition: int, records: dict[bytes, bytes | None]) -> None:
    """Write records to a partition of audit.heads, past any processor."""
    producer = Producer({"bootstrap.servers": pipeline.bootstrap, "enable.idempotence": True})
    for key, value in records.items():
        producer.produce(pipeline.topics.heads, value, key, partition)
    assert producer.flush(30) == 0


def write_chain_head(pipeline: Pipeline, tenant: str, value: bytes | None) -> int:
    """Write the head of a tenant's chain, or its tombstone, and return its partition."""
    partition = partition_of(tenant.encode(), pipeline.genesis.partitions)
    write_heads(pipeline, partition, {chain_key(partition, tenant.encode()): value})
    return partition


def write_partition_head(pipeline: Pipeline, partition: int, **changes: Any) -> PartitionHead:
    """Write a partition's own record anew, with some fields changed, and return the one before."""
    head = read_heads(pipeline)[partition].head
    assert head is not None
    write_heads(pipeline, partition, {partition_key(partition): replace(head, **changes).pack()})
    return head


def expire_chained(pipeline: Pipeline, partition: int, before: int = -1) -> None:
    """Delete a partition's records of audit.chained before an offset, all of them by default, as retention does."""
    client = AdminClient({"bootstrap.servers": pipeline.bootstrap})
    place = TopicPartition(pipeline.topics.chained, partition, before)
    futures = cast("dict[TopicPartition, Future[object]]", client.delete_records([place]))
    futures[place].result()


def set_offset(pipeline: Pipeline, partition: int, offset: int) -> None:
    """Set the group's committed offset, as somebody from outside, once the last worker's session is over."""
    place = TopicPartition(pipeline.topics.events, partition, offset)
    consumer = Consumer({"bootstrap.servers": pipeline.bootstrap, "group.id": group_of(pipeline)})
    wait_for(
        lambda: refusal_of(lambda: consumer.commit(offsets=[place], asynchronous=False)) is None,
        timeout_seconds=SESSION_SECONDS,
        what="the end of the last worker's session",
    )
    consumer.close()


def delete_offsets(pipeline: Pipeline) -> None:
    """Delete the group with all of its offsets, as their retention does, once the last worker's session is over."""
    client, group = AdminClient({"bootstrap.servers": pipeline.bootstrap}), group_of(pipeline)

    def delete() -> None:
        futures = cast("dict[str, Future[None]]", client.delete_consumer_groups([group]))
        futures[group].result()

    wait_for(
        lambda: refusal_of(delete) is None,
        timeout_seconds=SESSION_SECONDS,
        what="the end of the last worker's session",
    )


def refusal_of(call: Callable[[], object]) -> int | None:
    """Return the code with which a group that has members refuses to be changed; ``None`` if it did not refuse.

    Raises:
        KafkaException: It failed otherwise.
    """
    try:
        call()
    except KafkaException as exception:
        code: int = exception.args[0].code()
        if code not in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP):
            raise
        return code
    return None


def open_keeper(
    pipeline: Pipeline, *, on_progress: Callable[[str, int, int], None] = lambda _words, _done, _total: None
) -> HeadsKeeper:
    """Return what the commands work with."""
    return HeadsKeeper(load_settings(pipeline.environment), on_progress=on_progress)
