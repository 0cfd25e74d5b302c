"""The demonstration's look at the store, with the same code as ``sealstream verify`` and ``sealstream show``."""

from __future__ import annotations

from collections.abc import Callable

from sealstream.deploy.demo.tampering import Victim
from sealstream.schemas.errors import StoreError
from sealstream.sinks.store.reader import AuditStore
from sealstream.sinks.store.results import EventProof
from sealstream.sinks.verifier.audit import VerifyResult, verify_store
from sealstream.worker.settings import Settings


def verify_whole_store(settings: Settings, on_progress: Callable[[str], None]) -> VerifyResult:
    """Verify the whole store.

    Raises:
        SealstreamError: It could not be verified.
    """
    result = verify_store(
        settings.database_url(),
        on_progress=lambda done, total: on_progress(f"{done:,} of {total:,} entries"),
    )
    if result.failure is not None:
        raise result.failure
    return result


def is_only_at(result: VerifyResult, victim: Victim) -> bool:
    """Return whether something was found, and all of it at one stored event."""
    places = {(violation.tenant, violation.seq) for violation in result.violations}
    return places == {(victim.tenant, victim.seq)} and len(result.violations) == result.violations_total


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
