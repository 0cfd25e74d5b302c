"""An instance in memory of which proofs and bundles are made: its chains, its store, its notary, and a prover."""

from __future__ import annotations

import io
from typing import cast

from sealstream.schemas.entry import Kind
from sealstream.sinks.proofs.archive import Archive
from sealstream.sinks.proofs.exporting import Exported, Exporter
from sealstream.sinks.proofs.notary_reader import NotaryReader
from sealstream.sinks.proofs.proving import Prover
from sealstream.sinks.proofs.writer_schemas import WriterSchemas
from sealstream.sinks.store.reader import AuditStore
from support.chained import Chains, Sealed
from support.memory_notary import MAP_SECRET, MemoryNotary, policy
from support.stored_records import MemoryRecords


class Provable:
    """An instance in memory, to which events come round by round."""

    def __init__(self) -> None:
        self.chains = Chains()
        self.store = MemoryRecords()
        self.notary = MemoryNotary()
        self.fresh()

    def fresh(self, *, judged: bool = True, schemas: WriterSchemas | None = None) -> Prover:
        """Begin with a prover that knows nothing yet."""
        archive = Archive(cast("NotaryReader", self.notary), self.notary.objects)
        store = cast("AuditStore", self.store)
        self.prover = Prover(
            store, archive, map_secret=MAP_SECRET, policy=policy() if judged else None, schemas=schemas
        )
        self.exporter = Exporter(self.prover, store)
        return self.prover

    def events(self, tenant: str, *ids: str) -> None:
        """Let events be chained and stored."""
        for event_id in ids:
            self.take(self.chains.event(tenant, event_id))

    def duplicate(self, tenant: str, event_id: str, ref: int) -> None:
        """Let an event be chained as a duplicate."""
        self.take(self.chains.event(tenant, event_id, kind=Kind.DUPLICATE, ref=ref))

    def take(self, records: list[Sealed]) -> None:
        """Let records be stored."""
        self.store.add(records)
        self.notary.add(records)

    def bundle(self, tenant: str, first: int, last: int) -> bytes:
        """Return a bundle."""
        return self.export(tenant, first, last)[0]

    def export(self, tenant: str, first: int, last: int) -> tuple[bytes, Exported]:
        """Return a bundle, and what is said of it."""
        file = io.BytesIO()
        exported = self.exporter.write(file, tenant, first, last)
        return file.getvalue(), exported


def provable() -> Provable:
    """Return an instance of three rounds: two tenants, one more, and more of the first one."""
    made = Provable()
    made.events("acme", "ev-1", "ev-2")
    made.events("globex", "ev-1")
    made.notary.round()
    made.events("initech", *(f"ev-{n}" for n in range(300)))
    made.notary.round()
    made.events("acme", *(f"ev-{n}" for n in range(3, 600)))
    made.notary.round()
    return made
