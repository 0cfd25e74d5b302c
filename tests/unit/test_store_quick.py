"""The quick way to read an ordinary record: what it takes, it takes exactly as the plain way does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.entry import Kind, pack, parse
from sealstream.schemas.errors import EntryInvalid, SealInvalid
from sealstream.sinks.store.batch import Gathering
from sealstream.sinks.store.copying import pack_entry_row, pack_payload_row
from sealstream.sinks.store.quick import QuickReader
from sealstream.sinks.store.records import ChainedRecord, read_record
from sealstream.sinks.store.rows import entry_row, payload_row
from support.chained import INSTANCE, Chains, Sealed
from support.stores import Consumed

Read = tuple[ChainedRecord, bytes, bytes]


def _quick(sealed: Sealed) -> Read | None:
    return QuickReader(sealed.partition).read(7, sealed.key, sealed.value, sealed.entry)


def _plain(sealed: Sealed) -> tuple[ChainedRecord, bytes, bytes | None]:
    headers = [("seal-entry", sealed.entry)]
    record = read_record("c", sealed.partition, 7, sealed.key, sealed.value, headers, instance=INSTANCE)
    payload = payload_row(record)
    return record, pack_entry_row(entry_row(record)), None if payload is None else pack_payload_row(payload)


def _some(count: int = 40) -> list[Sealed]:
    return Chains().events(5, count)


def test_events_are_read_quickly_and_to_the_same_bytes() -> None:
    """Of every event the quick way takes the record and makes the rows that the plain way makes."""
    for sealed in _some():
        if parse(sealed.entry).kind is Kind.EVENT:
            assert _quick(sealed) == _plain(sealed)


@pytest.mark.parametrize("kind", [Kind.GENESIS, Kind.IMPORTED, Kind.DUPLICATE, Kind.QUARANTINED, Kind.CONFLICT])
def test_other_kinds_are_left_to_the_plain_way(kind: Kind) -> None:
    """What is no ordinary event has rules of its own, which stand in one place."""
    chains = Chains()
    genesis, _ = chains.event("acme", "ev-1")
    made = {
        Kind.GENESIS: lambda: [genesis],
        Kind.QUARANTINED: lambda: chains.quarantined("acme"),
        Kind.IMPORTED: lambda: chains.event("acme", "ev-2", kind=Kind.IMPORTED),
    }
    (sealed,) = made.get(kind, lambda: chains.event("acme", "ev-1", kind=kind, ref=1))()
    assert parse(sealed.entry).kind is kind
    assert _quick(sealed) is None
    assert _plain(sealed)[0].kind == kind


@given(st.data())
def test_whatever_is_changed_both_ways_agree(data: st.DataObject) -> None:
    """A changed seal, value, key or partition is never taken quickly where the plain way refuses it."""
    sealed = data.draw(st.sampled_from(_some(10)))
    field = data.draw(st.sampled_from(["entry", "value", "key", "partition", "cut", "long"]))
    if field == "partition":
        sealed = replace(sealed, partition=data.draw(st.integers(0, 3)))
    elif field == "cut":
        sealed = replace(sealed, entry=sealed.entry[: data.draw(st.integers(0, len(sealed.entry)))])
    elif field == "long":
        sealed = replace(sealed, entry=sealed.entry + data.draw(st.binary(max_size=3)))
    else:
        content = bytearray(getattr(sealed, field))
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(0, 255))
        fields: dict[str, Any] = {field: bytes(content)}
        sealed = replace(sealed, **fields)
    _agree(sealed)


@given(st.data())
def test_whatever_an_entry_says_both_ways_agree(data: st.DataObject) -> None:
    """Fields out of their range or against each other are refused, whoever looks first."""
    sealed = _some(4)[-1]
    entry = parse(sealed.entry)
    changed: dict[str, Any] = {
        "seq": data.draw(st.sampled_from([0, entry.seq, 2**63 - 1])),
        "ref": data.draw(st.sampled_from([0, 0, 1])),
        "reason": data.draw(st.sampled_from([0, 0, 1])),
        "kind": data.draw(st.sampled_from([Kind.EVENT, Kind.EVENT, Kind.IMPORTED, Kind.CONTROL])),
        "event_id": data.draw(st.sampled_from([entry.event_id, "", "x" * 128])),
    }
    try:
        _agree(replace(sealed, entry=pack(replace(entry, **changed))))
    except EntryInvalid:
        return  # nobody can even write such an entry


def _agree(sealed: Sealed) -> None:
    quick = _quick(sealed)
    try:
        plain = _plain(sealed)
    except SealInvalid:
        assert quick is None
        return
    assert quick in (None, plain)


def test_numbers_with_the_highest_bit_are_not_taken() -> None:
    """Kafka and PostgreSQL have no such numbers: a forged one is refused by the plain way, with its words."""
    sealed = _some(1)[-1]
    data = bytearray(sealed.entry)
    data[16 + len(sealed.key)] |= 0x80  # the first byte of seq
    forged = replace(sealed, entry=bytes(data))
    assert _quick(forged) is None
    with pytest.raises(SealInvalid, match="seq"):
        _plain(forged)


def test_a_batch_is_the_same_however_it_is_gathered() -> None:
    """Whether records come at once or one by one, quickly or not, a batch holds the same rows, runs and positions."""
    chains = Chains()
    log = [*chains.events(5, 30), *chains.quarantined("acme"), *chains.event("acme", "ev-x", kind=Kind.IMPORTED)]
    places: dict[int, int] = {}
    messages: list[Consumed] = []
    for sealed in log:
        messages.append(Consumed(sealed, places.setdefault(sealed.partition, 0)))
        places[sealed.partition] += 1
    positions = dict.fromkeys(range(4), 0)
    whole, parts = (Gathering(positions, topic="c", instance=INSTANCE) for _ in range(2))
    whole.add(messages)
    for message in messages:
        parts.add([message])
    one, many = whole.batch(), parts.batch()

    assert (one.records, one.starts, one.ends, one.runs) == (many.records, many.starts, many.ends, many.runs)
    assert one.unbroken
    assert many.unbroken
    assert {n: b"".join(rows) for n, rows in one.entries.items()} == {n: b"".join(r) for n, r in many.entries.items()}
    assert b"".join(one.payloads) == b"".join(many.payloads)
    assert one.sources == many.sources == {(n, chains.topic_id) for n in places}
    plain = [_plain(message.sealed) for message in messages if message.sealed.partition == 0]
    assert b"".join(one.entries[0]) == b"".join(row for _, row, _ in plain)
    assert (whole.records, whole.size_bytes) == (parts.records, parts.size_bytes)
