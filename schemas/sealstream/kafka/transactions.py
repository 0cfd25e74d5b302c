"""The call policy for transactions: what each error of librdkafka means for the transaction it happened in.

- ``retriable()``: the same call again, until the transaction's time is over.
- ``txn_requires_abort()``: the transaction must be aborted, and can then be done again (:class:`AbortRequired`).
- everything else, or an outcome that stays unknown: the producer is at its end (:class:`ProducerFatal`); a new process
  learns the outcome from the committed offsets.

Source: KIP-98 and librdkafka's transactional producer API.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer

from sealstream.schemas.errors import SealstreamError

T = TypeVar("T")

RETRY_PAUSE_SECONDS: Final = 0.1
BUFFER_POLL_SECONDS: Final = 0.05
CONNECTIVITY_CODES: Final = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._DESTROY_BROKER,  # noqa: SLF001 - a request waited for a connection that was given up for another one
        KafkaError._TIMED_OUT,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._RESOLVE,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.LEADER_NOT_AVAILABLE,
    }
)
"""Errors that say no more than that the cluster cannot be reached at the moment."""


class TransactionError(SealstreamError):
    """A step of a transaction failed.

    Arguments:
        step: The step: ``begin``, ``produce``, ``send_offsets``, ``commit``, ``abort``, ``init``.
        error: What librdkafka said.
    """

    def __init__(self, step: str, error: KafkaError) -> None:
        super().__init__(f"transaction step {step} failed: {error.name()}: {error.str()}")
        self.step = step
        self.error = error

    @property
    def is_connectivity(self) -> bool:
        """Whether the error only says that the cluster cannot be reached at the moment."""
        return self.error.code() in CONNECTIVITY_CODES


class AbortRequired(TransactionError):
    """The transaction must be aborted; after that the same work may be done again."""


class ProducerFatal(TransactionError):
    """The producer is at its end: fenced, or with an outcome that is not known. Only a restart helps."""


def transactional_call(step: str, call: Callable[[], T], *, timeout_seconds: float) -> T:
    """Make one call of a transaction, and the same again as long as librdkafka says that it may be.

    Arguments:
        step: Its name, for the error.
        call: The call. It must be one that librdkafka allows to be repeated (all but ``produce``).
        timeout_seconds: How long to repeat it.

    Raises:
        AbortRequired: The transaction must be aborted.
        ProducerFatal: The producer is at its end, or the time is over with the outcome unknown.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            return call()
        except KafkaException as exception:
            error: KafkaError = exception.args[0]
            if error.txn_requires_abort():
                raise AbortRequired(step, error) from exception
            if not error.retriable() or error.fatal() or time.monotonic() >= deadline:
                raise ProducerFatal(step, error) from exception
            time.sleep(RETRY_PAUSE_SECONDS)


def produce_waiting(producer: Producer, produce: Callable[[], None], *, timeout_seconds: float) -> None:
    """Make one ``produce`` call, waiting for room in librdkafka's bounded queue if there is none.

    Raises:
        AbortRequired: No room within the time given: the brokers do not take what was produced.
        ProducerFatal: The producer is at its end.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            return produce()
        except BufferError as exception:
            if time.monotonic() >= deadline:
                raise AbortRequired("produce", KafkaError(KafkaError._QUEUE_FULL)) from exception
            producer.poll(BUFFER_POLL_SECONDS)
        except KafkaException as exception:
            error: KafkaError = exception.args[0]
            raise (ProducerFatal if error.fatal() else AbortRequired)("produce", error) from exception
