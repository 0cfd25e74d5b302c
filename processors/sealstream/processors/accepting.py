"""``sealstream gap accept``: an operator accepts that exactly one range of the source is lost.

The command only records that. The entry is made by a worker, in a transaction, when it next restores the partition: so
a crash of the command leaves either nothing or all that a worker needs, and a crash of the worker is repaired by the
next one, which makes the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from confluent_kafka import KafkaError, Message, Producer

from sealstream.kafka.client import KAFKA_LOG, KafkaConnection
from sealstream.processors.assignment import Observed, compare_instance
from sealstream.processors.chaining import LOG_APPEND_TIME
from sealstream.processors.clients import Identity
from sealstream.processors.failures import classify
from sealstream.processors.gaps import TEXT_CHARACTERS_MAX, Gap, find_gap
from sealstream.processors.survey import Survey, Surveyed
from sealstream.schemas.entry import GapReason
from sealstream.schemas.errors import ConfigError, HeadsDiffer, SourceGap, Unreachable
from sealstream.worker.settings import Settings

CLIENT_ID: Final = "sealstream-gap"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What would be recorded, and what it stands against.

    Arguments:
        partition: The source partition.
        topic: The source topic.
        gap: The range and who accepts it.
        position: The source offset up to which the partition is chained.
        start: The source's first offset.
        end: The offset behind its last one.
        recorded: Whether the same range was accepted before.
    """

    partition: int
    topic: str
    gap: Gap
    position: int
    start: int
    end: int
    recorded: bool


def prepare(
    settings: Settings, *, partition: int, first: int, last: int, reason: GapReason, by: str, why: str
) -> Acceptance:
    """Return the acceptance of a range, having made sure that it is exactly what is lost; nothing is written.

    Arguments:
        settings: The instance's settings.
        partition: The source partition.
        first: The first lost offset.
        last: The last lost offset.
        reason: Why it is lost.
        by: Who accepts it.
        why: Why it may be accepted.

    Raises:
        ConfigError: There is no such partition, or a text is empty or too long.
        SourceGap: The range is not what is lost: nothing is, or another range, or a part of it can still be read.
        HeadsDiffer: Heads and committed offset do not agree.
        InstanceDiffers: The partition was chained with other settings, or from another topic.
        Unreachable: Kafka does not answer.
    """
    require_texts(by=by, why=why)
    if not 0 <= partition < settings.partitions:
        raise ConfigError(f"partition {partition} does not exist", hint=f"they are 0 to {settings.partitions - 1}")
    topics = settings.topics()
    with survey_of(settings) as survey:
        topic_id = survey.require(topics.events, topics.heads)[topics.events].topic_id
        surveyed = survey.partition(partition)
        observed = surveyed.observed
        if observed.head is not None:
            compare_instance(partition, observed.head, settings.genesis(), topic_id)
        _require_lost(surveyed, first, last)
        behind = survey.first_record(partition, last + 1)
    gap = Gap(
        first=first,
        last=last,
        reason=reason,
        received=0 if behind is None else _received(behind),
        topic_id=topic_id,
        by=by,
        why=why,
        accepted_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    known = find_gap(surveyed.heads.acceptances, partition, (first, last), topic_id)
    position = observed.committed or 0
    return Acceptance(partition, topics.events, gap, position, observed.start, observed.end, recorded=known is not None)


def require_texts(**texts: str) -> None:
    """Refuse texts for the record that are empty, without end, or would steer the terminal of who reads them.

    Raises:
        ConfigError: One is; says which.
    """
    for name, text in texts.items():
        if not text.strip() or len(text) > TEXT_CHARACTERS_MAX or not text.isprintable():
            raise ConfigError(f"--{name} needs 1 to {TEXT_CHARACTERS_MAX} printable characters")


def record(settings: Settings, acceptance: Acceptance) -> None:
    """Record an acceptance; when this returns, all brokers in sync have it.

    Raises:
        Unreachable: Kafka did not confirm it: whether it is recorded is not known, and doing it again is safe.
    """
    write_heads(
        settings.connection(),
        settings.topics().heads,
        {acceptance.partition: [(acceptance.gap.key(acceptance.partition), acceptance.gap.pack())]},
        timeout_seconds=settings.request_timeout_seconds,
    )
    # A crash before this line: it is recorded or not, and the command can be run again. Behind it: the next restore of
    # the partition reads it, and a worker writes the entry.


def write_heads(
    connection: KafkaConnection,
    topic: str,
    records: dict[int, list[tuple[bytes, bytes | None]]],
    *,
    timeout_seconds: float,
) -> None:
    """Write records to audit.heads, outside of any transaction, and wait until all brokers in sync have them.

    Arguments:
        connection: How to reach the cluster.
        topic: audit.heads.
        records: Keys and values by partition.
        timeout_seconds: How long that may take.

    Raises:
        Unreachable: Kafka did not confirm it.
        SealstreamError: Kafka refuses it.
    """
    settings: dict[str, Any] = dict(connection.config(CLIENT_ID))
    settings |= {"enable.idempotence": True, "acks": "all", "message.timeout.ms": int(timeout_seconds * 1000)}
    producer = Producer(settings, logger=KAFKA_LOG)
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        del message
        if error is not None:
            failed.append(error)

    for partition, several in records.items():
        for key, value in several:
            producer.produce(topic, value, key, partition, on_delivery=delivered)
    left = producer.flush(timeout_seconds)
    if failed:
        raise classify(failed[0], f"write {topic}")
    if left:
        raise Unreachable(f"Kafka did not confirm what was written to {topic}", hint="run the command again")


def survey_of(settings: Settings) -> Survey:
    """Return what looks at an instance's partitions; close it, or use it as a context."""
    return Survey(
        settings.connection(),
        settings.topics(),
        group=Identity(settings.instance, settings.worker_id).group,
        client_id=CLIENT_ID,
        patience_seconds=settings.request_timeout_seconds,
    )


def require_agreement(observed: Observed) -> None:
    """Refuse a partition of which it is not known how far it is chained.

    Raises:
        HeadsDiffer: Heads and committed offset do not agree.
    """
    position = None if observed.head is None else observed.head.position
    if position != observed.committed:
        raise HeadsDiffer(
            f"partition {observed.partition} has heads up to {position} and the committed offset {observed.committed}",
            hint="sealstream heads check says which is right; a gap is accepted after that",
        )


def _require_lost(surveyed: Surveyed, first: int, last: int) -> None:
    """Refuse a range that is not exactly what is lost."""
    observed, where = surveyed.observed, f"partition {surveyed.observed.partition}"
    require_agreement(observed)
    lost = observed.lost
    if lost is None:
        raise SourceGap(
            f"{where}: nothing is lost: it is chained up to offset {observed.committed or 0}, and its source begins at"
            f" {observed.start}",
            hint="there is nothing to accept",
        )
    if (first, last) != lost:
        what = "a part of it can still be read" if last > lost[1] else "that is not the range that is lost"
        raise SourceGap(
            f"{where}, offsets {first} to {last}: {what}; lost are {lost[0]} to {lost[1]}",
            hint=f"sealstream gap accept --partition {observed.partition} --from {lost[0]} --to {lost[1]}",
        )


def _received(message: Message) -> int:
    """Return a record's time as an entry has it."""
    kind, milliseconds = message.timestamp()
    return milliseconds * 1000 if kind == LOG_APPEND_TIME else 0
