"""The way to Kafka: one idempotent producer of librdkafka."""

from __future__ import annotations

import ctypes
import logging
import os
import time
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Final, Protocol, TypeAlias, cast
from weakref import WeakSet

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from sealstream.kafka.client import PARTITIONER, ClientConfig
from sealstream.kafka.topics import EVENT_BYTES_MAX
from sealstream.producers.delivery_errors import delivery_error
from sealstream.producers.options import ProducerOptions
from sealstream.producers.receipt import Delivery, Published
from sealstream.schemas.errors import ConfigError, DeliveryError

_logger = logging.getLogger(__name__)

Answer: TypeAlias = tuple[Delivery, Published | DeliveryError, bytes | None]
"""What became of a record that was sent; with its value if it failed."""
_Report: TypeAlias = Callable[[Delivery, KafkaError | None, Message], None]

_New: TypeAlias = Callable[[type[Published], tuple[int, int]], Published]

_FAILURE_REPEAT_SECONDS: Final = 60.0
"""librdkafka repeats the same connection error at least this often while it lasts; an older one is over."""
_KBYTES_MAX: Final = 2_147_483_647  # librdkafka's largest: the bounds are the core's


class Transport(Protocol):
    """What the sender needs of Kafka; a test may stand in for it."""

    @property
    def is_dead(self) -> bool:
        """Whether it will not send anything any more, so that another one has to be made."""
        ...

    @property
    def connection_failure(self) -> str:
        """What was last wrong with the connection; empty if nothing was lately."""
        ...

    def send(self, delivery: Delivery) -> None:
        """Hand a delivery's record over without waiting; :meth:`poll` returns its one answer later.

        Raises:
            DeliveryError: It was not taken.
        """
        ...

    def poll(self, timeout_seconds: float) -> Sequence[Answer]:
        """Wait for answers for at most so long, and return them; those of a call that raises come with the next."""
        ...

    def gather(self) -> None:
        """Take what answers there are, for :meth:`gathered`; from any thread that is not within a poll already."""
        ...

    def gathered(self) -> Sequence[Answer]:
        """Return the answers that were taken already."""
        ...

    def abandon(self) -> None:
        """Give up everything that was sent and has no answer; :meth:`poll` then returns it as failed."""
        ...


class KafkaTransport:
    """One producer of librdkafka, which batches, retries and keeps the order per partition.

    Arguments:
        options: The audit log's options.

    Raises:
        ConfigError: librdkafka refuses the options.
    """

    def __init__(self, options: ProducerOptions) -> None:
        self._topic = options.topics.events
        self._timeout_seconds = options.delivery_timeout_seconds
        self._answers: list[Answer] = []
        self._report = self._reporter()
        self._connection_failure = ("", 0.0)
        self._is_dead = False
        callbacks = {"error_cb": self._connection_failed, "logger": _logger}
        try:
            self._producer = Producer(producer_config(options) | callbacks)
        except (KafkaException, ValueError) as error:
            raise ConfigError(f"Kafka's client refuses the options: {error}") from error
        _alive.add(self)

    @property
    def is_dead(self) -> bool:
        """Whether librdkafka reported a fatal error: the producer's state is lost."""
        return self._is_dead

    @property
    def connection_failure(self) -> str:
        """What librdkafka last said about the connection; empty if that is over."""
        text, at_seconds = self._connection_failure
        is_recent = time.monotonic() - at_seconds < self._timeout_seconds + _FAILURE_REPEAT_SECONDS
        return text if is_recent else ""

    def send(self, delivery: Delivery) -> None:
        """Hand a record to librdkafka, which copies it."""
        # As a method is bound to its object: one object for an event on its way, where a partial() takes three.
        answered = MethodType(self._report, delivery)
        value, key, headers = delivery.value, delivery.tenant, delivery.headers
        try:
            # By place: topic, value, key, any partition, two names of the callback, no time, headers. By keyword the
            # call takes half as long again.
            self._producer.produce(self._topic, value, key, -1, answered, None, 0, headers)
        except KafkaException as error:
            raise self._error(error.args[0], delivery.tenant, delivery.id) from error
        except BufferError as error:
            raise self._error(KafkaError(KafkaError._QUEUE_FULL), delivery.tenant, delivery.id) from error

    def poll(self, timeout_seconds: float) -> Sequence[Answer]:
        """Serve delivery reports, connection errors and log lines."""
        self._producer.poll(timeout_seconds)
        return self.gathered()

    def gather(self) -> None:
        """Serve what is there, on the caller's thread."""
        self._producer.poll(0)

    def gathered(self) -> Sequence[Answer]:
        """Return the answers that were served since the last call."""
        answers = self._answers.copy()
        del self._answers[: len(answers)]  # not all: another thread may have added some
        return answers

    def abandon(self) -> None:
        """Purge librdkafka's queues. What was in flight may have been written nevertheless."""
        self._producer.purge(blocking=False)

    def keep_for_ever(self) -> None:
        """Keep the producer from ever being freed in a forked process.

        Freeing it waits for threads of librdkafka that a fork does not copy: the process would hang at its end.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))

    def _reporter(self) -> _Report:
        """Return what takes librdkafka's report of one message."""
        add = self._answers.append
        new = cast("_New", tuple.__new__)  # a named tuple's own way takes three times as long

        def report(delivery: Delivery, error: KafkaError | None, message: Message) -> None:
            if error is None:
                add((delivery, new(Published, (message.partition() or 0, message.offset() or 0)), None))
            else:
                add((delivery, self._error(error, delivery.tenant, delivery.id), message.value()))

        return report

    def _error(self, error: KafkaError, tenant: str, event_id: str) -> DeliveryError:
        where = f"event {tenant}/{event_id} to topic {self._topic}"
        self._is_dead = self._is_dead or error.fatal()
        return delivery_error(error, where, self._timeout_seconds, self.connection_failure)

    def _connection_failed(self, error: KafkaError) -> None:
        """Remember why Kafka could not be reached: a delivery that times out does not say it."""
        self._is_dead = self._is_dead or error.fatal()
        self._connection_failure = (error.str(), time.monotonic())


def producer_config(options: ProducerOptions) -> ClientConfig:
    """Return librdkafka's settings for an audit log."""
    client_id = options.producer_id or "sealstream-producer"
    return options.kafka.config(client_id) | {
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": PARTITIONER,
        # Uncompressed, as librdkafka counts it: what it sends always fits the topic, however badly it compresses.
        "message.max.bytes": EVENT_BYTES_MAX,
        "compression.type": options.compression,
        "linger.ms": options.linger_seconds * 1000,
        # With a spool nothing is gained by giving up: as long as librdkafka itself repeats, order is kept, and nothing
        # arrives twice. 0 stands for ever.
        "delivery.timeout.ms": 0 if options.spool else int(options.delivery_timeout_seconds * 1000),
        # The core bounds what is outstanding, by events and by bytes, so librdkafka need not.
        "queue.buffering.max.messages": 0,
        "queue.buffering.max.kbytes": _KBYTES_MAX,
    }


_alive: Final[WeakSet[KafkaTransport]] = WeakSet()


def _keep_inherited_producers() -> None:
    for transport in _alive:
        transport.keep_for_ever()


os.register_at_fork(after_in_child=_keep_inherited_producers)
