"""Reads audit.events: membership in the group, assignment, and batches out of what librdkafka has fetched.

All of it runs in the log's thread. librdkafka calls back only within a poll, and polls and transactions take turns. So
a revocation waits for the transaction in flight by itself, and needs no lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from sealstream.processors.batch import Batch
from sealstream.processors.clients import Clients
from sealstream.processors.failures import LEFT_GROUP_CODES, POSITION_GONE_CODES, TOPIC_GONE_CODES, classify
from sealstream.processors.reading import REQUEST_SECONDS
from sealstream.processors.status import Status
from sealstream.schemas.errors import SealstreamError, Unreachable
from sealstream.worker.logs import logger

POLL_SECONDS: Final = 0.1
TAKE_RECORDS: Final = 1_000
GATHER_SECONDS: Final = 0.002
"""How long to wait for more records before looking again whether a transaction could begin."""

PASS_OVER_SECONDS: Final = 5.0
"""How often the position of an idle partition may be moved over offsets that are no records, by a transaction."""


class OnRevoked(Protocol):
    """Hears that all partitions are gone."""

    def __call__(self, *, lost: bool) -> None:
        """Hear it within a poll."""


class PlaceGone(SealstreamError):
    """The source cannot be read from where the heads end; a restore finds out why."""


class Source:
    """The consumer of audit.events and what belongs to it.

    Arguments:
        clients: Makes the consumer.
        topic: The source topic.
        status: Where the statistics of the connection go.
        on_assigned: Called within a poll with the partitions that are assigned; they are read only after
            :meth:`read_from`.
        on_revoked: Called within a poll when all partitions are gone, with ``lost`` if the membership is gone as well.
        records_max: Records of one batch, at the most; see :meth:`shrink`.
        bytes_max: Bytes of one batch; the last record may exceed it.
        age_seconds: How long a batch waits for more records.
    """

    def __init__(
        self,
        clients: Clients,
        topic: str,
        status: Status,
        *,
        on_assigned: Callable[[], None],
        on_revoked: OnRevoked,
        records_max: int,
        bytes_max: int,
        age_seconds: float,
    ) -> None:
        self._clients = clients
        self._topic = topic
        self._status = status
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._records_max = records_max
        self._records_now = records_max
        self._bytes_max = bytes_max
        self._age_seconds = age_seconds
        self._taken: dict[int, int] = {}  # by partition, the position behind what was taken
        self._ends: dict[int, int] = {}  # by partition, the end that librdkafka last came to
        self._pass_over_at = 0.0
        self.consumer = clients.consumer(on_statistics=status.on_statistics)
        self.generation = 0
        self.joined = False
        self.owned: list[int] = []

    def join(self) -> None:
        """Join the group, once; from then on polls bring assignments."""
        if not self.joined:
            self.consumer.subscribe(
                [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
            )
            self.joined = True

    def renew(self) -> None:
        """Put a new consumer in the place of one that is at its end; it must join again."""
        self.consumer.close()
        self.consumer = self._clients.consumer(on_statistics=self._status.on_statistics)
        self.generation += 1
        self.joined, self.owned, self._taken, self._ends = False, [], {}, {}

    def close(self) -> None:
        """Leave. A static member keeps its partitions until its session ends or it is back."""
        self.consumer.close()

    def committed(self, partition: int) -> int | None:
        """Return the group's committed offset, if there is one; it waits for transactions that are about to end.

        Raises:
            Unreachable: No answer in time.
        """
        try:
            found = self.consumer.committed([TopicPartition(self._topic, partition)], timeout=REQUEST_SECONDS)[0]
        except KafkaException as exception:
            raise classify(exception.args[0], "read the committed offset") from exception
        if found.error is not None:
            raise classify(found.error, "read the committed offset")
        return found.offset if found.offset >= 0 else None

    def read_from(self, positions: Mapping[int, int]) -> None:
        """Read owned partitions from these positions on; with none, read nothing."""
        self._taken, self._ends = dict(positions), {}
        self.consumer.assign([TopicPartition(self._topic, n, at) for n, at in positions.items()])

    def serve(self, wait_seconds: float) -> None:
        """Serve the group while nothing is read.

        Raises:
            SealstreamError: The consumer is at its end.
        """
        message = self.consumer.poll(wait_seconds)
        if message is not None and (error := message.error()) is not None:
            self._judge(error)

    def take(self, busy: Callable[[], bool] = lambda: False) -> Batch | None:
        """Return the next batch, bounded by records, bytes and age; ``None`` if there is none at the moment.

        Arguments:
            busy: Whether a transaction could not begin at the moment. As long as it could not, a batch that is not
                full waits for more records: it would only wait elsewhere.

        Raises:
            PlaceGone: A partition cannot be read on.
            SealstreamError: The consumer is at its end.
        """
        batch = Batch(self.generation)
        first = self.consumer.poll(POLL_SECONDS)
        deadline = time.monotonic() + self._age_seconds
        messages = [] if first is None else [first]
        while messages or (batch.count and busy()):
            self._sort(messages, batch)
            room = self._records_now - batch.count
            if room <= 0 or batch.size_bytes >= self._bytes_max:
                break
            wait_seconds = max(deadline - time.monotonic(), GATHER_SECONDS if busy() else 0.0)
            messages = self.consumer.consume(min(room, TAKE_RECORDS), wait_seconds)
        if batch.generation != self.generation:
            return None  # a rebalance came in between: the next owner reads it from the committed offset
        return self._complete(batch)

    def shrink(self) -> None:
        """Take batches of half the size from now on: a transaction took longer than it may.

        Otherwise a worker that is too slow for a full batch would repeat it for ever.
        """
        self._records_now = max(self._records_now // 2, 1)

    def grow(self) -> None:
        """Take larger batches again, as long as they are smaller than they may be."""
        self._records_now = min(self._records_now * 2, self._records_max)

    def _sort(self, messages: list[Message], batch: Batch) -> None:
        """Put messages into a batch by partition; the ends of partitions and errors come as messages, too."""
        records, size_bytes = batch.records, 0
        for message in messages:
            error, partition = message.error(), message.partition() or 0
            if error is None:
                size_bytes += len(message)
                if partition in records:
                    records[partition].append(message)
                else:
                    records[partition] = [message]
                batch.count += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                self._ends[partition] = message.offset() or 0
            else:
                self._judge(error)
        batch.size_bytes += size_bytes

    def _complete(self, batch: Batch) -> Batch | None:
        """Note where a batch starts and ends; ``None`` if it is not worth a transaction."""
        taken, now = self._taken, time.monotonic()
        if not batch.count and now < self._pass_over_at:
            return None
        # The end of a partition comes behind its records, so there are none between the last one taken and the end.
        batch.ends = {n: end for n, end in self._ends.items() if end > taken[n]}
        for partition, records in batch.records.items():
            batch.ends[partition] = max(batch.ends.get(partition, 0), (records[-1].offset() or 0) + 1)
        if not batch.ends:
            return None
        batch.starts = {partition: taken[partition] for partition in batch.ends}
        taken.update(batch.ends)
        self._pass_over_at = now + PASS_OVER_SECONDS
        return batch

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.generation += 1
        self.owned = sorted(place.partition for place in partitions)
        self._taken, self._ends = {}, {}
        consumer.assign([])  # librdkafka must see an assignment; nothing may be read before the heads are restored
        logger().info("partitions assigned", partitions=self.owned)
        self._on_assigned()

    def _revoked(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._give_up(partitions, lost=False)

    def _lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._give_up(partitions, lost=True)

    def _give_up(self, partitions: list[TopicPartition], *, lost: bool) -> None:
        self.generation += 1
        self.owned, self._taken, self._ends = [], {}, {}
        logger().info("partitions revoked", partitions=sorted(place.partition for place in partitions), lost=lost)
        self._on_revoked(lost=lost)

    def _judge(self, error: KafkaError) -> None:
        """Raise what an error means for reading; what librdkafka mends by itself is left to it."""
        code = error.code()
        if code in POSITION_GONE_CODES or code in TOPIC_GONE_CODES:
            raise PlaceGone(f"the source cannot be read on: {error.str()}")
        if code in LEFT_GROUP_CODES:
            logger().warning("left the group, because a step took too long; joining again")
            return
        meaning = classify(error, f"read {self._topic}")
        if not isinstance(meaning, Unreachable):
            raise meaning
