"""From a checked event to a receipt: the gateway's audit log, and what became of each event in words of HTTP."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sealstream.producers import AuditLog, Receipt
from sealstream.producers.gateway.problems import Problem, event_invalid, unavailable
from sealstream.schemas.errors import ClientUnusable, DeliveryError, EventInvalid, QueueFull, SealstreamError
from sealstream.schemas.event import AuditEvent
from sealstream.worker import metrics
from sealstream.worker.logs import logger

RETRY_SECONDS: Final = 5
_SAID_SECONDS: Final = 10.0
_PUBLISHED: Final = metrics.GATEWAY_EVENTS.labels("published")
_FAILED: Final = metrics.GATEWAY_EVENTS.labels("failed")
_FULL: Final = metrics.GATEWAY_EVENTS.labels("full")


class State(StrEnum):
    """How far an event has come when its receipt is given."""

    PUBLISHED = "published"
    SPOOLED = "spooled"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a client is told of an event that was taken.

    Arguments:
        receipt: The log's receipt.
        state: How far the event has come.
        partition: Where it stands in the source topic, if it is published.
        offset: As above.
    """

    receipt: Receipt
    state: State
    partition: int | None
    offset: int | None

    def document(self, instance: str) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "instance": instance,
            "tenant": self.receipt.tenant,
            "id": self.receipt.id,
            "digest": self.receipt.digest.hex(),
            "state": self.state,
            "partition": self.partition,
            "offset": self.offset,
        }


class Publisher:
    """Publishes events, and says what became of them.

    Arguments:
        audit: The audit log; without a producer's name, whose count would make a retry another event.
    """

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._said_seconds = -_SAID_SECONDS

    def log(self, event: AuditEvent) -> Receipt:
        """Hand an event over, and return its receipt.

        Raises:
            Problem: The event breaks the model, or there is no room for it.
        """
        try:
            return self._audit.log(event)
        except EventInvalid as error:
            raise event_invalid(error) from None
        except QueueFull:
            _FULL.inc()
            raise unavailable("busy", "the gateway holds as many events as it may", RETRY_SECONDS) from None
        except ClientUnusable:
            raise unavailable("stopping", "the gateway is about to end", RETRY_SECONDS) from None

    async def taken(self, receipt: Receipt) -> Taken:
        """Wait until an event is published.

        Raises:
            Problem: It was not published, as far as is known.
        """
        try:
            place = await receipt.published()
        except DeliveryError as error:
            self._failed(error)
            raise unavailable(
                "not-published",
                "Kafka has not confirmed the event in time; it may have arrived",
                RETRY_SECONDS,
                hint="repeat the request as it is: with the same id or Idempotency-Key no event counts twice",
            ) from None
        _PUBLISHED.inc()
        return Taken(receipt, State.PUBLISHED, place.partition, place.offset)

    def _failed(self, error: SealstreamError) -> None:
        """Count a failure, and say it once in a while: in an outage there is one for each request."""
        _FAILED.inc()
        now = time.monotonic()
        if now - self._said_seconds >= _SAID_SECONDS:
            self._said_seconds = now
            logger().warning(error.message, hint=error.hint)


def problem_of_all(problems: list[Problem]) -> Problem | None:
    """Return the one problem that a whole batch has, if all of its events failed for want of Kafka or room."""
    return problems[0] if all(problem.retry_after_seconds is not None for problem in problems) else None
