"""Records what the judge has found on audit.violations, once each."""

from __future__ import annotations

from typing import Any, Final, cast

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from sealstream.kafka.client import KAFKA_LOG, PARTITIONER, KafkaConnection
from sealstream.schemas.violation import Violation
from sealstream.worker.logs import logger

DELIVERY_SECONDS: Final = 6.0
_REMEMBERED_MAX: Final = 10_000


class Reporter:
    """Delivers violations, acknowledged by the brokers.

    Arguments:
        connection: How to reach Kafka.
        topic: The name of audit.violations.
        client_id: The client's name in the brokers' logs.
    """

    def __init__(self, connection: KafkaConnection, topic: str, *, client_id: str) -> None:
        self._topic = topic
        self._reported: set[str] = set()
        config: dict[str, Any] = dict(connection.config(f"{client_id}-report")) | {
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": PARTITIONER,
            "delivery.timeout.ms": round(DELIVERY_SECONDS * 1000),
        }
        self._producer = Producer(config, logger=KAFKA_LOG)

    def __call__(self, violation: Violation) -> None:
        """Record a violation if it was not recorded since the start; where Kafka refuses, the next refusal tries again.

        The checkpoint is refused whether or not this succeeds.
        """
        if violation.id in self._reported:
            return
        if len(self._reported) >= _REMEMBERED_MAX:
            self._reported.clear()  # the same one again has the same id
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failed.append(error)

        logger().error(
            "violation",
            type=violation.type.value,
            tenant=violation.tenant,
            seq=violation.seq,
            partition=violation.partition,
            offset=violation.offset,
            message=violation.message,
        )
        try:
            self._producer.produce(self._topic, violation.encode(), violation.tenant.encode(), 0, on_delivery=delivered)
            left = self._producer.flush(DELIVERY_SECONDS)
        except (KafkaException, BufferError) as error:
            failed.append(cast("KafkaError", error.args[0]))
            left = 1
        if left or failed:
            why = str(failed[0]) if failed else "no answer in time"
            self._producer.purge()  # it must not come late, behind another attempt's copy
            logger().warning("the violation could not be recorded, and is again when it is found again", reason=why)
            return
        self._reported.add(violation.id)
