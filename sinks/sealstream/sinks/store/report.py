"""Delivers violations to audit.violations, to the log and to the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from sealstream.kafka.client import KAFKA_LOG, PARTITIONER, ClientConfig, KafkaConnection
from sealstream.schemas.errors import Unreachable
from sealstream.schemas.violation import Violation
from sealstream.worker import metrics
from sealstream.worker.logs import logger

DELIVERY_SECONDS: Final = 6.0
_LOGGED_MAX: Final = 20


class ViolationReporter:
    """Delivers violations, acknowledged by the brokers.

    Arguments:
        connection: How to reach Kafka.
        topic: audit.violations.
        worker_id: The worker's name.
    """

    def __init__(self, connection: KafkaConnection, *, topic: str, worker_id: str) -> None:
        self._topic = topic
        self._config: ClientConfig = connection.config(f"sealstream-sink-{worker_id}") | {
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": PARTITIONER,
            "delivery.timeout.ms": round(DELIVERY_SECONDS * 1000),
        }
        self._producer: Producer | None = None

    def __call__(self, violations: Sequence[Violation]) -> None:
        """Report violations and wait until they are kept. The same one again has the same id.

        Raises:
            Unreachable: Kafka did not take them in time.
        """
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failed.append(error)

        producer = self._open()
        try:
            for violation in violations:
                producer.produce(
                    self._topic, key=violation.tenant.encode(), value=violation.encode(), on_delivery=delivered
                )
                producer.poll(0)
            left = producer.flush(DELIVERY_SECONDS)
        except (KafkaException, BufferError) as error:
            raise self._unreachable(str(error)) from error
        if left or failed:
            raise self._unreachable(failed[0].str() if failed else f"{left} of them were not acknowledged")
        for violation in violations:
            metrics.SINK_VIOLATIONS.labels(violation.type.value).inc()
        for violation in violations[:_LOGGED_MAX]:
            logger().error(
                "violation",
                type=violation.type.value,
                tenant=violation.tenant,
                seq=violation.seq,
                partition=violation.partition,
                offset=violation.offset,
                message=violation.message,
            )
        if len(violations) > _LOGGED_MAX:
            logger().error("more violations, all of them reported", count=len(violations) - _LOGGED_MAX)

    def _open(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(cast("dict[str, Any]", self._config | {"logger": KAFKA_LOG}))
        return self._producer

    def _unreachable(self, why: str) -> Unreachable:
        # Whatever is still queued must not come late, behind another attempt's copy.
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
        return Unreachable(f"violations could not be reported to {self._topic}: {why}", hint="check the brokers")
