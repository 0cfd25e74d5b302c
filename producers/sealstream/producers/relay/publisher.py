"""The relay's way to Kafka: rows in their order, and what became of each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicNames
from sealstream.producers.client import SyncAuditLog
from sealstream.producers.receipt import Published, SyncReceipt
from sealstream.producers.relay.rows import WaitingRow, refusal_of
from sealstream.schemas.errors import DeliveryError, EventInvalid

PUBLISH_SECONDS_MAX: Final = 10.0
"""How long Kafka may take for a batch; with what giving up takes, less than a transaction may be idle."""
_LOOK_SECONDS: Final = 0.1
_NEVER_SECONDS: Final = 86_400.0
"""No row is given up by itself, which would let its successors overtake it: if one is, all are, by :meth:`_give_up`."""
_MIB: Final = 1024 * 1024


@dataclass(slots=True)
class Outcome:
    """What became of a batch.

    Arguments:
        published: Where each published row stands, by the row's id.
        refused: Why each row that cannot be published is refused, by the row's id.
        failure: Why the others were not published, if there are any.
    """

    published: dict[str, Published] = field(default_factory=dict[str, Published])
    refused: dict[str, str] = field(default_factory=dict[str, str])
    failure: DeliveryError | None = None


class Publisher:
    """Publishes batches of rows; each with the audit log that published the one before, until one fails.

    Arguments:
        kafka: The brokers.
        instance: The instance's name.
        topics: The topics' names.
    """

    def __init__(self, kafka: KafkaConnection, *, instance: str, topics: TopicNames) -> None:
        self._kafka = kafka
        self._instance = instance
        self._topics = topics
        self._log: SyncAuditLog | None = None

    def publish(self, rows: Sequence[WaitingRow], *, hurried: Callable[[], bool]) -> Outcome:
        """Publish rows in their order, and wait until Kafka has them.

        Arguments:
            rows: The rows.
            hurried: Says that there is no more time to wait.
        """
        outcome = Outcome()
        log = self._log = self._log or self._open()
        receipts: list[tuple[WaitingRow, SyncReceipt]] = []
        for row in rows:
            reason = refusal_of(row)
            if reason is None:
                try:
                    receipts.append((row, log.log_value(row.value)))
                except EventInvalid as error:
                    reason = str(error)
            if reason is not None:
                outcome.refused[row.id] = reason
        if not self._wait(log, hurried):
            self._give_up()
        for row, receipt in receipts:
            if receipt.done and receipt.error is None:
                outcome.published[row.id] = receipt.published()
            elif outcome.failure is None:
                outcome.failure = receipt.error or DeliveryError(f"row {row.id}: nothing is known of its delivery")
        return outcome

    def close(self) -> None:
        """Give up what is on its way."""
        self._give_up()

    def _wait(self, log: SyncAuditLog, hurried: Callable[[], bool]) -> bool:
        """Wait for the answers, and return whether all have come and are good."""
        deadline = time.monotonic() + PUBLISH_SECONDS_MAX
        try:
            while log.flush(_LOOK_SECONDS):
                if time.monotonic() > deadline or hurried():
                    return False
        except DeliveryError:
            return False  # which rows, their receipts say
        return True

    def _give_up(self) -> None:
        """Drop what is not sent yet, of all rows at once: what was sent is a beginning of what each tenant has."""
        log, self._log = self._log, None
        if log is not None:
            with contextlib.suppress(DeliveryError):  # as said: the receipts say it
                log.close(0)

    def _open(self) -> SyncAuditLog:
        return SyncAuditLog(
            kafka=self._kafka,
            instance=self._instance,
            topics=self._topics,
            when_full="raise",
            queue_bytes_max=256 * _MIB,
            delivery_timeout_seconds=_NEVER_SECONDS,
        )
