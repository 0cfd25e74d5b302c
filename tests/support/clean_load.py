"""What applications of a clean run publish: everything that they may, and nothing that is an attack."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import Final, Literal

from confluent_kafka import Producer

from sealstream.kafka.partition import partition_of
from sealstream.schemas.codec import encode_event
from sealstream.schemas.event import Actor, AuditEvent, Control, EventKind
from support.publish import RawRecord, event_value, publish_raw
from support.workers import Pipeline

TENANTS: Final = ("acme", "globex", "initech", "umbrella", "Hooli", "stark_industries", "wayne-corp")
TRANSACTION_SECONDS: Final = 30.0

How = Literal["plain", "committed", "aborted"]
"""Published without a transaction; in one that is committed; in one that is aborted, so that nobody sees it."""


class CleanLoad:
    """Makes and publishes records of several tenants: events, imported and control ones, repeats, forged ids, bad ones.

    Arguments:
        pipeline: Whose source it publishes to.
        random: Decides; the same one makes the same records.
    """

    def __init__(self, pipeline: Pipeline, random: Random) -> None:
        self._pipeline = pipeline
        self._partitions = pipeline.genesis.partitions
        self._random = random
        self._count = 0
        self._events: dict[str, list[str]] = {tenant: [f"first-{tenant}"] for tenant in TENANTS}

    def publish(self, count: int, how: How = "plain") -> None:
        """Publish so many records, and wait until the brokers have them."""
        records = [self._record() for _ in range(count)]
        if how == "plain":
            pipeline = self._pipeline
            publish_raw(pipeline.bootstrap, pipeline.topics.events, records, partitions=self._partitions)
        else:
            self._in_transaction(records, commit=how == "committed")

    def publish_one_of_each(self) -> None:
        """Publish an event of every tenant, and behind them a record of every kind."""
        first = TENANTS[0]
        key, good = first.encode(), event_value(first, f"first-{first}")
        records = [RawRecord(tenant.encode(), event_value(tenant, f"first-{tenant}")) for tenant in TENANTS]
        records += [
            RawRecord(key, event_value(first, "imported", kind=EventKind.IMPORTED)),
            RawRecord(key, _control(first, "control")),
            RawRecord(key, good),
            RawRecord(key, event_value(first, f"first-{first}", note="forged")),
            *self._bad(key, good),
        ]
        pipeline = self._pipeline
        publish_raw(pipeline.bootstrap, pipeline.topics.events, records, partitions=self._partitions)

    def _record(self) -> RawRecord:
        self._count += 1
        random, tenant = self._random, self._random.choice(TENANTS)
        kinds = ("event", "imported", "control", "repeat", "forged", "bad")
        (kind,) = random.choices(kinds, weights=(20, 4, 2, 3, 2, 3))
        key, name = tenant.encode(), f"e-{self._count}"
        earlier = random.choice(self._events[tenant][-20:])
        match kind:
            case "imported":
                return RawRecord(key, event_value(tenant, name, kind=EventKind.IMPORTED))
            case "control":
                return RawRecord(key, _control(tenant, name))
            case "repeat":
                return RawRecord(key, event_value(tenant, earlier))
            case "forged":
                return RawRecord(key, event_value(tenant, earlier, note="forged"))
            case "bad":
                return random.choice(self._bad(key, event_value(tenant, name)))
            case _:
                self._events[tenant].append(name)
                return RawRecord(key, event_value(tenant, name))

    def _bad(self, key: bytes, good: bytes) -> tuple[RawRecord, ...]:
        elsewhere = (partition_of(key, self._partitions) + 1) % self._partitions
        return (
            RawRecord(None, good, partition=self._count % self._partitions),
            RawRecord(b"!acme", good),
            RawRecord(key, good, partition=elsewhere),
            RawRecord(key, None),
            RawRecord(key, b"\xff" * 100),
            RawRecord(key, event_value("somebody-else", "x")),
            RawRecord(key, event_value(key.decode(), "no spaces")),
        )

    def _in_transaction(self, records: Sequence[RawRecord], *, commit: bool) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self._pipeline.bootstrap,
                "transactional.id": f"clean-{self._random.getrandbits(64):x}",
            }
        )
        producer.init_transactions(TRANSACTION_SECONDS)
        producer.begin_transaction()
        for one in records:
            partition = partition_of(one.key or b"", self._partitions) if one.partition is None else one.partition
            producer.produce(self._pipeline.topics.events, one.value, one.key, partition)
        assert producer.flush(TRANSACTION_SECONDS) == 0, "not everything was delivered in time"
        (producer.commit_transaction if commit else producer.abort_transaction)(TRANSACTION_SECONDS)


def _control(tenant: str, event_id: str) -> bytes:
    """Return a control event: chained as it is, whatever its note is worth."""
    event = AuditEvent(
        id=event_id,
        tenant=tenant,
        kind=EventKind.CONTROL,
        salt=bytes(16),
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
        actor=Actor("operator", "o-1"),
        action="policy.changed",
        control=Control("a note that nobody has signed", b"body"),
    )
    return encode_event(event)
