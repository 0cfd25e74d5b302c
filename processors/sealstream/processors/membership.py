"""The processor's group, taken over by a command for as long as it mends what workers go on from.

A worker's transaction is refused by the group's coordinator unless its membership is of the present generation
(KIP-447). So a command that joins the group, and is its only member, has fenced every worker that ran before it, as the
next worker would have; and a worker that joins meanwhile fences the command in the same way: its commit is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Final, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConsumerGroupDescription

from sealstream.kafka.client import KAFKA_LOG, KafkaConnection, consumer_config
from sealstream.processors.clients import Identity
from sealstream.processors.failures import classify
from sealstream.processors.reading import REQUEST_SECONDS
from sealstream.schemas.errors import SealstreamError, Unreachable

LOOK_SECONDS: Final = 0.5
_POLL_SECONDS: Final = 0.1


class WorkersRunning(SealstreamError):
    """A processor is a member of the group, or becomes one: nothing was written."""


class SoleMember:
    """The only member of the processor's group.

    Arguments:
        connection: How to reach the cluster.
        identity: Who the command is.
        topic: The source topic.
        partitions: Number of its partitions, all of which must be assigned.
        session_timeout_seconds: How long the workers' sessions last after their end.
        on_wait: Called every now and then with what is waited for.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        identity: Identity,
        topic: str,
        partitions: int,
        *,
        session_timeout_seconds: float,
        on_wait: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._identity = identity
        self._topic = topic
        self._partitions = partitions
        self._session_seconds = session_timeout_seconds
        self._on_wait = on_wait
        self._assigned: list[int] | None = None
        self._lost = False
        # No static membership: it leaves with its end, so that a worker can be started at once.
        config = consumer_config(connection, client_id=identity.member, group=identity.group)
        config |= {"session.timeout.ms": int(session_timeout_seconds * 1000)}
        self.consumer = Consumer(dict(config), logger=KAFKA_LOG)

    def join(self) -> None:
        """Wait for the group to be empty, and become its only member.

        Raises:
            WorkersRunning: A worker is, or becomes, a member of it.
            Unreachable: Kafka does not answer in time.
        """
        # A worker that was stopped stays a member until its session is over, so that a restart moves no partition.
        deadline = time.monotonic() + self._session_seconds + REQUEST_SECONDS
        while members := self._members():
            if time.monotonic() >= deadline:
                raise self._running(f"{len(members)} members: {', '.join(sorted(members)[:3])}")
            self._on_wait(f"the group {self._identity.group} to be empty")
            time.sleep(LOOK_SECONDS)
        self.consumer.subscribe(
            [self._topic], on_assign=self._on_assigned, on_revoke=self._on_revoked, on_lost=self._on_revoked
        )
        deadline = time.monotonic() + self._session_seconds + REQUEST_SECONDS
        while self._assigned is None:
            if time.monotonic() >= deadline:
                raise Unreachable(
                    f"the group {self._identity.group} assigns nothing", hint="check that the brokers run"
                )
            self._on_wait(f"the group {self._identity.group}")
            self._poll(_POLL_SECONDS)
        if len(self._assigned) != self._partitions:
            raise self._running("another member joined at the same time")

    def serve(self) -> None:
        """Keep the membership, and make sure that it is still the only one; call it every second or so.

        Raises:
            WorkersRunning: A worker has joined.
        """
        self._poll(0)
        if self._lost:
            raise self._running("a worker has joined")

    def commit(self, positions: Mapping[int, int], metadata: str) -> None:
        """Commit the source's positions, as the only member.

        Arguments:
            positions: Offsets by partition.
            metadata: What is committed with each of them.

        Raises:
            WorkersRunning: A worker has joined; nothing was committed.
            SealstreamError: The offsets could not be committed.
        """
        places = [TopicPartition(self._topic, n, position, metadata) for n, position in positions.items()]
        try:
            found = self.consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as exception:
            raise self.refused(exception.args[0], "commit offsets") from exception
        for place in found:
            if place.error is not None:
                raise self.refused(place.error, "commit offsets")

    def refused(self, error: KafkaError, doing: str) -> SealstreamError:
        """Return what a refusal of the group's coordinator means."""
        if error.code() in _FENCED_CODES:
            return self._running("a worker has joined")
        return classify(error, doing)

    def close(self) -> None:
        """Leave the group."""
        self.consumer.close()

    def _poll(self, wait_seconds: float) -> None:
        message = self.consumer.poll(wait_seconds)  # nothing is read: only errors and assignments come
        error = None if message is None else message.error()
        if error is not None:
            meaning = classify(error, "keep the membership in the group")
            if not isinstance(meaning, Unreachable):
                raise meaning

    def _on_assigned(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        consumer.assign([])
        self._assigned = [place.partition for place in places]

    def _on_revoked(self, _consumer: Consumer, _places: list[TopicPartition]) -> None:
        self._lost = True

    def _members(self) -> list[str]:
        client = AdminClient(self._connection.config(self._identity.member), logger=KAFKA_LOG)
        group = self._identity.group
        future = cast(
            "Future[ConsumerGroupDescription]",
            client.describe_consumer_groups([group], request_timeout=REQUEST_SECONDS)[group],
        )
        try:
            return [str(member.group_instance_id or member.client_id) for member in future.result().members]
        except KafkaException as exception:
            if exception.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return []
            raise classify(exception.args[0], "ask for the members of the group") from exception

    def _running(self, found: str) -> WorkersRunning:
        return WorkersRunning(
            f"workers of the group {self._identity.group} run: {found}",
            hint="stop all processors first; this waits for the end of the sessions of those that were stopped",
        )


_FENCED_CODES: Final = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.STALE_MEMBER_EPOCH,
    }
)
