"""Verification of one chain by itself: contiguous, linked, unedited, each payload the one committed to.

What a chain alone cannot show is a cut tail or a rewrite from genesis on; checkpoints exist for those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sealstream.schemas.entry import (
    CARRIED_KINDS,
    ZERO_HASH,
    Entry,
    Genesis,
    Kind,
    entry_hash,
    parse,
    payload_digest,
)
from sealstream.schemas.errors import EntryInvalid
from sealstream.schemas.violation import Violation, ViolationType


@dataclass(frozen=True, slots=True)
class Link:
    """One stored link of a chain, as it was read and not yet believed.

    Arguments:
        seq: The place under which it is stored.
        entry: The entry's bytes.
        payload: The payload's bytes; ``None`` where they are not carried (kinds 3 and 4) or not to be checked.
        hash: The hash stored beside the entry, which tells an edited entry from an edited neighbour; ``None`` if
            none is stored.
    """

    seq: int
    entry: bytes
    payload: bytes | None
    hash: bytes | None = None


class ChainVerifier:
    """Verifies one chain link by link, in constant memory; resumable from any (seq, hash) known to be good.

    Arguments:
        tenant: The chain's name.
        seq: The seq of the first link to come.
        prev: The hash of the link before it; zeros for a chain from its beginning.
        payloads: Whether payloads are checked; a link of a carried kind then must have one.
    """

    def __init__(self, tenant: str, *, seq: int = 0, prev: bytes = ZERO_HASH, payloads: bool = True) -> None:
        self.tenant = tenant
        self.seq = seq
        self.prev = prev
        self.instance = ""
        self._payloads = payloads
        self._before: Entry | None = None

    def check(self, link: Link) -> list[Violation]:
        """Check the next link and move on behind it, whatever was found.

        Returns:
            What is wrong, most telling first; empty if the link holds.
        """
        found = list(self._place(link))
        try:
            entry = parse(link.entry)
        except EntryInvalid as error:
            found.append(self._violation(ViolationType.EDITED, link.seq, f"entry does not parse: {error.message}"))
            self._move(link.seq, link.hash or entry_hash(link.entry), None)
            return found
        digest = entry_hash(link.entry)
        if link.hash is not None and link.hash != digest:
            found.append(
                self._violation(
                    ViolationType.EDITED, link.seq, "entry does not have the hash stored with it", link.hash, digest
                )
            )
        elif not found:
            found.extend(self._link(link, entry))
        found.extend(self._content(link, entry))
        # Behind an edited entry the chain goes on from the hash that its successor was made with.
        self._move(link.seq, link.hash if link.hash is not None else digest, entry)
        return found

    def _place(self, link: Link) -> Iterator[Violation]:
        if link.seq == self.seq:
            return
        if link.seq > self.seq:
            message = (
                f"entries {self.seq} to {link.seq - 1} are missing" if link.seq - self.seq > 1 else "entry is missing"
            )
            yield self._violation(ViolationType.GAP, self.seq, message)
        elif link.seq == self.seq - 1:
            yield self._violation(ViolationType.FORK, link.seq, "two entries claim this seq")
        else:
            yield self._violation(ViolationType.REORDERED, link.seq, f"entry stands behind seq {self.seq - 1}")

    def _link(self, link: Link, entry: Entry) -> Iterator[Violation]:
        """The entry is what its own hash says; so a broken link means that the one before it was replaced."""
        if entry.prev != self.prev:
            before = max(link.seq - 1, 0)
            message = f"entry is not the one that entry {link.seq} was chained to"
            yield self._violation(ViolationType.EDITED, before, message, entry.prev, self.prev)

    def _content(self, link: Link, entry: Entry) -> Iterator[Violation]:
        if entry.tenant != self.tenant:
            yield self._violation(
                ViolationType.FOREIGN,
                link.seq,
                "entry belongs to another chain",
                self.tenant.encode(),
                entry.tenant.encode(),
            )
        if entry.seq != link.seq:
            message = f"entry says seq {entry.seq}, and stands at {link.seq}"
            yield self._violation(ViolationType.REORDERED, link.seq, message)
        if self._before is not None and self._went_back(self._before, entry):
            message = f"source offset {entry.offset} stands behind {self._before.offset}"
            yield self._violation(ViolationType.REORDERED, link.seq, message)
        if self._payloads:
            yield from self._payload(link, entry)

    @staticmethod
    def _went_back(before: Entry, entry: Entry) -> bool:
        if (before.topic_id, before.partition) != (entry.topic_id, entry.partition):
            return False
        return entry.offset < before.offset or (entry.offset == before.offset and before.kind is not Kind.GENESIS)

    def _payload(self, link: Link, entry: Entry) -> Iterator[Violation]:
        if entry.kind not in CARRIED_KINDS:
            return
        if link.payload is None:
            yield self._violation(ViolationType.PAYLOAD_ALTERED, link.seq, "payload is missing")
            return
        digest = payload_digest(link.payload)
        if digest != entry.payload or len(link.payload) != entry.length:
            message = "payload is not the one that the entry commits to"
            yield self._violation(ViolationType.PAYLOAD_ALTERED, link.seq, message, entry.payload, digest)
        elif entry.kind is Kind.GENESIS:
            yield from self._genesis(link.payload)

    def _genesis(self, payload: bytes) -> Iterator[Violation]:
        try:
            self.instance = Genesis.parse(payload).instance
        except EntryInvalid as error:
            yield self._violation(ViolationType.EDITED, 0, error.message)

    def _move(self, seq: int, digest: bytes, entry: Entry | None) -> None:
        self.seq, self.prev = seq + 1, digest
        self._before = entry

    def _violation(
        self, kind: ViolationType, seq: int, message: str, expected: bytes = b"", found: bytes = b""
    ) -> Violation:
        return Violation(
            type=kind,
            tenant=self.tenant,
            seq=seq,
            message=message,
            instance=self.instance,
            expected=_text(expected),
            found=_text(found),
        )


def verify_chain(tenant: str, links: Iterable[Link]) -> list[Violation]:
    """Verify a whole chain from its genesis and return all that is wrong with it; empty if it holds."""
    verifier = ChainVerifier(tenant)
    return [violation for link in links for violation in verifier.check(link)]


def _text(value: bytes) -> str:
    return value.hex() if len(value) == 32 else value.decode("ascii", "backslashreplace")
