"""The verifier's transaction: what becomes of it where librdkafka does not come back from sending offsets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

import pytest
from confluent_kafka import Consumer

from sealstream.kafka.transactions import ProducerFatal
from sealstream.sinks.verifier.output import Output, is_connectivity
from sealstream.sinks.verifier.source import Interrupted
from sealstream.worker.settings import Settings, load_settings


class HangingProducer:
    """A producer whose call to send offsets comes back only when it is told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.comes_back = threading.Event()

    def begin_transaction(self) -> None:
        """As confluent-kafka's producer."""
        self.calls.append("begin")

    def send_offsets_to_transaction(self, *_arguments: object) -> None:
        """As librdkafka 2.16 after its coordinator was away."""
        self.calls.append("send_offsets")
        self.comes_back.wait(30)

    def commit_transaction(self, _seconds: float) -> None:
        """As confluent-kafka's producer."""
        self.calls.append("commit")

    def abort_transaction(self, _seconds: float) -> None:
        """As confluent-kafka's producer."""
        self.calls.append("abort")

    def consumer_group_metadata(self) -> str:
        """As confluent-kafka's consumer."""
        return "membership"


def _making(made: HangingProducer) -> Callable[[Settings], HangingProducer]:
    def make(_settings: Settings) -> HangingProducer:
        return made

    return make


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> HangingProducer:
    """A producer that hangs, in the place of the real one."""
    made = HangingProducer()
    monkeypatch.setattr("sealstream.sinks.verifier.output.producer", _making(made))
    monkeypatch.setattr("sealstream.sinks.verifier.output.HANG_SECONDS", 0.2)
    monkeypatch.setattr("sealstream.sinks.verifier.output.STOP_GRACE_SECONDS", 0.1)
    return made


def _output(stopping: Callable[[], bool]) -> Output:
    return Output(load_settings({"SEALSTREAM_KAFKA": "127.0.0.1:1"}), stopping=stopping)


def test_a_producer_that_hangs_is_left_behind(producer: HangingProducer) -> None:
    """The session ends as one whose broker is away, which the next one repairs; the producer is not touched again."""
    output = _output(lambda: False)
    with pytest.raises(ProducerFatal) as caught:
        output.commit([], cast("Consumer", producer))
    output.abort()
    producer.comes_back.set()

    assert is_connectivity(caught.value)
    assert producer.calls == ["begin", "send_offsets"]


def test_a_stop_does_not_wait_for_a_producer_that_hangs(
    producer: HangingProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is told to stop gives the call its grace, and then leaves the transaction to be aborted."""
    monkeypatch.setattr("sealstream.sinks.verifier.output.HANG_SECONDS", 30)
    output = _output(lambda: "send_offsets" in producer.calls)
    with pytest.raises(Interrupted):
        output.commit([], cast("Consumer", producer))
    producer.comes_back.set()

    assert producer.calls == ["begin", "send_offsets"]
