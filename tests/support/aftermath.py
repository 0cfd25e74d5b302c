"""What must hold after any fault: everything published is chained once, and nothing is left open."""

from __future__ import annotations

import signal
import struct
import time
from collections.abc import Sequence
from functools import partial
from typing import cast

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from sealstream.kafka.admin import TopicAdmin
from sealstream.schemas.chain import Link, verify_chain
from sealstream.schemas.entry import CARRIED_KINDS, Kind, parse
from support.harness import NOT_YET_CODES, log_bounds, read_log
from support.load import Load
from support.processing import committed
from support.workers import Pipeline, Worker, wait_for

WAIT_SECONDS = 120.0
LOOK_SECONDS = 0.2
COMMITTED_SECONDS = 30.0
"""Within this, a record behind the last transaction is readable: far more than a transaction's timeout."""

_POSITION = struct.Struct(">BQ")


def finish(pipeline: Pipeline, load: Load, alive: Sequence[Worker]) -> None:
    """End the load and the workers, and check all that must hold, whatever happened.

    Arguments:
        pipeline: The instance.
        load: The load; it goes on until all that it published by now is chained.
        alive: The workers that must run; each of them must obey when told to stop. All others must have ended.
    """
    wait_for_progress(pipeline, alive)
    load.stop()
    result = pipeline.harness().check("chained", timeout_seconds=WAIT_SECONDS)
    assert result.kinds[Kind.DUPLICATE], "the load repeated nothing"
    assert result.kinds[Kind.CONFLICT], "the load forged nothing"
    assert result.kinds[Kind.QUARANTINED], "the load had no bad record"
    check_offsets(pipeline)
    check_alive(alive)
    for worker in alive:
        worker.process.send_signal(signal.SIGTERM)
    for worker in alive:
        assert worker.wait(timeout_seconds=15) == 0
    for worker in pipeline.workers:
        assert worker.process.poll() is not None, "a worker runs that is thought to have ended"
    check_heads(pipeline)
    check_writable(pipeline)


def check_alive(alive: Sequence[Worker]) -> None:
    """Check that workers run, and show why one of them does not."""
    for worker in alive:
        if worker.process.poll() is not None:
            errors = [event for event in worker.events() if event.get("level") in ("error", "critical")]
            raise AssertionError(f"a worker ended that should run: {errors or worker.log()[-3000:]}")


def wait_for_progress(pipeline: Pipeline, alive: Sequence[Worker]) -> None:
    """Wait until all that is published by now is chained and committed.

    Arguments:
        pipeline: The instance.
        alive: The workers that must not end meanwhile.
    """
    wanted = ends(pipeline, pipeline.topics.events, "read_committed")

    def is_chained() -> bool:
        check_alive(alive)
        offsets = committed_by_now(pipeline)
        return all(offsets.get(n, 0) >= end for n, end in wanted.items())

    wait_for(is_chained, timeout_seconds=WAIT_SECONDS, what="everything published by now to be chained")


def committed_by_now(pipeline: Pipeline) -> dict[int, int]:
    """Return the group's committed offsets; none while its coordinator has just come back."""
    time.sleep(LOOK_SECONDS)  # each look makes a client of its own
    try:
        return committed(pipeline)
    except KafkaException as exception:
        if exception.args[0].code() not in NOT_YET_CODES:
            raise
        return {}


def ends(pipeline: Pipeline, topic: str, isolation: str) -> dict[int, int]:
    """Return each partition's end as a reader of that isolation sees it."""
    consumer = Consumer(
        {"bootstrap.servers": pipeline.bootstrap, "group.id": "never-commits", "isolation.level": isolation}
    )
    try:
        return {n: log_bounds(consumer, TopicPartition(topic, n))[1] for n in range(pipeline.genesis.partitions)}
    finally:
        consumer.close()


def check_offsets(pipeline: Pipeline) -> None:
    """Check that every source offset that a reader of committed records sees became one entry of an unbroken chain.

    The harness has compared all bytes already; this says it in the fewest words, with no model in between.
    """
    topic_id = TopicAdmin(pipeline.connection).describe([pipeline.topics.events])[pipeline.topics.events].topic_id
    partitions = pipeline.genesis.partitions
    source = read_log(pipeline.connection, pipeline.topics.events, partitions)
    chained = read_log(pipeline.connection, pipeline.topics.chained, partitions)
    for partition in range(partitions):
        seals = [cast("bytes", record.header("seal-entry")) for record in chained[partition]]
        entries = [parse(seal) for seal in seals]
        offsets = [entry.offset for entry in entries if entry.kind is not Kind.GENESIS]
        assert offsets == [record.offset for record in source[partition]]
        assert {(entry.topic_id, entry.partition) for entry in entries} <= {(topic_id, partition)}
        chains: dict[str, list[Link]] = {}
        for record, seal, entry in zip(chained[partition], seals, entries, strict=True):
            payload = record.value if entry.kind in CARRIED_KINDS else None
            chains.setdefault(entry.tenant, []).append(Link(entry.seq, seal, payload))
        for name, links in chains.items():
            assert verify_chain(name, links) == []


def check_heads(pipeline: Pipeline) -> None:
    """Check that each partition's heads end where the group's committed offset does."""
    offsets = committed(pipeline)
    heads = read_log(pipeline.connection, pipeline.topics.heads, pipeline.genesis.partitions)
    for partition, records in enumerate(heads):
        last = [record.value for record in records if record.key == str(partition).encode()]
        assert last, f"partition {partition} has no head"
        _, position = _POSITION.unpack_from(last[-1] or b"")
        assert position == offsets[partition], (
            f"partition {partition}: heads end at {position}, not {offsets[partition]}"
        )


def check_writable(pipeline: Pipeline) -> None:
    """Check that no transaction was left open: one record behind each output partition's end is readable at once."""
    topics = (pipeline.topics.chained, pipeline.topics.heads, pipeline.topics.deadletter)
    places: list[TopicPartition] = []
    producer = Producer({"bootstrap.servers": pipeline.bootstrap, "enable.idempotence": True})
    for topic in topics:
        for partition in range(pipeline.genesis.partitions):
            producer.produce(
                topic,
                b"written by a test",
                b"test",
                partition,
                on_delivery=lambda error, message: places.append(
                    TopicPartition(message.topic() or "", message.partition() or 0, message.offset() or 0)
                    if error is None
                    else TopicPartition("", 0)
                ),
            )
    assert producer.flush(COMMITTED_SECONDS) == 0
    assert len(places) == len(topics) * pipeline.genesis.partitions
    assert all(place.topic for place in places), "a record could not be written"
    wait_for(partial(_readable, pipeline, places), timeout_seconds=COMMITTED_SECONDS, what="no open transaction")


def _readable(pipeline: Pipeline, places: Sequence[TopicPartition]) -> bool:
    consumer = Consumer(
        {
            "bootstrap.servers": pipeline.bootstrap,
            "group.id": "never-commits",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )
    try:
        consumer.assign(list(places))
        found = consumer.consume(len(places), 5.0)
        return {(m.topic(), m.partition()) for m in found if m.error() is None} == {
            (place.topic, place.partition) for place in places
        }
    finally:
        consumer.close()
