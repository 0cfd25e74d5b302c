"""Topics of an instance: created once, and checked against the table ever after."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Protocol, cast

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
    TopicDescription,
)

from sealstream.kafka.client import KAFKA_LOG, KafkaConnection
from sealstream.kafka.topics import TopicSpec
from sealstream.schemas.errors import ConfigError, Unreachable

REPLICATION_SAFE: Final = 3
_LOOK_SECONDS: Final = 0.05
"""How often to look whether the brokers show a topic that was created."""


class _Uuid(Protocol):
    """A topic's UUID as confluent-kafka has it; its type stub leaves the methods out."""

    def get_most_significant_bits(self) -> int: ...
    def get_least_significant_bits(self) -> int: ...


@dataclass(frozen=True, slots=True)
class TopicFinding:
    """One difference between a topic and what the table says of it.

    Arguments:
        topic: The topic's name.
        setting: What differs: a topic setting, ``partitions``, ``replication``, or ``exists``.
        expected: What the table says.
        found: What is there.
        fatal: Whether workers must not run like this; otherwise it is a warning.
    """

    topic: str
    setting: str
    expected: str
    found: str
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class TopicState:
    """What a topic is at the moment.

    Arguments:
        name: Its name.
        topic_id: Its UUID (KIP-516), 16 bytes: another one means that it was deleted and made anew.
        partitions: Number of partitions.
        replication: The smallest number of replicas of a partition.
    """

    name: str
    topic_id: bytes
    partitions: int
    replication: int


class TopicAdmin:
    """Creates and checks topics.

    Arguments:
        connection: How to reach the cluster.
        timeout_seconds: How long each request may take.
    """

    def __init__(self, connection: KafkaConnection, *, timeout_seconds: float = 15.0) -> None:
        self._client = AdminClient(connection.config("sealstream-admin"), logger=KAFKA_LOG)
        self._bootstrap = connection.bootstrap
        self._timeout_seconds = timeout_seconds

    def broker_count(self) -> int:
        """Return the number of brokers.

        Raises:
            Unreachable: The cluster does not answer.
        """
        try:
            return len(self._client.list_topics(timeout=self._timeout_seconds).brokers)
        except KafkaException as error:
            raise self._unreachable(error) from error

    def describe(self, names: Iterable[str]) -> dict[str, TopicState]:
        """Return the state of those topics that exist.

        Raises:
            Unreachable: The cluster does not answer.
        """
        futures = cast(
            "dict[str, Future[TopicDescription]]",
            self._client.describe_topics(TopicCollection(list(names)), request_timeout=self._timeout_seconds),
        )
        states: dict[str, TopicState] = {}
        for name, future in futures.items():
            try:
                topic = future.result()
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    continue
                raise self._unreachable(error) from error
            uuid = cast("_Uuid", topic.topic_id)
            mask = 2**64 - 1
            number = (uuid.get_most_significant_bits() & mask) << 64 | uuid.get_least_significant_bits() & mask
            replication = min((len(partition.replicas) for partition in topic.partitions), default=0)
            states[name] = TopicState(name, number.to_bytes(16, "big"), len(topic.partitions), replication)
        return states

    def create(self, specs: Iterable[TopicSpec], *, replication: int | None = None) -> list[str]:
        """Create those topics that do not exist yet, and wait until the brokers show them; safe to run again.

        Arguments:
            specs: What the topics must be like.
            replication: Number of replicas; ``min(3, brokers)`` by default.

        Returns:
            The names of the topics that were created.

        Raises:
            ConfigError: The cluster refused a topic.
            Unreachable: The cluster does not answer, or does not show a topic that it created.
        """
        replicas = replication or min(REPLICATION_SAFE, self.broker_count())
        wanted = {spec.name: spec for spec in specs}
        existing = self.describe(wanted)
        in_sync = str(max(1, replicas - 1))
        topics = [
            NewTopic(
                spec.name,
                num_partitions=spec.partitions,
                replication_factor=replicas,
                config=spec.config
                | {name: str(value) for name, value in spec.config_min.items()}
                | {"min.insync.replicas": in_sync},
            )
            for spec in wanted.values()
            if spec.name not in existing
        ]
        if not topics:
            return []
        created: list[str] = []
        futures = cast(
            "dict[str, Future[None]]", self._client.create_topics(topics, request_timeout=self._timeout_seconds)
        )
        for name, future in futures.items():
            try:
                future.result()
            except KafkaException as error:
                code = error.args[0].code()
                if code == KafkaError.TOPIC_ALREADY_EXISTS:  # another one was quicker: check() tells whether it fits
                    continue
                if code in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT):
                    raise self._unreachable(error) from error
                raise ConfigError(f"topic {name} could not be created: {error.args[0].str()}") from error
            created.append(name)
        self._await_shown([topic.topic for topic in topics])
        return created

    def _await_shown(self, names: Collection[str]) -> None:
        """Wait until the brokers show topics: the controller answers before every broker has heard of them.

        A crash here leaves topics that the next call finds.
        """
        deadline = time.monotonic() + self._timeout_seconds
        while missing := sorted(set(names) - self.describe(names).keys()):
            if time.monotonic() >= deadline:
                raise Unreachable(
                    f"Kafka at {self._bootstrap} does not show {missing[0]} {self._timeout_seconds:g} s after it was"
                    " created",
                    hint="run the command again; it goes on where it stopped",
                )
            time.sleep(_LOOK_SECONDS)

    def check(self, specs: Iterable[TopicSpec]) -> list[TopicFinding]:
        """Compare topics with what they must be like.

        Returns:
            Every difference; empty if all is well.

        Raises:
            Unreachable: The cluster does not answer.
        """
        wanted = {spec.name: spec for spec in specs}
        states = self.describe(wanted)
        findings = [TopicFinding(name, "exists", "yes", "no") for name in wanted if name not in states]
        configs = self._configs(states)
        for name, state in states.items():
            spec = wanted[name]
            if state.partitions != spec.partitions:
                findings.append(TopicFinding(name, "partitions", str(spec.partitions), str(state.partitions)))
            findings.extend(_check_config(spec, state, configs[name]))
        return findings

    def _configs(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        if not resources:
            return {}
        configs: dict[str, dict[str, str]] = {}
        futures = cast(
            "dict[ConfigResource, Future[dict[str, ConfigEntry]]]",
            self._client.describe_configs(resources, request_timeout=self._timeout_seconds),
        )
        for resource, future in futures.items():
            try:
                entries = future.result()
            except KafkaException as error:
                raise self._unreachable(error) from error
            configs[resource.name] = {name: str(entry.value) for name, entry in entries.items()}
        return configs

    def _unreachable(self, error: KafkaException) -> Unreachable:
        return Unreachable(
            f"Kafka at {self._bootstrap} does not answer: {error.args[0].str()}",
            hint="check SEALSTREAM_KAFKA and that the brokers run",
        )


def _check_config(spec: TopicSpec, state: TopicState, config: dict[str, str]) -> list[TopicFinding]:
    findings: list[TopicFinding] = []
    for name, value in spec.config.items():
        if config.get(name) != value:
            findings.append(TopicFinding(spec.name, name, value, str(config.get(name))))
    for name, least in spec.config_min.items():
        found = int(config.get(name) or 0)
        if 0 <= found < least:  # -1 is no limit
            findings.append(TopicFinding(spec.name, name, f">= {least}", str(found)))
    if state.replication < REPLICATION_SAFE:
        findings.append(
            TopicFinding(spec.name, "replication", f">= {REPLICATION_SAFE}", str(state.replication), fatal=False)
        )
    in_sync, expected = int(config.get("min.insync.replicas") or 0), max(1, state.replication - 1)
    if in_sync < expected:
        findings.append(TopicFinding(spec.name, "min.insync.replicas", f">= {expected}", str(in_sync)))
    return findings
