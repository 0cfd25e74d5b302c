"""Where a partition's log begins and ends, asked of its leader, which may only just be becoming one."""

from __future__ import annotations

import time
from typing import Final, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

PAUSE_SECONDS: Final = 0.1
_LEADER_CODES: Final = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
    }
)
"""What a broker answers while a partition was just made, or while its leader moves: ask again."""


def watermarks(consumer: Consumer, topic: str, partition: int, *, timeout_seconds: float) -> tuple[int, int]:
    """Return the first offset of a partition, and the one behind the last that this consumer's isolation level shows.

    Arguments:
        consumer: Who asks.
        topic: The topic.
        partition: The partition.
        timeout_seconds: How long to wait for an answer, and for a leader that can give one.

    Raises:
        KafkaException: No answer in time, or another error.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        left = max(PAUSE_SECONDS, deadline - time.monotonic())
        try:
            found = cast(  # its type stub leaves out that a timeout can give nothing
                "tuple[int, int] | None",
                consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=left, cached=False),
            )
        except KafkaException as exception:
            if exception.args[0].code() not in _LEADER_CODES or time.monotonic() + PAUSE_SECONDS >= deadline:
                raise
            time.sleep(PAUSE_SECONDS)
            continue
        if found is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return found
