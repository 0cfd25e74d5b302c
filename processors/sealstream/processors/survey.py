"""Looks at an instance's partitions for the commands that mend what stops a worker; writes nothing, joins no group."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Self

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from sealstream.kafka.admin import TopicAdmin, TopicState
from sealstream.kafka.client import KAFKA_LOG, KafkaConnection, consumer_config
from sealstream.kafka.topics import TopicNames
from sealstream.processors.assignment import Observed
from sealstream.processors.failures import classify
from sealstream.processors.heads import HeadsReader
from sealstream.processors.reading import REQUEST_SECONDS, LogReader
from sealstream.schemas.errors import ConfigError

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

    def partition(self, number: int) -> Surveyed:
        """Return what is known of a partition, once heads and committed offset agree; at the latest after a while.

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
            if position == committed or time.monotonic() >= deadline:
                return Surveyed(Observed(number, committed, reader.head, start, end), reader)
            time.sleep(AGREE_PAUSE_SECONDS)

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
