"""The verifier's checks of one partition, without Kafka: what holds is published, what does not is named exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.entry import (
    Entry,
    GapReason,
    Genesis,
    Kind,
    entry_hash,
    gap_payload,
    pack,
    parse,
    payload_digest,
)
from sealstream.schemas.errors import InstanceDiffers
from sealstream.schemas.violation import Severity, ViolationType
from sealstream.sinks.verifier.records import OPEN_VIOLATIONS_MAX, ChainedRecord, Outcome
from sealstream.sinks.verifier.rules import SourceRecord
from support.publish import event_value
from support.verifying import (
    GENESIS,
    LATEST,
    START_MS,
    chained,
    model_chain,
    published_seqs,
    source_record,
    tenants_here,
    verify_log,
)

ACME, OTHER = tenants_here(2)


def _source(count: int, *tenants: bytes) -> list[SourceRecord]:
    """Return a source of events that take turns among tenants."""
    keys = tenants or (ACME, OTHER)
    return [
        source_record(n, keys[n % len(keys)], event_value(keys[n % len(keys)].decode(), f"e-{n}"), START_MS + n)
        for n in range(count)
    ]


def _log(source: list[SourceRecord]) -> list[ChainedRecord]:
    return chained(model_chain(source))


def _forged(record: ChainedRecord, **fields: object) -> ChainedRecord:
    """Return a record whose entry says something else."""
    assert record.entry is not None
    return record._replace(entry=pack(replace(parse(record.entry), **fields)))  # type: ignore[arg-type]


def _place(log: list[ChainedRecord], tenant: bytes, seq: int) -> int:
    return next(n for n, r in enumerate(log) if r.entry and _is(parse(r.entry), tenant, seq))


def _is(entry: Entry, tenant: bytes, seq: int) -> bool:
    return (entry.tenant.encode(), entry.seq) == (tenant, seq)


def _rechained(log: list[ChainedRecord], tenant: bytes, first: int, head: bytes, shift: int = 0) -> list[ChainedRecord]:
    """Return a log in which a tenant's entries from an index on are chained anew onto another hash."""
    made = list(log)
    for index in range(first, len(made)):
        entry = parse(made[index].entry or b"")
        if entry.tenant.encode() == tenant:
            data = pack(replace(entry, prev=head, seq=entry.seq + shift))
            made[index], head = made[index]._replace(entry=data), entry_hash(data)
    return made


def _found(outcome: Outcome) -> list[tuple[str, str, int | None]]:
    return [(v.type.value, v.tenant, v.seq) for v in outcome.violations]


def _published(outcome: Outcome, tenant: bytes) -> list[int]:
    return published_seqs(outcome, tenant)


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_a_right_log_is_published_whole(batch: int) -> None:
    """Everything that follows from the source is published once, in order, however the log is cut into batches."""
    source = _source(40)

    verifier, outcome = verify_log(source, _log(source), batch=batch)

    assert _found(outcome) == []
    assert [value for _, value, *_ in outcome.published] == [r.value for r in source]
    assert outcome.kinds == {Kind.GENESIS: 2, Kind.EVENT: 40}
    assert verifier.source_position == 40


def _edit_time(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], _forged(log[at], received=1), *log[at + 1 :]]


def _edit_id(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], _forged(log[at], event_id="another"), *log[at + 1 :]]


def _edit_digest_and_value(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    value = event_value("acme", "quite-another")
    forged = _forged(log[at], payload=payload_digest(value), length=len(value))._replace(value=value)
    return [*log[:at], forged, *log[at + 1 :]]


def _edit_seq(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], _forged(log[at], seq=parse(log[at].entry or b"").seq + 1), *log[at + 1 :]]


def _edit_offset(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], _forged(log[at], offset=1_000_000), *log[at + 1 :]]


def _unparsable(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], log[at]._replace(entry=b"nonsense"), *log[at + 1 :]]


def _no_entry(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], log[at]._replace(entry=None), *log[at + 1 :]]


def _quarantined(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    forged = _forged(log[at], kind=Kind.QUARANTINED, reason=5, event_id="")._replace(value=b"")
    return [*log[:at], forged, *log[at + 1 :]]


def _alter_value(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], log[at]._replace(value=(log[at].value or b"") + b"x"), *log[at + 1 :]]


def _null_value(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], log[at]._replace(value=None), *log[at + 1 :]]


def _drop(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], *log[at + 1 :]]


def _swap_with_next(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], log[at + 1], log[at], *log[at + 2 :]]


def _repeat_later(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[: at + 6], log[at], *log[at + 6 :]]


def _fork_later(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[: at + 6], _forged(log[at], received=5), *log[at + 6 :]]


def _other_topic(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], _forged(log[at], topic_id=b"y" * 16), *log[at + 1 :]]


def _other_partition(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], _forged(log[at], partition=77), *log[at + 1 :]]


def _other_tenant(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], _forged(log[at], tenant="mallory")._replace(key=b"mallory"), *log[at + 1 :]]


def _other_key(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], log[at]._replace(key=b"mallory"), *log[at + 1 :]]


TYPES: dict[Callable[[list[ChainedRecord], int], list[ChainedRecord]], str] = {
    _edit_time: "edited",
    _edit_id: "edited",
    _edit_digest_and_value: "edited",
    _edit_seq: "edited",
    _edit_offset: "edited",
    _unparsable: "edited",
    _no_entry: "edited",
    _quarantined: "edited",
    _alter_value: "payload-altered",
    _null_value: "payload-altered",
    _drop: "gap",
    _swap_with_next: "reordered",
    _repeat_later: "fork",
    _fork_later: "fork",
    _other_topic: "foreign",
    _other_partition: "foreign",
    _other_tenant: "foreign",
    _other_key: "foreign",
}


@pytest.mark.parametrize("batch", [1, 7, 1000])
@pytest.mark.parametrize(("forge", "expected"), TYPES.items())
def test_one_wrong_record_is_one_violation_with_its_type_and_place(
    forge: Callable[[list[ChainedRecord], int], list[ChainedRecord]], expected: str, batch: int
) -> None:
    """A log altered at one place gives that one violation; the tenant's feed ends there, the other tenant's goes on."""
    source = _source(40)
    log = _log(source)

    _, outcome = verify_log(source, forge(log, _place(log, ACME, 8)), batch=batch)

    assert _found(outcome) == [(expected, ACME.decode(), 8)]
    assert _published(outcome, OTHER) == list(range(1, 21))
    stops_at = 10 if forge in (_repeat_later, _fork_later) else 7
    assert _published(outcome, ACME) == list(range(1, stops_at + 1))


_MANY = tenants_here(6)
_LOCAL = [forge for forge in TYPES if forge not in (_swap_with_next, _repeat_later, _fork_later)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(_LOCAL),
            st.integers(1, 8),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([1, 5, 1000]),
)
@settings(max_examples=400, deadline=None)
def test_several_wrong_records_are_told_apart(
    forgeries: list[tuple[Callable[[list[ChainedRecord], int], list[ChainedRecord]], int]], batch: int
) -> None:
    """Wrong records of several tenants, next to each other or not, are each named as if they stood alone."""
    source = _source(60, *_MANY)
    log, expected = _log(source), list[tuple[str, str, int | None]]()
    places = [(_place(log, t, seq), forge, t, seq) for t, (forge, seq) in zip(_MANY, forgeries, strict=False)]
    for index, forge, tenant, seq in sorted(places, key=lambda place: -place[0]):  # the last first: one drops records
        log = forge(log, index)
        expected.append((TYPES[forge], tenant.decode(), seq))

    _, outcome = verify_log(source, log, batch=batch)

    assert sorted(_found(outcome)) == sorted(expected)
    for tenant in _MANY[len(forgeries) :]:
        assert _published(outcome, tenant) == list(range(1, 11))


@pytest.mark.parametrize("forge", [_edit_time, _edit_digest_and_value, _quarantined, _alter_value, _no_entry, _drop])
def test_the_last_record_of_a_log_is_judged_like_any_other(
    forge: Callable[[list[ChainedRecord], int], list[ChainedRecord]],
) -> None:
    """An altered record at the end is found without waiting for a successor; a missing one there is only a lag."""
    source = _source(41, ACME)
    log = _log(source)

    _, outcome = verify_log(source, forge(log, 41))

    assert [seq for _, _, seq in _found(outcome)] == ([] if forge is _drop else [41])


@pytest.mark.parametrize("batch", [1, 1000])
def test_a_processor_that_goes_on_from_a_forged_entry_is_one_violation(batch: int) -> None:
    """Where the forged entry has successors chained onto it, only the forged entry is at fault, not each successor."""
    source = _source(40)
    log = _log(source)
    at = _place(log, ACME, 8)
    forged = _edit_time(log, at)
    forged = _rechained(forged, ACME, at + 1, entry_hash(forged[at].entry or b""))

    _, outcome = verify_log(source, forged, batch=batch)

    assert _found(outcome) == [("edited", ACME.decode(), 8)]


def _chained_for(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], _forged(log[at], tenant=OTHER.decode())._replace(key=OTHER), *log[at + 1 :]]


def _chained_twice_for(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], log[at], _forged(log[at], tenant=OTHER.decode())._replace(key=OTHER), *log[at + 1 :]]


def _swapped(log: list[ChainedRecord], at: int) -> list[ChainedRecord]:
    return [*log[:at], log[at + 1], log[at], *log[at + 2 :]]


@pytest.mark.parametrize("batch", [1, 7, 1000])
@pytest.mark.parametrize(
    ("tenants", "forge", "expected"),
    [
        ((ACME, OTHER), _chained_for, {("foreign", ACME, 8), ("foreign", OTHER, 8)}),
        ((ACME, OTHER), _chained_twice_for, {("edited", OTHER, 8)}),
        ((ACME,), _swapped, {("reordered", ACME, 8)}),
    ],
)
def test_a_processor_that_goes_on_from_a_misplaced_entry_is_named_once(
    tenants: tuple[bytes, ...],
    forge: Callable[[list[ChainedRecord], int], list[ChainedRecord]],
    expected: set[tuple[str, bytes, int]],
    batch: int,
) -> None:
    """Where an event went into another chain, or behind its successor, and all that follows is chained onto that: each
    chain that is wrong is named by the entry at fault, and the right ones behind it by nothing.
    """
    source = _source(40, *tenants)
    log = _log(source)

    _, outcome = verify_log(source, _relinked(forge(log, _place(log, ACME, 8))), batch=batch)

    assert {(kind, tenant.encode(), seq) for kind, tenant, seq in _found(outcome)} == expected
    assert len(outcome.violations) == len(expected)


def _relinked(log: list[ChainedRecord]) -> list[ChainedRecord]:
    """Return a log in which each entry follows the one before it in its chain."""
    heads: dict[str, tuple[int, bytes]] = {}
    linked: list[ChainedRecord] = []
    for record in log:
        assert record.entry is not None
        entry = parse(record.entry)
        seq, prev = heads.get(entry.tenant, (entry.seq, entry.prev))
        linked.append(_forged(record, seq=seq, prev=prev))
        heads[entry.tenant] = (seq + 1, entry_hash(linked[-1].entry or b""))
    return linked


@pytest.mark.parametrize("batch", [1, 1000])
def test_a_processor_that_leaves_records_out_is_one_violation(batch: int) -> None:
    """A source record that never was chained is one gap, although all later entries have a smaller seq for it."""
    source = _source(40)
    log = chained(model_chain([r for r in source if r.offset not in (10, 12)]))
    assert source[10].key == source[12].key == ACME

    _, outcome = verify_log(source, log, batch=batch)

    assert [(v.type, v.seq, v.offset) for v in outcome.violations] == [(ViolationType.GAP, 6, 10)]


def test_a_record_that_was_left_out_is_repeated_by_none() -> None:
    """What never entered the chain cannot be repeated: the same event sent again is a first one, and no violation."""
    source = _source(40)
    source[20] = source[20]._replace(value=source[10].value)
    log = chained(model_chain([r for r in source if r.offset != 10]))

    _, outcome = verify_log(source, log)

    assert [(v.type, v.seq, v.offset) for v in outcome.violations] == [(ViolationType.GAP, 6, 10)]
    assert outcome.kinds[Kind.DUPLICATE] == 0


def test_a_tenant_left_out_from_its_beginning_is_found() -> None:
    """Genesis and first entry missing is a gap at seq 0, whether they were removed or never written."""
    source = _source(40)
    removed = [r for r in _log(source) if not _is(parse(r.entry or b""), OTHER, 0) and r.value != source[1].value]
    never = chained(model_chain([r for r in source if r.offset != 1]))

    assert _found(verify_log(source, removed)[1]) == [("gap", OTHER.decode(), 0)]
    assert _found(verify_log(source, never)[1]) == [("gap", OTHER.decode(), 0)]


def test_a_missing_genesis_alone_is_found() -> None:
    """An entry without the genesis before it is a gap at seq 0."""
    source = _source(10)
    log = [r for r in _log(source) if not _is(parse(r.entry or b""), OTHER, 0)]

    assert _found(verify_log(source, log)[1]) == [("gap", OTHER.decode(), 0)]


def test_an_entry_without_a_source_record_is_found() -> None:
    """An entry for a record that no reader of the source sees, as one aborted, is at fault, and its successors not."""
    visible = [r for r in _source(40) if r.offset != 20]
    log = _log(_source(40))

    _, outcome = verify_log(visible, log)

    assert _found(outcome) == [("edited", ACME.decode(), 11)]


def test_an_entry_with_an_offset_beyond_the_source_makes_nothing_count_as_missing() -> None:
    """An invented entry far ahead is at fault itself; what the source has and the log has not yet is no gap."""
    source = _source(40)
    log = _log(source)[:20]
    last = parse(log[19].entry or b"")
    invented = replace(last, seq=last.seq + 1, prev=entry_hash(log[19].entry or b""), offset=10**12)

    _, outcome = verify_log(source, [*log, log[19]._replace(entry=pack(invented))])

    assert _found(outcome) == [("edited", last.tenant, last.seq + 1)]


def test_another_instances_genesis_is_foreign() -> None:
    """A chain that begins with the genesis of another instance is foreign at seq 0."""
    source = _source(40)
    log = _log(source)
    at = _place(log, OTHER, 0)
    value = replace(GENESIS, instance="mallory.example/audit").payload()
    log[at] = _forged(log[at], payload=payload_digest(value), length=len(value))._replace(value=value)

    _, outcome = verify_log(source, log)

    assert _found(outcome) == [("foreign", OTHER.decode(), 0)]


@pytest.mark.parametrize(
    "genesis",
    [replace(GENESIS, window_offsets=51), replace(GENESIS, partitions=8), replace(GENESIS, instance="else.example")],
)
def test_a_verifier_set_up_for_another_instance_refuses(genesis: Genesis) -> None:
    """The first genesis ever met that pins other values is an error of the set-up, not thousands of violations."""
    source = _source(40)
    log = chained(model_chain(source, genesis))

    with pytest.raises(InstanceDiffers):
        verify_log(source, log)


def test_a_declared_gap_that_nobody_accepted_is_a_gap() -> None:
    """An entry of kind 7 says that a source range is lost; as long as nobody accepted that, it is a violation."""
    source = [source_record(n, None, b"") for n in range(4)]
    log = _log(source)
    last = parse(log[-1].entry or b"")
    value = gap_payload(4, 8)
    gap = Entry(
        kind=Kind.GAP,
        tenant=last.tenant,
        seq=5,
        prev=entry_hash(log[-1].entry or b""),
        received=last.received,
        topic_id=last.topic_id,
        partition=last.partition,
        offset=9,
        event_id="",
        length=len(value),
        payload=payload_digest(value),
        reason=GapReason.EXPIRED,
    )

    _, outcome = verify_log(source, [*log, log[-1]._replace(entry=pack(gap), value=value)])

    assert _found(outcome) == [("gap", last.tenant, 5)]


def test_a_time_beyond_the_present_is_a_warning() -> None:
    """A broker whose clock runs ahead is reported once, and stops nothing."""
    ahead = LATEST // 1000 + 1
    source = [source_record(n, ACME, event_value(ACME.decode(), f"e-{n}"), ahead + n) for n in range(5)]

    _, outcome = verify_log(source, _log(source))

    assert [(v.type, v.severity, v.seq) for v in outcome.violations] == [(ViolationType.CLOCK, Severity.WARNING, 0)]
    assert _published(outcome, ACME) == [1, 2, 3, 4, 5]


def test_reports_are_bounded() -> None:
    """A log that is wrong from end to end is reported so many times, then only counted."""
    source = _source(400, ACME)
    log = [_forged(r, received=1) for r in _log(source)]

    verifier, outcome = verify_log(source, log)

    assert len(outcome.violations) == OPEN_VIOLATIONS_MAX
    chain = verifier.chains.get(ACME)
    assert chain is not None
    assert (len(chain.open), chain.unreported) == (OPEN_VIOLATIONS_MAX, 401 - OPEN_VIOLATIONS_MAX)
    assert outcome.published == []


def test_whatever_an_application_publishes_is_no_violation() -> None:
    """Each reason of quarantine, and each kind of repeat, is verified like any other record."""
    good, elsewhere = event_value(ACME.decode(), "id-1"), b"tenant-of-another-partition"
    records: list[tuple[bytes | None, bytes | None]] = [
        (None, good),
        (b"", good),
        (b"!partition-1", good),
        (elsewhere, good),
        (ACME, None),
        (ACME, b""),
        (ACME, bytes(1_000_001)),
        (ACME, b"\xff"),
        (ACME, event_value(OTHER.decode(), "x")),
        (ACME, event_value(ACME.decode(), "no spaces")),
        (ACME, good),
        (ACME, good),
        (ACME, event_value(ACME.decode(), "id-1", note="other")),
        (ACME, event_value(ACME.decode(), "id-1", note="other")),
    ]
    source = [source_record(3 * n, key, value) for n, (key, value) in enumerate(records)]
    source.append(source_record(100, ACME, event_value(ACME.decode(), "id-9"), None))

    _, outcome = verify_log(source, _log(source))

    assert _found(outcome) == []
    assert outcome.kinds[Kind.QUARANTINED] == 11
    assert (outcome.kinds[Kind.EVENT], outcome.kinds[Kind.DUPLICATE], outcome.kinds[Kind.CONFLICT]) == (1, 2, 1)
    assert len(outcome.published) == 2
