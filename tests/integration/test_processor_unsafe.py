"""When a processor refuses to go on: each unsafe state is an error of its own, and the error says the way out."""

# pyright: reportUnknownArgumentType=false
# confluent-kafka leaves open what its administrator's futures hold.
from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from sealstream.kafka.partition import partition_of
from sealstream.schemas.entry import Kind
from sealstream.schemas.errors import (
    ConfigError,
    HeadsDiffer,
    InstanceDiffers,
    OffsetsExpired,
    SealstreamError,
    SourceGap,
)
from support.processing import (
    PARTITIONS,
    chained_count,
    committed,
    expire,
    group_of,
    load,
    publish,
    run_engine,
    wait_ready,
    wait_until_left,
)
from support.publish import RawRecord, event_value
from support.workers import Pipeline, wait_for

MakePipeline = Callable[..., Pipeline]
ACME = partition_of(b"acme", PARTITIONS)


@pytest.fixture
def admin(kafka_bootstrap: str) -> AdminClient:
    """An administrator of the brokers."""
    return AdminClient({"bootstrap.servers": kafka_bootstrap})


def refusal(pipeline: Pipeline, error: type[SealstreamError], **settings: object) -> SealstreamError:
    """Return the error with which a worker refuses to go on."""
    with pytest.raises(error) as caught:
        run_engine(pipeline, until=lambda: False, **({"request_timeout_seconds": 2} | settings))
    assert type(caught.value) is error
    assert caught.value.hint
    return caught.value


def done(futures: object) -> None:
    """Wait for an administrator's requests."""
    for future in cast("dict[object, Future[object]]", futures).values():
        future.result(30)


def test_a_refusal_ends_the_process_with_one_line(chained: Pipeline) -> None:
    """The worker ends once, with exit code 1 and one error line that carries the way out; set back, it goes on."""
    worker = chained.start("processor", window_offsets=7)
    assert worker.wait(timeout_seconds=60) == 1
    [line] = [event for event in worker.events() if event["level"] == "error"]
    assert (line["error"], "SEALSTREAM_WINDOW_OFFSETS" in str(line["hint"])) == ("InstanceDiffers", True)
    chained.start("processor")
    load(chained, "more", 10)

    assert chained.harness().check().events == 60


def test_missing_topics_are_waited_for_and_then_named(kafka_bootstrap: str, tmp_path: Path) -> None:
    """Without its topics a worker waits a while, then ends and names the command; topics that come in time will do."""
    pipeline = Pipeline(kafka_bootstrap, f"m-{time.time_ns():x}", tmp_path, partitions=PARTITIONS)
    try:
        assert refusal(pipeline, ConfigError).hint == "sealstream topics create"
        worker = pipeline.start("processor")
        wait_for(lambda: "topics create" in worker.get("/readyz")[1], timeout_seconds=30, what="the reason")
        pipeline.create_topics()
        wait_ready(worker)
        load(pipeline, "e", 10)
        assert pipeline.harness().check().kinds[Kind.EVENT] == 10
    finally:
        pipeline.close()


@pytest.mark.parametrize(
    ("setting", "value"), [("partitions", 8), ("window_seconds", 7), ("instance", "test.example/renamed")]
)
def test_a_changed_setting_is_refused(chained: Pipeline, setting: str, value: object) -> None:
    """What genesis pins cannot be changed by a setting, not even the instance's name, which names the group."""
    error = refusal(chained, InstanceDiffers, **{setting: value})

    assert f"SEALSTREAM_{setting.upper()}" in error.hint
    assert chained_count(chained) == 60


def test_more_partitions_are_noticed_by_a_worker_that_owns_only_new_ones(chained: Pipeline, admin: AdminClient) -> None:
    """Partitions that were added to all topics, with the setting changed as well, stop every worker."""
    topics = chained.topics
    names = (topics.events, topics.chained, topics.heads, topics.deadletter)
    done(admin.create_partitions([NewPartitions(name, 8) for name in names]))
    workers = [chained.start("processor", partitions=8) for _ in range(2)]
    for worker in workers:
        assert worker.wait(timeout_seconds=60) == 1
        assert '"InstanceDiffers"' in worker.log()

    assert chained_count(chained) == 60


def test_records_that_expired_before_they_were_chained_are_a_gap(chained: Pipeline) -> None:
    """A hole in the source is never jumped over: the error says which offsets are missing and how to accept it."""
    at = committed(chained)[ACME]
    publish(chained, *(RawRecord(b"acme", event_value("acme", f"lost-{n}")) for n in range(5)))
    expire(chained, ACME, at + 3)
    error = refusal(chained, SourceGap)

    assert f"sealstream gap accept --partition {ACME} --from {at} --to {at + 2}" in error.hint


def test_a_source_that_was_never_complete_is_a_gap(make_pipeline: MakePipeline) -> None:
    """A partition whose beginning expired before the first worker came is not begun in the middle."""
    pipeline = make_pipeline(store=False)
    publish(pipeline, *(RawRecord(b"acme", event_value("acme", f"e{n}")) for n in range(5)))
    expire(pipeline, ACME, 2)

    assert "--from 0 --to 1" in refusal(pipeline, SourceGap).hint


@pytest.mark.slow
def test_offsets_that_somebody_moved_or_deleted_are_noticed(chained: Pipeline, admin: AdminClient) -> None:
    """A reset of the group's offsets, or their loss, never repeats or skips a record."""
    group, at = group_of(chained), committed(chained)[0]
    wait_until_left(chained)  # the brokers refuse it while a member's session lasts
    moved = [TopicPartition(chained.topics.events, 0, at - 1)]
    done(admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, moved)]))
    assert f"committed offset {at - 1}" in refusal(chained, HeadsDiffer).message
    wait_until_left(chained)
    done(admin.delete_consumer_groups([group]))

    assert "restore-offsets" in refusal(chained, OffsetsExpired).hint
    assert chained_count(chained) == 60


def test_a_topic_that_was_made_anew_is_noticed(chained: Pipeline, admin: AdminClient) -> None:
    """A deleted and recreated source has another UUID and other records at its offsets: nothing is chained from it."""
    make_anew(chained, admin, chained.topics.events)
    load(chained, "new", 200)

    assert "epoch" in refusal(chained, InstanceDiffers).hint


@pytest.mark.parametrize("lost", ["heads", "chained"])
def test_a_lost_state_topic_is_noticed(chained: Pipeline, admin: AdminClient, lost: str) -> None:
    """Heads or chained records that are gone are never begun anew over the other's."""
    make_anew(chained, admin, getattr(chained.topics, lost))

    assert "heads rebuild" in refusal(chained, HeadsDiffer).hint


def make_anew(pipeline: Pipeline, admin: AdminClient, topic: str) -> None:
    """Delete a topic and create it again."""
    before = pipeline.topic_id(topic)
    done(admin.delete_topics([topic]))

    def is_new() -> bool:
        pipeline.create_topics()
        return pipeline.topic_id(topic) not in (None, before)

    wait_for(is_new, timeout_seconds=30, what=f"the new {topic}")


def test_chained_records_that_the_window_needs_are_missed(make_pipeline: MakePipeline, admin: AdminClient) -> None:
    """If the chained log lost records that a new event may repeat, nothing is chained rather than wrongly."""
    pipeline = make_pipeline(store=False)
    publish(pipeline, *(RawRecord(b"acme", event_value("acme", f"e{n}")) for n in range(10)))
    run_engine(pipeline, until=lambda: chained_count(pipeline) == 11)
    done(admin.delete_records([TopicPartition(pipeline.topics.chained, ACME, 5)]))
    publish(pipeline, RawRecord(b"acme", event_value("acme", "e1")))
    with pytest.raises(SealstreamError, match="are gone"):
        run_engine(pipeline, until=lambda: False)

    assert chained_count(pipeline) == 6
