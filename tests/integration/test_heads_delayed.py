"""Heads on a real Kafka that do not say yet, or never will, what the committed offset and audit.chained say."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from sealstream.kafka.partition import partition_of
from sealstream.processors.chaining import Link
from sealstream.processors.clients import Clients
from sealstream.processors.engine import Engine
from sealstream.processors.heads import pack_link
from sealstream.processors.status import Status
from sealstream.schemas.errors import HeadsDiffer
from sealstream.worker.settings import PREFIX, load_settings
from support.heads import read_heads, set_offset, write_chain_head, write_partition_head
from support.processing import PARTITIONS, committed, load, publish, run_engine
from support.publish import RawRecord, event_value
from support.workers import Pipeline, wait_for

MakePipeline = Callable[..., Pipeline]
ACME = partition_of(b"acme", PARTITIONS)
WAIT_SECONDS = 60.0


@pytest.fixture
def chained(make_pipeline: MakePipeline) -> Pipeline:
    """An instance of which ten events of one tenant are chained, with no worker running."""
    pipeline = make_pipeline(store=False, request_timeout_seconds=60)
    publish(pipeline, *(RawRecord(b"acme", event_value("acme", f"e-{n}")) for n in range(10)))
    run_engine(pipeline, until=lambda: committed(pipeline).get(ACME) == 10)
    return pipeline


class HeldProducer:
    """A producer whose transaction stays open when it is committed, while the group's offsets are there at once.

    So a commit surfaces that is written to the group's partition, and not yet to those of heads and entries.
    """

    def __init__(self, producer: Producer) -> None:
        self.real = producer
        self.places: list[TopicPartition] = []
        self.consumer: Consumer | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def send_offsets_to_transaction(self, places: list[TopicPartition], *_rest: object) -> None:
        """Keep the offsets for the commit."""
        self.places = places

    def commit_transaction(self, _timeout_seconds: float) -> None:
        """Commit the offsets alone, and leave the transaction open."""
        assert self.consumer is not None
        self.real.flush(WAIT_SECONDS)
        self.consumer.commit(offsets=self.places, asynchronous=False)


def hold_a_commit(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> HeldProducer:
    """Let a worker chain what the source holds, and hold its transaction open after the offsets were committed."""
    held: list[HeldProducer] = []
    make_producer, make_consumer = Clients.producer, Clients.consumer
    consumers: list[Consumer] = []

    def consumer(clients: Clients, **arguments: Any) -> Consumer:
        consumers.append(make_consumer(clients, **arguments))
        return consumers[-1]

    def producer(clients: Clients) -> Producer:
        held.append(HeldProducer(make_producer(clients)))
        held[-1].consumer = consumers[-1]
        return cast("Producer", held[-1])

    with monkeypatch.context() as patched:
        patched.setattr(Clients, "producer", producer)
        patched.setattr(Clients, "consumer", consumer)
        run_engine(pipeline, until=lambda: committed(pipeline).get(ACME) == 15, transaction_timeout_seconds=120)
    return held[-1]


@pytest.mark.slow
def test_heads_that_surface_late_are_waited_for(chained: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that sees a new committed offset and the heads before it waits for the rest of that commit.

    It neither stops nor goes on from old heads: that would fork the chain.
    """
    publish(chained, *(RawRecord(b"acme", event_value("acme", f"late-{n}")) for n in range(5)))
    held = hold_a_commit(chained, monkeypatch)
    environment = chained.environment | {f"{PREFIX}WORKER_ID": "successor"}
    settings = load_settings(environment)
    status, stop = Status(chained.topics.events), threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        engine = Engine(settings, status)
        try:
            while not stop.is_set():
                batch = engine.step()
                if batch is not None:
                    engine.process(batch)
            engine.settle()
        except BaseException as error:  # noqa: BLE001  # the test's own thread looks at it
            failed.append(error)
        finally:
            engine.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        words = "committed offset 15 and heads at 10 to agree"
        wait_for(lambda: words in status.waiting or bool(failed), timeout_seconds=WAIT_SECONDS, what="the wait")
        assert not failed
        assert committed(chained)[ACME] == 15
        held.real.commit_transaction(WAIT_SECONDS)
        publish(chained, RawRecord(b"acme", event_value("acme", "after")))
        wait_for(
            lambda: committed(chained).get(ACME) == 16 or bool(failed), timeout_seconds=WAIT_SECONDS, what="the rest"
        )
        assert not failed
    finally:
        stop.set()
        thread.join(WAIT_SECONDS)

    assert chained.harness().check().events == 16


def test_a_head_that_differs_from_the_last_chained_record_stops_the_worker(chained: Pipeline) -> None:
    """Heads that agree among themselves and with the offset, but not with audit.chained, are no heads to go on from."""
    wrong = Link(b"acme", 11, b"\x07" * 32)
    write_chain_head(chained, "acme", pack_link(wrong))
    write_partition_head(chained, ACME, folded=read_heads(chained)[ACME].heads.folded)
    with pytest.raises(HeadsDiffer, match="chain acme does not end at seq 10 as its head says") as refused:
        run_engine(chained, until=lambda: False, request_timeout_seconds=2)

    assert "heads rebuild" in refused.value.hint
    assert committed(chained)[ACME] == 10


@pytest.mark.slow
def test_heads_behind_the_chained_log_stop_the_worker(chained: Pipeline) -> None:
    """Where offset and heads were both set back, what is chained already is not chained a second time."""
    head = write_partition_head(chained, ACME, position=8, last_offset=7)
    set_offset(chained, ACME, 8)
    with pytest.raises(HeadsDiffer, match="goes on behind source offset 7"):
        run_engine(chained, until=lambda: False, request_timeout_seconds=2)

    assert head.position == 10
    load(chained, "more", 1)
    assert committed(chained)[ACME] == 8
