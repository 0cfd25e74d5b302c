"""The verifier worker on real Kafka, fed by a chainer of the tests' own: what holds, what does not, and crashes."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from sealstream.deploy.stack import LocalStack
from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.partition import partition_of
from sealstream.schemas.entry import Kind, payload_digest
from sealstream.schemas.errors import ConfigError
from sealstream.sinks.verifier.records import Chain
from sealstream.sinks.verifier.state import chain_key, pack_chain
from sealstream.sinks.verifier.violations import list_violations, resolve
from sealstream.worker.settings import load_settings
from support.forging import (
    At,
    Chainer,
    Log,
    abort_events,
    altering,
    cut_log,
    verified_seqs,
    violations_of,
    wait_for_verified,
    wait_for_violations,
    with_entry,
)
from support.publish import RawRecord, event_value, publish_raw
from support.workers import Pipeline, wait_for

MakePipeline = Callable[..., Pipeline]


@pytest.fixture
def on_exit() -> Iterator[contextlib.ExitStack]:
    """What is to be closed when the test ends."""
    with contextlib.ExitStack() as stack:
        yield stack


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


@pytest.mark.parametrize(("forge", "last", "after"), [(_edit, 2, 5), (_fork, 5, 5)])
def test_a_resolved_violation_lets_the_feed_go_on(
    make_pipeline: MakePipeline, forge: Callable[[Log, int], Log], last: int, after: int
) -> None:
    """A resolution is recorded beside the violation, and behind it the tenant's records are published again, also by a
    verifier that was started anew; nothing is reported a second time.
    """
    pipeline = make_pipeline(store=False)
    chainer = Chainer(pipeline)
    settings = load_settings(pipeline.environment)
    worker = pipeline.start("verifier", worker_id="v")
    chainer.publish(*_events(0, 5, "acme"))
    chainer.chain(altering((At("acme", 3), forge)))
    wait_for_violations(pipeline, 1)
    (recorded,) = list_violations(settings)
    assert (recorded.violation.tenant, recorded.violation.seq, recorded.resolution) == ("acme", 3, None)

    resolve(settings, recorded.violation.id, by="auditor@example.com", why="a test of ours")
    wait_for(lambda: "the verified feed goes on" in worker.log(), timeout_seconds=30, what="the resolution to be read")
    chainer.publish(*_events(5, 8, "acme"))
    chainer.chain()
    wait_for_verified(pipeline, "acme", 8)
    assert worker.terminate() == 0
    pipeline.start("verifier", worker_id="v")
    chainer.publish(*_events(8, 10, "acme"))
    chainer.chain()
    wait_for_verified(pipeline, "acme", 10)

    assert verified_seqs(pipeline)["acme"] == [*range(1, last + 1), *range(after + 1, 11)]
    (recorded,) = list_violations(settings)
    assert recorded.resolution is not None
    assert recorded.resolution.by == "auditor@example.com"


def test_verified_records_that_changed_behind_its_back_are_found(make_pipeline: MakePipeline) -> None:
    """When the verifier comes back it compares what it had verified with what is there now: another entry is edited,
    once.
    """
    pipeline = make_pipeline(store=False, partitions=1)
    chainer = Chainer(pipeline)
    worker = pipeline.start("verifier", worker_id="v")
    chainer.publish(*_events(0, 5, "acme", "globex"))
    chainer.chain()
    wait_for_verified(pipeline, "globex", 5)
    wait_for_verified(pipeline, "acme", 5)
    assert worker.terminate() == 0
    # Brokers refuse changed segments, so the memory is changed instead: for the verifier that is the same difference.
    remembered = pack_chain(Chain(b"acme", 6, bytes(32)))
    producer = Producer({"bootstrap.servers": pipeline.bootstrap})
    producer.produce(pipeline.topics.verifier, remembered, chain_key(0, b"acme"), 0)
    assert producer.flush(30) == 0

    pipeline.start("verifier", worker_id="v")

    assert wait_for_violations(pipeline, 1) == [("edited", "acme", 5)]
    chainer.publish(*_events(5, 8, "acme", "globex"))
    chainer.chain()
    wait_for_verified(pipeline, "globex", 8)
    assert len(violations_of(pipeline)) == 1, "what follows on the entry is at fault no more"


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
    abort_events(pipeline, 1)
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
    _expire(pipeline, pipeline.topics.events, 8)

    worker = pipeline.start("verifier", worker_id="v")

    assert worker.wait(timeout_seconds=30) == 2
    assert "source-expired" in worker.log()
    assert violations_of(pipeline) == []
    assert verified_seqs(pipeline) == {"acme": [1, 2, 3, 4, 5]}


def test_what_was_verified_may_expire(make_pipeline: MakePipeline) -> None:
    """Logs that expire to their very end after all of it was verified stop nothing, although markers of transactions
    that no reader sees stand at their ends.
    """
    pipeline = make_pipeline(store=False, partitions=1)
    chainer = Chainer(pipeline)
    worker = pipeline.start("verifier", worker_id="v")
    chainer.publish(*_events(0, 5, "acme"))
    abort_events(pipeline, 3)
    chainer.chain()
    wait_for_verified(pipeline, "acme", 5)
    ends = [_log_end(pipeline, topic) for topic in (pipeline.topics.chained, pipeline.topics.events)]
    assert ends == [7, 9]  # genesis, five events, a marker; five events, three that were aborted, a marker
    wait_for(lambda: _group_offsets(pipeline) == ends, timeout_seconds=30, what="the verifier to move over the markers")
    assert worker.terminate() == 0
    for topic in (pipeline.topics.chained, pipeline.topics.events):
        _expire(pipeline, topic, -1)

    pipeline.start("verifier", worker_id="v")
    chainer.publish(*_events(5, 8, "acme"))
    chainer.skip(5)
    chainer.chain()

    wait_for_verified(pipeline, "acme", 8)
    assert violations_of(pipeline) == []


@pytest.mark.slow
def test_a_log_cut_on_the_brokers_disk_is_truncated(
    own_stack: Callable[..., LocalStack], tmp_path: Path, on_exit: contextlib.ExitStack
) -> None:
    """Segments of audit.chained that lose their end on a broker's disk are reported; the other partition goes on."""
    stack = own_stack(database=False)
    pipeline = on_exit.enter_context(contextlib.closing(Pipeline(stack.kafka, "cut", tmp_path, partitions=2)))
    pipeline.create_topics()
    chainer = Chainer(pipeline)
    tenants = {partition_of(name.encode(), 2): name for name in ("acme", "globex", "initech", "umbrella")}
    worker = pipeline.start("verifier", worker_id="v")
    for number in range(3):
        chainer.publish(*_events(5 * number, 5 * number + 5, *tenants.values()))
        chainer.chain()
    for tenant in tenants.values():
        wait_for_verified(pipeline, tenant, 15)
    assert worker.terminate() == 0
    stack.kafka_stop()
    cut_log(stack.directory, f"{pipeline.topics.chained}-0")
    stack.kafka_start()

    pipeline.start("verifier", worker_id="v")

    assert wait_for_violations(pipeline, 1) == [("truncated", "!partition-0", None)]
    chainer = Chainer(pipeline)
    chainer.publish(*_events(15, 20, tenants[1]))
    logs = chainer.expected()
    chainer.write([[], logs[1][-5:]])
    wait_for_verified(pipeline, tenants[1], 20)


def test_two_verifiers_under_one_name_do_not_both_run(make_pipeline: MakePipeline) -> None:
    """A worker id belongs to one process: one of the two ends and says why, also while nothing is to be verified."""
    pipeline = make_pipeline(store=False)
    chainer = Chainer(pipeline)
    chainer.publish(*_events(0, 5, "acme"))
    chainer.chain()
    first = pipeline.start("verifier", worker_id="same")
    wait_for_verified(pipeline, "acme", 5)
    second = pipeline.start("verifier", worker_id="same")

    both = (first, second)
    wait_for(lambda: any(w.process.poll() is not None for w in both), timeout_seconds=60, what="one of them to end")
    ended, other = both if first.process.poll() is not None else both[::-1]
    assert ended.wait(timeout_seconds=1) == 1
    assert "WriterConflict" in ended.log() or "ProducerFatal" in ended.log()
    chainer.publish(*_events(5, 10, "acme"))
    chainer.chain()
    wait_for_verified(pipeline, "acme", 10)
    assert other.terminate() == 0


def test_a_verifier_set_up_for_another_instance_ends(make_pipeline: MakePipeline) -> None:
    """Another window, partition count or instance than the chains pin is an error of the set-up, not a violation."""
    pipeline = make_pipeline(store=False)
    chainer = Chainer(pipeline)
    chainer.publish(*_events(0, 5, "acme"))
    chainer.chain()

    workers = [
        pipeline.start("verifier", window_offsets=17),
        pipeline.start("verifier", partitions=8),
        pipeline.start("verifier", instance="mallory.example"),
    ]

    for worker in workers:
        assert worker.wait(timeout_seconds=30) == 1
        assert "InstanceDiffers" in worker.log()
    assert violations_of(pipeline) == []


def test_a_stop_is_obeyed_while_kafka_is_away(
    own_stack: Callable[..., LocalStack], tmp_path: Path, on_exit: contextlib.ExitStack
) -> None:
    """With the broker gone the verifier stays up and not ready, and SIGTERM still ends it in time with code 0."""
    stack = own_stack(database=False)
    pipeline = on_exit.enter_context(contextlib.closing(Pipeline(stack.kafka, "away", tmp_path)))
    pipeline.create_topics()
    worker = pipeline.start("verifier", worker_id="v")
    wait_for(lambda: worker.get("/readyz")[0] == 200, timeout_seconds=30, what="the verifier to be ready")
    stack.kafka_kill()
    wait_for(lambda: worker.get("/readyz")[0] == 503, timeout_seconds=60, what="the verifier to be not ready")

    assert worker.terminate(timeout_seconds=10) == 0


def _recreate(pipeline: Pipeline) -> bool:
    """Create the topics that are missing; a topic under deletion cannot be created yet."""
    with contextlib.suppress(ConfigError):
        pipeline.create_topics()
    return pipeline.topics.chained in TopicAdmin(pipeline.connection).describe([pipeline.topics.chained])


def _expire(pipeline: Pipeline, topic: str, before: int) -> None:
    """Delete records of partition 0 as retention does, up to an offset, or all of them (-1)."""
    place = TopicPartition(topic, 0, before)
    admin = AdminClient({"bootstrap.servers": pipeline.bootstrap})
    cast("dict[TopicPartition, Future[None]]", admin.delete_records([place]))[place].result()


def _log_end(pipeline: Pipeline, topic: str) -> int:
    """Return the offset behind the last record of partition 0, markers included."""
    client = Consumer({"bootstrap.servers": pipeline.bootstrap, "group.id": "ends"})
    try:
        return client.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1]
    finally:
        client.close()


def _group_offsets(pipeline: Pipeline) -> list[int]:
    """Return the committed offsets of the verifiers' group in partition 0 of audit.chained and audit.events."""
    places = [TopicPartition(topic, 0) for topic in (pipeline.topics.chained, pipeline.topics.events)]
    group = f"{pipeline.genesis.instance}-verifier"
    client = Consumer({"bootstrap.servers": pipeline.bootstrap, "group.id": group})
    try:
        return [place.offset for place in client.committed(places, timeout=10)]
    finally:
        client.close()
