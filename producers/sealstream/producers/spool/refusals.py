"""Which of Kafka's answers mean that it will never have an event, however often that is sent."""

from __future__ import annotations

from typing import Final

from sealstream.producers.spool.flow import Failure
from sealstream.schemas.errors import DeliveryError

_REFUSALS: Final = frozenset(
    {
        "INVALID_MSG_SIZE",
        "INVALID_RECORD",
        "INVALID_TIMESTAMP",
        "MSG_SIZE_TOO_LARGE",
        "POLICY_VIOLATION",
        "RECORD_LIST_TOO_LARGE",
        "_BAD_MSG",
        "_INVALID_ARG",
    }
)
"""As librdkafka names them. All else is of the way and not of the event: rights, topics, brokers, time."""


def failure_of(error: DeliveryError) -> Failure:
    """Return what a failed delivery says of its event."""
    return "refused" if error.code in _REFUSALS else "retry"
