"""The verifier worker on real Kafka, fed by a chainer of the tests' own: what holds, what does not, and crashes."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from sealstream.deploy.stack import LocalStack
from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.partition import partition_of
from sealstream.schemas.entry import Kind, payload_digest
from sealstream.schemas.errors import ConfigError
from sealstream.schemas.violation import ViolationType
from sealstream.sinks.verifier.violations import list_violations, resolve
from sealstream.worker.settings import load_settings
from support.forging import (
    At,
    Chainer,
    Log,
    altering,
    verified_seqs,
    violations_of,
    wait_for_verified,
    wait_for_violations,
    with_entry,
)
from support.publish import RawRecord, event_value, publish_raw
from support.workers import Pipeline, wait_for

MakePipeline = Callable[..., Pipeline]


def _edit(log: Log, at: int) -> Log:
    return [*log[:at], with_entry(log[at], received=1_000), *log[at + 1 :]]


def _alter_payload(log: Log, at: int) -> Log:
    return [*log[:at], replace(log[at], value=event_value("someone", "else")), *log[at + 1 :]]


def _alter_payload_and_entry(log: Log, at: int) -> Log:
    value = event_value("someone", "else")
    forged = with_entry(log[at], payload=payload_digest(value), length=len(value))
    return [*log[:at], replace(forged, value=value), *log[at + 1 :]]


def _drop(log: Log, at: int) -> Log:
    return [*log[:at], *log[at + 1 :]]


def _fork(log: Log, at: int) -> Log:
    return [*log, with_entry(log[at], received=1_000)]


def _repeat(log: Log, at: int) -> Log:
    return [*log, log[at]]


def _move_back(log: Log, at: int) -> Log:
    return [*log[:at], *log[at + 1 : at + 4], log[at], *log[at + 4 :]]


def _other_tenant(log: Log, at: int) -> Log:
    return [*log[:at], replace(with_entry(log[at], tenant="mallory"), key=b"mallory"), *log[at + 1 :]]


def _other_topic(log: Log, at: int) -> Log:
    return [*log[:at], with_entry(log[at], topic_id=b"t" * 16), *log[at + 1 :]]


FORGERIES: dict[str, tuple[Callable[[Log, int], Log], str]] = {
    "t-edit": (_edit, "edited"),
    "t-payload": (_alter_payload, "payload-altered"),
    "t-both": (_alter_payload_and_entry, "edited"),
    "t-drop": (_drop, "gap"),
    "t-fork": (_fork, "fork"),
    "t-repeat": (_repeat, "fork"),
    "t-move": (_move_back, "reordered"),
    "t-tenant": (_other_tenant, "foreign"),
    "t-topic": (_other_topic, "foreign"),
}
HONEST = ("honest-1", "honest-2", "honest-3")


def _events(start: int, stop: int, *tenants: str) -> list[tuple[str, str]]:
    return [(tenant, f"e-{number}") for number in range(start, stop) for tenant in tenants]


def test_a_right_log_is_verified_once_over_restarts(make_pipeline: MakePipeline) -> None:
    """Every record that holds reaches audit.verified exactly once, whether the verifier is stopped or killed between,
    a repeat is told by what was published before the restart, and what the processor aborted was never there.
    """
    pipeline = make_pipeline(store=False)
    chainer = Chainer(pipeline)
    worker = pipeline.start("verifier", worker_id="v")
    chainer.publish(*_events(0, 50, *HONEST))
    chainer.chain()
    wait_for_verified(pipeline, HONEST[0], 50)
    assert worker.terminate() == 0
    worker = pipeline.start("verifier", worker_id="v")
    chainer.publish(*_events(40, 100, *HONEST))
    logs = chainer.expected()
    chainer.write(logs, abort=True)
    chainer.write(logs)
    worker.kill()
    chainer.publish(*_events(90, 110, *HONEST))
    chainer.chain()
    pipeline.start("verifier", worker_id="v")

    result = pipeline.harness().check("verified")

    assert result.kinds == {Kind.GENESIS: 3, Kind.EVENT: 330, Kind.DUPLICATE: 60}


def test_each_forgery_is_named_and_stops_its_tenant_only(make_pipeline: MakePipeline) -> None:
    """Nine forgeries at once give nine violations, each with its type, tenant and seq, and nothing else is reported.
    Each forged tenant's feed ends before the forgery, also after a restart; the others' go on.
    """
    pipeline = make_pipeline(store=False)
    chainer = Chainer(pipeline)
    worker = pipeline.start("verifier", worker_id="v")
    chainer.publish(*_events(0, 20, *FORGERIES, *HONEST))
    chainer.chain(altering(*((At(tenant, 7), forge) for tenant, (forge, _) in FORGERIES.items())))

    found = wait_for_violations(pipeline, len(FORGERIES))

    assert sorted(found) == sorted((kind, tenant, 7) for tenant, (_, kind) in FORGERIES.items())
    assert worker.terminate() == 0
    pipeline.start("verifier", worker_id="v")
    chainer.publish(*_events(20, 30, *FORGERIES, *HONEST))
    chainer.chain()
    for tenant in HONEST:
        wait_for_verified(pipeline, tenant, 30)
    seqs = verified_seqs(pipeline)
    assert all(seqs[tenant] == list(range(1, 31)) for tenant in HONEST)
    for tenant in FORGERIES:
        last = 20 if tenant in ("t-fork", "t-repeat") else 6  # these were forged behind the tenant's last record
        assert seqs[tenant] == list(range(1, last + 1)), tenant
    assert len(violations_of(pipeline)) == len(FORGERIES)


def test_a_resolved_violation_lets_the_feed_go_on(make_pipeline: MakePipeline) -> None:
    """A resolution is recorded beside the violation, and behind it the tenant's records are published again."""
    pipeline = make_pipeline(store=False)
    chainer = Chainer(pipeline)
    settings = load_settings(pipeline.environment)
    worker = pipeline.start("verifier", worker_id="v")
    chainer.publish(*_events(0, 5, "acme"))
    chainer.chain(altering((At("acme", 3), _edit)))
    wait_for_violations(pipeline, 1)
    (recorded,) = list_violations(settings)
    assert (recorded.violation.type, recorded.violation.seq, recorded.resolution) == (ViolationType.EDITED, 3, None)

    resolve(settings, recorded.violation.id, by="auditor@example.com", why="a test of ours")
    wait_for(lambda: "the verified feed goes on" in worker.log(), timeout_seconds=30, what="the resolution to be read")
    chainer.publish(*_events(5, 8, "acme"))
    chainer.chain()

    wait_for_verified(pipeline, "acme", 8)
    assert verified_seqs(pipeline)["acme"] == [1, 2, 6, 7, 8]
    (recorded,) = list_violations(settings)
    assert recorded.resolution is not None
    assert recorded.resolution.by == "auditor@example.com"


def test_nothing_that_an_application_publishes_is_a_violation(make_pipeline: MakePipeline) -> None:
    """Bad keys, values and ids, repeats, huge headers and aborted transactions are verified like anything else."""
    pipeline = make_pipeline(store=False)
    chainer = Chainer(pipeline)
    good = event_value("acme", "id-1")
    elsewhere = (partition_of(b"acme", 4) + 1) % 4
    publish_raw(
        pipeline.bootstrap,
        pipeline.topics.events,
        [
            RawRecord(None, good, partition=0),
            RawRecord(b"!partition-0", good),
            RawRecord(b"acme", good, partition=elsewhere),
            RawRecord(b"acme", None),
            RawRecord(b"acme", b"\xff"),
            RawRecord(b"acme", bytes(20_000_000)),
            RawRecord(b"acme", good, headers=(("seal-entry", b"x"), ("x", b"h" * 300_000), ("x", b"h"))),
            RawRecord(b"acme", good),
            RawRecord(b"acme", event_value("acme", "id-1", note="other")),
        ],
        partitions=4,
        compression_type="zstd",
    )
    aborting = Producer({"bootstrap.servers": pipeline.bootstrap, "transactional.id": f"{pipeline.topics.prefix}abort"})
    aborting.init_transactions(30)
    aborting.begin_transaction()
    aborting.produce(pipeline.topics.events, event_value("acme", "never"), b"acme", partition_of(b"acme", 4))
    aborting.flush(30)
    aborting.abort_transaction(30)
    chainer.publish(("acme", "id-2"))
    pipeline.start("verifier", worker_id="v")
    chainer.chain()

    wait_for_verified(pipeline, "acme", 7)

    assert violations_of(pipeline) == []
    assert verified_seqs(pipeline) == {"acme": [4, 6, 7]}


def test_kills_and_pauses_lose_and_repeat_nothing(make_pipeline: MakePipeline) -> None:
    """Two verifiers under load, killed again and again, one paused until the group gives its work to the other: each
    record is verified exactly once.
    """
    pipeline = make_pipeline(store=False, partitions=4)
    chainer = Chainer(pipeline)
    tenants = [f"tenant-{n}" for n in range(20)]
    workers = [pipeline.start("verifier", worker_id=f"v{n}") for n in range(2)]
    for turn in range(4):
        chainer.publish(*_events(turn * 100, turn * 100 + 100, *tenants))
        chainer.chain()
        victim = workers[turn % 2]
        if turn == 1:
            victim.process.send_signal(signal.SIGSTOP)
            wait_for_verified(pipeline, tenants[0], 200)
            wait_for_verified(pipeline, tenants[1], 200)
            victim.process.send_signal(signal.SIGCONT)
        else:
            victim.kill()
            workers[turn % 2] = pipeline.start("verifier", worker_id=f"v{turn % 2}")

    result = pipeline.harness().check("verified", timeout_seconds=90)

    assert result.kinds == {Kind.GENESIS: 20, Kind.EVENT: 8000}


def test_a_recreated_chained_topic_is_a_rollback(make_pipeline: MakePipeline) -> None:
    """Audit.chained deleted and made anew is noticed by its UUID: each verified partition is reported and stands still,
    and the worker stays up to say so.
    """
    pipeline = make_pipeline(store=False, partitions=1)
    chainer = Chainer(pipeline)
    worker = pipeline.start("verifier", worker_id="v")
    chainer.publish(*_events(0, 5, "acme"))
    logs = chainer.expected()
    chainer.write(logs)
    wait_for_verified(pipeline, "acme", 5)
    admin = AdminClient({"bootstrap.servers": pipeline.bootstrap})
    futures = cast("dict[str, Future[None]]", admin.delete_topics([pipeline.topics.chained], operation_timeout=30))
    futures[pipeline.topics.chained].result()
    wait_for(lambda: _recreate(pipeline), timeout_seconds=30, what="the topic to be made anew")
    chainer.write(logs)

    found = wait_for_violations(pipeline, 1)

    assert found == [("rollback", "!partition-0", None)]
    assert worker.process.poll() is None
    assert worker.terminate() == 0


def test_a_source_that_expired_before_it_was_checked_halts(make_pipeline: MakePipeline) -> None:
    """If the source is gone before the verifier could read it, nothing is claimed either way: it ends with code 2."""
    pipeline = make_pipeline(store=False, partitions=1)
    chainer = Chainer(pipeline)
    worker = pipeline.start("verifier", worker_id="v")
    chainer.publish(*_events(0, 5, "acme"))
    chainer.chain()
    wait_for_verified(pipeline, "acme", 5)
    assert worker.terminate() == 0
    chainer.publish(*_events(5, 10, "acme"))
    chainer.chain()
    admin = AdminClient({"bootstrap.servers": pipeline.bootstrap})
    place = TopicPartition(pipeline.topics.events, 0, 8)
    cast("dict[TopicPartition, Future[None]]", admin.delete_records([place]))[place].result()

    worker = pipeline.start("verifier", worker_id="v")

    assert worker.wait(timeout_seconds=30) == 2
    assert "source-expired" in worker.log()
    assert violations_of(pipeline) == []
    assert verified_seqs(pipeline) == {"acme": [1, 2, 3, 4, 5]}


@pytest.mark.parametrize("setting", [{"window_offsets": 17}, {"partitions": 8}, {"instance": "mallory.example"}])
def test_a_verifier_set_up_for_another_instance_ends(make_pipeline: MakePipeline, setting: dict[str, object]) -> None:
    """Another window, partition count or instance than the chains pin is an error of the set-up, not a violation."""
    pipeline = make_pipeline(store=False)
    chainer = Chainer(pipeline)
    chainer.publish(*_events(0, 5, "acme"))
    chainer.chain()

    worker = pipeline.start("verifier", **setting)

    assert worker.wait(timeout_seconds=30) == 1
    assert "InstanceDiffers" in worker.log()
    assert violations_of(pipeline) == []


def test_a_stop_is_obeyed_while_kafka_is_away(own_stack: Callable[..., LocalStack], tmp_path: Path) -> None:
    """With the broker gone the verifier stays up and not ready, and SIGTERM still ends it in time with code 0."""
    stack = own_stack(database=False)
    pipeline = Pipeline(stack.kafka, "away", tmp_path)
    pipeline.create_topics()
    worker = pipeline.start("verifier", worker_id="v")
    wait_for(lambda: worker.get("/readyz")[0] == 200, timeout_seconds=30, what="the verifier to be ready")
    stack.kafka_kill()
    wait_for(lambda: worker.get("/readyz")[0] == 503, timeout_seconds=60, what="the verifier to be not ready")
    try:
        assert worker.terminate(timeout_seconds=10) == 0
    finally:
        pipeline.close()


def _recreate(pipeline: Pipeline) -> bool:
    """Create the topics that are missing; a topic under deletion cannot be created yet."""
    with contextlib.suppress(ConfigError):
        pipeline.create_topics()
    return pipeline.topics.chained in TopicAdmin(pipeline.connection).describe([pipeline.topics.chained])
