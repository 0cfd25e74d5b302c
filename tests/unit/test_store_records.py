"""Records of audit.chained: what the sink believes, and what it stops at."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.entry import Genesis, Kind, Quarantine, entry_hash, parse
from sealstream.schemas.errors import InstanceDiffers, SealInvalid
from sealstream.sinks.store.records import ChainedRecord, read_record
from support.chained import INSTANCE, Chains, Sealed

TOPIC = "audit.chained"


def _read(
    sealed: Sealed,
    *,
    partition: int | None = None,
    headers: list[tuple[str, bytes | None]] | None = None,
    value: bytes | None = b"(as sealed)",
) -> ChainedRecord:
    return read_record(
        TOPIC,
        sealed.partition if partition is None else partition,
        7,
        sealed.key,
        sealed.value if value == b"(as sealed)" else value,
        [("traceparent", b"x"), ("seal-entry", sealed.entry)] if headers is None else headers,
        instance=INSTANCE,
    )


def _sealed() -> Sealed:
    return Chains().event("acme", "ev-1")[1]


def test_a_record_is_what_its_seal_says() -> None:
    """A sound record comes out with its entry, the entry's hash, and the payload where its kind carries one."""
    chains = Chains()
    genesis, event = chains.event("acme", "ev-1")
    (duplicate,) = chains.event("acme", "ev-1", kind=Kind.DUPLICATE, ref=1)
    (quarantined,) = chains.quarantined("acme")

    assert _read(genesis).payload == Genesis(INSTANCE, 4).payload()
    record = _read(event)
    assert (record.offset, record.data, record.payload) == (7, event.entry, event.value)
    assert record.hash == entry_hash(event.entry)
    assert record.entry == parse(event.entry)
    assert (_read(duplicate).payload, _read(quarantined).payload) == (None, None)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([], id="none"),
        pytest.param([("seal-entry", None)], id="null"),
        pytest.param([("seal-entry", b"")], id="empty"),
        pytest.param([("seal-entry", b"sealstream1\n")], id="cut"),
        pytest.param([("seal-entry", _sealed().entry), ("seal-entry", _sealed().entry)], id="twice"),
        pytest.param([("seal-entry", _sealed().entry + b"x")], id="long"),
    ],
)
def test_a_record_without_one_sound_seal_stops_the_sink(headers: list[tuple[str, bytes | None]]) -> None:
    """Only the processor may write audit.chained, so a bad seal is an alarm, named with its place."""
    with pytest.raises(SealInvalid, match=r"audit\.chained partition \d offset 7"):
        _read(_sealed(), headers=headers)


@pytest.mark.parametrize("value", [None, b"", b"another value", bytes(len(_sealed().value))])
def test_a_value_that_the_entry_does_not_commit_to_stops_the_sink(value: bytes | None) -> None:
    """What is stored as a payload is always what its entry commits to."""
    with pytest.raises(SealInvalid, match="value"):
        _read(_sealed(), value=value)


@pytest.mark.parametrize("value", [None, b"\xff"])
def test_a_kind_that_carries_nothing_must_come_with_an_empty_value(value: bytes | None) -> None:
    """The bytes of a quarantined record are not in the store, and cannot be smuggled in; null is not empty."""
    with pytest.raises(SealInvalid):
        _read(Chains().quarantined("acme", Quarantine.MALFORMED)[1], value=value)


def test_a_seal_of_another_key_or_partition_stops_the_sink() -> None:
    """A record belongs to the chain and partition it stands in."""
    sealed = _sealed()
    with pytest.raises(SealInvalid, match="key"):
        _read(replace(sealed, key=b"other"))
    with pytest.raises(SealInvalid, match=f"partition {sealed.partition}"):
        _read(sealed, partition=sealed.partition + 1)


def test_a_chain_of_another_instance_stops_the_sink() -> None:
    """Two instances never mix in one store."""
    foreign = Chains(instance="elsewhere.example/audit").event("acme", "ev-1")[0]
    with pytest.raises(InstanceDiffers, match=r"elsewhere\.example/audit"):
        _read(foreign)


@given(st.data())
def test_any_changed_byte_of_the_seal_is_noticed_or_changes_the_hash(data: st.DataObject) -> None:
    """No change to an entry passes as the same entry."""
    sealed = _sealed()
    place = data.draw(st.integers(0, len(sealed.entry) - 1))
    mask = data.draw(st.integers(1, 255))
    changed = bytearray(sealed.entry)
    changed[place] ^= mask
    try:
        record = _read(replace(sealed, entry=bytes(changed)))
    except SealInvalid:
        return
    assert record.hash != entry_hash(sealed.entry)
