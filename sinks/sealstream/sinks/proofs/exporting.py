"""Writes bundles: a part of a chain out of the store, and what proves it as a whole. In constant memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Final

from sealstream.schemas.bundle import BundleEnd, BundleEntry, BundleHead, BundleSchema
from sealstream.schemas.chain import ChainVerifier, Link
from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.entry import parse
from sealstream.schemas.errors import EvidenceDamaged, NotYetProvable, StoreDamaged, StoreError
from sealstream.schemas.evidence import RootedEvidence
from sealstream.schemas.merkle import decompose
from sealstream.schemas.tenant_map import MapLeaf
from sealstream.sinks.proofs.proving import Prover, Strength, naming
from sealstream.sinks.proofs.writer_schemas import frame_of
from sealstream.sinks.store.reader import AuditStore
from sealstream.sinks.store.results import EventProof

_FRAMES_MAX: Final = 10_000
_PROGRESS_ENTRIES: Final = 1_000

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle that was written.

    Arguments:
        head: Its first line.
        entries: The number of its entries.
        payloads: How many of them have their payload in it.
        size_bytes: Its size.
        evidence: What it shows by the policy of this side; ``None`` if there was no policy to judge by.
    """

    head: BundleHead
    entries: int
    payloads: int
    size_bytes: int
    evidence: RootedEvidence | None


class Exporter:
    """Writes bundles.

    Arguments:
        prover: What finds the way up, and its policy.
        store: The store.
    """

    def __init__(self, prover: Prover, store: AuditStore) -> None:
        self._prover = prover
        self._store = store

    def range_of(
        self,
        tenant: str,
        *,
        since: datetime | int | None,
        until: datetime | int | None,
        strength: Strength = Strength.WITNESSED,
    ) -> tuple[int, int]:
        """Return the seqs of the first and the last entry of a part of a chain.

        Arguments:
            tenant: The chain.
            since: The first entry's seq, or a time since which it was received; ``None`` for the genesis.
            until: The last entry's seq, or a time before which it was received; ``None`` for all that can be proven.
            strength: What the root checkpoint must have.

        Raises:
            NotYetProvable: Nothing of the chain can be proven so far.
            StoreError: There is no such entry.
            SealstreamError: As :meth:`write`.
        """
        times = (since if isinstance(since, datetime) else None, until if isinstance(until, datetime) else None)
        first, last = self._store.seqs_between(tenant, *times)
        if (since is not None and times[0] is not None and first is None) or (times[1] is not None and last is None):
            raise StoreError(f"the store has no entry of tenant {tenant} in that time that this login may see")
        first = since if isinstance(since, int) else (first or 0)
        if not isinstance(until, datetime):
            last = until if until is not None else self._last(tenant, strength)
        assert last is not None
        if last < first:
            raise StoreError(
                f"tenant {tenant} has no entries from {first} to {last}", hint="an empty range is no bundle"
            )
        return first, last

    def write(
        self,
        file: BinaryIO,
        tenant: str,
        first: int,
        last: int,
        *,
        strength: Strength = Strength.WITNESSED,
        on_progress: Progress | None = None,
    ) -> Exported:
        """Write the bundle of a part of a chain, verified: if this raises, the file is none and is to be thrown away.

        Arguments:
            file: Where to.
            tenant: The chain.
            first: The seq of the first entry.
            last: That of the last one.
            strength: What the root checkpoint must have.
            on_progress: Called with the number of entries that are done, and of all that there are to do.

        Raises:
            NotYetProvable: The last entry is stored, and no root checkpoint of that strength covers it so far.
            StoreDamaged: A stored row does not hold together, or is missing; names tenant and seq.
            EvidenceDamaged: What is kept of the chain does not lead to a root that was signed.
            Untrusted: The published root checkpoint is not one that this side's policy believes.
            StoreError: There is no such entry, or a storage cannot be used.
            Unreachable: A server does not answer.
        """
        end = self._store.get_record(tenant, last)
        with naming(end, self._prover.usual_seconds):
            head, leaf = self._head(end, first, strength)
            writing = _Writing(file, head, self._prover, last - first + 1, on_progress)
            for record in self._store.records(tenant, first, last):
                writing.add(record)
            writing.finish()
            tree = CompactRange.from_hashes(0, first, list(head.before))
            tree.merge(writing.tree)
            tree.merge(CompactRange.from_hashes(last + 1, head.size, list(head.behind)))
            if tree.root() != leaf.root:
                raise EvidenceDamaged(
                    tenant,
                    first,
                    f"the stored entries {first} to {last}, and the chain's tiles around them, do not lead to the root"
                    f" that round {head.rooted.round} has",
                    hint="run sealstream verify",
                )
            evidence = self._prover.judge(head.rooted, leaf)
        return Exported(head, writing.entries, writing.payloads, writing.size_bytes, evidence)

    def _head(self, end: EventProof, first: int, strength: Strength) -> tuple[BundleHead, MapLeaf]:
        ways = self._prover.ways
        found = self._prover.covering(end.tenant, end.seq, end.received.timestamp())
        size = ways.checkpoint_size(found, anchored=strength is Strength.ANCHORED)
        leaf = found.place.leaf
        nodes = ways.archive.chain_nodes(end.tenant, leaf.size)
        head = BundleHead(
            tenant=end.tenant,
            first=first,
            last=end.seq,
            size=leaf.size,
            nonce=self._prover.nonce(end.tenant),
            before=tuple(nodes(node) for node in decompose(0, first)),
            behind=tuple(nodes(node) for node in decompose(end.seq + 1, leaf.size)),
            rooted=ways.rooted(found.round, found.place, size),
        )
        return head, leaf

    def _last(self, tenant: str, strength: Strength) -> int:
        size = self._prover.provable_size(tenant, strength)
        if not size:
            raise NotYetProvable(
                f"nothing of tenant {tenant} can be proven yet: no root checkpoint that is {strength.value} covers it",
                hint=f"it normally takes at most {self._prover.usual_seconds:g} s; is the tenant's name right?",
            )
        return size - 1


class _Writing:
    """A bundle that is being written."""

    def __init__(
        self, file: BinaryIO, head: BundleHead, prover: Prover, total: int, on_progress: Progress | None
    ) -> None:
        self.tree = CompactRange(head.first)
        self.entries = self.payloads = self.size_bytes = 0
        self._file = file
        self._head = head
        self._prover = prover
        self._total = total
        self._on_progress = on_progress
        self._digest = hashlib.sha256()
        self._frames: set[bytes] = set()
        self._verifier = ChainVerifier(head.tenant, seq=head.first)
        self._put(head.pack())

    def add(self, record: EventProof) -> None:
        """Write a record, and the schema of its payload where it is the first one of it.

        Raises:
            StoreDamaged: It is not the next one of the chain.
        """
        if not self.entries:
            self._verifier.prev = parse(record.entry).prev
        link = Link(record.seq, record.entry, record.payload, record.chain_hash)
        for violation in self._verifier.check(link):
            raise StoreDamaged(self._head.tenant, violation.seq or 0, violation.message, hint="run sealstream verify")
        self._schema(record)
        self._put(BundleEntry.of(record.entry, record.chain_hash, record.payload).pack())
        self.tree.append(record.chain_hash)
        self.entries += 1
        self.payloads += record.payload is not None
        if self._on_progress is not None and (not self.entries % _PROGRESS_ENTRIES or self.entries == self._total):
            self._on_progress(self.entries, self._total)

    def finish(self) -> None:
        """Write the last line.

        Raises:
            StoreDamaged: Entries are missing.
        """
        if self._verifier.seq <= self._head.last:
            raise StoreDamaged(
                self._head.tenant, self._verifier.seq, "the entry is missing", hint="run sealstream verify"
            )
        self._put(BundleEnd(self.entries, self._digest.digest()).pack())

    def _schema(self, record: EventProof) -> None:
        frame = frame_of(record.payload) if record.payload is not None else None
        if frame is None or frame in self._frames or len(self._frames) >= _FRAMES_MAX:
            return
        text = self._prover.schemas.text_of(record)
        if text is not None:
            self._frames.add(frame)
            self._put(BundleSchema(frame, text).pack())

    def _put(self, line: bytes) -> None:
        self._digest.update(line)
        self.size_bytes += len(line)
        self._file.write(line)
