"""What a failed transaction means to the processor: another try, a new producer, or the end of the process."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import time
from typing import cast

import pytest
from confluent_kafka import KafkaError, Producer

from sealstream.kafka.transactions import AbortRequired, ProducerFatal, TransactionError
from sealstream.processors.batch import Batch
from sealstream.processors.cycle import Cycle
from sealstream.processors.engine import Engine
from sealstream.processors.status import Status
from sealstream.schemas.errors import WriterConflict
from sealstream.worker.settings import load_settings


class OpenedNow:
    """A cycle, as far as its transaction's age goes: it was begun when it is asked."""

    @property
    def opened_at(self) -> float:
        """Return the present time."""
        return time.monotonic()


def _error(code: int, *, fatal: bool = False, abort: bool = False) -> KafkaError:
    return KafkaError(code, "provoked", fatal, False, abort)


def _refused() -> TransactionError:
    return AbortRequired("commit", _error(KafkaError.MSG_SIZE_TOO_LARGE, abort=True))


def _out_of_order() -> TransactionError:
    return ProducerFatal("send_offsets", _error(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, fatal=True))


def _away() -> TransactionError:
    return ProducerFatal("commit", _error(KafkaError._TIMED_OUT))


def _fenced() -> TransactionError:
    return ProducerFatal("send_offsets", _error(KafkaError._FENCED, fatal=True))


@pytest.fixture
def engine() -> Engine:
    """An engine with a producer that nothing was produced by."""
    made = Engine(load_settings({"SEALSTREAM_KAFKA": "127.0.0.1:1", "SEALSTREAM_WORKER_ID": "one"}), Status("t"))
    made._producer = Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    return made


def _fail(engine: Engine, error: TransactionError, **starts: int) -> None:
    engine._cycle = cast("Cycle", OpenedNow())
    engine._recover(error, Batch(1, starts={int(name[1:]): start for name, start in starts.items()}))


def test_what_the_brokers_refuse_is_tried_once_more(engine: Engine) -> None:
    """The same records twice end the worker, with a hint, also if the second batch holds others beside them."""
    _fail(engine, _refused(), p0=7)
    assert engine._producer is not None
    with pytest.raises(AbortRequired) as caught:
        _fail(engine, _refused(), p0=7, p1=3)

    assert "topics check" in caught.value.hint


def test_other_records_may_fail_next(engine: Engine) -> None:
    """An error of another place in the source is an error of its own."""
    _fail(engine, _refused(), p0=7)
    _fail(engine, _refused(), p0=9, p1=3)


def test_a_producer_at_its_end_is_replaced_once(engine: Engine) -> None:
    """Where librdkafka lost count of its messages, a new producer settles the outcome; if it fails as well, it ends."""
    _fail(engine, _out_of_order(), p0=7)
    assert engine._producer is None
    with pytest.raises(ProducerFatal):
        _fail(engine, _out_of_order(), p0=7)


def test_brokers_that_are_away_are_no_failure_of_the_records(engine: Engine) -> None:
    """However often, the worker stays; the outcome being unknown, each time with a new producer."""
    for _ in range(5):
        _fail(engine, _away(), p0=7)
        assert engine._producer is None


def test_a_namesake_is_not_fought_with(engine: Engine) -> None:
    """Who is fenced ends at once, and names the setting."""
    with pytest.raises(WriterConflict) as caught:
        _fail(engine, _fenced(), p0=7)

    assert "SEALSTREAM_WORKER_ID" in caught.value.hint
