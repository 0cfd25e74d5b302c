"""The verifier's rules against the tests' own model of them: two opinions, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.entry import Kind, Quarantine
from sealstream.schemas.event import EventKind
from sealstream.sinks.verifier.rules import Rules, SourceRecord
from support.publish import event_value
from support.source_logs import source_logs
from support.verifying import (
    GENESIS,
    PARTITION,
    START_MS,
    TOPIC_ID,
    chained,
    model_chain,
    source_record,
    tenants_here,
    verify_log,
)

ACME, OTHER = tenants_here(2)
GOOD = event_value(ACME.decode(), "id-1")


def _rules() -> Rules:
    return Rules(GENESIS, TOPIC_ID, PARTITION)


@pytest.mark.parametrize(
    ("key", "value", "ms", "reason", "event_id"),
    [
        (None, GOOD, START_MS, Quarantine.NO_KEY, b""),
        (b"", GOOD, START_MS, Quarantine.NO_KEY, b""),
        (b"!partition-1", GOOD, START_MS, Quarantine.TENANT_INVALID, b""),
        (b".", GOOD, START_MS, Quarantine.TENANT_INVALID, b""),
        (b"a" * 65, GOOD, START_MS, Quarantine.TENANT_INVALID, b""),
        (ACME + b"\n", GOOD, START_MS, Quarantine.TENANT_INVALID, b""),
        (b"tenant-of-another-partition", GOOD, START_MS, Quarantine.PARTITION_WRONG, b""),
        (ACME, None, START_MS, Quarantine.VALUE_SIZE, b""),
        (ACME, b"", START_MS, Quarantine.VALUE_SIZE, b""),
        (ACME, GOOD + bytes(1_000_001 - len(GOOD)), START_MS, Quarantine.VALUE_SIZE, b""),
        (ACME, b"\xff", START_MS, Quarantine.MALFORMED, b""),
        (ACME, GOOD[:20], START_MS, Quarantine.MALFORMED, b""),
        (ACME, event_value(OTHER.decode(), "id-1"), START_MS, Quarantine.TENANT_DIFFERS, b"id-1"),
        (ACME, event_value(OTHER.decode(), "no spaces"), START_MS, Quarantine.TENANT_DIFFERS, b""),
        (ACME, event_value(ACME.decode(), "no spaces"), START_MS, Quarantine.EVENT_ID_INVALID, b""),
        (ACME, event_value(ACME.decode(), ""), START_MS, Quarantine.EVENT_ID_INVALID, b""),
        (ACME, event_value(ACME.decode(), "i" * 129), None, Quarantine.EVENT_ID_INVALID, b""),
        (ACME, GOOD, None, Quarantine.TIMESTAMP_TYPE, b"id-1"),
    ],
)
def test_each_reason_is_found_in_its_order(
    key: bytes | None, value: bytes | None, ms: int | None, reason: Quarantine, event_id: bytes
) -> None:
    """A record that breaks a check becomes an entry of kind 4 with that check's number, in the right chain."""
    verdict = _rules().judge(source_record(7, key, value, ms))

    assert (verdict.kind, verdict.reason, verdict.event_id) == (Kind.QUARANTINED, reason, event_id)
    assert verdict.chain == (f"!partition-{PARTITION}".encode() if reason <= 3 else ACME)
    assert verdict.received == (0 if ms is None else ms * 1000)
    assert verdict.value == b""


def test_the_largest_value_is_no_quarantine() -> None:
    """A value of exactly 1,000,000 bytes is an event like any other."""
    verdict = _rules().judge(source_record(7, ACME, GOOD + bytes(1_000_000 - len(GOOD))))

    assert (verdict.kind, verdict.length) == (Kind.EVENT, 1_000_000)


@pytest.mark.parametrize(
    ("of_event", "of_entry"),
    [(EventKind.EVENT, Kind.EVENT), (EventKind.IMPORTED, Kind.IMPORTED), (EventKind.CONTROL, Kind.CONTROL)],
)
def test_the_events_own_kind_decides(of_event: EventKind, of_entry: Kind) -> None:
    """Event, import and control become kinds 1, 2 and 6, and their bytes are carried."""
    value = GOOD.replace(b"\0" + bytes(16), bytes([2 * list(EventKind).index(of_event)]) + bytes(16), 1)

    verdict = _rules().judge(source_record(7, ACME, value))

    assert (verdict.kind, verdict.value) == (of_entry, value)


@given(source_logs(), st.integers(1, 7))
@settings(max_examples=300, deadline=None)
def test_both_opinions_agree_byte_for_byte(source: list[SourceRecord], batch: int) -> None:
    """What the tests' model chains, the verifier accepts whole and without a word, in batches of any size."""
    log = chained(model_chain(source))

    verifier, outcome = verify_log(source, log, batch=batch)

    assert outcome.violations == []
    assert sum(outcome.kinds.values()) == len(log)
    assert verifier.source_position == (source[-1].offset + 1 if source else 0)


@given(source_logs(), st.data())
@settings(max_examples=300, deadline=None)
def test_no_changed_byte_of_an_entry_passes(source: list[SourceRecord], data: st.DataObject) -> None:
    """Whichever byte of whichever entry is changed, exactly that record is not accepted as the demanded one."""
    log = chained(model_chain(source))
    if not log:
        return
    index = data.draw(st.integers(0, len(log) - 1))
    entry = log[index].entry or b""
    at = data.draw(st.integers(0, len(entry) - 1))
    log[index] = log[index]._replace(entry=entry[:at] + bytes([entry[at] ^ 1]) + entry[at + 1 :])

    _, outcome = verify_log(source, log)

    assert outcome.violations
    assert all(entry != log[index].entry for _, _, (_, entry), *_ in outcome.published)
