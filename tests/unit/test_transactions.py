"""The call policy for transactions: what is repeated, what is aborted, what ends the producer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from sealstream.kafka import transactions
from sealstream.kafka.transactions import (
    CONNECTIVITY_CODES,
    AbortRequired,
    ProducerFatal,
    TransactionError,
    produce_waiting,
    transactional_call,
)
from sealstream.schemas.errors import SealstreamError

RETRIABLE = KafkaError(KafkaError._TIMED_OUT, "slow", retriable=True)
ABORTABLE = KafkaError(KafkaError.INVALID_TXN_STATE, "again", txn_requires_abort=True)
FATAL = KafkaError(KafkaError._FENCED, "another one", fatal=True)
UNKNOWN = KafkaError(KafkaError.UNKNOWN, "who knows")


class Calls:
    """A call that raises what it is told to, one after the other, and then succeeds."""

    def __init__(self, *errors: Exception | KafkaError) -> None:
        self._errors: Iterator[Exception | KafkaError] = iter(errors)
        self.count = 0

    def __call__(self) -> str:
        """Raise the next error, or return."""
        self.count += 1
        error = next(self._errors, None)
        if error is None:
            return "done"
        raise error if isinstance(error, Exception) else KafkaException(error)


class Endless(Calls):
    """A call that raises the same for ever."""

    def __init__(self, error: Exception | KafkaError) -> None:
        super().__init__()
        self._error = error

    def __call__(self) -> str:
        """Raise."""
        self.count += 1
        raise self._error if isinstance(self._error, Exception) else KafkaException(self._error)


class FakeProducer:
    """A producer whose queue has room after so many polls."""

    def __init__(self) -> None:
        self.polls = 0

    def poll(self, timeout_seconds: float) -> int:
        """Count."""
        del timeout_seconds
        self.polls += 1
        return 0


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat at once."""
    monkeypatch.setattr(transactions, "RETRY_PAUSE_SECONDS", 0.001)


def waiting(produce: Callable[[], str], timeout_seconds: float = 5.0) -> FakeProducer:
    """Produce with a fake producer and return it."""
    producer = FakeProducer()
    produce_waiting(cast("Producer", producer), cast("Callable[[], None]", produce), timeout_seconds=timeout_seconds)
    return producer


class TestCall:
    """Calls that may be repeated: init, begin, send offsets, commit, abort."""

    def test_success(self) -> None:
        """A call that succeeds is made once, and its result is returned."""
        call = Calls()
        assert transactional_call("commit", call, timeout_seconds=5) == "done"
        assert call.count == 1

    def test_retriable_is_repeated(self) -> None:
        """The same call is made again as long as librdkafka says that it may be."""
        call = Calls(RETRIABLE, RETRIABLE, RETRIABLE)
        assert transactional_call("commit", call, timeout_seconds=5) == "done"
        assert call.count == 4

    def test_retriable_until_the_deadline(self) -> None:
        """When the time is over the outcome is unknown, and only a new process can learn it."""
        call = Endless(RETRIABLE)
        began = time.monotonic()
        with pytest.raises(ProducerFatal) as caught:
            transactional_call("commit", call, timeout_seconds=0.2)
        assert 0.2 <= time.monotonic() - began < 2
        assert call.count > 2
        assert (caught.value.step, caught.value.error.code()) == ("commit", KafkaError._TIMED_OUT)

    def test_abort(self) -> None:
        """What requires an abort is reported as such at once, for the same work to be done again."""
        call = Calls(ABORTABLE)
        with pytest.raises(AbortRequired) as caught:
            transactional_call("send_offsets", call, timeout_seconds=5)
        assert (call.count, caught.value.step) == (1, "send_offsets")

    def test_abort_after_retries(self) -> None:
        """A repeated call may still end in an abort."""
        call = Calls(RETRIABLE, ABORTABLE)
        with pytest.raises(AbortRequired):
            transactional_call("commit", call, timeout_seconds=5)
        assert call.count == 2

    @pytest.mark.parametrize(
        "error", [FATAL, UNKNOWN, KafkaError(KafkaError._FENCED, "both", fatal=True, retriable=True)]
    )
    def test_fatal(self, error: KafkaError) -> None:
        """What is fatal, or nothing that librdkafka has a way out of, is never repeated."""
        call = Calls(error)
        with pytest.raises(ProducerFatal):
            transactional_call("commit", call, timeout_seconds=5)
        assert call.count == 1

    def test_other_errors_pass(self) -> None:
        """A mistake in the program is not taken for one of Kafka's."""
        with pytest.raises(RuntimeError, match="mistake"):
            transactional_call("commit", Calls(RuntimeError("mistake")), timeout_seconds=5)


class TestProduce:
    """The one call that must not be repeated after an error."""

    def test_success(self) -> None:
        """A record that is taken is produced once."""
        call = Calls()
        assert waiting(call).polls == 0
        assert call.count == 1

    def test_full_queue_is_waited_for(self) -> None:
        """While the bounded queue has no room, the producer is polled until it has."""
        call = Calls(BufferError(), BufferError())
        assert waiting(call).polls == 2
        assert call.count == 3

    def test_full_queue_for_too_long(self) -> None:
        """A queue that stays full means that the brokers take nothing: the transaction is aborted."""
        with pytest.raises(AbortRequired) as caught:
            waiting(Endless(BufferError()), timeout_seconds=0.05)
        assert caught.value.error.code() == KafkaError._QUEUE_FULL

    @pytest.mark.parametrize("error", [ABORTABLE, UNKNOWN, RETRIABLE])
    def test_error(self, error: KafkaError) -> None:
        """A record that is refused ends the transaction: producing it again could produce it twice."""
        call = Calls(error)
        with pytest.raises(AbortRequired):
            waiting(call)
        assert call.count == 1

    def test_fatal(self) -> None:
        """A fenced producer is at its end."""
        with pytest.raises(ProducerFatal):
            waiting(Calls(FATAL))


class TestErrors:
    """What the errors say."""

    def test_text(self) -> None:
        """The error names the step and what librdkafka said."""
        error = AbortRequired("commit", ABORTABLE)
        assert str(error) == "transaction step commit failed: INVALID_TXN_STATE: again"
        assert isinstance(error, SealstreamError)

    def test_connectivity(self) -> None:
        """Whether the cluster could not be reached is told from whether it refused."""
        assert TransactionError("commit", RETRIABLE).is_connectivity
        assert all(TransactionError("commit", KafkaError(code)).is_connectivity for code in CONNECTIVITY_CODES)
        assert not any(TransactionError("commit", error).is_connectivity for error in (ABORTABLE, FATAL, UNKNOWN))
