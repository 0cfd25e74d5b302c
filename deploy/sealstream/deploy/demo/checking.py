"""The demonstration's look at the store, with the same code as ``sealstream verify`` and ``sealstream show``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sealstream.deploy.demo.tampering import Victim
from sealstream.schemas.errors import StoreError
from sealstream.schemas.violation import Violation
from sealstream.sinks.store.reader import AuditStore
from sealstream.sinks.store.results import EventProof
from sealstream.worker.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a verification of the whole store found.

    Arguments:
        violations: What does not hold.
        entries: How many entries were recomputed.
        tenants: How many chains.
    """

    violations: tuple[Violation, ...]
    entries: int
    tenants: int

    @property
    def is_clean(self) -> bool:
        """Whether everything holds."""
        return not self.violations

    def is_only_at(self, tenant: str, seq: int) -> bool:
        """Return whether something was found, and all of it at one entry."""
        return not self.is_clean and all(v.tenant == tenant and v.seq == seq for v in self.violations)

    @property
    def in_words(self) -> str:
        """What it found, in one line."""
        if self.is_clean:
            return f"clean: {self.entries:,} entries of {self.tenants:,} chains hold"
        first = self.violations[0]
        more = f", and {len(self.violations) - 1} more" if len(self.violations) > 1 else ""
        return f"violation {first.type.value}: tenant {first.tenant}, seq {first.seq}{more}"

    @property
    def reason(self) -> str:
        """Why the first violation is one; empty if there is none."""
        return self.violations[0].message if self.violations else ""


def verify_whole_store(settings: Settings, on_progress: Callable[[str], None]) -> Verification:
    """Verify the whole store.

    Raises:
        StoreError: It cannot be verified.
        Unreachable: The store does not answer.
    """
    violations: list[Violation] = []
    entries = tenants = 0
    with AuditStore(settings.database_url()) as store:
        after = ""
        while heads := store.tenants(after=after):
            for head in heads:
                found = store.verify_chain(head.tenant)
                violations += found.violations
                entries += found.entries
                tenants += 1
                on_progress(f"{entries:,} entries")
            after = heads[-1].tenant
    return Verification(violations=tuple(violations), entries=entries, tenants=tenants)


def proof_of(settings: Settings, victim: Victim) -> EventProof:
    """Return the record of a stored event, as ``sealstream show`` finds it.

    Raises:
        StoreError: It is not there, or does not hold together.
        Unreachable: The store does not answer.
    """
    with AuditStore(settings.database_url()) as store:
        proofs = store.get_event_proof(victim.tenant, victim.event_id)
    if not proofs:
        raise StoreError(f"the store has no event {victim.event_id} of tenant {victim.tenant}")
    return proofs[0]
