"""A call of librdkafka that never comes back does not hang the command that made it."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from sealstream.kafka import writer as writing
from sealstream.kafka.transactions import AbortRequired, ProducerFatal
from sealstream.kafka.writer import AtomicWriter, Record
from sealstream.schemas.errors import Unreachable

RECORDS = [Record("t", 0, b"k", b"v")]


class FakeProducer:
    """A producer whose calls succeed, but for those that are given something to do."""

    def __init__(self, **steps: Any) -> None:
        self.calls: list[str] = []
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        def call(*_arguments: object) -> None:
            self.calls.append(name)
            self._steps.get(name, lambda: None)()

        return call


class FakeGroup:
    """A group's consumer."""

    def consumer_group_metadata(self) -> object:
        """Return something."""
        return object()


def raising(code: int, **flags: bool) -> Any:
    """Return what raises an error of librdkafka."""

    def fail() -> None:
        raise KafkaException(KafkaError(code, "the reason", **flags))

    return fail


def write(producer: FakeProducer, *, timeout_seconds: float = 5.0) -> None:
    """Write one record with a fake producer."""
    writer = AtomicWriter(cast("Producer", producer), timeout_seconds=timeout_seconds)
    writer.write(RECORDS, [], cast("Consumer", FakeGroup()))


def test_the_steps_have_their_order() -> None:
    """Offsets are sent behind the records, and the commit comes last."""
    producer = FakeProducer()
    write(producer)

    assert producer.calls == ["begin_transaction", "produce", "send_offsets_to_transaction", "commit_transaction"]


def test_a_call_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends in an error that says so, and the producer, which the call still has, is left alone."""
    monkeypatch.setattr(writing, "HANG_SECONDS", 0.2)
    comes_back = threading.Event()
    producer = FakeProducer(send_offsets_to_transaction=lambda: comes_back.wait(60))
    with pytest.raises(Unreachable, match="send_offsets"):
        write(producer)
    comes_back.set()

    assert producer.calls == ["begin_transaction", "produce", "send_offsets_to_transaction"]


def test_what_is_refused_is_aborted_and_says_why() -> None:
    """A refusal is told as it is, also if the abort fails as well."""
    refused = raising(KafkaError.UNKNOWN_MEMBER_ID, txn_requires_abort=True)
    for abort in (lambda: None, raising(KafkaError._STATE)):
        producer = FakeProducer(send_offsets_to_transaction=refused, abort_transaction=abort)
        with pytest.raises(AbortRequired, match="UNKNOWN_MEMBER_ID"):
            write(producer)
        assert producer.calls[-1] == "abort_transaction"


def test_a_producer_at_its_end_is_told_from_a_cluster_that_is_away() -> None:
    """Who was fenced must not try again; who could not reach Kafka may."""
    fenced = FakeProducer(commit_transaction=raising(KafkaError._FENCED, fatal=True))
    with pytest.raises(ProducerFatal):
        write(fenced)
    slow = FakeProducer(commit_transaction=raising(KafkaError._TIMED_OUT, retriable=True))
    with pytest.raises(Unreachable, match="commit") as away:
        write(slow, timeout_seconds=0.3)

    assert "abort_transaction" not in fenced.calls + slow.calls
    assert isinstance(away.value.__cause__, ProducerFatal)
