"""A stand-in for Kafka in unit tests of the producers: it answers when, and as, the test says."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicNames
from sealstream.producers.options import ProducerOptions
from sealstream.producers.receipt import Delivery, Published
from sealstream.producers.record import Record
from sealstream.producers.transport import Answer
from sealstream.schemas.errors import DeliveryError
from sealstream.schemas.event import Actor, AuditEvent


def options(**changes: Any) -> ProducerOptions:
    """Return options that nothing is wrong with, with some of them changed."""
    plain: dict[str, Any] = {
        "kafka": KafkaConnection("broker.invalid:9092"),
        "instance": "demo.example/audit",
        "topics": TopicNames(),
        "producer_id": None,
        "schema_id": None,
        "when_full": "block",
        "timeout_seconds": 5.0,
        "queue_events_max": 1000,
        "queue_bytes_max": 4 * 1024 * 1024,
        "linger_seconds": 0.005,
        "compression": "lz4",
        "delivery_timeout_seconds": 30.0,
        "close_timeout_seconds": 5.0,
    }
    return ProducerOptions(**plain | changes)


def event(**fields: Any) -> AuditEvent:
    """Return a valid event with some of its fields given."""
    plain: dict[str, Any] = {"tenant": "acme", "actor": Actor("user", "u-1"), "action": "document.updated"}
    return AuditEvent(**plain | fields)


def timed_out(event_id: str = "ev") -> DeliveryError:
    """Return what the transport says when Kafka does not answer."""
    return DeliveryError(f"event acme/{event_id}: timed out", hint="wait", code="_MSG_TIMED_OUT", retriable=True)


class FakeTransport:
    """Takes records, and tells the sender's thread what became of them once the test has answered.

    Arguments:
        at_once: Whether every record is published as soon as it is sent.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self.sent: list[Record] = []
        self.refusal: DeliveryError | None = None
        self.poll_error: Exception | None = None
        self.abandoned = False
        self.is_dead = False
        self.connection_failure = ""
        self._at_once = at_once
        self._open: list[Delivery] = []
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._gathered: list[Answer] = []
        self.gathered_by: list[int] = []  # the threads that have taken answers beside the sender's own
        self.on_gather: Callable[[], object] | None = None  # stands for a log handler that the client calls meanwhile

    def send(self, delivery: Delivery) -> None:
        """Take a record, or refuse it as the test has set."""
        if self.refusal is not None:
            raise self.refusal
        self.sent.append(delivery)
        self._open.append(delivery)
        if self._at_once:
            self.publish()

    @property
    def waiting(self) -> int:
        """How many records wait for an answer."""
        return len(self._open)

    def publish(self) -> None:
        """Answer the oldest open record: it is published."""
        delivery = self._open.pop(0)
        self._answers.put((delivery, Published(0, self.sent.index(delivery)), None))

    def fail(self, error: DeliveryError) -> None:
        """Answer the oldest open record: it failed."""
        self.answer(error, self._open[0].value)

    def answer(self, error: DeliveryError, value: bytes) -> None:
        """Answer the oldest open record: it failed, and had this value."""
        delivery = self._open.pop(0)
        self._answers.put((delivery, error, value))

    def poll(self, timeout_seconds: float) -> list[Answer]:
        """Return the answers that are there, once the first has come in time."""
        if self.poll_error is not None:
            error, self.poll_error = self.poll_error, None
            raise error
        try:
            answers = self.gathered() or [self._answers.get(timeout=timeout_seconds)]
        except queue.Empty:
            return []
        while not self._answers.empty():
            answers.append(self._answers.get())
        return answers

    def gather(self) -> None:
        """Take what answers there are, on the thread of whoever calls."""
        self.gathered_by.append(threading.get_ident())
        if self.on_gather is not None:
            self.on_gather()
        while not self._answers.empty():
            self._gathered.append(self._answers.get())

    def gathered(self) -> list[Answer]:
        """Return what was taken."""
        answers = list(self._gathered)
        del self._gathered[: len(answers)]
        return answers

    def abandon(self) -> None:
        """Fail everything that is open."""
        self.abandoned = True
        while self._open:
            self.fail(DeliveryError("given up", code="_PURGE_QUEUE"))
