"""A stored chain, checked row by row: what was changed is named with its type and place, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.kafka.partition import partition_of
from sealstream.schemas.entry import (
    Genesis,
    Kind,
    epoch_payload,
    pack,
    parse,
    payload_digest,
)
from sealstream.sinks.verifier.rules import SourceRecord
from sealstream.sinks.verifier.stored_chain import End, StoredChain, StoredRow
from support.model import LostRange, Model, next_epoch
from support.model import SourceRecord as ModelRecord
from support.publish import event_value
from support.stored import stored_row
from support.verifying import GENESIS, PARTITION, START_MS, TOPIC_ID, model_chain, source_record, tenants_here

(ACME,) = tenants_here(1)
TENANT = ACME.decode()


def _source(count: int = 20) -> list[SourceRecord]:
    """Return events, every fifth of them repeating one from before: with equal bytes, then with others."""
    records: list[SourceRecord] = []
    for number in range(count):
        original = number - 4 if number % 5 == 4 else number
        note = "other" if number % 10 == 9 else ""
        value = event_value(TENANT, f"e-{original}", note=note)
        records.append(source_record(number, ACME, value, START_MS + number))
    return records


def _rows(count: int = 20) -> list[StoredRow]:
    return [stored_row(r.entry, r.value) for r in model_chain(_source(count))]


def _check(rows: list[StoredRow], end: End | None = None) -> list[tuple[str, int | None]]:
    chain = StoredChain(TENANT)
    found = [violation for row in rows for violation in chain.check(row)]
    return [(v.type.value, v.seq) for v in [*found, *chain.finish(end)]]


def _end(rows: list[StoredRow]) -> End:
    return End(rows[-1].seq, rows[-1].hash)


def _rehashed(row: StoredRow, **fields: object) -> StoredRow:
    """Return a row that says something else in its entry, columns and hash alike: what a careful forger writes."""
    entry = pack(replace(parse(row.entry), **fields))  # type: ignore[arg-type]  # the fields are the test's
    return stored_row(entry, row.payload or b"")


def test_a_right_chain_has_nothing_wrong() -> None:
    """Events, duplicates and conflicts pass, and the end is known for the next run."""
    rows = _rows()
    chain = StoredChain(TENANT)

    assert [violation for row in rows for violation in chain.check(row)] == []
    assert chain.finish(_end(rows)) == []
    assert chain.end == _end(rows)
    assert {Kind(row.kind) for row in rows} == {Kind.GENESIS, Kind.EVENT, Kind.DUPLICATE, Kind.CONFLICT}


Change = Callable[[list[StoredRow], int], list[StoredRow]]


def _set(**columns: object) -> Change:
    return lambda rows, at: [*rows[:at], rows[at]._replace(**columns), *rows[at + 1 :]]  # type: ignore[arg-type]


def _edit(**fields: object) -> Change:
    """Return a change of entry, columns and hash alike."""
    return lambda rows, at: [*rows[:at], _rehashed(rows[at], **fields), *rows[at + 1 :]]


def _edit_bytes(rows: list[StoredRow], at: int) -> list[StoredRow]:
    entry = pack(replace(parse(rows[at].entry), received=5))
    return [*rows[:at], rows[at]._replace(entry=entry), *rows[at + 1 :]]


def _edit_whole_event(rows: list[StoredRow], at: int) -> list[StoredRow]:
    value = event_value(TENANT, "another")
    changed = _rehashed(rows[at], event_id="another", payload=payload_digest(value), length=len(value))
    return [*rows[:at], changed._replace(payload=value), *rows[at + 1 :]]


def _delete(rows: list[StoredRow], at: int) -> list[StoredRow]:
    return [*rows[:at], *rows[at + 1 :]]


def _duplicate(rows: list[StoredRow], at: int) -> list[StoredRow]:
    return [*rows[: at + 1], rows[at], *rows[at + 1 :]]


def _fork(rows: list[StoredRow], at: int) -> list[StoredRow]:
    return [*rows[: at + 1], _rehashed(rows[at], received=7), *rows[at + 1 :]]


CHANGES: list[tuple[Change, str]] = [
    (_set(partition=PARTITION + 1), "foreign"),
    (_set(kind=2), "edited"),
    (_set(topic_id=bytes(16)), "edited"),
    (_set(offset=99), "edited"),
    (_set(event_id="other"), "edited"),
    (_set(event_id=None), "edited"),
    (_set(received=1), "edited"),
    (_set(hash=bytes(32)), "edited"),
    (_set(entry=b"nonsense"), "edited"),
    (_set(payload=b"other"), "payload-altered"),
    (_set(payload=None, payloads=0), "payload-altered"),
    (_set(payloads=2), "payload-altered"),
    (_edit_bytes, "edited"),
    (_edit(received=5), "edited"),
    (_edit(prev=bytes(32)), "edited"),
    (_edit(offset=1_000), "edited"),
    (_edit(topic_id=bytes(16)), "foreign"),
    (_edit(kind=Kind.IMPORTED), "edited"),
    (_edit(tenant="mallory"), "foreign"),
    (_edit(partition=PARTITION + 1), "foreign"),
    (_edit_whole_event, "edited"),
    (_delete, "gap"),
    (_duplicate, "fork"),
    (_fork, "fork"),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("at", [6, 7, 11])
def test_one_changed_row_is_one_violation(change: tuple[Change, str], at: int) -> None:
    """Whatever is changed in one row, by a careless or a careful forger, that row is named and no other."""
    rows = _rows()
    assert rows[at].kind == Kind.EVENT

    assert _check(change[0](rows, at), _end(rows)) == [(change[1], at)]


@pytest.mark.parametrize("change", CHANGES)
def test_the_last_row_is_named_by_the_table_of_heads(change: tuple[Change, str]) -> None:
    """A change of the last row shows as well, because the head no longer agrees with it."""
    rows = _rows(14)
    last = len(rows) - 1

    found = _check(change[0](rows, last), _end(rows))

    assert found == [("truncated" if change[0] is _delete else change[1], last)]


def test_swapped_rows_are_reordered() -> None:
    """Two entries that have changed places are each named."""
    rows = _rows()
    rows[6], rows[7] = rows[7]._replace(seq=6), rows[6]._replace(seq=7)

    assert _check(rows, _end(rows)) == [("reordered", 6), ("reordered", 7)]


def test_an_entry_written_twice_is_a_fork() -> None:
    """A right entry that stands at another place as well claims both; one that was only moved there is reordered."""
    rows = _rows()
    again = rows[6]._replace(seq=len(rows))

    assert _check([*rows, again], _end(rows)) == [("fork", len(rows))]
    assert _check([*rows[:6], *rows[7:], again], _end(rows)) == [("gap", 6), ("reordered", len(rows))]


def test_a_cut_tail_is_truncated() -> None:
    """Rows missing at the end show by the table of heads, or by payloads that were left behind."""
    rows = _rows()
    chain = StoredChain(TENANT)
    for row in rows[:10]:
        assert chain.check(row) == []
    chain.orphan(15)

    assert _check(rows[:10], _end(rows)) == [("truncated", 10)]
    assert [(v.type.value, v.seq) for v in chain.finish(None)] == [("truncated", 10)]
    assert _check([], _end(rows)) == [("truncated", 0)]


@pytest.mark.parametrize(("first", "last"), [(1, 1), (3, 6), (18, 19)])
def test_a_missing_range_is_one_gap(first: int, last: int) -> None:
    """However many entries are missing in a row, that is one violation at the first of them."""
    rows = _rows()

    assert _check(rows[:first] + rows[last + 1 :], _end(rows)) == [("gap", first)]


def test_a_repeat_must_be_what_the_rules_say() -> None:
    """A duplicate that refers elsewhere is edited, although all hashes agree."""
    rows = _rows()
    records = [parse(row.entry) for row in rows]
    duplicate = next(n for n, entry in enumerate(records) if entry.kind is Kind.DUPLICATE)
    prev, forged = b"", list[StoredRow]()
    for row, entry in zip(rows, records, strict=True):
        changed = replace(entry, ref=entry.ref + 1) if entry.seq == duplicate else entry
        changed = replace(changed, prev=prev) if prev else changed
        forged.append(stored_row(pack(changed), row.payload or b""))
        prev = forged[-1].hash

    assert _check(forged, _end(forged)) == [("edited", duplicate)]


def test_a_chain_is_gone_on_with_from_where_it_was_seen() -> None:
    """From an entry that was verified before, the rest holds; a change of that entry itself shows."""
    rows = _rows()
    genesis = Genesis.parse(rows[0].payload or b"")
    for seen, found in ((End(8, rows[8].hash), []), (End(8, bytes(32)), [("edited", 8)])):
        chain = StoredChain(TENANT, first=8, seen=seen, genesis=genesis)
        for row in rows[:8]:
            chain.remember(parse(row.entry))
        violations = [violation for row in rows[8:] for violation in chain.check(row)]
        assert [(v.type.value, v.seq) for v in [*violations, *chain.finish(_end(rows))]] == found


def test_a_chain_shorter_than_it_was_seen_is_truncated() -> None:
    """An entry that was verified before and is no longer there is missing, whatever the store's heads say."""
    chain = StoredChain(TENANT, first=30, seen=End(30, bytes(32)))

    assert [(v.type.value, v.seq) for v in chain.finish(End(20))] == [("truncated", 30)]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_changed_byte_passes(data: st.DataObject) -> None:
    """Whichever byte of whichever column is changed, that row is reported, and at most its successor with it."""
    rows = _rows()
    at = data.draw(st.integers(0, len(rows) - 1))
    row = rows[at]
    column = data.draw(st.sampled_from(["topic_id", "hash", "entry", "payload"]))
    value = getattr(row, column)
    if value is None:
        return
    index = data.draw(st.integers(0, len(value) - 1))
    rows[at] = row._replace(**{column: value[:index] + bytes([value[index] ^ 1]) + value[index + 1 :]})

    found = _check(rows, _end(rows))

    assert [seq for _, seq in found] == [at]


def _gap_rows() -> list[StoredRow]:
    """Return the chain of a partition with quarantined records, a gap of offsets 3 to 5, and records behind it."""
    bad = [ModelRecord(PARTITION, n, None, b"x", START_MS + n) for n in (0, 1, 2, 6, 7)]
    gap = LostRange(PARTITION, 3, 5, (START_MS + 6) * 1000)
    made = Model(GENESIS, TOPIC_ID, PARTITION).expect([*bad[:3], gap, *bad[3:]])
    return [stored_row(r.entry, r.value) for r in made]


def _check_partition(rows: list[StoredRow]) -> list[tuple[str, int | None]]:
    chain = StoredChain(f"!partition-{PARTITION}")
    found = [violation for row in rows for violation in chain.check(row)]
    return [(v.type.value, v.seq) for v in [*found, *chain.finish(_end(rows))]]


def test_a_gap_is_a_part_of_its_chain() -> None:
    """An accepted gap holds; an entry whose offset lies within it does not, nor one whose payload begins elsewhere."""
    rows = _gap_rows()
    assert _check_partition(rows) == []

    within = _rehashed(rows[5], offset=5)
    assert _check_partition([*rows[:5], within])[0] == ("reordered", 5)
    other = b"first 2\nlast 5\n"
    moved = _rehashed(rows[4], payload=payload_digest(other), length=len(other))._replace(payload=other)
    assert _check_partition([*rows[:4], moved]) == [("edited", 4)]


NEXT_TOPIC = bytes(range(16, 32))


def _epoch_rows() -> tuple[list[StoredRow], int]:
    """Return a tenant's chain of five events and of three in another topic, and the seq of its epoch entry."""
    before = Model(GENESIS, TOPIC_ID, PARTITION)
    old = before.expect(_model_records(PARTITION, ("e-0", "e-1", "e-2", "e-3", "e-4")))
    models = next_epoch([before], replace(GENESIS, partitions=8, window_offsets=9), NEXT_TOPIC)
    place = partition_of(ACME, 8)
    new = models[place].expect(_model_records(place, ("e-0", "new", "e-0")))
    return [stored_row(r.entry, r.value) for r in (*old, *new)], len(old)


def _model_records(partition: int, names: tuple[str, ...]) -> list[ModelRecord]:
    values = [event_value(TENANT, name) for name in names]
    return [ModelRecord(partition, n, ACME, value, START_MS + n) for n, value in enumerate(values)]


def test_an_epoch_is_a_part_of_its_chain() -> None:
    """Behind it the new settings hold: its partition, its window, its topic; also for who begins behind it."""
    rows, seq = _epoch_rows()
    assert [Kind(row.kind) for row in rows[seq:]] == [Kind.EPOCH, Kind.EVENT, Kind.EVENT, Kind.DUPLICATE]
    assert _check(rows, _end(rows)) == []

    pinned = replace(GENESIS, partitions=8, window_offsets=9)
    chain = StoredChain(TENANT, first=seq + 2, genesis=pinned)
    for row in rows[: seq + 2]:
        chain.remember(parse(row.entry))
    assert [violation for row in rows[seq + 2 :] for violation in chain.check(row)] == []


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (epoch_payload(replace(GENESIS, partitions=8, window_offsets=9), bytes(16)), "edited"),
        (epoch_payload(replace(GENESIS, instance="else.example/audit"), TOPIC_ID), "foreign"),
        (GENESIS.payload(), "edited"),
    ],
)
def test_an_epoch_that_says_something_else_is_named(payload: bytes, kind: str) -> None:
    """The topic before, the instance and the form are held against the chain itself."""
    rows, seq = _epoch_rows()
    forged = _rehashed(rows[seq], payload=payload_digest(payload), length=len(payload))._replace(payload=payload)

    assert _check([*rows[:seq], forged, *rows[seq + 1 :]])[0] == (kind, seq)


def test_another_topic_without_an_epoch_is_foreign() -> None:
    """Who leaves the epoch entry out, and chains the rest anew, is found."""
    rows, seq = _epoch_rows()
    forged = _rehashed(rows[seq + 1], seq=seq, prev=rows[seq - 1].hash)

    assert _check([*rows[:seq], forged])[0] == ("foreign", seq)
