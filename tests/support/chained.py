"""Makes the records of audit.chained as the processor would, one by one and in the plainest way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from confluent_kafka import Producer

from sealstream.kafka.partition import partition_of
from sealstream.kafka.topics import SEAL_ENTRY_HEADER
from sealstream.schemas.codec import encode_event
from sealstream.schemas.entry import (
    CARRIED_KINDS,
    ZERO_HASH,
    Entry,
    Genesis,
    Kind,
    Quarantine,
    entry_hash,
    pack,
    payload_digest,
)
from sealstream.schemas.event import Actor, AuditEvent, Target

INSTANCE = "test.example/store"
RECEIVED = 1_700_000_000_000_000


@dataclass(frozen=True, slots=True)
class Sealed:
    """A record of audit.chained."""

    partition: int
    key: bytes
    value: bytes
    entry: bytes


@dataclass
class Chains:
    """The chains of an instance, growing as records are asked for."""

    instance: str = INSTANCE
    partitions: int = 4
    topic_id: bytes = bytes(range(16))
    received: int = RECEIVED
    heads: dict[str, tuple[int, bytes]] = field(default_factory=dict[str, tuple[int, bytes]])
    offsets: dict[int, int] = field(default_factory=lambda: defaultdict[int, int](int))

    def event(self, tenant: str, event_id: str, *, kind: Kind = Kind.EVENT, ref: int = 0) -> list[Sealed]:
        """Return what an event of that tenant becomes: its record, and a genesis before the first one."""
        event = AuditEvent(
            tenant=tenant,
            actor=Actor("user", f"user-of-{event_id}", "Ada"),
            action="document.updated",
            targets=(Target("document", f"document-of-{event_id}"),),
            id=event_id,
        )
        return self.record(tenant, encode_event(event), event_id=event_id, kind=kind, ref=ref)

    def events(self, tenants: int, count: int) -> list[Sealed]:
        """Return the records of so many events of so many tenants, in turn."""
        first = sum(self.offsets.values())
        return [
            record
            for number in range(first, first + count)
            for record in self.event(f"tenant-{number % tenants}", f"ev-{number}")
        ]

    def quarantined(self, tenant: str, reason: Quarantine = Quarantine.MALFORMED) -> list[Sealed]:
        """Return what a malformed record of that tenant becomes."""
        return self.record(tenant, b"\xff", kind=Kind.QUARANTINED, reason=reason)

    def record(
        self, tenant: str, payload: bytes, *, event_id: str = "", kind: Kind = Kind.EVENT, reason: int = 0, ref: int = 0
    ) -> list[Sealed]:
        """Return what a source record with these bytes becomes."""
        own = tenant.startswith("!")  # the chain of a partition
        partition = int(tenant.rpartition("-")[2]) if own else partition_of(tenant.encode(), self.partitions)
        made: list[Sealed] = []
        if tenant not in self.heads:
            self.heads[tenant] = (-1, ZERO_HASH)
            genesis = Genesis(self.instance, self.partitions).payload()
            made.append(self._seal(tenant, partition, Kind.GENESIS, genesis, "", 0, 0))
        made.append(self._seal(tenant, partition, kind, payload, event_id, reason, ref))
        self.offsets[partition] += 1
        return made

    def _seal(
        self, tenant: str, partition: int, kind: Kind, payload: bytes, event_id: str, reason: int, ref: int
    ) -> Sealed:
        seq, prev = self.heads[tenant]
        offset = self.offsets[partition]
        entry = pack(
            Entry(
                kind=kind,
                tenant=tenant,
                seq=seq + 1,
                prev=prev,
                received=self.received + 1000 * offset,
                topic_id=self.topic_id,
                partition=partition,
                offset=offset,
                event_id=event_id,
                length=len(payload),
                payload=payload_digest(payload),
                reason=reason,
                ref=ref,
            )
        )
        self.heads[tenant] = (seq + 1, entry_hash(entry))
        return Sealed(partition, tenant.encode(), payload if kind in CARRIED_KINDS else b"", entry)


def publish(bootstrap: str, topic: str, records: Iterable[Sealed]) -> None:
    """Append records to a chained topic, in their order."""
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "message.max.bytes": 2_097_152})
    for record in records:
        producer.produce(
            topic,
            key=record.key,
            value=record.value,
            partition=record.partition,
            headers=[(SEAL_ENTRY_HEADER, record.entry)],
        )
        producer.poll(0)
    assert producer.flush(30) == 0, "records were not taken"
