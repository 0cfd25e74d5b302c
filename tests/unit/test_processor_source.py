"""How much the processor's source takes at once: as much as it may, and less where transactions take too long."""

from __future__ import annotations

from typing import cast

import pytest
from confluent_kafka import KafkaError

from sealstream.kafka.transactions import AbortRequired, ProducerFatal, TransactionError
from sealstream.processors.batch import Batch
from sealstream.processors.clients import Clients
from sealstream.processors.cycle import Cycle
from sealstream.processors.engine import Engine
from sealstream.processors.source import Source
from sealstream.processors.status import Status
from sealstream.worker.settings import load_settings

RECORDS_MAX = 100


class Record:
    """A record of partition 0."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def offset(self) -> int:
        """As confluent-kafka's message."""
        return self._offset

    def partition(self) -> int:
        """As confluent-kafka's message."""
        return 0

    def error(self) -> None:
        """As confluent-kafka's message."""

    def __len__(self) -> int:
        return 1


class Endless:
    """A consumer that always has more records."""

    def __init__(self) -> None:
        self._next = 0

    def poll(self, _seconds: float) -> Record:
        """As confluent-kafka's consumer."""
        self._next += 1
        return Record(self._next - 1)

    def consume(self, count: int, _seconds: float) -> list[Record]:
        """As confluent-kafka's consumer."""
        return [self.poll(0) for _ in range(count)]

    def assign(self, _places: object) -> None:
        """As confluent-kafka's consumer."""


def _endless(_clients: Clients, *, on_statistics: object) -> Endless:
    del on_statistics
    return Endless()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine that reads an endless source; its transactions are the tests' to judge."""
    monkeypatch.setattr(Clients, "consumer", _endless)
    environment = {"SEALSTREAM_KAFKA": "127.0.0.1:1", "SEALSTREAM_WORKER_ID": "one"}
    made = Engine(load_settings(environment, batch_records_max=RECORDS_MAX), Status("t"))
    source_of(made).read_from({0: 0})
    return made


def source_of(engine: Engine) -> Source:
    """Return an engine's source."""
    return engine._source  # pyright: ignore[reportPrivateUsage]


def size_of(source: Source) -> int:
    """Return the number of records of the next batch."""
    batch = source.take()
    assert batch is not None
    return batch.count


def test_a_batch_takes_as_much_as_it_may(engine: Engine) -> None:
    """Under load, batches are full."""
    assert size_of(source_of(engine)) == RECORDS_MAX


def test_batches_shrink_to_one_record_and_grow_back(engine: Engine) -> None:
    """However slow a worker is, there is a size of batch that it can do; once it can, it goes back to full ones."""
    source = source_of(engine)
    sizes: list[int] = []
    for _ in range(9):
        source.shrink()
        sizes.append(size_of(source))
    assert sizes == [50, 25, 12, 6, 3, 1, 1, 1, 1]
    for _ in range(9):
        source.grow()
    assert size_of(source) == RECORDS_MAX


class Overdue:
    """A cycle whose transaction was begun long ago."""

    opened_at = -1_000_000.0


@pytest.mark.parametrize("kind", [AbortRequired, ProducerFatal])
def test_a_transaction_that_took_too_long_is_done_again_in_smaller_ones(
    engine: Engine, kind: type[TransactionError]
) -> None:
    """Its coordinator gave it up. The same again would be given up again, for ever; and it is no reason to end."""
    for _ in range(3):
        engine._cycle = cast("Cycle", Overdue())  # pyright: ignore[reportPrivateUsage]
        error = kind("commit", KafkaError(KafkaError.INVALID_PRODUCER_EPOCH))
        engine._recover(error, Batch(0, starts={0: 0}))  # pyright: ignore[reportPrivateUsage]
    source_of(engine).read_from({0: 0})
    assert size_of(source_of(engine)) == RECORDS_MAX // 8
