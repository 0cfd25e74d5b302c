"""From a checked event to a receipt: the gateway's audit log, and what became of each event in words of HTTP."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sealstream.producers import AuditLog, Published, Receipt
from sealstream.producers.gateway.problems import Problem, event_invalid, unavailable
from sealstream.schemas.codec import encode_event
from sealstream.schemas.errors import (
    ClientUnusable,
    DeliveryError,
    EventInvalid,
    QueueFull,
    SealstreamError,
    SpoolError,
    Unreachable,
)
from sealstream.schemas.event import AuditEvent
from sealstream.worker import metrics
from sealstream.worker.logs import logger

RETRY_SECONDS: Final = 5
SPOOLED_SECONDS: Final = 0.5
"""How long an event on disk is waited for until its answer says where in Kafka it stands."""
_SAID_SECONDS: Final = 10.0
_PUBLISHED: Final = metrics.GATEWAY_EVENTS.labels("published")
_FAILED: Final = metrics.GATEWAY_EVENTS.labels("failed")
_SPOOLED: Final = metrics.GATEWAY_EVENTS.labels("spooled")
_REFUSED: Final = metrics.GATEWAY_EVENTS.labels("refused")
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
            "spooled": self.receipt.is_spooled,
            "partition": self.partition,
            "offset": self.offset,
        }


class Publisher:
    """Publishes events, and says what became of them.

    Arguments:
        audit: The audit log; without a producer's name, whose count would make a retry another event.
        has_spool: Whether it keeps events on disk while Kafka is away.
        timeout_seconds: How long an event may take that is on no disk.
        schema_id: The schema's id in a registry, as the audit log has it.
    """

    def __init__(
        self, audit: AuditLog, *, has_spool: bool, timeout_seconds: float, schema_id: int | None = None
    ) -> None:
        self._audit = audit
        self._has_spool = has_spool
        self._timeout_seconds = timeout_seconds
        self._schema_id = schema_id
        self._said_seconds = -_SAID_SECONDS

    def log(self, event: AuditEvent) -> Receipt:
        """Hand an event over, and return its receipt.

        Raises:
            Problem: The event breaks the model, or there is no room for it.
        """
        try:
            return self._log(event)
        except EventInvalid as error:
            _REFUSED.inc()
            raise event_invalid(error) from None
        except QueueFull:
            _FULL.inc()
            raise unavailable("busy", "the gateway holds as many events as it may", RETRY_SECONDS) from None
        except ClientUnusable:
            raise unavailable("stopping", "the gateway is about to end", RETRY_SECONDS) from None

    async def taken(self, receipt: Receipt) -> Taken:
        """Wait until an event is published or, where there is a spool, on the disk.

        Raises:
            Problem: It is neither, as far as is known.
        """
        try:
            if self._has_spool and await self._is_spooled(receipt):
                return await self._spooled(receipt)
            place = await receipt.published(self._timeout_seconds if self._has_spool else None)
        except (DeliveryError, Unreachable) as error:
            self._failed(error)
            raise unavailable(
                "not-published",
                "Kafka has not confirmed the event in time; it may have arrived",
                RETRY_SECONDS,
                hint="repeat the request as it is: with the same id or Idempotency-Key no event counts twice",
            ) from None
        return self._published(receipt, place)

    def _log(self, event: AuditEvent) -> Receipt:
        if not self._has_spool:
            return self._audit.log(event)
        # As final bytes: the mark that a spool puts into events counts on with each retry, which must be the same.
        event.check()
        return self._audit.log_value(encode_event(event, schema_id=self._schema_id))

    async def _is_spooled(self, receipt: Receipt) -> bool:
        try:
            await receipt.spooled(self._timeout_seconds)
        except (SpoolError, Unreachable):
            return False  # the disk fails or hangs: the event is sent from memory
        return True

    async def _spooled(self, receipt: Receipt) -> Taken:
        """Wait a little for an event that is safe: with Kafka there, its place is known at once."""
        try:
            return self._published(receipt, await receipt.published(SPOOLED_SECONDS))
        except Unreachable:
            _SPOOLED.inc()
            return Taken(receipt, State.SPOOLED, None, None)

    @staticmethod
    def _published(receipt: Receipt, place: Published) -> Taken:
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
