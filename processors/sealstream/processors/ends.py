"""Asks the brokers where the owned partitions end, apart from whoever reads them: so a reader that hangs is noticed."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any, Final, cast

import faust
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.patience import HANG_SECONDS
from sealstream.processors.status import Status
from sealstream.worker.logs import logger

ASK_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 3.0


class Ends(faust.Service):
    """Tells the status where each owned partition of the source ends, two seconds after it last asked.

    Arguments:
        connection: How to reach the cluster.
        client_id: The client's name in the brokers' logs.
        status: Who wants to know.
        options: Faust's own: ``loop`` and ``beacon``.
    """

    def __init__(self, connection: KafkaConnection, client_id: str, status: Status, **options: Any) -> None:
        # Quiet: while a broker is away, the consumer says so already, several times a second.
        self._config = connection.config(client_id) | {"log_level": 0}
        self._admin: AdminClient | None = None
        self._status = status
        super().__init__(**options)

    @faust.Service.task
    async def _ask_again(self) -> None:
        # No timer: it would warn of itself whenever a broker that is away takes longer to answer than the pause is.
        while not self.should_stop:
            await self.ask()
            await self.sleep(ASK_SECONDS)

    async def ask(self) -> None:
        """Ask for the ends of all owned partitions; one that is not told is noticed by the status for its age."""
        shown = self._status.partitions
        latest = cast("OffsetSpec", OffsetSpec.latest())  # type: ignore[no-untyped-call]
        places = {TopicPartition(self._status.topic, number): latest for number in shown}
        if not places:
            return
        self._admin = self._admin or AdminClient(self._config)
        answers = cast(
            "dict[TopicPartition, Future[ListOffsetsResultInfo]]",
            self._admin.list_offsets(
                places, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ANSWER_SECONDS
            ),
        )
        waiting = {asyncio.wrap_future(answer): place.partition for place, answer in answers.items()}
        for asked in waiting:
            asked.add_done_callback(_heed)
        _, silent = await asyncio.wait(waiting, timeout=HANG_SECONDS)
        if silent:  # a client that saw its broker restart may wait for ever (librdkafka 2.16); the next one does not
            self._admin = None
        for answer, partition in waiting.items():
            if answer in silent:
                answer.cancel()
            elif (error := answer.exception()) is None:
                shown[partition].on_end(answer.result().offset)
            elif isinstance(error, KafkaException):
                logger().debug("an end was not told", partition=partition, reason=str(error))
            else:
                raise error


def _heed(answer: asyncio.Future[ListOffsetsResultInfo]) -> None:
    """Take note of an answer: one that comes when the worker has stopped waiting would be logged as an error else."""
    if not answer.cancelled():
        answer.exception()
