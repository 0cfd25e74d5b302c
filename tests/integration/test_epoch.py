"""Chains go on in other topics: more partitions, a source that was made anew; old workers stop, new ones wait."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import cast

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from sealstream.deploy.stack import LocalStack
from sealstream.kafka.partition import partition_of
from sealstream.processors.epochs import Start, carry_out, has_begun, prepare
from sealstream.schemas.entry import Kind, parse
from sealstream.schemas.errors import ConfigError, EpochEnded, EpochNotDrained, EpochNotStarted, InstanceDiffers
from sealstream.worker.settings import PREFIX, load_settings
from support.commands import command
from support.harness import AuditHarness, read_log
from support.processing import PARTITIONS, TENANTS, committed, load, publish, run_engine, verify_chains, wait_ready
from support.publish import RawRecord, event_value
from support.workers import Pipeline, wait_for

MakePipeline = Callable[..., Pipeline]
WAIT_SECONDS = 30.0
MORE = 8


@pytest.fixture
def chained(make_pipeline: MakePipeline) -> Pipeline:
    """An instance of which 50 events and three bad records are chained, with no worker running."""
    pipeline = make_pipeline(store=False)
    load(pipeline, "e", 50)
    publish(pipeline, *(RawRecord(None, b"x", partition=n) for n in range(3)))
    run_engine(pipeline, until=lambda: sum(committed(pipeline).values()) == 53)
    return pipeline


def begin(pipeline: Pipeline, *, source_gone: bool = False, wait_seconds: float = WAIT_SECONDS) -> int:
    """Start an epoch as the command does, within this process; return how many chains go on."""
    settings = load_settings(pipeline.environment | {f"{PREFIX}WORKER_ID": "operator"})
    asked = Start(settings=settings, old=settings.connection(), source_gone=source_gone, by="ada", why="growth")
    plan = prepare(asked, wait_seconds=wait_seconds)
    carry_out(plan)
    assert has_begun(settings)
    return plan.chains


def load_next(pipeline: Pipeline, prefix: str, count: int) -> None:
    """Publish to the new epoch: events of the ten tenants and of two new ones, and bad records everywhere."""
    tenants = [*TENANTS, "new-1", "new-2"]
    records = [RawRecord(tenants[n % 12].encode(), event_value(tenants[n % 12], f"{prefix}-{n}")) for n in range(count)]
    bad = [RawRecord(None, b"x", partition=n) for n in range(pipeline.genesis.partitions)]
    publish(pipeline, *records, *bad)


def checked(before: Pipeline, after: Pipeline, *, gone: AuditHarness | None = None) -> AuditHarness:
    """Return the checker of the new epoch, which knows the old one."""
    harness = after.harness()
    harness.before = before.harness() if gone is None else gone
    return harness


def go_on(pipeline: Pipeline, records: int) -> None:
    """Run a worker of an epoch until so many records are chained."""
    run_engine(pipeline, until=lambda: sum(committed(pipeline).values()) == records)


def test_four_partitions_become_eight(chained: Pipeline) -> None:
    """Each chain goes on unbroken in the partition of its tenant: its first entry there is of kind 8, byte for byte.

    An event of the old epoch that comes again in the new one is an event: offsets of two topics cannot be compared.
    """
    after = chained.next_epoch(partitions=MORE)
    assert begin(after) == 13
    load_next(after, "n", 60)
    again = [RawRecord(TENANTS[n % 10].encode(), event_value(TENANTS[n % 10], f"e-{n}")) for n in range(20)]
    publish(after, *again, *again)
    go_on(after, 100 + MORE)

    found = checked(chained, after).check()
    assert (found.kinds[Kind.EVENT], found.kinds[Kind.DUPLICATE]) == (80, 20)
    assert (found.kinds[Kind.EPOCH], found.kinds[Kind.GENESIS]) == (13, 2 + MORE - 3)
    verify_chains(chained, after)
    for record in (parse(r.entry) for records in found.expected for r in records):
        if record.kind is Kind.EPOCH:
            assert record.seq > 1
            assert not record.tenant.startswith("!") or record.tenant == f"!partition-{record.partition}"


@pytest.mark.slow
def test_a_chain_that_was_silent_for_an_epoch_still_knows_where_it_comes_from(chained: Pipeline) -> None:
    """Over two epochs, with fewer partitions at last: each first entry names the topic that the chain really left."""
    second = chained.next_epoch(partitions=MORE)
    begin(second)
    quiet, loud = TENANTS[0], TENANTS[1]
    publish(second, RawRecord(loud.encode(), event_value(loud, "second")))
    go_on(second, 1)
    third = second.next_epoch(partitions=2)
    begin(third)
    publish(third, *(RawRecord(t.encode(), event_value(t, "third")) for t in (quiet, loud)))
    go_on(third, 2)

    harness = checked(chained, third)
    harness.before = checked(chained, second)
    assert harness.check().kinds == {Kind.EPOCH: 2, Kind.EVENT: 2}


def test_workers_of_the_wrong_epoch_stop(chained: Pipeline) -> None:
    """Before the start a worker of the new epoch chains nothing; behind it one of the old epoch chains nothing more."""
    after = chained.next_epoch(partitions=MORE)
    after.create_topics()
    load_next(after, "early", 12)
    with pytest.raises(EpochNotStarted) as early:
        run_engine(after, until=lambda: False)
    assert "sealstream epoch start" in early.value.hint
    begin(after)
    load(chained, "late", 10)
    with pytest.raises(EpochEnded) as late:
        run_engine(chained, until=lambda: False)
    assert "SEALSTREAM_EPOCH=2" in late.value.hint
    go_on(after, 12 + MORE)

    assert sum(committed(chained).values()) == 53
    assert len([r for log in read_log(after.connection, after.topics.chained, MORE) for r in log]) > 20


@pytest.mark.slow
def test_an_epoch_does_not_end_while_something_is_left_to_do(chained: Pipeline) -> None:
    """Records that are not chained, an open transaction and a running worker each keep the old epoch from its end."""
    after = chained.next_epoch(partitions=MORE)
    with pytest.raises(ConfigError, match="epoch 1 is the first"):
        begin(chained, wait_seconds=0)
    load(chained, "left", 10)
    with pytest.raises(EpochNotDrained, match="is chained up to offset"):
        begin(after, wait_seconds=0)
    go_on(chained, 63)
    producer = Producer({"bootstrap.servers": chained.bootstrap, "transactional.id": f"{chained.topics.prefix}open"})
    producer.init_transactions(WAIT_SECONDS)
    producer.begin_transaction()
    producer.produce(chained.topics.events, b"never", b"acme", 0)
    producer.flush(WAIT_SECONDS)
    with pytest.raises(EpochNotDrained, match="a transaction is open"):
        begin(after, wait_seconds=0)
    producer.abort_transaction(WAIT_SECONDS)
    worker = chained.start("processor")
    wait_ready(worker)
    with pytest.raises(EpochNotDrained, match=r"still has partitions|joining or leaving"):
        begin(after, wait_seconds=10)
    worker.terminate()
    assert not has_begun(load_settings(after.environment))

    begin(after)


def test_a_start_that_broke_off_goes_on_where_it_was(chained: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the old epoch's end and the new one's beginning nothing is chained; a second run begins it."""
    after = chained.next_epoch(partitions=MORE)
    with monkeypatch.context() as broken:
        broken.setattr("sealstream.processors.epochs._carry", _fail)
        with pytest.raises(RuntimeError, match="pulled"):
            begin(after)
    with pytest.raises(EpochEnded):
        run_engine(chained, until=lambda: False)
    with pytest.raises(EpochNotStarted):
        run_engine(after, until=lambda: False)
    begin(after)
    load_next(after, "n", 24)
    go_on(after, 24 + MORE)

    assert checked(chained, after).check().kinds[Kind.EPOCH] == 13


def _fail(*arguments: object) -> None:
    del arguments
    raise RuntimeError("the plug was pulled")


@pytest.mark.slow
def test_a_source_that_was_made_anew_is_left_for_another_one(chained: Pipeline, kafka_bootstrap: str) -> None:
    """A deleted source cannot show that it was chained to its end: an operator says so, and the chains go on."""
    harness, before = chained.harness(), chained.topic_id(chained.topics.events)
    harness.keep()
    harness.gone = True
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})  # kept: its requests end with it
    futures = cast("dict[str, Future[None]]", admin.delete_topics([chained.topics.events]))
    futures[chained.topics.events].result(WAIT_SECONDS)

    def is_new() -> bool:
        chained.create_topics()
        return chained.topic_id(chained.topics.events) not in (None, before)

    wait_for(is_new, timeout_seconds=WAIT_SECONDS, what="the new source")
    after = chained.next_epoch(partitions=PARTITIONS)
    with pytest.raises(InstanceDiffers, match="made anew") as refused:
        begin(after, wait_seconds=0)
    assert "--source-gone" in refused.value.hint
    begin(after, source_gone=True)
    load_next(after, "n", 24)
    go_on(after, 24 + PARTITIONS)

    assert checked(chained, after, gone=harness).check().kinds[Kind.EPOCH] == 13


@pytest.mark.slow
def test_an_epoch_can_go_on_in_another_cluster(chained: Pipeline, own_stack: Callable[..., LocalStack]) -> None:
    """Chains move to other brokers as they move to other topics, and the old workers stop there as well."""
    other = own_stack(database=False).kafka
    after = chained.next_epoch(partitions=MORE, bootstrap=other)
    why = ("--by", "ada", "--why", "new brokers", "--yes")
    code, document = command(after, "epoch", "start", *why, "--from-kafka", chained.bootstrap, "--wait", "30")
    assert (code, document.get("chains")) == (0, 13), document
    load_next(after, "n", 24)
    go_on(after, 24 + MORE)
    with pytest.raises(EpochEnded):
        run_engine(chained, until=lambda: False)

    assert checked(chained, after).check().kinds[Kind.EPOCH] == 13
    verify_chains(chained, after)


def test_a_tenant_moves_with_the_number_of_partitions() -> None:
    """The cases above are worth something: among their tenants some move, and some stay."""
    moved = [partition_of(t.encode(), PARTITIONS) != partition_of(t.encode(), MORE) for t in TENANTS]

    assert any(moved)
    assert not all(moved)
