"""How a processor's producer starts where the coordinator takes its time."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from sealstream.processors.clients import Clients
from sealstream.processors.engine import Engine
from sealstream.processors.status import Status
from sealstream.schemas.errors import SealstreamError, Unreachable
from sealstream.worker.settings import load_settings


class SlowProducer:
    """A producer whose start fails until it does not."""

    made: list[SlowProducer]
    failures: list[KafkaException]

    def __init__(self) -> None:
        self.made.append(self)
        self.starts = 0

    def init_transactions(self, _seconds: float) -> None:
        """As confluent-kafka's producer."""
        self.starts += 1
        if self.failures:
            raise self.failures.pop(0)


def _failure(code: int, *, retriable: bool) -> KafkaException:
    return KafkaException(KafkaError(code, "provoked", False, retriable, False))


@pytest.fixture
def producers(monkeypatch: pytest.MonkeyPatch) -> list[SlowProducer]:
    """The producers that were made."""
    SlowProducer.made, SlowProducer.failures = [], []
    monkeypatch.setattr(Clients, "producer", _make)
    return SlowProducer.made


def _make(_clients: Clients) -> SlowProducer:
    return SlowProducer()


def _begin(engine: Engine) -> None:
    for _ in engine._begin_producing():  # pyright: ignore[reportPrivateUsage]
        pass


@pytest.fixture
def engine() -> Engine:
    """An engine that has not begun."""
    return Engine(load_settings({"SEALSTREAM_KAFKA": "127.0.0.1:1", "SEALSTREAM_WORKER_ID": "one"}), Status("t"))


def test_a_start_that_takes_long_is_gone_on_with(engine: Engine, producers: list[SlowProducer]) -> None:
    """Else the first start might reach the coordinator behind the second one, and fence it: a worker would put itself
    out, and call it a namesake.
    """
    SlowProducer.failures = [_failure(KafkaError._TIMED_OUT, retriable=True) for _ in range(2)]
    for _ in range(2):
        with pytest.raises(Unreachable):
            _begin(engine)
    _begin(engine)

    assert [producer.starts for producer in producers] == [3]


def test_a_producer_that_cannot_start_is_not_used_again(engine: Engine, producers: list[SlowProducer]) -> None:
    """After an error that no repetition mends, the next try is a new producer's."""
    SlowProducer.failures = [_failure(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, retriable=False)]
    with pytest.raises(SealstreamError, match="begin producing"):
        _begin(engine)
    _begin(engine)

    assert [producer.starts for producer in producers] == [1, 1]


def test_a_producer_that_never_starts_is_left(
    engine: Engine, producers: list[SlowProducer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a minute a start hangs, and another producer takes its place."""
    monkeypatch.setattr("sealstream.processors.engine.START_SECONDS_MAX", 0.0)
    SlowProducer.failures = [_failure(KafkaError._TIMED_OUT, retriable=True)]
    with pytest.raises(Unreachable):
        _begin(engine)
    _begin(engine)

    assert [producer.starts for producer in producers] == [1, 1]
