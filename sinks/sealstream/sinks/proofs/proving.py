"""Makes proof files: one entry, and everything that shows where it stands, verified before it is given out.

``Prover`` and ``AsyncProver`` are two fronts with the same names::

    with open_prover(settings) as provers:
        for proven in provers.prover.get_event_proof("acme", "0197f6b0-..."):
            path.write_bytes(proven.proof.pack())
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from sealstream.schemas.errors import (
    EvidenceDamaged,
    EvidenceInvalid,
    FormatError,
    NotYetProvable,
    ObjectMissing,
    StoreError,
)
from sealstream.schemas.evidence import Evidence, RootedEvidence, verify_proof, verify_rooted
from sealstream.schemas.key_history import KeyHistory
from sealstream.schemas.policy import Policy
from sealstream.schemas.proof_file import EarlierState, ProofFile, RootedMap
from sealstream.schemas.proofs import inclusion_proof, root_from_inclusion
from sealstream.schemas.tenant_map import MapLeaf, derive_nonce, map_key
from sealstream.schemas.trust import Reader
from sealstream.sinks.proofs.archive import Archive, NotKept
from sealstream.sinks.proofs.seen_notes import SeenNotes
from sealstream.sinks.proofs.ways import Covering, Ways
from sealstream.sinks.proofs.writer_schemas import WriterSchemas
from sealstream.sinks.store.reader import AuditStore
from sealstream.sinks.store.results import EventProof

RECORDS_MAX: Final = 100
"""How many records of one event are proven at once."""

USUAL_SECONDS: Final = 120.0
_ATTEMPTS: Final = 3
_DAMAGED_HINT: Final = "run sealstream verify; the notary's database and the storage can be compared with their copies"


class Strength(StrEnum):
    """What the root checkpoint of a proof must have."""

    WITNESSED = "witnessed"
    """The quorum of witnesses that the instance's policy asks for."""
    ANCHORED = "anchored"
    """A timestamp, too."""


@dataclass(frozen=True, slots=True)
class Proven:
    """A record with its proof.

    Arguments:
        record: The record, as the store has it.
        proof: Its proof file.
        evidence: What the proof shows by the policy of this side; ``None`` if there was no policy to judge by.
    """

    record: EventProof
    proof: ProofFile
    evidence: Evidence | None


class Prover:
    """Makes proofs; for several threads. Close it, or use it as a context manager.

    Arguments:
        store: The store, which stays the caller's to close.
        archive: The notary's database and the storage, which it closes.
        map_secret: What the nonces of the tenant map are made from, 32 bytes.
        policy: Whom this side believes: each proof is verified by it; ``None`` if only the trees are to be verified.
        history: Which key followed which.
        schemas: Finds writers' schemas.
        usual_seconds: How long it normally takes at most until an entry can be proven; for what is said.
    """

    def __init__(
        self,
        store: AuditStore,
        archive: Archive,
        *,
        map_secret: bytes,
        policy: Policy | None = None,
        history: KeyHistory | None = None,
        schemas: WriterSchemas | None = None,
        usual_seconds: float = USUAL_SECONDS,
    ) -> None:
        self.ways = Ways(archive)
        self._store = store
        self._map_secret = map_secret
        self._policy = policy
        self._history = history or KeyHistory()
        self.schemas = schemas or WriterSchemas()
        self.usual_seconds = usual_seconds
        self._seen_notes = SeenNotes()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the notary's database."""
        self.ways.archive.close()

    def get_event_proof(
        self, tenant: str, event_id: str, *, strength: Strength = Strength.WITNESSED, earlier: bool = True
    ) -> tuple[Proven, ...]:
        """Return the proof of every record of an event, in the chain's order. An id alone is not unique.

        Arguments:
            tenant: Whose event.
            event_id: The event's id.
            strength: What the root checkpoint must have.
            earlier: Whether each proof bounds the time from below, too, where something is kept that does.

        Raises:
            NotYetProvable: A record is stored, and no root checkpoint of that strength covers it so far.
            StoreDamaged: A stored row does not hold together.
            EvidenceDamaged: What is kept of a record does not lead to a root that was signed; names tenant and seq.
            Untrusted: The published root checkpoint is not one that this side's policy believes.
            StoreError: There is no such event, it has more than a hundred records, or a storage cannot be used.
            Unreachable: A server does not answer.
        """
        records = self._store.get_event_proof(tenant, event_id, limit=RECORDS_MAX)
        if not records.matches:
            raise StoreError(
                f"the store has no event {event_id} of tenant {tenant} that this login may see",
                hint="it may not be stored yet; `sealstream search` finds ids",
            )
        if not records.complete:
            raise StoreError(
                f"event {event_id} of tenant {tenant} has more than {RECORDS_MAX} records",
                hint="prove one of them by its seq",
            )
        return tuple(self._prove(record, strength, earlier) for record in records)

    def get_record_proof(
        self, tenant: str, seq: int, *, strength: Strength = Strength.WITNESSED, earlier: bool = True
    ) -> Proven:
        """Return the proof of the record at a place of a chain, of whatever kind.

        Raises:
            SealstreamError: As :meth:`get_event_proof`.
        """
        return self._prove(self._store.get_record(tenant, seq), strength, earlier)

    def nonce(self, chain: str) -> bytes:
        """Return the nonce of a chain in the tenant map."""
        return derive_nonce(self._map_secret, chain)

    def covering(self, chain: str, seq: int, received_seconds: float) -> Covering:
        """Return the first kept round that has an entry.

        Raises:
            NotYetProvable: None has it so far.
            SealstreamError: As :meth:`~sealstream.sinks.proofs.ways.Ways.covering`.
        """
        found = self.ways.covering(map_key(self.nonce(chain), chain), seq, received_seconds)
        if found is None:
            raise NotYetProvable("no round of the root log has it yet")
        return found

    def provable_size(self, chain: str, strength: Strength) -> int:
        """Return how many entries of a chain can be proven by now; 0 for none.

        Raises:
            SealstreamError: As :meth:`get_event_proof`.
        """
        last = None if strength is Strength.ANCHORED else self.ways.archive.last_witnessed()
        for kept in reversed(self.ways.archive.rounds.refresh()):
            if kept.anchored if strength is Strength.ANCHORED else last is not None and kept.round <= last:
                place = self.ways.place(kept.round, map_key(self.nonce(chain), chain))
                return 0 if place is None else place.leaf.size
        return 0

    def judge(self, rooted: RootedMap, leaf: MapLeaf) -> RootedEvidence | None:
        """Return what a way shows by this side's policy; ``None`` without one.

        Raises:
            SealstreamError: As :func:`~sealstream.schemas.evidence.verify_rooted`.
        """
        if self._policy is None:
            return None
        return verify_rooted(rooted, leaf, self._reader(self._policy))

    def _prove(self, record: EventProof, strength: Strength, earlier: bool) -> Proven:
        with naming(record, self.usual_seconds):
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    return self._made(record, strength, earlier)
                except NotKept:  # a map of more than an hour ago is pruned when it was not anchored
                    if attempt == _ATTEMPTS:
                        raise
                    self.ways.archive.rounds.refresh()
        raise AssertionError("unreachable")

    def _made(self, record: EventProof, strength: Strength, earlier: bool) -> Proven:
        """Make a proof out of what is kept now, and verify it."""
        found = self.covering(record.tenant, record.seq, record.received.timestamp())
        size = self.ways.checkpoint_size(found, anchored=strength is Strength.ANCHORED)
        rooted = self.ways.rooted(found.round, found.place, size)
        leaf = found.place.leaf
        path = inclusion_proof(record.seq, leaf.size, self.ways.archive.chain_nodes(record.tenant, leaf.size))
        if root_from_inclusion(path, leaf=record.chain_hash, index=record.seq, size=leaf.size) != leaf.root:
            raise EvidenceDamaged(
                record.tenant,
                record.seq,
                f"the stored entry and the chain's tiles do not lead to the root that round {found.round} has",
                hint=_DAMAGED_HINT,
            )
        proof = ProofFile(
            entry=record.entry,
            payload=record.payload,
            schema=self.schemas.text_of(record),
            nonce=self.nonce(record.tenant),
            size=leaf.size,
            path=tuple(path),
            rooted=rooted,
            earlier=self._earlier(record, found, rooted) if earlier else None,
        )
        return Proven(record, proof, self._verified(proof))

    def _earlier(self, record: EventProof, found: Covering, later: RootedMap) -> EarlierState | None:
        """Return the same chain without the entry, in the round before, if its own checkpoint has its quorum."""
        for before in found.before:
            key = map_key(self.nonce(record.tenant), record.tenant)
            place = self.ways.place(before.round, key) if before.witnessed else None
            if place is None:
                continue
            rooted = self.ways.rooted(before.round, place, before.round + 1)
            consistency = self.ways.consistency(rooted, later)
            return EarlierState(place.leaf.size, place.leaf.root, rooted, consistency)
        return None

    def _verified(self, proof: ProofFile) -> Evidence | None:
        if self._policy is None:
            return None
        return verify_proof(proof, self._reader(self._policy))

    def _reader(self, policy: Policy) -> Reader:
        return Reader(policy, int(time.time()), self._history, verify_note=self._seen_notes.verify)


class AsyncProver:
    """Makes proofs from asyncio: the twin of :class:`Prover`, which it works in threads.

    Arguments:
        prover: The one that does the work.
    """

    def __init__(self, prover: Prover) -> None:
        self._prover = prover

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections: see :meth:`Prover.close`."""
        await asyncio.to_thread(self._prover.close)

    async def get_event_proof(
        self, tenant: str, event_id: str, *, strength: Strength = Strength.WITNESSED, earlier: bool = True
    ) -> tuple[Proven, ...]:
        """Return the proof of every record of an event: see :meth:`Prover.get_event_proof`."""
        return await asyncio.to_thread(
            self._prover.get_event_proof, tenant, event_id, strength=strength, earlier=earlier
        )

    async def get_record_proof(
        self, tenant: str, seq: int, *, strength: Strength = Strength.WITNESSED, earlier: bool = True
    ) -> Proven:
        """Return the proof of the record at a place: see :meth:`Prover.get_record_proof`."""
        return await asyncio.to_thread(self._prover.get_record_proof, tenant, seq, strength=strength, earlier=earlier)


@contextmanager
def naming(record: EventProof, usual_seconds: float) -> Generator[None]:
    """Name tenant and seq in what is wrong with what is kept of a record, and since when it is there if it is fresh."""
    name = f"tenant {record.tenant} seq {record.seq}"
    try:
        yield
    except NotYetProvable as error:
        raise NotYetProvable(
            f"{name} is stored, received {record.received.isoformat(timespec='seconds')}, and cannot be proven yet:"
            f" {error.message}",
            hint=f"it normally takes at most {usual_seconds:g} s; later than that, look at notary and witnesses",
        ) from error
    except (FormatError, EvidenceInvalid, ObjectMissing) as error:
        raise EvidenceDamaged(record.tenant, record.seq, error.message, hint=error.hint or _DAMAGED_HINT) from error
