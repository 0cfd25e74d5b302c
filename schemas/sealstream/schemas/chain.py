"""Verification of one chain by itself: contiguous, linked, unedited, each payload the one committed to.

What a chain alone cannot show is a cut tail or a rewrite from some place on to its end; checkpoints exist for those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sealstream.schemas.entry import (
    CARRIED_KINDS,
    ZERO_HASH,
    Entry,
    Genesis,
    Kind,
    entry_hash,
    parse,
    parse_epoch_payload,
    parse_gap_payload,
    payload_digest,
)
from sealstream.schemas.errors import EntryInvalid
from sealstream.schemas.violation import Violation, ViolationType

HOLES_MAX: Final = 1_000
"""How many holes a verifier remembers; an entry that comes late for a later hole reads as a second one (``fork``)."""


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

    What it says of one change to a chain that held before, by type and seq:

    - A byte of entry k, or of the hash stored with it: ``edited`` k, and nothing else.
    - Entry k, with the hash stored with it made to fit (or none is stored): ``edited`` k, found at entry k + 1; before
      it what the changed field says, if it says something impossible at k. If the change touched the link to k - 1,
      ``edited`` k - 1 comes before it: until the next link, either of the two may be the changed one. At the chain's
      end only an impossible field or that link shows a change.
    - The payload of k, or its loss: ``payload-altered`` k.
    - Entries k to m are gone: ``gap`` k. The end is gone: nothing.
    - Entry k comes a second time, or another one for its place: ``fork`` k.
    - Entry k comes after later ones: ``gap`` k where it was missed, ``reordered`` k where it comes.
    - Entry k is stored as another seq m: ``reordered`` m.
    - An entry of another chain at k: ``foreign`` k.
    - A source offset that goes back, at k: ``reordered`` k; another source topic or partition at k, without an epoch
      entry: ``foreign`` k.

    Behind what it reports it goes on, and blames the next entry for nothing that the reported one explains.

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
        self._start = seq
        self._holes: list[tuple[int, int]] = []  # (first, last) of what was reported missing
        self._explained = False  # whether a broken link to the next entry is explained by what was reported
        self._before: Entry | None = None  # the entry before, if nothing speaks against it
        self._lost_to = -1  # the last offset that the entry before declares lost, if it is a gap

    def check(self, link: Link) -> list[Violation]:
        """Check the next link and move on behind it, whatever was found.

        Returns:
            What is wrong, in the order of the places at fault; empty if the link holds.
        """
        behind, ahead = link.seq < self.seq, link.seq > self.seq
        found = [self._late(link)] if behind else [self._missing(link.seq)] if ahead else []
        digest = entry_hash(link.entry)
        entry = self._believed(link, digest, found)
        if entry is None:
            if not behind:
                # Behind an edited entry the chain goes on from the hash that its successor was made with.
                self._move(link.seq, link.hash if link.hash is not None else digest, None)
            return found
        if ahead:
            self._before = None
        if not behind:
            found.extend(self._linked(link, entry, known=not ahead and not self._explained))
        if self._payloads:
            found.extend(self._payload(link, entry, None if behind else self._before))
        if not behind:
            self._move(link.seq, digest, entry)
        elif link.seq == self.seq - 1 and digest != self.prev:
            self._explained, self._before = True, None  # the next entry may go on from either of the two
        return found

    def _late(self, link: Link) -> Violation:
        """An entry for a place that lies behind: the one that was missed there, or a second one."""
        for index, (first, last) in enumerate(self._holes):
            if first <= link.seq <= last:
                rest = ((first, link.seq - 1), (link.seq + 1, last))
                self._holes[index : index + 1] = [hole for hole in rest if hole[0] <= hole[1]]
                message = f"entry stands behind entry {self.seq - 1}"
                return self._violation(ViolationType.REORDERED, link.seq, message)
        if link.seq < self._start:
            message = f"entry stands behind entry {self._start - 1}, from which on this chain was to be verified"
            return self._violation(ViolationType.REORDERED, link.seq, message)
        return self._violation(ViolationType.FORK, link.seq, "a second entry claims this seq")

    def _missing(self, seq: int) -> Violation:
        first, last = self.seq, seq - 1
        if len(self._holes) < HOLES_MAX:
            self._holes.append((first, last))
        message = "entry is missing" if first == last else f"entries {first} to {last} are missing"
        return self._violation(ViolationType.GAP, first, message)

    def _believed(self, link: Link, digest: bytes, found: list[Violation]) -> Entry | None:
        """Return the entry, or ``None`` with a finding if it is not the one that was made for this place."""
        try:
            entry = parse(link.entry)
        except EntryInvalid as error:
            found.append(self._violation(ViolationType.EDITED, link.seq, f"entry does not parse: {error.message}"))
            return None
        if link.hash is not None and link.hash != digest:
            message = "entry does not have the hash stored with it"
            found.append(self._violation(ViolationType.EDITED, link.seq, message, link.hash.hex(), digest.hex()))
        elif entry.tenant != self.tenant:
            message, names = "entry belongs to another chain", (self.tenant, entry.tenant)
            found.append(self._violation(ViolationType.FOREIGN, link.seq, message, *names))
        elif entry.seq != link.seq:
            message = f"entry says seq {entry.seq}, and stands at {link.seq}"
            found.append(self._violation(ViolationType.REORDERED, link.seq, message))
        else:
            return entry
        return None

    def _linked(self, link: Link, entry: Entry, *, known: bool) -> Iterator[Violation]:
        """Check an entry against the one before it; ``known`` if its hash is, and was not reported as wrong."""
        if known and entry.prev != self.prev:
            self._before = None
            if link.seq == self._start:  # the hash before it was given as good, so it is this entry that does not fit
                message = "entry does not follow the hash that was given for the one before it"
                yield self._violation(ViolationType.EDITED, link.seq, message, self.prev.hex(), entry.prev.hex())
            else:
                message = f"entry is not the one that entry {link.seq} was chained to"
                yield self._violation(ViolationType.EDITED, link.seq - 1, message, entry.prev.hex(), self.prev.hex())
        if known and self._before is not None:
            yield from self._source(self._before, entry)

    def _source(self, before: Entry, entry: Entry) -> Iterator[Violation]:
        """Check an entry's source coordinates against those of the entry before it."""
        if entry.kind is Kind.EPOCH:
            if entry.topic_id == before.topic_id:
                message = "epoch entry stands in the source topic of the entry before it"
                yield self._violation(ViolationType.EDITED, entry.seq, message)
            return
        if (before.topic_id, before.partition) != (entry.topic_id, entry.partition):
            message = "entry has another source topic or partition than the one before it, and is no epoch"
            places = [f"{place.topic_id.hex()}/{place.partition}" for place in (before, entry)]
            yield self._violation(ViolationType.FOREIGN, entry.seq, message, *places)
            return
        # Genesis and epoch entries have the coordinates of the record that they stand before.
        shared = before.kind in (Kind.GENESIS, Kind.EPOCH)
        least = max(before.offset, self._lost_to) if before.kind is Kind.GAP else before.offset
        if entry.offset < least or (entry.offset == least and not shared):
            message = f"source offset {entry.offset} stands behind {least}"
            yield self._violation(ViolationType.REORDERED, entry.seq, message)

    def _payload(self, link: Link, entry: Entry, before: Entry | None) -> Iterator[Violation]:
        if entry.kind not in CARRIED_KINDS:
            return
        if link.payload is None:
            yield self._violation(ViolationType.PAYLOAD_ALTERED, link.seq, "payload is missing")
            return
        digest = payload_digest(link.payload)
        if digest != entry.payload or len(link.payload) != entry.length:
            message = "payload is not the one that the entry commits to"
            yield self._violation(ViolationType.PAYLOAD_ALTERED, link.seq, message, entry.payload.hex(), digest.hex())
            return
        try:
            yield from self._own_payload(entry, link.payload, before)
        except EntryInvalid as error:
            yield self._violation(ViolationType.EDITED, link.seq, error.message)

    def _own_payload(self, entry: Entry, payload: bytes, before: Entry | None) -> Iterator[Violation]:
        """Check a payload that the chain itself made: of genesis, gap and epoch entries.

        Raises:
            EntryInvalid: The payload is malformed.
        """
        if entry.kind is Kind.GAP:
            first, self._lost_to = parse_gap_payload(payload)
            if first != entry.offset:
                yield self._violation(ViolationType.EDITED, entry.seq, "gap does not begin at the entry's offset")
            return
        if entry.kind is Kind.GENESIS:
            genesis = Genesis.parse(payload)
        elif entry.kind is Kind.EPOCH:
            genesis, previous = parse_epoch_payload(payload)
            if before is not None and previous != before.topic_id:
                message = "epoch names another source topic than that of the entry before it"
                topics = (before.topic_id.hex(), previous.hex())
                yield self._violation(ViolationType.EDITED, entry.seq, message, *topics)
        else:
            return
        if self.instance and genesis.instance != self.instance:
            message = "epoch belongs to another instance"
            yield self._violation(ViolationType.FOREIGN, entry.seq, message, self.instance, genesis.instance)
        self.instance = self.instance or genesis.instance

    def _move(self, seq: int, digest: bytes, entry: Entry | None) -> None:
        self.seq, self.prev = seq + 1, digest
        self._explained, self._before = entry is None, entry
        self._lost_to = self._lost_to if entry is not None and entry.kind is Kind.GAP else -1

    def _violation(self, kind: ViolationType, seq: int, message: str, expected: str = "", found: str = "") -> Violation:
        return Violation(
            type=kind,
            tenant=self.tenant,
            seq=seq,
            message=message,
            instance=self.instance,
            expected=expected,
            found=found,
        )


def verify_chain(tenant: str, links: Iterable[Link]) -> list[Violation]:
    """Verify a whole chain from its genesis and return all that is wrong with it; empty if it holds."""
    verifier = ChainVerifier(tenant)
    return [violation for link in links for violation in verifier.check(link)]
