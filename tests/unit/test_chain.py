"""Chain verification: each single change is reported by the type and the seq that the verifier promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sealstream.schemas import chain as chain_module
from sealstream.schemas.chain import ChainVerifier, Link, verify_chain
from sealstream.schemas.entry import (
    ZERO_HASH,
    Entry,
    Genesis,
    Kind,
    entry_hash,
    epoch_payload,
    gap_payload,
    pack,
    parse,
    partition_chain,
    payload_digest,
)
from sealstream.schemas.errors import EntryInvalid
from sealstream.schemas.violation import Violation, ViolationType
from support.chains import GENESIS, NEXT_TOPIC_ID, PARTITION_KINDS, TENANT, TENANT_KINDS, TOPIC_ID, make_chain

CHAIN = make_chain()
LAST = len(CHAIN) - 1
SEQS = range(len(CHAIN))
PREV_PLACE = slice(16 + len(TENANT) + 8, 16 + len(TENANT) + 8 + 32)  # where the link to the entry before stands
EDITED, GAP, FORK = ViolationType.EDITED, ViolationType.GAP, ViolationType.FORK
REORDERED, FOREIGN, ALTERED = ViolationType.REORDERED, ViolationType.FOREIGN, ViolationType.PAYLOAD_ALTERED


def said(links: Sequence[Link], tenant: str = TENANT) -> list[tuple[ViolationType, int | None]]:
    """Return type and seq of what verification finds."""
    return [(violation.type, violation.seq) for violation in verify_chain(tenant, links)]


def changed(link: Link, **fields: object) -> Link:
    """Return a link whose entry has other fields, and the hash that goes with them."""
    entry = pack(replace(parse(link.entry), **fields))  # type: ignore[arg-type]  # the tests name real fields
    return replace(link, entry=entry, hash=entry_hash(entry))


def with_link(seq: int, link: Link) -> list[Link]:
    """Return the chain with one link replaced."""
    return [*CHAIN[:seq], link, *CHAIN[seq + 1 :]]


def rechained(links: Sequence[Link]) -> list[Link]:
    """Return links with seq, prev and hashes made to fit, as a forger with the whole chain could."""
    fitted: list[Link] = []
    prev = ZERO_HASH
    for seq, link in enumerate(links):
        entry = pack(replace(parse(link.entry), seq=seq, prev=prev))
        prev = entry_hash(entry)
        fitted.append(replace(link, seq=seq, entry=entry, hash=prev))
    return fitted


class TestValidChains:
    """What holds is not blamed."""

    @pytest.mark.parametrize(
        ("kinds", "tenant"), [(TENANT_KINDS, TENANT), (PARTITION_KINDS, partition_chain(0)), ((), TENANT)]
    )
    @pytest.mark.parametrize("hashes", [True, False])
    def test_holds(self, kinds: Sequence[Kind], tenant: str, *, hashes: bool) -> None:
        """A chain of every kind that it can hold verifies, with stored hashes or without."""
        links = make_chain(kinds, tenant=tenant)
        if not hashes:
            links = [replace(link, hash=None) for link in links]
        assert verify_chain(tenant, links) == []

    def test_nothing(self) -> None:
        """No links are no violation: what must be there is not a question to the chain."""
        assert verify_chain(TENANT, []) == []

    @pytest.mark.parametrize("seq", SEQS)
    def test_resumes(self, seq: int) -> None:
        """Verification goes on from any place whose hash is known to be good."""
        verifier = ChainVerifier(TENANT, seq=seq, prev=entry_hash(CHAIN[seq - 1].entry) if seq else ZERO_HASH)
        assert [violation for link in CHAIN[seq:] for violation in verifier.check(link)] == []
        assert (verifier.seq, verifier.prev) == (LAST + 1, entry_hash(CHAIN[-1].entry))

    def test_payloads_are_optional(self) -> None:
        """Where payloads are purged, the chain alone can still be verified."""
        verifier = ChainVerifier(TENANT, payloads=False)
        assert [violation for link in CHAIN for violation in verifier.check(replace(link, payload=None))] == []

    def test_names_the_instance(self) -> None:
        """A violation names the instance that genesis pinned."""
        violation = verify_chain(TENANT, with_link(3, replace(CHAIN[3], payload=b"other")))[0]
        assert violation.instance == GENESIS.instance

    @pytest.mark.parametrize("seq", range(1, len(CHAIN)))
    def test_cut_tail_is_not_seen(self, seq: int) -> None:
        """A chain alone cannot show that its end is missing; that is what checkpoints are for."""
        assert said(CHAIN[:seq]) == []


class TestEditedEntries:
    """Any byte of any entry."""

    @pytest.mark.parametrize("seq", SEQS)
    def test_every_byte(self, seq: int) -> None:
        """A changed byte is blamed on its entry and on nothing else, whatever the changed field would say."""
        entry = CHAIN[seq].entry
        for place in range(len(entry)):
            for mask in (0x01, 0x80, 0xFF):
                data = bytearray(entry)
                data[place] ^= mask
                found = said(with_link(seq, replace(CHAIN[seq], entry=bytes(data))))
                assert found == [(EDITED, seq)], (place, mask)

    @pytest.mark.parametrize("seq", SEQS)
    def test_every_byte_cut_or_added(self, seq: int) -> None:
        """A shortened or lengthened entry is blamed on itself."""
        entry = CHAIN[seq].entry
        for data in (b"", entry[:1], entry[:-1], entry[1:], entry + b"\x00", entry + entry):
            assert said(with_link(seq, replace(CHAIN[seq], entry=data))) == [(EDITED, seq)]

    @pytest.mark.parametrize("seq", SEQS)
    def test_every_byte_of_the_stored_hash(self, seq: int) -> None:
        """A changed byte of a stored hash is blamed on that entry alone, not on the sound one behind it."""
        for place in range(32):
            data = bytearray(entry_hash(CHAIN[seq].entry))
            data[place] ^= 0x01
            assert said(with_link(seq, replace(CHAIN[seq], hash=bytes(data)))) == [(EDITED, seq)]

    @pytest.mark.parametrize("stored", [True, False])
    @pytest.mark.parametrize("seq", SEQS)
    def test_every_byte_with_a_fitting_hash(self, seq: int, *, stored: bool) -> None:
        """An edit that takes the stored hash along shows at the next entry, and is blamed on no third one."""
        entry = CHAIN[seq].entry
        for place in range(len(entry)):
            data = bytearray(entry)
            data[place] ^= 0x01
            try:
                parse(bytes(data))
            except EntryInvalid:
                continue  # blamed as above
            link = replace(CHAIN[seq], entry=bytes(data), hash=entry_hash(bytes(data)) if stored else None)
            found = said(with_link(seq, link))
            touched_link = PREV_PLACE.start <= place < PREV_PLACE.stop
            allowed = {seq - 1, seq} if touched_link else {seq}
            assert {where for _, where in found} <= allowed, (place, found)
            if seq < LAST:
                assert found[-1][1] == seq, (place, found)
            if touched_link:
                assert found[0] == (EDITED, seq - 1)

    def test_what_a_changed_field_says(self) -> None:
        """With a fitting hash, the impossible is named for what it is, and the broken link behind it only once."""
        assert said(with_link(3, changed(CHAIN[3], tenant="other"))) == [(FOREIGN, 3)]
        assert said(with_link(3, changed(CHAIN[3], seq=7))) == [(REORDERED, 3)]
        assert said(with_link(3, changed(CHAIN[3], offset=0))) == [(REORDERED, 3), (EDITED, 3)]
        assert said(with_link(3, changed(CHAIN[3], offset=10**9))) == [(EDITED, 3)]
        assert said(with_link(3, changed(CHAIN[3], topic_id=NEXT_TOPIC_ID))) == [(FOREIGN, 3), (EDITED, 3)]
        assert said(with_link(3, changed(CHAIN[3], partition=1))) == [(FOREIGN, 3), (EDITED, 3)]
        assert said(with_link(3, changed(CHAIN[3], length=9_999))) == [(ALTERED, 3), (EDITED, 3)]
        assert said(with_link(3, changed(CHAIN[3], received=1))) == [(EDITED, 3)]
        assert said(with_link(3, changed(CHAIN[3], prev=bytes(32)))) == [(EDITED, 2), (EDITED, 3)]

    def test_what_was_expected_and_found(self) -> None:
        """A broken link is reported with both hashes, so that a person can look for either."""
        forged = changed(CHAIN[3], received=1)
        violation = verify_chain(TENANT, with_link(3, forged))[0]
        assert violation.expected == entry_hash(CHAIN[3].entry).hex()
        assert violation.found == entry_hash(forged.entry).hex()

    def test_tail_with_a_fitting_hash_is_not_seen(self) -> None:
        """The last entry has no successor that would know it; that is what checkpoints are for."""
        assert said(with_link(LAST, changed(CHAIN[LAST], received=1))) == []

    def test_rewrite_is_not_seen_from_genesis(self) -> None:
        """A chain rewritten from some place to its end holds by itself; that is what checkpoints are for."""
        assert said(rechained([*CHAIN[:3], changed(CHAIN[3], received=1), *CHAIN[4:]])) == []

    def test_rewrite_is_seen_from_a_known_hash(self) -> None:
        """Resumed from a hash known to be good, the first entry that does not follow it is at fault."""
        rewritten = rechained([*CHAIN[:3], changed(CHAIN[3], received=1), *CHAIN[4:]])
        verifier = ChainVerifier(TENANT, seq=5, prev=entry_hash(CHAIN[4].entry))
        found = [violation for link in rewritten[5:] for violation in verifier.check(link)]
        assert [(violation.type, violation.seq) for violation in found] == [(EDITED, 5)]


class TestPayloads:
    """A payload is the one that its entry commits to."""

    @pytest.mark.parametrize("seq", [link.seq for link in CHAIN if link.payload is not None])
    def test_altered(self, seq: int) -> None:
        """Any changed, cut, added or missing byte of a payload is blamed on that payload."""
        payload = CHAIN[seq].payload
        assert payload is not None
        flipped = [
            payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :] for place in range(len(payload))
        ]
        for data in (*flipped, b"", payload[:-1], payload + b"\x00", None):
            assert said(with_link(seq, replace(CHAIN[seq], payload=data))) == [(ALTERED, seq)]

    @pytest.mark.parametrize("kind", [Kind.DUPLICATE, Kind.QUARANTINED])
    def test_not_carried(self, kind: Kind) -> None:
        """Bytes that an entry only counts are not there to be checked, and an empty value is not theirs."""
        seq = 1 + TENANT_KINDS.index(kind)
        assert said(with_link(seq, replace(CHAIN[seq], payload=b""))) == []

    def test_malformed_genesis(self) -> None:
        """A genesis whose payload pins nothing is at fault, however well it is chained."""
        payload = b"instance demo.example/audit\n"
        first = changed(CHAIN[0], payload=payload_digest(payload), length=len(payload))
        assert said([replace(first, payload=payload)]) == [(EDITED, 0)]

    def test_gap_names_its_offset(self) -> None:
        """A gap that begins at another offset than its entry is at fault."""
        tenant, payload = partition_chain(0), gap_payload(7, 9)
        links = make_chain(PARTITION_KINDS, tenant=tenant)
        links[2] = replace(
            changed(links[2], payload=payload_digest(payload), length=len(payload)), payload=payload, hash=None
        )
        assert said(links, tenant)[0] == (EDITED, 2)

    def test_epoch_names_the_topic_before(self) -> None:
        """An epoch that names another topic than the one the chain was in is at fault."""
        seq = 1 + TENANT_KINDS.index(Kind.EPOCH)
        payload = epoch_payload(GENESIS, bytes(16))
        link = changed(CHAIN[seq], payload=payload_digest(payload), length=len(payload))
        links = rechained(with_link(seq, replace(link, payload=payload)))
        assert said(links) == [(EDITED, seq)]

    def test_epoch_of_another_instance(self) -> None:
        """A chain stays in its instance for ever."""
        seq = 1 + TENANT_KINDS.index(Kind.EPOCH)
        payload = epoch_payload(Genesis("other.example/audit", 4), TOPIC_ID)
        link = changed(CHAIN[seq], payload=payload_digest(payload), length=len(payload))
        assert said(rechained(with_link(seq, replace(link, payload=payload)))) == [(FOREIGN, seq)]


class TestPlaces:
    """Entries that are missing, doubled or moved."""

    @pytest.mark.parametrize("seq", range(LAST))
    def test_dropped(self, seq: int) -> None:
        """A missing entry is a gap at its seq, and nothing else is blamed."""
        assert said([*CHAIN[:seq], *CHAIN[seq + 1 :]]) == [(GAP, seq)]

    @pytest.mark.parametrize("seq", range(LAST - 2))
    def test_cut_out(self, seq: int) -> None:
        """A missing range is one gap at its first seq, which the message gives in full."""
        violations = verify_chain(TENANT, [*CHAIN[:seq], *CHAIN[seq + 3 :]])
        assert [(violation.type, violation.seq) for violation in violations] == [(GAP, seq)]
        assert violations[0].message == f"entries {seq} to {seq + 2} are missing"

    @pytest.mark.parametrize("seq", range(LAST))
    def test_swapped_in_order(self, seq: int) -> None:
        """Two entries read in the wrong order: one is missed where it should be, and comes late."""
        links = [*CHAIN[:seq], CHAIN[seq + 1], CHAIN[seq], *CHAIN[seq + 2 :]]
        assert said(links) == [(GAP, seq), (REORDERED, seq)]

    @pytest.mark.parametrize("seq", range(LAST))
    def test_swapped_in_place(self, seq: int) -> None:
        """Two entries stored under each other's seq: both stand in the wrong place, and no other is blamed."""
        links = with_link(seq, replace(CHAIN[seq + 1], seq=seq))
        links[seq + 1] = replace(CHAIN[seq], seq=seq + 1)
        assert said(links) == [(REORDERED, seq), (REORDERED, seq + 1)]

    @pytest.mark.parametrize("seq", SEQS)
    def test_doubled(self, seq: int) -> None:
        """An entry that comes twice in a row is a fork of its seq, and its successor is not blamed."""
        assert said([*CHAIN[: seq + 1], *CHAIN[seq:]]) == [(FORK, seq)]

    @pytest.mark.parametrize("seq", SEQS)
    def test_doubled_later(self, seq: int) -> None:
        """An entry that comes again at the end is a fork of its seq, not a deletion and not a new order."""
        assert said([*CHAIN, CHAIN[seq]]) == [(FORK, seq)]

    @pytest.mark.parametrize("genuine_first", [True, False])
    @pytest.mark.parametrize("seq", range(1, LAST))
    def test_forked(self, seq: int, *, genuine_first: bool) -> None:
        """Two entries for one seq are a fork there, whichever of them the rest goes on from."""
        pair = [CHAIN[seq], changed(CHAIN[seq], received=1)]
        links = [*CHAIN[:seq], *(pair if genuine_first else reversed(pair)), *CHAIN[seq + 1 :]]
        assert said(links) == [(FORK, seq)]

    @pytest.mark.parametrize("seq", range(1, LAST))
    def test_moved_to_the_end(self, seq: int) -> None:
        """An entry stored under a seq far behind is missed where it was, and named where it is."""
        links = [*CHAIN[:seq], *CHAIN[seq + 1 :], replace(CHAIN[seq], seq=LAST + 1)]
        assert said(links) == [(GAP, seq), (REORDERED, LAST + 1)]

    def test_late_part_of_a_hole(self) -> None:
        """Of a missing range each entry may come late once; a second time it is a fork."""
        links = [*CHAIN[:2], *CHAIN[5:], CHAIN[3], CHAIN[3], CHAIN[2]]
        assert said(links) == [(GAP, 2), (REORDERED, 3), (FORK, 3), (REORDERED, 2)]

    def test_renumbered(self) -> None:
        """An entry deleted with all seqs behind it moved up: the first in a wrong place is where it was."""
        links = [*CHAIN[:4], *(replace(link, seq=link.seq - 1) for link in CHAIN[5:])]
        assert said(links) == [(REORDERED, seq) for seq in range(4, LAST)]

    def test_before_the_start(self) -> None:
        """Resumed in the middle, an entry from before is out of order, and what follows is not blamed."""
        verifier = ChainVerifier(TENANT, seq=4, prev=entry_hash(CHAIN[3].entry))
        found = [violation for link in (CHAIN[2], *CHAIN[4:]) for violation in verifier.check(link)]
        assert [(violation.type, violation.seq) for violation in found] == [(REORDERED, 2)]

    def test_holes_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many holes there are, only so many are remembered: memory stays constant."""
        monkeypatch.setattr(chain_module, "HOLES_MAX", 1)
        links = [CHAIN[0], CHAIN[2], CHAIN[4], CHAIN[1], CHAIN[3]]
        assert said(links) == [(GAP, 1), (GAP, 3), (REORDERED, 1), (FORK, 3)]


class TestForeign:
    """Entries of another chain, and source coordinates that a chain cannot have."""

    def test_of_another_tenant(self) -> None:
        """An entry of another tenant's chain is foreign where it stands, and its neighbours are not blamed."""
        other = make_chain(tenant="other")
        assert said(with_link(3, other[3])) == [(FOREIGN, 3)]

    def test_whole_chain(self) -> None:
        """Another tenant's whole chain is foreign, entry by entry."""
        assert said(make_chain(tenant="other")) == [(FOREIGN, seq) for seq in SEQS]

    def test_topic_without_epoch(self) -> None:
        """A chain enters another topic only by an epoch entry."""
        kinds = (Kind.EVENT, Kind.EVENT, Kind.EVENT)
        links = make_chain(kinds)
        links[2] = changed(links[2], topic_id=NEXT_TOPIC_ID)
        links[3] = changed(links[3], topic_id=NEXT_TOPIC_ID)
        violations: list[Violation] = verify_chain(TENANT, rechained(links))
        assert [(violation.type, violation.seq) for violation in violations] == [(FOREIGN, 2)]
        assert violations[0].expected == f"{TOPIC_ID.hex()}/0"

    def test_epoch_in_the_same_topic(self) -> None:
        """An epoch entry without another topic is at fault."""
        seq = 1 + TENANT_KINDS.index(Kind.EPOCH)
        links = [*CHAIN[:seq], changed(CHAIN[seq], topic_id=TOPIC_ID)]
        assert said(rechained(links)) == [(EDITED, seq)]

    @pytest.mark.parametrize("offset", [0, 1])
    def test_offsets_go_up(self, offset: int) -> None:
        """A chain follows its source: an offset that comes again or goes back is out of order."""
        links = make_chain((Kind.EVENT, Kind.EVENT, Kind.EVENT))
        assert [parse(link.entry).offset for link in links] == [0, 0, 1, 2]
        links[3] = changed(links[3], offset=offset)
        assert said(rechained(links)) == [(REORDERED, 3)]


def test_entries_parse_as_they_were_made() -> None:
    """The chains these tests use hold every kind of entry, so that no kind goes untested."""
    kinds = {parse(link.entry).kind for link in (*CHAIN, *make_chain(PARTITION_KINDS, tenant=partition_chain(0)))}
    assert kinds == set(Kind)
    assert isinstance(parse(CHAIN[0].entry), Entry)
