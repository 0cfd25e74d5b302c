"""Ranges of the source that are declared lost: believed if and only if they are exactly what the source has lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sealstream.schemas.entry import Kind, gap_payload, pack, parse, payload_digest
from sealstream.sinks.verifier.gaps import declared_from
from sealstream.sinks.verifier.records import ChainedRecord, Outcome
from sealstream.sinks.verifier.rules import SourceRecord
from support.model import LostRange, Model
from support.model import SourceRecord as ModelRecord
from support.publish import event_value
from support.verifying import GENESIS, PARTITION, START_MS, TOPIC_ID, chained, source_record, tenants_here, verify_log

ACME, OTHER = tenants_here(2)
RECEIVED = START_MS * 1000


def event(offset: int, tenant: bytes = ACME) -> SourceRecord:
    """Return an event at an offset, each received a millisecond behind the one before."""
    return source_record(offset, tenant, event_value(tenant.decode(), f"e-{offset}"), START_MS + offset)


def log_of(*parts: SourceRecord | LostRange) -> list[ChainedRecord]:
    """Return what the tests' own model makes of records and lost ranges."""
    model = Model(GENESIS, TOPIC_ID, PARTITION)
    return chained(
        model.expect(
            part
            if isinstance(part, LostRange)
            else ModelRecord(PARTITION, part.offset, part.key, part.value, (part.received or 0) // 1000)
            for part in parts
        )
    )


def lost(first: int, last: int, received: int | None = None) -> LostRange:
    """Return a lost range, with the time of the record behind it if none is given."""
    return LostRange(PARTITION, first, last, RECEIVED + (last + 1) * 1000 if received is None else received)


def found(outcome: Outcome) -> list[tuple[str, str, int | None]]:
    """Return type, chain and seq of what was reported."""
    return [(v.type.value, v.tenant, v.seq) for v in outcome.violations]


BEFORE = [event(n) for n in range(5)]
BEHIND = [event(8, OTHER), event(9)]
BAD = source_record(8, None, b"x", START_MS + 8)


@pytest.mark.parametrize("batch", [1, 2, 1000])
@pytest.mark.parametrize("behind", [BEHIND, [BAD, event(9)], []])
@pytest.mark.parametrize("read", [[], [event(5), event(6, OTHER)]], ids=["lost before", "lost after it was read"])
def test_what_the_source_has_lost_may_be_declared(
    batch: int, behind: list[SourceRecord], read: list[SourceRecord]
) -> None:
    """A range from right behind the last record to right before the source's first is right, also if it was read."""
    gap = lost(5, 7, None if behind else 0)

    verifier, outcome = verify_log([*BEFORE, *read, *behind], log_of(*BEFORE, gap, *behind), batch=batch, begins_at=8)

    assert found(outcome) == []
    assert outcome.kinds[Kind.GAP] == 1
    assert len(outcome.published) == sum(record.key is not None for record in [*BEFORE, *behind])
    assert verifier.source_position == 8 + len(behind)


def test_a_beginning_may_be_lost_and_several_ranges() -> None:
    """The first entry of all may be a gap, and gaps may follow on each other."""
    source = [event(9), event(10)]
    log = log_of(lost(0, 3, RECEIVED), lost(4, 8), *source)

    _, outcome = verify_log(source, log, begins_at=9)

    assert found(outcome) == []
    assert outcome.kinds == {Kind.GENESIS: 2, Kind.GAP: 2, Kind.EVENT: 2}


def test_a_gap_without_a_time_is_right_too() -> None:
    """When it was accepted, there may have been no record behind it yet."""
    _, outcome = verify_log([*BEFORE, *BEHIND], log_of(*BEFORE, lost(5, 7, 0), *BEHIND), begins_at=8)

    assert found(outcome) == []


NOT_LOST: list[tuple[str, Sequence[SourceRecord | LostRange], int]] = [
    ("nothing is lost", [*BEFORE, lost(5, 7), *BEHIND], 0),
    ("it can be read in part", [*BEFORE, lost(5, 7), *BEHIND], 7),
    ("it begins too late", [*BEFORE, lost(6, 7), *BEHIND], 8),
    ("it takes in what is chained", [*BEFORE, lost(4, 7), *BEHIND], 8),
]


@pytest.mark.parametrize(("parts", "begins_at"), [case[1:] for case in NOT_LOST], ids=[case[0] for case in NOT_LOST])
def test_what_is_not_lost_may_not_be_declared(parts: Sequence[SourceRecord | LostRange], begins_at: int) -> None:
    """A declared range that is not exactly what the source has lost is a violation, and nothing behind it suffers."""
    _, outcome = verify_log([*BEFORE, *BEHIND], log_of(*parts), begins_at=begins_at)

    chain = f"!partition-{PARTITION}"
    assert {violation[:2] for violation in found(outcome)} <= {("gap", chain), ("edited", chain)}
    assert ("gap", chain, 1) in found(outcome)
    assert len(outcome.published) == 7


def test_records_that_can_be_read_behind_a_false_declaration_are_missed() -> None:
    """Who declares lost what can be read, and leaves it out, is found at both."""
    hidden = [event(5), event(6)]
    _, outcome = verify_log([*BEFORE, *hidden, *BEHIND], log_of(*BEFORE, lost(5, 7), *BEHIND), begins_at=0)

    types = [violation[0] for violation in found(outcome)]
    assert types.count("gap") >= 2
    assert ("gap", ACME.decode(), 6) in found(outcome)


def forged(record: ChainedRecord, **fields: object) -> ChainedRecord:
    """Return a record whose entry says something else."""
    return record._replace(entry=pack(replace(parse(record.entry or b""), **fields)))  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["received", "reason", "prev", "seq"])
def test_the_entry_of_a_gap_is_checked_like_any_other(field: str) -> None:
    """Time, link and place are held against the rules; why the range is lost is the operator's word."""
    source = [*BEFORE, *BEHIND]
    log = log_of(*BEFORE, lost(5, 7), *BEHIND)
    at = next(n for n, r in enumerate(log) if parse(r.entry or b"").kind is Kind.GAP)
    values: dict[str, object] = {"received": 5, "reason": 2, "prev": bytes(31) + b"x", "seq": 4}
    log[at] = forged(log[at], **{field: values[field]})

    _, outcome = verify_log(source, log, begins_at=8)

    assert bool(found(outcome)) is (field != "reason")
    assert len(outcome.published) == 7


def test_a_payload_that_is_not_the_entrys_is_no_declaration() -> None:
    """The range stands in the payload, which must be the one that the entry commits to, and begin where that stands."""
    log = log_of(*BEFORE, lost(5, 7), *BEHIND)
    at = next(n for n, r in enumerate(log) if parse(r.entry or b"").kind is Kind.GAP)
    for value in (gap_payload(5, 9), gap_payload(4, 7), b"first 05\nlast 7\n", None):
        changed = [*log[:at], log[at]._replace(value=value), *log[at + 1 :]]
        _, outcome = verify_log([*BEFORE, *BEHIND], changed, begins_at=8)
        assert found(outcome), value

    value = gap_payload(4, 7)
    committed = forged(log[at], payload=payload_digest(value), length=len(value))._replace(value=value)
    _, outcome = verify_log([*BEFORE, *BEHIND], [*log[:at], committed, *log[at + 1 :]], begins_at=8)
    assert ("gap", f"!partition-{PARTITION}", 1) in found(outcome)


def test_how_far_the_next_records_declare_the_source_lost() -> None:
    """Ranges that follow on each other count together; anything else ends them."""
    log = log_of(lost(0, 3, 0), lost(4, 8, 0), event(9), lost(10, 12, 0))

    assert declared_from(log, 0, topic_id=TOPIC_ID, partition=PARTITION) == 9
    assert declared_from(log[2:], 4, topic_id=TOPIC_ID, partition=PARTITION) == 9
    assert declared_from(log[2:], 3, topic_id=TOPIC_ID, partition=PARTITION) == 3
    assert declared_from(log, 0, topic_id=bytes(16), partition=PARTITION) == 0
