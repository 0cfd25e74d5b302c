"""Looks at an instance's partitions for the commands that mend what stops a worker; writes nothing, joins no group."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Self, cast

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConsumerGroupDescription, ListOffsetsResultInfo, OffsetSpec

from sealstream.kafka.admin import TopicAdmin, TopicState
from sealstream.kafka.client import KAFKA_LOG, KafkaConnection, consumer_config
from sealstream.kafka.topics import TopicNames
from sealstream.processors.assignment import Observed
from sealstream.processors.failures import classify
from sealstream.processors.heads import HeadsReader
from sealstream.processors.reading import REQUEST_SECONDS, LogReader
from sealstream.schemas.errors import ConfigError, EpochNotDrained

AGREE_PAUSE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What is known of a source partition.

    Arguments:
        observed: Offsets and the partition's head.
        heads: Everything else that audit.heads has of it.
    """

    observed: Observed
    heads: HeadsReader


class Survey:
    """Reads heads, offsets and bounds of one epoch; close it, or use it as a context.

    Arguments:
        connection: How to reach the cluster.
        topics: The epoch's topics.
        group: The workers' consumer group.
        client_id: The command's name in the brokers' logs.
        patience_seconds: How long Kafka may send nothing, and how long heads and offsets may disagree.
    """

    def __init__(
        self, connection: KafkaConnection, topics: TopicNames, *, group: str, client_id: str, patience_seconds: float
    ) -> None:
        self.topics = topics
        self._patience_seconds = patience_seconds
        self._admin = TopicAdmin(connection, timeout_seconds=patience_seconds)
        settings: dict[str, Any] = dict(consumer_config(connection, client_id=client_id, group=group))
        settings |= {"enable.partition.eof": True, "fetch.wait.max.ms": 20}
        self._consumer = Consumer(settings, logger=KAFKA_LOG)
        self._log = LogReader(self._consumer, patience_seconds=patience_seconds)
        self._group = group
        self._client = AdminClient(connection.config(client_id), logger=KAFKA_LOG)

    def __enter__(self) -> Self:
        """Return the survey."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the connection."""
        self._consumer.close()

    def require(self, *names: str) -> dict[str, TopicState]:
        """Return the states of topics that must exist.

        Raises:
            ConfigError: One does not.
            Unreachable: Kafka does not answer.
        """
        states = self._admin.describe(names)
        for name in names:
            if name not in states:
                raise ConfigError(f"the topic {name} does not exist", hint="check SEALSTREAM_TOPIC_PREFIX and _EPOCH")
        return states

    def partition(self, number: int, *, topic_id: bytes | None = None) -> Surveyed:
        """Return what is known of a partition, once heads and committed offset agree; at the latest after a while.

        Arguments:
            number: The partition.
            topic_id: The UUID of the source topic, if known: heads of another topic never agree with this one's
                offsets, and are not waited for.

        Raises:
            HeadsDiffer: audit.heads holds what no processor writes there.
            Unreachable: Kafka does not answer.
        """
        reader = HeadsReader(number)
        self._log.assign(self.topics.heads, number)
        deadline = time.monotonic() + self._patience_seconds
        while True:
            committed = self.committed([number]).get(number)
            start, end = self._log.bounds(self.topics.events, number)
            for messages in self._log.to_end():
                for message in messages:
                    reader.feed(message.key(), message.value())
            position = None if reader.head is None else reader.head.position
            foreign = topic_id is not None and reader.head is not None and reader.head.topic_id != topic_id
            if position == committed or foreign or time.monotonic() >= deadline:
                return Surveyed(Observed(number, committed, reader.head, start, end), reader)
            time.sleep(AGREE_PAUSE_SECONDS)

    def heads(self, number: int) -> Surveyed:
        """Return what audit.heads knows of a partition, where there is no source any more to compare it with.

        Raises:
            Unreachable: Kafka does not answer.
        """
        reader = HeadsReader(number)
        self._log.assign(self.topics.heads, number)
        for messages in self._log.to_end():
            for message in messages:
                reader.feed(message.key(), message.value())
        position = 0 if reader.head is None else reader.head.position
        return Surveyed(Observed(number, None, reader.head, position, position), reader)

    def written_end(self, number: int) -> int:
        """Return the offset behind all that was written to a source partition, open transactions included.

        Raises:
            Unreachable: No answer in time.
        """
        place = TopicPartition(self.topics.events, number)
        latest = cast("OffsetSpec", OffsetSpec.latest())  # type: ignore[no-untyped-call]
        futures = cast(
            "dict[TopicPartition, Future[ListOffsetsResultInfo]]",
            self._client.list_offsets(
                {place: latest},
                isolation_level=IsolationLevel.READ_UNCOMMITTED,
                request_timeout=self._patience_seconds,
            ),
        )
        [future] = futures.values()
        try:
            return int(future.result().offset)
        except KafkaException as exception:
            raise classify(exception.args[0], f"ask for the offsets of {self.topics.events}") from exception

    def require_no_worker(self) -> None:
        """Make sure that nobody has partitions of the source, and the group is not about to give any.

        Raises:
            EpochNotDrained: A worker runs.
            Unreachable: No answer in time.
        """
        futures = cast(
            "dict[str, Future[ConsumerGroupDescription]]",
            self._client.describe_consumer_groups([self._group], request_timeout=self._patience_seconds),
        )
        try:
            found = futures[self._group].result()
        except KafkaException as exception:
            if exception.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return
            raise classify(exception.args[0], "describe the workers' group") from exception
        settled = (ConsumerGroupState.STABLE, ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)
        if found.state not in settled:
            raise EpochNotDrained("workers are joining or leaving", hint="stop the workers of the old epoch")
        for member in found.members:
            if any(place.topic == self.topics.events for place in member.assignment.topic_partitions):
                raise EpochNotDrained(
                    f"the worker {member.group_instance_id or member.client_id} still has partitions of"
                    f" {self.topics.events}",
                    hint="stop the workers of the old epoch; a worker that was killed is given up after its session"
                    " timeout",
                )

    def committed(self, numbers: Iterable[int]) -> dict[int, int]:
        """Return the group's committed offsets by partition, as far as there are any.

        Raises:
            Unreachable: No answer in time.
        """
        places = [TopicPartition(self.topics.events, number) for number in numbers]
        try:
            found = self._consumer.committed(places, timeout=REQUEST_SECONDS)
        except KafkaException as exception:
            raise classify(exception.args[0], "read the group's offsets") from exception
        for place in found:
            if place.error is not None:
                raise classify(place.error, "read the group's offsets")
        return {place.partition: place.offset for place in found if place.offset >= 0}

    def bounds(self, topic: str, number: int) -> tuple[int, int]:
        """Return a partition's first offset and the one behind the last that a committed reader may see.

        Raises:
            Unreachable: No answer in time.
        """
        return self._log.bounds(topic, number)

    def first_record(self, number: int, offset: int) -> Message | None:
        """Return the first record of the source at or behind an offset, if there is one.

        Raises:
            Unreachable: No answer in time.
        """
        self._log.assign(self.topics.events, number, offset)
        return next((messages[0] for messages in self._log.to_end() if messages), None)
