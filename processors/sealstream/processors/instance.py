"""Whether the topics are those that this worker is set to, before and with each assignment."""

from __future__ import annotations

import time
from collections.abc import Generator
from concurrent.futures import Future
from typing import Final, TypeAlias, cast

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.client import KAFKA_LOG, KafkaConnection
from sealstream.kafka.topics import TopicNames
from sealstream.processors.chaining import Rules
from sealstream.processors.clients import Identity
from sealstream.processors.cycle import PIN_PREFIX, pin
from sealstream.processors.failures import classify
from sealstream.processors.reading import REQUEST_SECONDS
from sealstream.schemas.entry import Genesis
from sealstream.schemas.errors import ConfigError, InstanceDiffers

LOOK_SECONDS: Final = 0.5
Checking: TypeAlias = Generator[str, None, Rules]


class Instance:
    """Compares topics and committed offsets with the settings.

    Arguments:
        connection: How to reach the cluster.
        identity: Who the worker is.
        topics: The instance's topics.
        genesis: What the settings pin.
        patience_seconds: How long missing topics are waited for.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        identity: Identity,
        topics: TopicNames,
        genesis: Genesis,
        *,
        patience_seconds: float,
    ) -> None:
        self._topics = topics
        self._genesis = genesis
        self._group = identity.group
        self._patience_seconds = patience_seconds
        self._admin = TopicAdmin(connection, timeout_seconds=REQUEST_SECONDS)
        self._config = connection.config(identity.member)

    def check_topics(self) -> Checking:
        """Wait for the topics and return what every entry depends on, the source topic's UUID among it.

        Raises:
            ConfigError: A topic does not exist.
            InstanceDiffers: A topic has another number of partitions.
            Unreachable: Kafka does not answer.
        """
        names = (self._topics.events, self._topics.chained, self._topics.heads, self._topics.deadletter)
        deadline = time.monotonic() + self._patience_seconds
        while True:
            yield "the topics"
            states = self._admin.describe(names)
            missing = [name for name in names if name not in states]
            if not missing:
                break
            if time.monotonic() >= deadline:
                raise ConfigError(f"the topic {missing[0]} does not exist", hint="sealstream topics create")
            again_at = time.monotonic() + LOOK_SECONDS
            while time.monotonic() < again_at:
                yield f"the topic {missing[0]}: sealstream topics create"
                time.sleep(LOOK_SECONDS / 5)
        for name, state in states.items():
            if state.partitions != self._genesis.partitions:
                raise InstanceDiffers(
                    f"the topic {name} has {state.partitions} partitions, and this worker is set to"
                    f" {self._genesis.partitions}",
                    hint="set SEALSTREAM_PARTITIONS back; another number needs a new epoch",
                )
        return Rules(self._genesis, states[self._topics.events].topic_id)

    def check_pins(self, rules: Rules) -> None:
        """Compare all partitions' committed offsets with the rules, also of those that other workers own.

        A changed partition count would otherwise go unnoticed by a worker that owns only new partitions.

        Raises:
            InstanceDiffers: A partition was chained with something else.
            Unreachable: Kafka does not answer.
        """
        places = [TopicPartition(self._topics.events, n) for n in range(self._genesis.partitions)]
        asked = [ConsumerGroupTopicPartitions(self._group, places)]
        # A new client each time: one that saw its broker restart waits for the group's coordinator for ever (2.16).
        client = AdminClient(self._config, logger=KAFKA_LOG)
        future = cast(
            "Future[ConsumerGroupTopicPartitions]",
            client.list_consumer_group_offsets(asked, request_timeout=REQUEST_SECONDS, require_stable=False)[
                self._group
            ],
        )
        try:
            found = future.result().topic_partitions or []
        except KafkaException as exception:
            raise classify(exception.args[0], "read the group's offsets") from exception
        expected = pin(rules)
        for place in found:
            text = place.metadata or ""
            if place.offset >= 0 and text.startswith(PIN_PREFIX) and text != expected:
                raise InstanceDiffers(
                    f"partition {place.partition} was chained with other settings or another topic",
                    hint="compare this worker's settings with the others'; what genesis pins needs a new epoch",
                )
