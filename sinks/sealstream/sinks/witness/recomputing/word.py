"""The verifier's word, from audit.verifier: how far each partition is verified, and where each chain then goes on.

It is the one thing that is believed here: that the entries up to there are right, and that none is missing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, cast

from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

from sealstream.kafka.client import KafkaConnection
from sealstream.schemas.entry import Genesis
from sealstream.schemas.errors import EntryInvalid, InstanceDiffers, Unreachable
from sealstream.sinks.verifier.records import Chain
from sealstream.sinks.verifier.state import Position, StateReader, chain_key
from sealstream.sinks.witness.recomputing.clients import (
    FETCH_RECORDS,
    LOG_CUT_CODES,
    POLL_SECONDS,
    pass_over,
    reader,
)

_FRESH_SECONDS: Final = 0.05
"""How long news are waited for where what is known is of one moment already."""


class VerifiersWord:
    """Follows audit.verifier from its beginning.

    Arguments:
        connection: How to reach Kafka.
        topic: The name of audit.verifier.
        partitions: Its number of partitions.
        instance: The instance that was verified.
        chained_topic_id: UUID of audit.chained as it is now, 16 bytes.
        client_id: The client's name in the brokers' logs.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        *,
        partitions: int,
        instance: str,
        chained_topic_id: bytes,
        client_id: str,
    ) -> None:
        self._topic = topic
        self._instance = instance
        self._chained_topic_id = chained_topic_id
        self._consumer = reader(connection, f"{client_id}-word")
        self._states = {number: StateReader(number) for number in range(partitions)}
        self._torn = set(self._states)  # partitions of which more has been read than up to the last known end
        self.changed: dict[bytes, int] = {}
        """The chains of which something was said since this was cleared, and their partitions."""
        self._consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in self._states])

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def refresh(self, deadline: float) -> bool:
        """Take in what has been said meanwhile, up to where nothing more is there.

        Arguments:
            deadline: When to give up, on the monotonic clock.

        Returns:
            Whether the end was reached: if not, what is known is of no one moment, and must not be used.

        Raises:
            HeadsDiffer: A record is not one that a verifier writes.
            InstanceDiffers: Another instance was verified there.
            Unreachable: The topic cannot be read.
        """
        while True:
            wait_seconds = POLL_SECONDS if self._torn else _FRESH_SECONDS
            for message in self._consumer.consume(FETCH_RECORDS, wait_seconds):
                error, number = message.error(), cast("int", message.partition())
                if error is None:
                    self._take(number, message.key(), message.value())
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._torn.discard(number)
                    self._states[number].chains.rest()
                elif error.code() in LOG_CUT_CODES:
                    raise Unreachable(f"{self._topic} moved its start while it was read", hint="it is read again")
                else:
                    pass_over(error, self._topic)
            if not self._torn:
                return True
            if time.monotonic() >= deadline:
                return False

    @property
    def is_whole(self) -> bool:
        """Whether what is known is of one moment."""
        return not self._torn

    def position(self, partition: int) -> Position | None:
        """Return how far a partition is verified; ``None`` if nothing of it is."""
        return self._states[partition].position

    def chain(self, partition: int, name: bytes) -> Chain | None:
        """Return a chain where the verifier stands; ``None`` if it has not begun."""
        return self._states[partition].chains.get(name)

    def known(self, partition: int) -> Iterator[Chain]:
        """Return all chains of a partition, to be read."""
        return self._states[partition].chains.all()

    def unsound(self, partition: int) -> list[Chain]:
        """Return the chains of a partition that something is known to be wrong with."""
        return self._states[partition].chains.unsound()

    def rest(self) -> None:
        """Make what was looked at small again."""
        for state in self._states.values():
            state.chains.rest()

    def _take(self, number: int, key: bytes | None, value: bytes | None) -> None:
        self._torn.add(number)
        state, before = self._states[number], self._states[number].position
        state.feed(key, value)
        prefix = chain_key(number, b"")
        if key is not None and key.startswith(prefix):
            self.changed[key[len(prefix) :]] = number
        elif state.position is not None and (before is None or before.genesis != state.position.genesis):
            self._check_instance(number, state.position)

    def _check_instance(self, number: int, position: Position) -> None:
        try:
            instance = Genesis.parse(position.genesis).instance
        except EntryInvalid as error:
            raise InstanceDiffers(f"{self._topic} partition {number} names no instance") from error
        if instance != self._instance:
            raise InstanceDiffers(
                f"{self._topic} partition {number} is of the instance {instance}, and this is {self._instance}",
                hint="set SEALSTREAM_INSTANCE and SEALSTREAM_TOPIC_PREFIX to those of one instance",
            )
        if position.chained_topic_id != self._chained_topic_id:
            raise InstanceDiffers(
                f"audit.chained is another topic than the one that was verified: {self._chained_topic_id.hex()}, and"
                f" {position.chained_topic_id.hex()} before",
                hint="it was deleted and made anew: the chains go on in a new epoch",
            )
