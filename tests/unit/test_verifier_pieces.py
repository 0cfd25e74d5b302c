"""Verifying a store in pieces and with the pass over ordinary rows, held against its plain twin.

The twin takes each chain from its beginning to its end, row by row, by the whole rules, and none for ordinary.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.kafka.partition import partition_of
from sealstream.schemas.codec import SINGLE_OBJECT_MAGIC
from sealstream.schemas.entry import Genesis, Kind, entry_hash, pack, pack_trusted, parse, payload_digest
from sealstream.schemas.errors import EntryInvalid
from sealstream.schemas.event import EventKind
from sealstream.sinks.verifier.ledger import Ledger
from sealstream.sinks.verifier.ordinary import ID_BYTES_MAX
from sealstream.sinks.verifier.pieces import (
    PARTS_MAX,
    SEQ_MAX,
    WINDOWS_A_PIECE,
    Part,
    PartResult,
    Piece,
    cut,
    plan,
)
from sealstream.sinks.verifier.stored_chain import End, StoredChain, StoredRow
from sealstream.sinks.verifier.stored_copy import read_row
from sealstream.sinks.verifier.stored_ordinary import OrdinaryRows
from support.model import ExpectedRecord, LostRange, Model, SourceRecord, next_epoch
from support.publish import event_value
from support.stored import MemoryStore, Payload, copy_row, stored_row, verify_in_pieces, verify_plainly

WINDOW = 3
GENESIS = Genesis("test.example/audit", partitions=2, window_offsets=WINDOW, window_seconds=60)
TOPIC_ID = bytes(range(16))
START_MS = 1_700_000_000_000
_NAMES = (*(f"tenant-{number}" for number in range(8)), "t" * 63, "u" * 64)
TENANTS = sorted(name for name in _NAMES if partition_of(name.encode(), 2) == 1)
TENANT = TENANTS[0]
_BEHIND_RECEIVED = 8 + 16 + 4 + 8 + 8 + 1 + 4 + 32
"""The size of an entry's fields from the time on, without the id."""
LEAST_PIECE = WINDOWS_A_PIECE * WINDOW


def _framed(value: bytes, confluent: bool) -> bytes:
    """Return an event in the other framing, if that is wanted."""
    assert value.startswith(SINGLE_OBJECT_MAGIC)
    return b"\0\0\0\0\7" + value[10:] if confluent else value


_IDS = st.one_of(
    st.integers(0, 200).map(lambda number: f"id-{number}"),
    st.integers(0, 200).map(lambda number: f"id-{number}"),
    st.sampled_from(["same", "i" * ID_BYTES_MAX, "i" * (ID_BYTES_MAX + 1), "i" * 128, "", "no spaces"]),
)
_KINDS = st.sampled_from([EventKind.EVENT, EventKind.EVENT, EventKind.EVENT, EventKind.IMPORTED, EventKind.CONTROL])


@st.composite
def _logs(draw: st.DrawFn, tenants: list[str] = TENANTS) -> list[SourceRecord | LostRange]:
    """Sources of one partition that are sound for the most part, with repeats, nonsense, and now and then a gap."""
    log: list[SourceRecord | LostRange] = []
    offset = 0
    names = st.sampled_from(tenants[: draw(st.integers(1, len(tenants)))])
    steps = st.tuples(names, _IDS, _KINDS, st.booleans(), st.sampled_from(["", "", "x"]), st.integers(0, 19))
    for name, event_id, kind, confluent, note, luck in draw(st.lists(steps, max_size=60)):
        value: bytes | None = _framed(event_value(name, event_id, note=note, kind=kind), confluent)
        key: bytes | None = name.encode()
        if luck == 0:
            log.append(LostRange(1, offset, offset + 2, (START_MS + offset) * 1000))
            offset += 3
        if luck == 1:
            key, value = None, b"x"
        if luck == 2:
            value = b"nonsense"
        log.append(SourceRecord(1, offset, key, value, START_MS + offset * 7 % 50))
        offset += 1 + luck // 15
    return log


def _store(log: list[SourceRecord | LostRange], block_rows: int) -> MemoryStore:
    made = Model(GENESIS, TOPIC_ID, 1).expect(log)
    store = MemoryStore.of(stored_row(record.entry, record.value) for record in made)
    store.block_rows = block_rows
    return store


def _flip(value: bytes, at: int) -> bytes:
    if not value:
        return b"?"
    return value[: at % len(value)] + bytes([value[at % len(value)] ^ 1 << at % 8]) + value[at % len(value) + 1 :]


def _careful(row: StoredRow, at: int) -> StoredRow:
    """Return what a careful forger writes: entry, columns and hash that agree with each other."""
    try:
        fields = parse(row.entry)
    except EntryInvalid:  # somebody less careful was here before
        return row
    changes: list[dict[str, object]] = [
        {"received": fields.received + 1},
        {"offset": fields.offset + at},
        {"offset": max(0, fields.offset - at % 4)},
        {"event_id": f"id-{at}" if fields.event_id else ""},
        {"kind": Kind.EVENT, "ref": 0} if fields.kind is Kind.CONFLICT else {},
        {"kind": Kind.IMPORTED} if fields.kind is Kind.EVENT else {},
        {"prev": bytes(32)},
        {"topic_id": bytes(16)},
        {"payload": bytes(32)},
        {"length": fields.length + 1},
    ]
    changed = replace(fields, **changes[at % len(changes)])  # type: ignore[arg-type]  # one of its own fields
    if fields.kind is Kind.GENESIS:
        changed = replace(changed, prev=bytes(32))
    return stored_row(pack(changed), row.payload or b"")


def _beyond(row: StoredRow) -> StoredRow:
    """Return a row whose time is one that no entry can have, with columns and hash that agree."""
    at = len(row.entry) - _BEHIND_RECEIVED - len(row.event_id or "")
    entry = row.entry[:at] + bytes([row.entry[at] | 0x80]) + row.entry[at + 1 :] if at > 0 else row.entry
    received = struct.unpack(">q", entry[at : at + 8])[0] if at > 0 else row.received
    return row._replace(entry=entry, hash=entry_hash(entry), received=received)


def _chained_anew(store: MemoryStore, tenant: str, seq: int) -> None:
    """Do what a forger does who chains all behind a place anew, and writes the head as well."""
    prev = b""
    places = [n for n, (name, row) in enumerate(store.entries) if name == tenant and row.seq >= seq]
    for place in sorted(places, key=lambda n: store.entries[n][1].seq):
        row = store.entries[place][1]
        try:
            fields = parse(row.entry)
            entry = pack(replace(fields, prev=prev)) if prev and fields.seq else row.entry
        except EntryInvalid:
            return
        prev = entry_hash(entry)
        store.entries[place] = (tenant, row._replace(entry=entry, hash=prev))
        store.heads[tenant] = End(row.seq, prev)


def _tamper(store: MemoryStore, what: str, place: int, at: int) -> None:
    """Change one thing in a store, as somebody could who may write everything."""
    if not store.entries:
        return
    index = place % len(store.entries)
    tenant, row = store.entries[index]
    columns: dict[str, Callable[[], StoredRow]] = {
        "entry": lambda: row._replace(entry=_flip(row.entry, at)),
        "no entry": lambda: row._replace(entry=b""),
        "entry and hash": lambda: _rehashed(row, _flip(row.entry, at)),
        "careful": lambda: _careful(row, at),
        "beyond": lambda: _beyond(row),
        "rewrite": lambda: _careful(row, at),
        "hash": lambda: row._replace(hash=_flip(row.hash, at)),
        "kind": lambda: row._replace(kind=at % 9),
        "offset": lambda: row._replace(offset=row.offset + at - 3),
        "received": lambda: row._replace(received=row.received - at),
        "topic": lambda: row._replace(topic_id=_flip(row.topic_id, at)),
        "id": lambda: row._replace(event_id=[None, "", "x", (row.event_id or "") + "y"][at % 4]),
        "seq": lambda: row._replace(seq=max(0, row.seq + at - 2)),
        "partition": lambda: row._replace(partition=at % 3),
    }
    payloads = [n for n, payload in enumerate(store.payloads) if (payload.tenant, payload.seq) == (tenant, row.seq)]
    if what in columns:
        store.entries[index] = (tenant, columns[what]())
        if what in ("rewrite", "beyond"):
            _chained_anew(store, tenant, row.seq)
    elif what == "tenant":
        store.entries[index] = (TENANTS[at % len(TENANTS)], row)
    elif what == "delete":
        del store.entries[index : index + 1 + at % 3]
    elif what == "twice":
        store.entries.append((tenant, row._replace(partition=row.partition + at % 2)))
    elif what == "swap":
        other_tenant, other = store.entries[at % len(store.entries)]
        store.entries[index] = (tenant, other._replace(seq=row.seq))
        store.entries[at % len(store.entries)] = (other_tenant, row._replace(seq=other.seq))
    elif what == "head":
        head = store.heads[tenant] if tenant in store.heads else End(row.seq, row.hash)
        store.heads[tenant] = [End(head.seq + at - 3, head.hash), End(head.seq, bytes(32))][at % 2]
    elif what == "no head":
        store.heads.pop(tenant, None)
    elif what == "payload later":
        store.payloads.append(Payload(tenant, row.seq + at, b"x"))
    elif payloads:
        _tamper_payload(store, what, payloads[0], at)


def _tamper_payload(store: MemoryStore, what: str, index: int, at: int) -> None:
    payload = store.payloads[index]
    if what == "payload":
        store.payloads[index] = payload._replace(value=_flip(payload.value, at))
    elif what == "payload twice":
        store.payloads.append(payload)
    else:
        del store.payloads[index]


def _rehashed(row: StoredRow, entry: bytes) -> StoredRow:
    return row._replace(entry=entry, hash=entry_hash(entry))


_WHATS = [
    "entry", "no entry", "entry and hash", "careful", "beyond", "rewrite", "rewrite", "hash", "kind", "offset",
    "received", "topic", "id", "seq", "partition", "tenant", "delete", "twice", "swap", "head", "no head",
    "payload later", "payload", "payload twice", "no payload",
]  # fmt: skip
_TAMPERINGS = st.lists(st.tuples(st.sampled_from(_WHATS), st.integers(0, 200), st.integers(0, 200)), max_size=3)
_PIECES = st.sampled_from([1, 20, 1_000])
_BLOCKS = st.sampled_from([1, 2, 7, 1_000])


def _compare(store: MemoryStore, piece_entries: int, known: dict[str, End] | None = None) -> None:
    plain = verify_plainly(store, known=known)
    found = verify_in_pieces(store, piece_entries=piece_entries, known=known)

    assert found.violations == plain.violations
    assert found.checked_through == plain.checked_through
    assert (found.entries, found.chains) == (plain.entries, plain.chains)
    wrong = {violation.tenant for violation in plain.violations}
    assert {name: end for name, end in found.ends.items() if name not in wrong} == plain.ends
    # Of a chain that does not hold, what was remembered lies before its first finding, or is found again.
    if wrong:
        assert verify_plainly(store, known=found.ends | (known or {})).violations


@given(_logs(), _TAMPERINGS, _PIECES, _BLOCKS)
@settings(max_examples=200, deadline=None)
def test_pieces_come_to_what_a_single_plain_pass_comes_to(
    log: list[SourceRecord | LostRange], tamperings: list[tuple[str, int, int]], piece_entries: int, block_rows: int
) -> None:
    """Whatever stands in a store, sound or forged: the same findings word for word, in the same order, and the same
    entries are said to hold.
    """
    store = _store(log, block_rows)
    for what, place, at in tamperings:
        _tamper(store, what, place, at)

    _compare(store, piece_entries)


@given(_TAMPERINGS.filter(bool), _PIECES, st.integers(0, 60))
@settings(max_examples=100, deadline=None)
def test_what_is_forged_among_ordinary_rows_does_not_pass(
    tamperings: list[tuple[str, int, int]], piece_entries: int, known_seq: int
) -> None:
    """Among nothing but ordinary rows, of long chains, a forged one is left to the whole rules, whatever was forged;
    also for who goes on from what an earlier run had verified.
    """
    names = TENANTS[:2]
    log: list[SourceRecord | LostRange] = [
        SourceRecord(1, n, (name := names[n % 2]).encode(), event_value(name, f"e-{n}"), START_MS) for n in range(80)
    ]
    store = _store(log, block_rows=50)
    rows = {row.seq: row for name, row in store.entries if name == names[0]}
    known = {names[0]: End(known_seq, rows[known_seq].hash)} if known_seq in rows else None
    for what, place, at in tamperings:
        _tamper(store, what, place, at)

    _compare(store, piece_entries, known)


@pytest.mark.parametrize("kind", [EventKind.EVENT, EventKind.IMPORTED])
@pytest.mark.parametrize("confluent", [False, True])
def test_ordinary_rows_pass(kind: EventKind, confluent: bool) -> None:
    """But for the first three, the last, and where the window's generations take turns, no row of a usual chain takes
    the long way: that is what makes it fast.
    """
    log: list[SourceRecord | LostRange] = [
        SourceRecord(
            1, n, TENANT.encode(), _framed(event_value(TENANT, f"0199a1b2-{n:012}", kind=kind), confluent), START_MS
        )
        for n in range(100)
    ]
    genesis = replace(GENESIS, window_offsets=60)
    rows = [stored_row(record.entry, record.value) for record in Model(genesis, TOPIC_ID, 1).expect(log)]
    copied = [copy_row(TENANT, row, row.payload) for row in rows]
    chain = StoredChain(TENANT)
    ordinary, index, long_way = OrdinaryRows(chain), 0, 0
    leaves: list[bytes] = []
    while index < len(copied):
        after = ordinary.accept(copied, index, leaves)
        if after == index:
            assert chain.check(read_row(copied[index])) == []
            long_way, after = long_way + 1, after + 1
        index = after

    assert (chain.entries, chain.end) == (101, End(100, rows[-1].hash))
    assert long_way == 2 + 1 + 1
    assert set(leaves) < {row.hash for row in rows}
    assert len(leaves) == len(rows) - long_way


def _row(**changes: Any) -> bytes:
    """Return the row of seq 2, behind one event, that agrees with itself in columns, entry, hash and payload."""
    value = changes.pop("value", event_value(TENANT, changes.get("id", "e-2")))
    fields: dict[str, Any] = {
        "kind": 1, "reason": 0, "tenant": TENANT.encode(), "seq": 2, "prev": _first_rows()[1].hash, "received": 5,
        "topic_id": TOPIC_ID, "partition": 1, "offset": 8, "ref": 0, "id": "e-2", "length": len(value),
        "payload": payload_digest(value),
    }  # fmt: skip
    fields |= changes
    event_id = fields.pop("id")
    entry = pack_trusted(**fields, event_id=event_id.encode())
    received = struct.unpack(">q", struct.pack(">Q", fields["received"]))[0]
    row = StoredRow(
        1, 2, fields["kind"], TOPIC_ID, fields["offset"], event_id, received, entry_hash(entry), entry, value
    )
    return copy_row(TENANT, row, value)


@cache
def _first_rows() -> list[StoredRow]:
    records = [SourceRecord(1, 7, TENANT.encode(), event_value(TENANT, "e-1"), START_MS)]
    return [stored_row(record.entry, record.value) for record in Model(GENESIS, TOPIC_ID, 1).expect(records)]


IMPORTED = event_value(TENANT, "e-2", kind=EventKind.IMPORTED)
CONTROL = event_value(TENANT, "e-2", kind=EventKind.CONTROL)
LONGER_ID = bytes((*event_value(TENANT, "e-2")[:10], 8)) + event_value(TENANT, "e-2")[11:]
"""Says that its id has four bytes, where that of its entry has three."""
CUT_BYTES = 10 + 1 + 3 + 1 + len(TENANT) + 1 + 15
"""Frame, id, tenant, kind, and one byte less than the salt has."""


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({}, True),
        ({"value": IMPORTED, "kind": 2}, True),
        ({"id": "no spaces"}, False),
        ({"id": "e-1"}, False),  # repeats the event before
        ({"received": 2**63 + 5}, False),
        ({"offset": 7}, False),
        ({"offset": 6}, False),
        ({"value": event_value(TENANT, "e-2")[:CUT_BYTES]}, False),
        ({"value": event_value(TENANTS[1], "e-2")}, False),
        ({"value": event_value(TENANT, "e-3")}, False),
        ({"value": IMPORTED}, False),
        ({"value": CONTROL}, False),
        ({"value": CONTROL, "kind": 6}, False),
        ({"value": CONTROL, "kind": 2}, False),
        ({"value": event_value(TENANTS[1], "e-2", kind=EventKind.IMPORTED), "kind": 2}, False),
        ({"value": LONGER_ID}, False),
        ({"value": b"\xc3\x02" + IMPORTED[2:], "kind": 2}, False),
        ({"value": event_value(TENANT, "e-2"), "kind": 2}, False),
        ({"kind": 5, "ref": 1}, False),
        ({"reason": 1}, False),
        ({"ref": 1}, False),
        ({"seq": 3}, False),
        ({"prev": bytes(32)}, False),
        ({"length": 5}, False),
        ({"payload": bytes(32)}, False),
        ({"partition": 0}, False),
        ({"topic_id": bytes(16)}, False),
        ({"tenant": TENANTS[1].encode()}, False),
    ],
)
def test_only_what_is_ordinary_passes(changes: dict[str, Any], passes: bool) -> None:
    """A row that agrees with itself, hash and all, passes only if it is an event like any other: what passes is what
    the whole rules find nothing wrong with, and nothing special about.
    """
    rows = [copy_row(TENANT, row, row.payload) for row in _first_rows()]
    behind = copy_row(TENANT, _first_rows()[1]._replace(seq=3), None)
    chain, plain = StoredChain(TENANT), StoredChain(TENANT)
    for row in rows:
        assert [*chain.check(read_row(row)), *plain.check(read_row(row))] == []

    assert OrdinaryRows(chain).accept([_row(**changes), behind], 0, []) == int(passes)
    if passes:
        assert plain.check(read_row(_row(**changes))) == []
    assert chain.end == plain.end


@given(_logs(), st.lists(st.tuples(st.integers(0, 100), st.integers(0, 200)), max_size=4))
@settings(max_examples=100, deadline=None)
def test_the_window_before_a_piece_is_what_the_rules_make_of_it(
    log: list[SourceRecord | LostRange], flips: list[tuple[int, int]]
) -> None:
    """What a piece's first rows can repeat is read quickly, and is the same, whatever stands there."""
    entries = [record.entry for record in Model(GENESIS, TOPIC_ID, 1).expect(log)]
    for place, at in flips if entries else []:
        entries[place % len(entries)] = _flip(entries[place % len(entries)], at)
    odd: list[dict[str, Any]] = [
        {"ref": 1, "id": "ref"},
        {"received": 2**63, "id": "beyond"},
        {"id": "no spaces"},
        {"kind": 4, "reason": 6, "id": "quarantined"},
        {"id": "good"},
    ]
    entries += [_entry_of(_row(**changes)) for changes in odd]
    _compare_windows(entries)
    _compare_windows([*entries, *(record.entry for record in _epoch_of_one_tenant())])


def _compare_windows(entries: list[bytes]) -> None:
    genesis = replace(GENESIS, window_offsets=40)
    quick, plain = StoredChain(TENANT, first=1, genesis=genesis), StoredChain(TENANT, first=1, genesis=genesis)

    OrdinaryRows(quick).remember(struct.pack(">hi", 1, len(entry)) + entry for entry in entries)

    for entry in entries:
        with suppress(EntryInvalid):
            plain.remember(parse(entry))
    assert quick.window is not None
    assert plain.window is not None
    assert quick.window.remembered() == plain.window.remembered()


@cache
def _epoch_of_one_tenant() -> list[ExpectedRecord]:
    before = Model(GENESIS, TOPIC_ID, 1)
    before.expect(_events(1, range(5)))
    return next_epoch([before], GENESIS, bytes(range(16, 32)))[1].expect(_events(1, range(20)))


def _entry_of(row: bytes) -> bytes:
    return read_row(row).entry


def test_a_chain_in_a_partition_that_is_not_its_own_is_foreign() -> None:
    """What the genesis pins holds from the next row on, also where that looks like any other."""
    foreign, prev, rows = 0, bytes(32), list[StoredRow]()
    assert partition_of(TENANT.encode(), GENESIS.partitions) != foreign
    for seq, value in enumerate((GENESIS.payload(), *(event_value(TENANT, f"e-{n}") for n in range(1, 20)))):
        event_id = f"e-{seq}".encode() if seq else b""
        entry = pack_trusted(
            min(seq, 1), 0, TENANT.encode(), seq, prev, 5, TOPIC_ID, foreign, seq, 0, event_id, len(value),
            payload_digest(value),
        )  # fmt: skip
        prev = entry_hash(entry)
        rows.append(stored_row(entry, value))
    store = MemoryStore.of(rows)

    found = verify_in_pieces(store, piece_entries=1_000)

    assert found == verify_plainly(store)
    assert {violation.type.value for violation in found.violations} == {"foreign"}
    assert found.violations[0].seq == 1


def test_an_epoch_is_cut_through() -> None:
    """Pieces that begin behind an epoch know what it pins, and where its chain belongs."""
    before = Model(GENESIS, TOPIC_ID, 1)
    old = before.expect(_events(1, range(40)))
    models = next_epoch([before], replace(GENESIS, partitions=8, window_offsets=2), bytes(range(16, 32)))
    place = partition_of(TENANT.encode(), 8)
    new = models[place].expect(_events(place, range(40, 90)))
    store = MemoryStore.of(stored_row(record.entry, record.value) for record in (*old, *new))

    for piece_entries in (1, 25, 1_000):
        assert verify_in_pieces(store, piece_entries=piece_entries) == verify_plainly(store)
    assert verify_plainly(store).violations == []


def _events(partition: int, numbers: range) -> list[SourceRecord]:
    return [
        SourceRecord(partition, n, TENANT.encode(), event_value(TENANT, f"e-{n - n % 9 // 8 * 2}"), START_MS)
        for n in numbers
    ]


def test_a_seam_that_does_not_fit_is_found() -> None:
    """A chain that was written anew from a place on does not pass because a piece begins right there."""
    rows = [stored_row(r.entry, r.value) for r in Model(GENESIS, TOPIC_ID, 1).expect(_events(1, range(60)))]
    for seam in (LEAST_PIECE - 1, LEAST_PIECE, LEAST_PIECE + 1):
        forged = list(rows[:seam])
        prev = bytes(32)
        for row in rows[seam:]:
            entry = pack(replace(parse(row.entry), prev=prev))
            forged.append(row._replace(entry=entry, hash=(prev := entry_hash(entry))))
        store = MemoryStore.of(forged)

        found = verify_in_pieces(store, piece_entries=1)

        assert found == verify_plainly(store)
        assert [(v.type.value, v.seq) for v in found.violations] == [("edited", seam - 1)]


def test_a_sound_chain_is_checked_once() -> None:
    """No part of a chain that holds is checked again, although its first events repeat some of the part before."""
    records = _events(1, range(24 * LEAST_PIECE))
    store = MemoryStore.of(stored_row(r.entry, r.value) for r in Model(GENESIS, TOPIC_ID, 1).expect(records))

    found = verify_in_pieces(store, piece_entries=1)

    assert (found.violations, found.entries) == ([], 24 * LEAST_PIECE + 1)
    assert found.pieces == 25


class TestLedger:
    """How results are put together."""

    def test_parts_that_do_not_fit_each_other_are_not_believed(self) -> None:
        """If a part began with another entry than the one before it ended with, the whole chain is checked again."""
        whole = _whole("a", 29)
        parts = list(cut(whole, piece_entries=10, window_offsets=1))
        ends: dict[str, End] = {}
        ledger = Ledger(
            [(part,) for part in parts], whole_of=lambda _: whole, on_end=ends.__setitem__, on_entries=lambda _: None
        )
        assert [ledger.next(), ledger.next()] == [Piece(1, (parts[0],)), Piece(2, (parts[1],))]
        pinned = (GENESIS, GENESIS)
        ledger.done([PartResult(parts[0], entries=10, end=End(9, b"a" * 32), pinned=pinned, is_there=True)])
        ledger.done([PartResult(parts[1], entries=10, begun=End(9, b"b" * 32), pinned=pinned, is_there=True)])

        assert ledger.next() == Piece(3, (replace(whole, is_again=True),))
        assert ledger.found.chains == 0
        ledger.done([PartResult(replace(whole, is_again=True), entries=30, holds_through=29, is_there=True)])
        assert (ledger.next(), ledger.found.chains, ledger.found.entries) == (
            None,
            1,
            30,
        )  # the third part is not needed
        assert ledger.found.checked_through == {"a": 29}


class TestPlan:
    """How a store is cut."""

    def test_small_chains_go_together_and_a_large_one_is_cut(self) -> None:
        """Pieces have about as many entries as was asked for, and cover every chain from its first to its last seq."""
        wholes = [_whole(name, seq) for name, seq in (("a", 9), ("b", 9), ("c", 99), ("d", 9), ("e", 9))]

        pieces = list(plan(wholes, piece_entries=40, window_of=lambda _: 1))

        assert [[(part.tenant, part.first, part.last) for part in piece] for piece in pieces] == [
            [("a", 0, SEQ_MAX), ("b", 0, SEQ_MAX)],
            [("c", 0, 39)],
            [("c", 40, 79)],
            [("c", 80, SEQ_MAX)],
            [("d", 0, SEQ_MAX), ("e", 0, SEQ_MAX)],
        ]

    def test_a_chain_that_pins_nothing_is_not_cut(self) -> None:
        """Where the genesis cannot be read, repeats in the middle of the chain could not be judged."""
        assert list(plan([_whole("a", 99)], piece_entries=10, window_of=lambda _: None)) == [(_whole("a", 99),)]

    @given(st.integers(0, SEQ_MAX), st.integers(1, 10**6), st.integers(1, 10**6))
    def test_parts_are_bounded_whatever_a_store_says(self, end: int, piece_entries: int, window: int) -> None:
        """A forged head of a chain does not make as many parts as it likes; they follow each other without a hole."""
        parts = list(cut(_whole("a", end), piece_entries=piece_entries, window_offsets=window))

        assert 1 <= len(parts) <= PARTS_MAX
        assert (parts[0].first, parts[-1].last) == (0, SEQ_MAX)
        assert all(after.first == part.last + 1 for part, after in pairwise(parts))
        assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]


def _whole(tenant: str, seq: int) -> Part:
    return Part(tenant, 0, SEQ_MAX, end=End(seq, payload_digest(b"")))
