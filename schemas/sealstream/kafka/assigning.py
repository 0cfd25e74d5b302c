"""Assigning partitions to a consumer that has some already: nothing of how it read those is left."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import Consumer, TopicPartition


def assign_anew(consumer: Consumer, places: Iterable[TopicPartition]) -> None:
    """Read these places and no others, none of them paused.

    librdkafka remembers that a partition was paused beyond its assignment: assigned again, it would never be read.

    Arguments:
        consumer: The consumer, as its own thread uses it.
        places: Partitions, and the offsets to read them from.

    Raises:
        KafkaException: The client is closed or has failed for good.
    """
    consumer.resume(consumer.assignment())
    consumer.assign(list(places))
