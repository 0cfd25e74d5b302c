"""What commands write at once: records and a group's offsets are all there, or nothing is."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.client import KafkaConnection, consumer_config, transactional_producer_config
from sealstream.kafka.topics import TopicSpec
from sealstream.kafka.transactions import AbortRequired, ProducerFatal
from sealstream.kafka.writer import AtomicWriter, Record
from sealstream.schemas.errors import Unreachable
from support.brokers import fault_broker
from support.harness import read_log
from support.workers import wait_for

PARTITIONS = 2
PATIENCE_SECONDS = 30.0


@dataclass
class Place:
    """A topic and a group of a test's own."""

    address: str
    topic: str = field(default_factory=lambda: f"t-{uuid.uuid4().hex[:8]}")

    @property
    def connection(self) -> KafkaConnection:
        """How to reach the broker."""
        return KafkaConnection(self.address)

    def create(self) -> None:
        """Create the topic."""
        TopicAdmin(self.connection).create([TopicSpec(self.topic, PARTITIONS, {}, {})], replication=1)

    def writer(self, *, timeout_seconds: float = PATIENCE_SECONDS) -> AtomicWriter:
        """Return a writer; all of a place have the same transactional id."""
        config: dict[str, Any] = dict(
            transactional_producer_config(
                self.connection, client_id="test", transactional_id=self.topic, transaction_timeout_seconds=60
            )
        )
        return AtomicWriter(Producer(config | {"log_level": 0}), timeout_seconds=timeout_seconds)

    def group(self) -> Consumer:
        """Return a consumer of the group that has not joined it."""
        config = consumer_config(self.connection, client_id="test", group=self.topic)
        return Consumer(dict(config | {"log_level": 0}))

    def records(self, *values: bytes) -> list[Record]:
        """Return records with these values, one partition after the other."""
        return [Record(self.topic, number % PARTITIONS, b"key", value) for number, value in enumerate(values)]

    def offsets(self, offset: int) -> list[TopicPartition]:
        """Return the same offset for each partition."""
        return [TopicPartition(self.topic, number, offset, "words") for number in range(PARTITIONS)]

    def found(self) -> tuple[set[bytes | None], set[int]]:
        """Return the values and the group's offsets that a reader of committed records sees."""
        logs = read_log(self.connection, self.topic, PARTITIONS)
        group = self.group()
        try:
            places = group.committed([TopicPartition(self.topic, n) for n in range(PARTITIONS)], PATIENCE_SECONDS)
        finally:
            group.close()
        return {r.value for log in logs for r in log}, {place.offset for place in places if place.offset >= 0}


@pytest.fixture
def place(kafka_bootstrap: str) -> Place:
    """A place on the shared broker."""
    place = Place(kafka_bootstrap)
    place.create()
    return place


def broken(records: list[Record]) -> Iterator[Record]:
    """Yield records, and then fail."""
    yield from records
    raise KeyboardInterrupt


def test_records_and_offsets_are_there_together(place: Place) -> None:
    """Behind the call a reader of committed records finds every record, and the group's offsets."""
    writer = place.writer()
    writer.open()
    writer.write(place.records(b"a", b"b", b"c"), place.offsets(7), place.group())

    assert place.found() == ({b"a", b"b", b"c"}, {7})


def test_what_breaks_off_leaves_nothing_and_blocks_nobody(place: Place) -> None:
    """Also after a Ctrl-C between two records no reader sees any of them or waits, and the same can be done again."""
    writer, group = place.writer(), place.group()
    writer.open()
    with pytest.raises(KeyboardInterrupt):
        writer.write(broken(place.records(b"never")), place.offsets(1), group)
    assert place.found() == (set(), set())
    writer.write(place.records(b"again"), place.offsets(2), group)

    assert place.found() == ({b"again"}, {2})


class Former:
    """A member that answers as it did before it left."""

    def __init__(self, member: Consumer) -> None:
        self._metadata: object = member.consumer_group_metadata()

    def consumer_group_metadata(self) -> object:
        """Return what it was."""
        return self._metadata


def test_who_is_no_member_any_more_writes_nothing(place: Place) -> None:
    """A member of the group writes; once it has left, its offsets are refused, and the records with them."""
    member, assigned = place.group(), list[object]()
    member.subscribe([place.topic], on_assign=lambda _consumer, places: assigned.extend(places))

    def has_joined() -> bool:
        member.poll(0.1)
        return bool(assigned)

    wait_for(has_joined, timeout_seconds=PATIENCE_SECONDS, what="the member to join")
    writer = place.writer()
    writer.open()
    writer.write(place.records(b"the member's"), place.offsets(1), member)
    former = Former(member)
    member.close()
    with pytest.raises(AbortRequired) as refused:
        writer.write(place.records(b"never"), place.offsets(2), cast("Consumer", former))

    assert refused.value.step == "send_offsets"
    assert place.found() == ({b"the member's"}, {1})


def test_a_second_one_puts_the_first_one_out(place: Place) -> None:
    """Who opens last writes; what the one before had under way is ended, and it learns that its place is taken."""
    first, second = place.writer(), place.writer()
    first.open()

    def overtaken() -> Iterator[Record]:
        yield from place.records(b"never")
        second.open()

    with pytest.raises(ProducerFatal):
        first.write(overtaken(), place.offsets(1), place.group())
    second.write(place.records(b"second"), place.offsets(2), place.group())

    assert place.found() == ({b"second"}, {2})


@pytest.mark.slow
def test_it_gives_up_on_a_coordinator_that_is_away() -> None:
    """It does not wait for ever: the error says that Kafka does not answer, and the next writer ends what is open."""
    with fault_broker() as broker:
        place = Place(broker.address)
        place.create()
        writer = place.writer(timeout_seconds=2)
        writer.open()

        def killing() -> Iterator[Record]:
            yield from place.records(b"never")
            broker.kill()

        with pytest.raises(Unreachable, match="send_offsets") as away:
            writer.write(killing(), place.offsets(1), place.group())
        assert "doing the same again is safe" in away.value.hint
        with pytest.raises(Unreachable, match="init"):
            place.writer(timeout_seconds=1).open()
        broker.start()
        after = place.writer()
        after.open()
        after.write(place.records(b"after"), place.offsets(2), place.group())

        assert place.found() == ({b"after"}, {2})
