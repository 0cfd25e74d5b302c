"""What of a job stands in the log already: asked once, when a job goes on that ended in the middle.

Between two steps of its file, events were on their way. Which of them Kafka has taken nobody has written down, so the
log is read from where they can stand. The chain's duplicate window would do for most of them; this does for all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from sealstream.kafka.client import KAFKA_LOG, KafkaConnection, consumer_config
from sealstream.kafka.watermarks import watermarks
from sealstream.schemas.codec import read_prefix
from sealstream.schemas.entry import payload_digest
from sealstream.schemas.errors import FrameInvalid, SourceUnreadable, Unreachable

_STALL_SECONDS: Final = 30.0
"""How long no record may come before the log counts as unreachable."""
_POLL_SECONDS: Final = 0.5
_BATCH: Final = 1_000

Landed = dict[tuple[str, str], bytes]
"""By tenant and event id, the payload digest."""


def end_offsets(kafka: KafkaConnection, topic: str) -> dict[int, int]:
    """Return the offset behind the last record of each partition.

    Raises:
        Unreachable: Kafka does not answer, or has no such topic.
    """
    consumer = _consumer(kafka)
    try:
        partitions = consumer.list_topics(topic, timeout=_STALL_SECONDS).topics[topic].partitions
        if not partitions:
            raise Unreachable(f"there is no topic {topic}", hint="sealstream topics create")
        return {number: watermarks(consumer, topic, number, timeout_seconds=_STALL_SECONDS)[1] for number in partitions}
    except KafkaException as error:
        raise Unreachable(f"topic {topic}: {error.args[0].str()}", hint="check SEALSTREAM_KAFKA") from error
    finally:
        consumer.close()


def landed(kafka: KafkaConnection, topic: str, floors: Mapping[int, int], prefix: str) -> Landed:
    """Return the events of a job that stand in the log from the given offsets on.

    Arguments:
        kafka: How to reach Kafka.
        topic: The source topic.
        floors: By partition, where to begin.
        prefix: What the ids of the job's events begin with.

    Raises:
        Unreachable: Kafka does not answer.
        SourceUnreadable: Retention has taken records from behind an offset, so that it cannot be said any more.
    """
    ends = end_offsets(kafka, topic)
    open_partitions: set[int | None] = {number for number, end in ends.items() if floors.get(number, 0) < end}
    found: Landed = {}
    consumer = _consumer(kafka)
    try:
        consumer.assign(
            [TopicPartition(topic, number, floors.get(number, 0)) for number in ends if number in open_partitions]
        )
        deadline = time.monotonic() + _STALL_SECONDS
        while open_partitions:
            messages = consumer.consume(_BATCH, _POLL_SECONDS)
            if messages:
                deadline = time.monotonic() + _STALL_SECONDS
            for message in messages:
                if _is_end(message):
                    open_partitions.discard(message.partition())
                else:
                    _take(message, topic, found, prefix.encode())
            if time.monotonic() > deadline:
                raise Unreachable(f"topic {topic} gives no records for {_STALL_SECONDS:.0f} s", hint="try again")
    except KafkaException as error:
        raise Unreachable(f"topic {topic}: {error.args[0].str()}", hint="try again") from error
    finally:
        consumer.close()
    return found


def _take(message: Message, topic: str, found: Landed, prefix: bytes) -> None:
    error = message.error()
    if error is not None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise SourceUnreadable(
                f"topic {topic} has lost records that this job may have written: {error.str()}",
                hint="whether its last rows are in the log cannot be said: begin another job behind them",
            )
        raise KafkaException(error)
    value = message.value() or b""
    try:
        event_id, tenant, _ = read_prefix(value)
    except FrameInvalid:
        return  # somebody else's: the chain quarantines it
    if event_id.startswith(prefix):
        found[tenant.decode(errors="replace"), event_id.decode(errors="replace")] = payload_digest(value)


def _is_end(message: Message) -> bool:
    """Return whether this says that a partition is read to its end, marks of transactions included."""
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF


def _consumer(kafka: KafkaConnection) -> Consumer:
    # The group commits nothing: librdkafka wants a name.
    config = consumer_config(kafka, client_id="sealstream-import", group="sealstream-import")
    return Consumer(config | {"enable.partition.eof": True, "logger": KAFKA_LOG})
