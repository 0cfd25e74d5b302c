"""The entry: its bytes are its fields and nothing else, in both directions."""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.entry import (
    CARRIED_KINDS,
    PUBLISHED_KINDS,
    WINDOW_KINDS,
    ZERO_HASH,
    Entry,
    GapReason,
    Genesis,
    Kind,
    Quarantine,
    entry_hash,
    epoch_payload,
    gap_payload,
    is_event_id,
    is_instance,
    is_tenant,
    pack,
    pack_trusted,
    parse,
    parse_epoch_payload,
    parse_gap_payload,
    partition_chain,
    payload_digest,
)
from sealstream.schemas.errors import EntryInvalid
from support.chains import GENESIS, TOPIC_ID, entries
from support.mutation import changed_bytes, cuts, mutated

EVENT = Entry(
    kind=Kind.EVENT,
    tenant="acme",
    seq=2,
    prev=bytes(range(32)),
    received=1_700_000_000_000_000,
    topic_id=TOPIC_ID,
    partition=3,
    offset=7,
    event_id="ev-1",
    length=1,
    payload=payload_digest(b"a"),
)
GENESIS_ENTRY = replace(EVENT, kind=Kind.GENESIS, seq=0, prev=ZERO_HASH, event_id="")
QUARANTINED = replace(EVENT, kind=Kind.QUARANTINED, event_id="", reason=Quarantine.MALFORMED)


def with_field(entry: Entry, name: str, value: Any) -> Entry:
    """Return an entry with one field changed, fitting or not."""
    return replace(entry, **{name: value})


class TestPackAndParse:
    """Packing and parsing are inverse, and one entry has one form."""

    @settings(max_examples=300)
    @given(entries())
    def test_parse_inverts_pack(self, entry: Entry) -> None:
        """Every valid entry comes back from its bytes, and its bytes from what came back."""
        data = pack(entry)
        assert parse(data) == entry
        assert pack(parse(data)) == data

    @settings(max_examples=150)
    @given(entries())
    def test_hot_path_packs_the_same(self, entry: Entry) -> None:
        """The chaining code's unchecked packing gives the same bytes as the checked one."""
        values = {field.name: getattr(entry, field.name) for field in fields(entry)}
        values["tenant"], values["event_id"] = entry.tenant.encode(), entry.event_id.encode()
        assert pack_trusted(**values) == pack(entry)

    @settings(max_examples=150)
    @given(entries(), entries())
    def test_two_entries_never_share_bytes(self, one: Entry, other: Entry) -> None:
        """Different fields give different bytes, whatever the fields are."""
        assert (pack(one) == pack(other)) == (one == other)

    @settings(max_examples=200)
    @given(entries(), st.data())
    def test_one_other_field_gives_other_bytes(self, entry: Entry, data: st.DataObject) -> None:
        """Two entries that differ in one field have other bytes and another hash."""
        name = data.draw(st.sampled_from([field.name for field in fields(entry)]))
        other = with_field(entry, name, getattr(data.draw(entries()), name))
        try:
            packed = pack(other)
        except EntryInvalid:
            return  # the field does not go with the others
        assert (packed == pack(entry)) == (other == entry)
        assert (entry_hash(packed) == entry_hash(pack(entry))) == (other == entry)

    @settings(max_examples=40)
    @given(entries())
    def test_every_changed_byte(self, entry: Entry) -> None:
        """A changed byte changes the hash, and makes either no entry or another one that packs to those bytes."""
        original = pack(entry)
        for data in changed_bytes(original):
            assert entry_hash(data) != entry_hash(original)
            try:
                parsed = parse(data)
            except EntryInvalid:
                continue
            assert parsed != entry
            assert pack(parsed) == data

    @settings(max_examples=20)
    @given(entries())
    def test_every_cut(self, entry: Entry) -> None:
        """What is cut short is no entry, and neither is one with something behind it."""
        for data in cuts(pack(entry)):
            with pytest.raises(EntryInvalid):
                parse(data)
        with pytest.raises(EntryInvalid, match="1 bytes behind its end"):
            parse(pack(entry) + b"\x00")

    @settings(max_examples=300)
    @given(st.binary(max_size=400) | mutated(entries().map(pack)))
    def test_arbitrary_bytes(self, data: bytes) -> None:
        """Whatever the bytes are, parsing gives an entry that packs to them or says that they are none."""
        try:
            entry = parse(data)
        except EntryInvalid:
            return
        assert pack(entry) == data

    def test_layout(self) -> None:
        """The bytes are those that the layout gives, field by field."""
        assert pack(EVENT) == (
            b"sealstream1\n\x01\x01\x00\x04acme"
            + (2).to_bytes(8, "big")
            + bytes(range(32))
            + (1_700_000_000_000_000).to_bytes(8, "big")
            + TOPIC_ID
            + (3).to_bytes(4, "big")
            + (7).to_bytes(8, "big")
            + (0).to_bytes(8, "big")
            + b"\x04ev-1"
            + (1).to_bytes(4, "big")
            + hashlib.sha256(b"sealstream/payload1\na").digest()
        )

    def test_hash_is_a_leaf_hash(self) -> None:
        """The hash is RFC 6962's leaf hash of the bytes, so the chain and the tree commit to the same."""
        assert entry_hash(pack(EVENT)) == hashlib.sha256(b"\x00" + pack(EVENT)).digest()

    @pytest.mark.parametrize(
        ("place", "byte", "words"),
        [
            (0, ord("S"), "does not begin with its label"),
            (12, 2, "unknown suite 2"),
            (13, 9, "field that does not decode"),
            (13, 4, "has the reason 0"),
            (14, 1, "wrong chain"),
            (16, 0xE9, "field that does not decode"),
            (16, ord("!"), "invalid tenant"),
        ],
    )
    def test_says_what_is_wrong(self, place: int, byte: int, words: str) -> None:
        """The error says which part of the bytes is not an entry's."""
        data = bytearray(pack(EVENT))
        data[place] = byte
        with pytest.raises(EntryInvalid, match=re.escape(words)):
            parse(bytes(data))


class TestRefused:
    """Fields that are out of range or contradict each other have no bytes."""

    @pytest.mark.parametrize("name", ["seq", "received", "offset"])
    @pytest.mark.parametrize("number", [-1, 2**63, 2**64])
    def test_longs(self, name: str, number: int) -> None:
        """Numbers that Kafka, Avro and PostgreSQL hold as signed 64 bits stay within them."""
        with pytest.raises(EntryInvalid, match=name):
            pack(with_field(EVENT, name, number))

    @pytest.mark.parametrize("name", ["partition", "length"])
    @pytest.mark.parametrize("number", [-1, 2**31, 2**32])
    def test_ints(self, name: str, number: int) -> None:
        """Numbers that Kafka holds as signed 32 bits stay within them."""
        with pytest.raises(EntryInvalid, match=name):
            pack(with_field(EVENT, name, number))

    @pytest.mark.parametrize("name", ["prev", "topic_id", "payload"])
    def test_sizes(self, name: str) -> None:
        """Hashes and UUIDs have their size, not another."""
        for value in (b"", getattr(EVENT, name)[1:], getattr(EVENT, name) + b"\x00"):
            with pytest.raises(EntryInvalid, match=name):
                pack(with_field(EVENT, name, value))

    @pytest.mark.parametrize(
        "tenant", ["", ".", "..", "-a", "_a", "a" * 65, "a b", "a/b", "ä", "a\n", "!", "!partition-4", "\ud800"]
    )
    def test_tenant(self, tenant: str) -> None:
        """A tenant is one, or the entry has no bytes."""
        with pytest.raises(EntryInvalid, match="tenant"):
            pack(replace(EVENT, tenant=tenant))

    @pytest.mark.parametrize("event_id", ["a" * 129, "a b", "a/b", "ä", "a\n", "\ud800"])
    def test_event_id(self, event_id: str) -> None:
        """An event id is one, or the entry has no bytes."""
        with pytest.raises(EntryInvalid, match="event id"):
            pack(replace(EVENT, event_id=event_id))

    @pytest.mark.parametrize("kind", sorted(set(Kind) - {Kind.QUARANTINED, Kind.GAP}))
    def test_reason_without_need(self, kind: Kind) -> None:
        """Only quarantined records and gaps have a reason."""
        base = GENESIS_ENTRY if kind is Kind.GENESIS else replace(EVENT, kind=kind)
        with pytest.raises(EntryInvalid):
            pack(replace(base, reason=5, ref=1 if kind in (Kind.DUPLICATE, Kind.CONFLICT) else 0))

    @pytest.mark.parametrize("reason", [0, len(Quarantine) + 1])
    def test_unknown_quarantine(self, reason: int) -> None:
        """A record is quarantined for one of the reasons that are specified."""
        with pytest.raises(EntryInvalid, match="reason"):
            pack(replace(QUARANTINED, reason=reason))

    @pytest.mark.parametrize("reason", [0, len(GapReason) + 1])
    def test_unknown_gap_reason(self, reason: int) -> None:
        """A gap has one of the reasons that are specified."""
        gap = replace(EVENT, kind=Kind.GAP, tenant=partition_chain(3), event_id="", reason=reason)
        with pytest.raises(EntryInvalid, match="reason"):
            pack(gap)

    @pytest.mark.parametrize("reason", Quarantine)
    def test_chain_of_a_quarantined_record(self, reason: Quarantine) -> None:
        """Reasons 1 to 3 stand in the chain of the partition, the others in the tenant's, and never elsewhere."""
        apart = reason in (Quarantine.NO_KEY, Quarantine.TENANT_INVALID, Quarantine.PARTITION_WRONG)
        event_id = "ev-1" if reason is Quarantine.TIMESTAMP_TYPE else ""
        entry = replace(QUARANTINED, reason=reason, event_id=event_id, received=0)
        assert parse(pack(replace(entry, tenant=partition_chain(3) if apart else "acme"))).reason == reason
        for wrong in ("acme" if apart else partition_chain(3), partition_chain(4)):
            with pytest.raises(EntryInvalid, match=r"chain|tenant"):
                pack(replace(entry, tenant=wrong))

    @pytest.mark.parametrize("kind", [Kind.EVENT, Kind.IMPORTED, Kind.DUPLICATE, Kind.CONFLICT, Kind.CONTROL])
    def test_events_stand_in_a_tenants_chain(self, kind: Kind) -> None:
        """No event can stand in the chain of a partition."""
        ref = 1 if kind in (Kind.DUPLICATE, Kind.CONFLICT) else 0
        with pytest.raises(EntryInvalid, match="wrong chain"):
            pack(replace(EVENT, kind=kind, ref=ref, tenant=partition_chain(3)))

    def test_gap_stands_in_the_chain_of_its_partition(self) -> None:
        """A lost range belongs to no tenant."""
        gap = replace(EVENT, kind=Kind.GAP, event_id="", reason=GapReason.EXPIRED)
        with pytest.raises(EntryInvalid, match="wrong chain"):
            pack(gap)

    def test_genesis_is_the_first_and_only_the_first(self) -> None:
        """Seq 0 is genesis, genesis is seq 0, and has no predecessor."""
        for entry in (
            replace(EVENT, seq=0),
            replace(GENESIS_ENTRY, seq=1),
            replace(GENESIS_ENTRY, prev=bytes(31) + b"\x01"),
        ):
            with pytest.raises(EntryInvalid, match=r"genesis|seq"):
                pack(entry)

    @pytest.mark.parametrize("kind", [Kind.DUPLICATE, Kind.CONFLICT])
    @pytest.mark.parametrize("ref", [0, 2, 3])
    def test_ref_points_back(self, kind: Kind, ref: int) -> None:
        """A repeat refers to an earlier entry behind the genesis."""
        with pytest.raises(EntryInvalid, match="ref"):
            pack(replace(EVENT, kind=kind, ref=ref))

    @pytest.mark.parametrize("kind", [Kind.EVENT, Kind.IMPORTED, Kind.CONTROL])
    def test_ref_without_need(self, kind: Kind) -> None:
        """Only repeats refer to another entry."""
        with pytest.raises(EntryInvalid, match="ref"):
            pack(replace(EVENT, kind=kind, ref=1))

    @pytest.mark.parametrize("kind", [Kind.EVENT, Kind.IMPORTED, Kind.DUPLICATE, Kind.CONFLICT, Kind.CONTROL])
    def test_event_without_id(self, kind: Kind) -> None:
        """Events have an id."""
        ref = 1 if kind in (Kind.DUPLICATE, Kind.CONFLICT) else 0
        with pytest.raises(EntryInvalid, match="no event id"):
            pack(replace(EVENT, kind=kind, ref=ref, event_id=""))

    @pytest.mark.parametrize("reason", sorted(set(Quarantine) - {Quarantine.TENANT_DIFFERS, Quarantine.TIMESTAMP_TYPE}))
    def test_id_of_a_quarantined_record(self, reason: Quarantine) -> None:
        """A quarantined record has an id only where the checks had come to one."""
        tenant = partition_chain(3) if reason <= Quarantine.PARTITION_WRONG else "acme"
        with pytest.raises(EntryInvalid, match="an event id"):
            pack(replace(QUARANTINED, tenant=tenant, reason=reason, event_id="ev-1"))

    def test_id_and_time_of_a_record_without_a_brokers_time(self) -> None:
        """Reason 8 comes last of all checks: there is an id, and there is no time."""
        entry = replace(QUARANTINED, reason=Quarantine.TIMESTAMP_TYPE, event_id="ev-1", received=0)
        assert parse(pack(entry)) == entry
        for wrong in (replace(entry, event_id=""), replace(entry, received=1)):
            with pytest.raises(EntryInvalid):
                pack(wrong)


class TestKinds:
    """What the kinds are, by number, and what becomes of each."""

    def test_numbers(self) -> None:
        """The numbers are those of the format, for ever."""
        names = ["GENESIS", "EVENT", "IMPORTED", "DUPLICATE", "QUARANTINED", "CONFLICT", "CONTROL", "GAP", "EPOCH"]
        assert [kind.name for kind in Kind] == names
        assert [int(kind) for kind in Kind] == list(range(9))

    def test_sets(self) -> None:
        """Which kinds are carried, handed on, and can be repeated."""
        assert {int(kind) for kind in CARRIED_KINDS} == {0, 1, 2, 5, 6, 7, 8}
        assert {int(kind) for kind in PUBLISHED_KINDS} == {1, 2, 5}
        assert {int(kind) for kind in WINDOW_KINDS} == {1, 2, 5, 6}


class TestNames:
    """Which names may be a tenant's, an event's, an instance's."""

    @pytest.mark.parametrize("name", ["a", "A", "0", "a.b", "a_b", "a-b", "a" * 64])
    def test_tenants(self, name: str) -> None:
        """Names that begin with a letter or digit and go on with a few more characters."""
        assert is_tenant(name)

    @pytest.mark.parametrize("name", ["", ".", "..", "-a", "!a", "a" * 65, "a:b", "a/b", "ä", "a\n", "٣"])
    def test_no_tenants(self, name: str) -> None:
        """Names that a file system, a URL or a topic could take for something else."""
        assert not is_tenant(name)

    @pytest.mark.parametrize(
        ("name", "valid"),
        [("a", True), ("._:-", True), ("a" * 128, True), ("", False), ("a" * 129, False), ("a\n", False)],
    )
    def test_event_ids(self, name: str, *, valid: bool) -> None:
        """Ids such as UUIDs, numbers and dotted paths."""
        assert is_event_id(name) == valid

    @pytest.mark.parametrize(
        ("name", "valid"),
        [
            ("demo.example/audit", True),
            ("a" * 120, True),
            ("", False),
            ("a" * 121, False),
            ("A", False),
            ("a\n", False),
        ],
    )
    def test_instances(self, name: str, *, valid: bool) -> None:
        """URLs without a scheme, in lower case."""
        assert is_instance(name) == valid

    def test_partition_chains(self) -> None:
        """The chain of a partition is never a tenant's."""
        assert partition_chain(0) == "!partition-0"
        assert not is_tenant(partition_chain(0))


NUMBERS = st.integers(1, 2**31 - 1)
GENESES = st.builds(
    Genesis,
    st.from_regex(r"[a-z0-9./-]{1,120}", fullmatch=True),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.just("none") | st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
)


class TestPayloads:
    """The payloads that the chain itself makes."""

    def test_genesis_text(self) -> None:
        """The payload is these lines and nothing else."""
        assert GENESIS.payload() == (
            b"instance demo.example/audit\npartitions 4\nwindow_offsets 65536\nwindow_seconds 86400\n"
            b"value_bytes_max 1000000\noperators none\n"
        )

    @settings(max_examples=80)
    @given(GENESES)
    def test_genesis(self, genesis: Genesis) -> None:
        """What a genesis pins comes back from its payload."""
        assert Genesis.parse(genesis.payload()) == genesis

    @settings(max_examples=80)
    @given(GENESES, st.binary(min_size=16, max_size=16))
    def test_epoch(self, genesis: Genesis, topic_id: bytes) -> None:
        """What an epoch pins, and the topic before it, come back from its payload."""
        assert parse_epoch_payload(epoch_payload(genesis, topic_id)) == (genesis, topic_id)

    @settings(max_examples=80)
    @given(st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)).map(sorted))
    def test_gap(self, ends: list[int]) -> None:
        """A lost range comes back from its payload."""
        first, last = ends
        assert parse_gap_payload(gap_payload(first, last)) == (first, last)

    @settings(max_examples=200)
    @given(
        mutated(GENESES.map(Genesis.payload)),
        mutated(st.just(epoch_payload(GENESIS, TOPIC_ID))),
        mutated(st.just(gap_payload(5, 10))),
    )
    def test_one_normal_form(self, genesis: bytes, epoch: bytes, gap: bytes) -> None:
        """Changed bytes are malformed, or the one form of something else."""
        with contextlib.suppress(EntryInvalid):
            assert Genesis.parse(genesis).payload() == genesis
        with contextlib.suppress(EntryInvalid):
            assert epoch_payload(*parse_epoch_payload(epoch)) == epoch
        with contextlib.suppress(EntryInvalid):
            assert gap_payload(*parse_gap_payload(gap)) == gap

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            GENESIS.payload()[:-1],
            GENESIS.payload() + b"\n",
            GENESIS.payload().replace(b"partitions 4", b"partitions 04"),
            GENESIS.payload().replace(b"partitions 4", b"partitions 0"),
            GENESIS.payload().replace(b"partitions 4", b"partitions 9999999999"),
            GENESIS.payload().replace(b"1000000", b"1000001"),
            GENESIS.payload().replace(b"\n", b"\r\n"),
        ],
    )
    def test_malformed_genesis(self, payload: bytes) -> None:
        """A genesis has one form; another one pins nothing."""
        with pytest.raises(EntryInvalid, match="genesis"):
            Genesis.parse(payload)

    @pytest.mark.parametrize("payload", [b"", b"first 5\nlast 4\n", b"first 05\nlast 10\n", b"first 5\nlast 10"])
    def test_malformed_gap(self, payload: bytes) -> None:
        """A gap has one form and is not empty."""
        with pytest.raises(EntryInvalid, match="gap"):
            parse_gap_payload(payload)

    @pytest.mark.parametrize(
        "genesis",
        [
            replace(GENESIS, instance="Demo"),
            replace(GENESIS, partitions=0),
            replace(GENESIS, window_offsets=2**31),
            replace(GENESIS, operators="None"),
        ],
    )
    def test_genesis_out_of_range(self, genesis: Genesis) -> None:
        """What cannot be pinned has no payload."""
        with pytest.raises(EntryInvalid):
            genesis.payload()

    def test_epoch_needs_a_uuid(self) -> None:
        """The topic before an epoch is named by its 16 bytes."""
        with pytest.raises(EntryInvalid, match="16 bytes"):
            epoch_payload(GENESIS, b"")

    @settings(max_examples=50)
    @given(st.binary(max_size=64), st.binary(max_size=64))
    def test_digest(self, one: bytes, other: bytes) -> None:
        """Two payloads share a digest only if they are the same bytes."""
        assert (payload_digest(one) == payload_digest(other)) == (one == other)
