"""The consumer of audit.chained: the group says which partitions, the store says from where."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from sealstream.kafka.client import KAFKA_LOG, ClientConfig, KafkaConnection, consumer_config
from sealstream.kafka.replacement import Replaced
from sealstream.kafka.watermarks import watermarks
from sealstream.schemas.errors import ConfigError, SourceGap, Unreachable
from sealstream.worker.logs import logger

POLL_SECONDS: Final = 0.1
BOUNDS_TIMEOUT_SECONDS: Final = 4.0
_SLICE_MAX: Final = 2_000
_RECORD_BYTES: Final = 512  # a first guess; the next slice goes by what the last one was like
_QUEUE_KBYTES_MAX: Final = 65_536
_POLL_INTERVAL_MAX_MS: Final = 300_000


_GONE: Final = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})
_DENIED: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)


class ChainedSource:
    """Reads audit.chained as the group assigns it, from positions that the caller gives.

    A new assignment stands still until :meth:`read_from` says where it begins. Everything, rebalances included,
    happens in the thread that calls :meth:`take` or :meth:`idle`; partitions are given back only behind ``on_leave``.

    Arguments:
        connection: How to reach Kafka.
        topic: The chained topic.
        group: The consumer group.
        worker_id: The worker's name, stable over restarts: who comes back within the session keeps its partitions.
        session_timeout_seconds: After this the group gives the partitions of a silent worker to others.
        gather_seconds: How long the brokers let records gather.
        on_leave: Called before partitions are given back: returns when what is under way with them is over.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        topic: str,
        group: str,
        worker_id: str,
        session_timeout_seconds: float,
        gather_seconds: float,
        on_leave: Callable[[], None],
    ) -> None:
        self.topic = topic
        self._on_leave = on_leave
        self.assigned: frozenset[int] = frozenset()
        self.joined = False
        self._reading: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._record_bytes = _RECORD_BYTES
        self._trouble = ""
        self._fatal: KafkaError | None = None
        config: ClientConfig = consumer_config(
            connection, client_id=f"sealstream-sink-{worker_id}", group=group, gather_seconds=gather_seconds
        )
        config |= {
            "group.instance.id": f"{group}-{worker_id}",
            "session.timeout.ms": round(session_timeout_seconds * 1000),
            "heartbeat.interval.ms": max(1, round(session_timeout_seconds * 1000 / 4)),
            "max.poll.interval.ms": max(_POLL_INTERVAL_MAX_MS, round(session_timeout_seconds * 1000)),
            "queued.max.messages.kbytes": _QUEUE_KBYTES_MAX,
            # The end of a partition tells how far its log was passed, also where its last offsets are no records.
            "enable.partition.eof": True,
        }
        self._config = cast("dict[str, Any]", config | {"error_cb": self._on_error, "logger": KAFKA_LOG})
        self._consumer = self._subscribe()

    @property
    def reading(self) -> Mapping[int, int]:
        """The offset from which each partition is read; partitions that wait for theirs are missing."""
        return self._reading

    @property
    def trouble(self) -> str:
        """What the client last said about the brokers being away; empty since they answered."""
        return self._trouble

    def read_from(self, positions: Mapping[int, int]) -> None:
        """Begin to read the assigned partitions, each from its position. What was fetched before is dropped."""
        self._reading = {partition: offset for partition, offset in positions.items() if partition in self.assigned}
        self._assign()

    def stand_still(self) -> None:
        """Stop reading; the assignment stays."""
        if self._reading:
            self._reading = {}
            self._assign()

    def passed(self) -> dict[int, int]:
        """Return how far partitions were read beyond their positions without meeting a record."""
        return {n: end for n, end in self._ends.items() if end > self._reading.get(n, end)}

    def idle(self, seconds: float) -> None:
        """Stay in the group for a while without reading.

        Raises:
            Replaced: The group gave this worker's membership to another one.
            ConfigError: Kafka does not let this worker read.
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            message = self._consumer.poll(min(left, POLL_SECONDS))
            self._refuse(None)
            if message is not None and message.error() is not None:
                self._check(message, tolerant=True)

    def take(self, *, records_max: int, bytes_max: int, wait_seconds: float = POLL_SECONDS) -> list[Message]:
        """Return what waits, in the log's order by partition; nothing if nothing comes within a moment.

        Arguments:
            records_max: How many records at most.
            bytes_max: How many bytes, exceeded by the last records that were taken at once.
            wait_seconds: How long to wait for the first one.

        Raises:
            SourceGap: A position is no longer in the log.
            Replaced: The group gave this worker's membership to another one.
            ConfigError: Kafka does not let this worker read.
            Unreachable: The topic does not exist.
        """
        first = self._consumer.poll(wait_seconds)
        self._refuse(None)
        if first is None:
            return []
        found = self._sound([first])
        size = _size(found)
        while len(found) < records_max and size < bytes_max:
            room = max(1, min(records_max - len(found), (bytes_max - size) // self._record_bytes, _SLICE_MAX))
            more = self._sound(self._consumer.consume(room, 0.0))
            if not more:
                break
            added = _size(more)
            size += added
            self._record_bytes = max(1, added // len(more))
            found.extend(more)
        # A rebalance may have taken partitions away meanwhile.
        return [message for message in found if message.partition() in self._reading]

    def bounds(self, partition: int) -> tuple[int, int]:
        """Return the first offset that a partition's log still has, and the one behind its last committed record.

        Raises:
            Unreachable: Kafka does not answer.
        """
        try:
            found = watermarks(self._consumer, self.topic, partition, timeout_seconds=BOUNDS_TIMEOUT_SECONDS)
        except KafkaException as error:
            raise Unreachable(f"Kafka does not answer: {error.args[0].str()}", hint="check the brokers") from error
        self._trouble = ""
        return found

    def lag(self, partition: int, end: int) -> int:
        """Return how many offsets lie between what was read of a partition and its end."""
        return max(0, end - max(self._reading.get(partition, 0), self._ends.get(partition, 0)))

    def advance(self, positions: Mapping[int, int]) -> None:
        """Note that what lies before these positions is stored, and hint it to the group for tools that show lag.

        Partitions that are not read any more are left out: their next owner says where they are.
        """
        own = {partition: offset for partition, offset in positions.items() if partition in self._reading}
        self._reading.update(own)
        offsets = [TopicPartition(self.topic, partition, offset) for partition, offset in own.items()]
        try:
            if offsets:
                self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            # Only a hint: the position that counts is in the store.
            logger().debug("group offsets were not noted", error=error.args[0].str())

    def renew(self) -> None:
        """Join the group again as a new client, in the place of one that the group refuses."""
        self._on_leave()
        self._consumer.close()
        self.assigned, self._reading, self.joined = frozenset(), {}, False
        self._ends, self._fatal = {}, None
        self._consumer = self._subscribe()

    def _subscribe(self) -> Consumer:
        consumer = Consumer(self._config)
        consumer.subscribe([self.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        return consumer

    def close(self) -> None:
        """Leave. As a member of known name the worker keeps its partitions until the session is over."""
        self._consumer.close()

    def _sound(self, messages: list[Message]) -> list[Message]:
        """Return the messages that are records, and judge those that are errors."""
        found: list[Message] = []
        for message in messages:
            if message.error() is None:
                found.append(message)
            else:
                self._check(message)
        if found:
            self._trouble = ""
        return found

    def _assign(self) -> None:
        self._ends = {}
        try:
            self._consumer.assign([TopicPartition(self.topic, n, offset) for n, offset in self._reading.items()])
        except KafkaException as exception:
            self._refuse(exception.args[0])
            raise Unreachable(f"the Kafka client cannot read: {exception.args[0].str()}") from exception

    def _check(self, message: Message, *, tolerant: bool = False) -> None:
        error = cast("KafkaError", message.error())
        code, where = error.code(), f"{self.topic} partition {message.partition()}"
        if code == KafkaError._PARTITION_EOF:
            self._ends[cast("int", message.partition())] = cast("int", message.offset())
            self._trouble = ""
            return
        self._refuse(error)
        if code in _GONE and not tolerant:
            raise SourceGap(
                f"{where}: the log no longer has the next record: {error.str()}",
                hint="restore the store from a backup that is newer, or accept the gap",
            )
        if code in _DENIED:
            raise ConfigError(f"Kafka refuses: {error.str()}", hint="grant the sink to read its topic and group")
        if code == KafkaError.UNKNOWN_TOPIC_OR_PART and not tolerant:
            raise Unreachable(f"the topic {self.topic} does not exist", hint="run sealstream topics create")
        self._on_error(error)

    def _refuse(self, error: KafkaError | None) -> None:
        """Stop for an error that the client does not recover from.

        Raises:
            Replaced: This is one, or there was one: of a consumer it can only be that its membership was taken over.
        """
        fatal = error if error is not None and error.fatal() else self._fatal
        if fatal is not None:
            raise Replaced(f"the group refuses this worker: {fatal.str()}")

    def _on_error(self, error: KafkaError) -> None:
        self._trouble = error.str()
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._fatal = error  # reported here alone, while the client goes on fetching without being in the group

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.assigned, self._reading, self.joined = frozenset(p.partition for p in partitions), {}, True
        # Nothing is fetched before the store has said from where.
        consumer.assign([])
        logger().info("partitions assigned", topic=self.topic, partitions=sorted(self.assigned))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        del partitions
        self._on_leave()
        self.assigned, self._reading = frozenset(), {}
        consumer.unassign()
        logger().info("partitions revoked", topic=self.topic)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        logger().warning("partitions lost: the group did not hear of this worker in time", topic=self.topic)
        self._on_revoke(consumer, partitions)
        self.joined = False  # it is no member any more, and may not become one while the brokers are away


def _size(messages: list[Message]) -> int:
    return sum(len(message) for message in messages)
