"""Records as the reader of the store gives them, without a store."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from sealstream.schemas.entry import CARRIED_KINDS, entry_hash, parse
from sealstream.schemas.errors import StoreError
from sealstream.sinks.store.results import EventProof, EventProofs
from sealstream.sinks.store.rows import moment
from support.chained import Sealed


def stored(record: Sealed) -> EventProof:
    """Return the record that the store gives back for what it was given."""
    entry = parse(record.entry)
    return EventProof(
        tenant=entry.tenant,
        event_id=entry.event_id,
        seq=entry.seq,
        kind=entry.kind,
        chain_hash=entry_hash(record.entry),
        prev_hash=entry.prev,
        received=moment(entry.received),
        entry=record.entry,
        payload=record.value if entry.kind in CARRIED_KINDS else None,
        repeat_of=None,
        ref=entry.ref or None,
    )


@dataclass
class MemoryRecords:
    """The part of the store's reader that proofs and bundles ask."""

    all: list[EventProof] = field(default_factory=list[EventProof])

    def add(self, records: Iterable[Sealed]) -> None:
        """Store records."""
        self.all.extend(map(stored, records))

    def get_event_proof(self, tenant: str, event_id: str, *, limit: int = 100) -> EventProofs:
        """Return the records of an event."""
        found = [one for one in self.all if (one.tenant, one.event_id) == (tenant, event_id)]
        return EventProofs(tuple(found[:limit]), complete=len(found) <= limit)

    def get_record(self, tenant: str, seq: int) -> EventProof:
        """Return the record at a place."""
        for one in self.all:
            if (one.tenant, one.seq) == (tenant, seq):
                return one
        raise StoreError(f"the store has no entry {seq} of tenant {tenant}")

    def records(self, tenant: str, first_seq: int, last_seq: int) -> Generator[EventProof]:
        """Yield the records of a part of a chain."""
        yield from (one for one in self.all if one.tenant == tenant and first_seq <= one.seq <= last_seq)

    def seqs_between(
        self, tenant: str, since: datetime | None, until: datetime | None
    ) -> tuple[int | None, int | None]:
        """Return between which entries a span of time lies."""
        own = [one for one in self.all if one.tenant == tenant]
        first = [one.seq for one in own if since is not None and one.received >= since]
        last = [one.seq for one in own if until is not None and one.received < until]
        return min(first, default=None), max(last, default=None)
