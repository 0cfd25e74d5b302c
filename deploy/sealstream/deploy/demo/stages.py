"""What went through each stage, counted at the stage's own output: in Kafka as a read_committed reader sees it, and in
the store as SQL sees it. No worker's word is taken for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from sealstream.deploy.demo.background import Background
from sealstream.kafka.client import KafkaConnection, consumer_config
from sealstream.kafka.topics import SEAL_ENTRY_HEADER, TopicNames
from sealstream.schemas.entry import LABEL, Kind
from sealstream.schemas.errors import Unreachable
from sealstream.sinks.store.database import connect, translated

_CLIENT: Final = "sealstream-demo"
_GROUP: Final = "sealstream-demo-never-commits"
_KIND_BYTE: Final = len(LABEL) + 1  # behind the label and the suite
_POLL_SECONDS: Final = 0.1
_RECORDS_AT_ONCE: Final = 5_000
_QUEUE_KIBIBYTES: Final = 16 * 1024
# Below this a rate says more about batches and polls than about the stage.
_RATE_SECONDS_MIN: Final = 0.5
_RECENT_SECONDS: Final = 2.0


@dataclass(slots=True)
class Stage:
    """How far one stage is; one thread writes it, others read it.

    Arguments:
        name: Its name, as everywhere: published, chained, stored, verified.
        count: Entries or records that came out of it, geneses not counted.
        first_at: When the first came, on the clock of ``time.monotonic``; None before.
        first_count: How many were there when the first was seen.
        last_at: When the last came.
        recent: Counts at the last few looks, for the rate of the moment.
    """

    name: str
    count: int = 0
    first_at: float | None = None
    first_count: int = 0
    last_at: float | None = None
    recent: tuple[tuple[float, int], ...] = ()

    def observe(self, count: int) -> None:
        """Note the count as it is now."""
        now = time.monotonic()
        if count != self.count:
            if self.first_at is None:
                self.first_at, self.first_count = now, count
            self.last_at = now
            self.count = count
        kept = tuple(look for look in self.recent if look[0] > now - _RECENT_SECONDS)
        if not kept or now - kept[-1][0] >= _POLL_SECONDS:
            self.recent = (*kept, (now, count))

    @property
    def rate_now(self) -> float | None:
        """Records a second at the moment; None if nothing moves, or too little was seen."""
        looks = self.recent
        if len(looks) < 2 or time.monotonic() - looks[-1][0] > _RECENT_SECONDS / 2 or looks[-1][1] == looks[0][1]:
            return None
        return (looks[-1][1] - looks[0][1]) / (looks[-1][0] - looks[0][0])

    @property
    def rate(self) -> float | None:
        """Records a second from the first that was seen to the last; None where that was too short to tell."""
        if self.first_at is None or self.last_at is None or self.last_at - self.first_at < _RATE_SECONDS_MIN:
            return None
        return (self.count - self.first_count) / (self.last_at - self.first_at)


@dataclass(slots=True)
class Counts:
    """All that is counted.

    Arguments:
        published: What the SDK had acknowledged, and what was sent without it.
        chained: Entries on audit.chained.
        stored: Entries in the store.
        verified: Records on audit.verified.
        kinds: Entries on audit.chained by kind.
        violations: Records on audit.violations.
    """

    published: Stage = field(default_factory=lambda: Stage("published"))
    chained: Stage = field(default_factory=lambda: Stage("chained"))
    stored: Stage = field(default_factory=lambda: Stage("stored"))
    verified: Stage = field(default_factory=lambda: Stage("verified"))
    kinds: Counter[int] = field(default_factory=Counter[int])
    violations: int = 0

    def stages(self) -> tuple[Stage, ...]:
        """Return the four stages in their order."""
        return (self.published, self.chained, self.stored, self.verified)


class LogWatch(Background):
    """Counts what is committed on audit.chained, audit.verified and audit.violations.

    Arguments:
        connection: How to reach Kafka.
        topics: The topics' names.
        partitions: Number of partitions of the first two.
        counts: Where the counts go.
    """

    def __init__(self, connection: KafkaConnection, topics: TopicNames, partitions: int, counts: Counts) -> None:
        super().__init__("count-log")
        self._connection = connection
        self._topics = topics
        self._partitions = partitions
        self._counts = counts

    def work(self, stop: threading.Event) -> None:
        """Read the topics from their beginnings on."""
        config = consumer_config(self._connection, client_id=_CLIENT, group=_GROUP)
        consumer = Consumer(
            config | {"queued.max.messages.kbytes": _QUEUE_KIBIBYTES}, logger=logging.getLogger("sealstream.demo")
        )
        try:
            consumer.assign(
                [
                    TopicPartition(topic, partition, OFFSET_BEGINNING)
                    for topic in (self._topics.chained, self._topics.verified)
                    for partition in range(self._partitions)
                ]
                + [TopicPartition(self._topics.violations, 0, OFFSET_BEGINNING)]
            )
            verified = 0
            while not stop.is_set():
                for message in consumer.consume(_RECORDS_AT_ONCE, _POLL_SECONDS):
                    verified += self._take(message)
                self._counts.verified.observe(verified)
                kinds = self._counts.kinds
                self._counts.chained.observe(kinds.total() - kinds[Kind.GENESIS])
        except KafkaException as error:
            raise Unreachable(f"the topics cannot be counted: {error.args[0].str()}") from error
        finally:
            consumer.close()

    def _take(self, message: Message) -> int:
        """Count one record; returns 1 for a verified one."""
        error = message.error()
        if error is not None:
            if error.retriable():
                return 0
            raise Unreachable(f"{message.topic()} cannot be counted: {error.str()}")
        topic = message.topic()
        if topic == self._topics.verified:
            return 1
        if topic == self._topics.violations:
            self._counts.violations += 1
            return 0
        headers = cast("list[tuple[str, bytes]]", message.headers() or [])
        entry = next(value for name, value in headers if name == SEAL_ENTRY_HEADER)
        self._counts.kinds[entry[_KIND_BYTE]] += 1
        return 0


class StoreWatch(Background):
    """Counts what is committed in the store.

    A chain's head is the seq of its last entry, and genesis is entry 0: so the heads' sum is the number of entries
    without geneses, which spares the database a count over all of them.

    Arguments:
        database_url: The store.
        counts: Where the counts go.
    """

    def __init__(self, database_url: str, counts: Counts) -> None:
        super().__init__("count-store")
        self._database_url = database_url
        self._counts = counts

    def work(self, stop: threading.Event) -> None:
        """Ask for the heads again and again."""
        with connect(self._database_url, application=_CLIENT) as connection, translated():
            while not stop.is_set():
                row = connection.execute("SELECT coalesce(sum(seq), 0)::bigint FROM sealstream.tenant_heads").fetchone()
                self._counts.stored.observe(row[0] if row else 0)
                time.sleep(_POLL_SECONDS)


def stored_kinds(database_url: str) -> Counter[int]:
    """Return the number of stored entries by kind, counted one by one.

    Raises:
        StoreError: The store refuses.
        Unreachable: The store does not answer.
    """
    with connect(database_url, application=_CLIENT) as connection, translated():
        rows = connection.execute("SELECT kind, count(*) FROM sealstream.entries GROUP BY kind").fetchall()
    return Counter({int(kind): int(count) for kind, count in rows})
