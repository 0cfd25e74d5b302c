"""What differs between the log and the store, and what it is called."""

from __future__ import annotations

from typing import Any

import pytest

from sealstream.schemas.violation import ViolationType
from sealstream.sinks.store.compare import columns_at_fault, compare_entries, compare_payloads, holds_together
from sealstream.sinks.store.records import ChainedRecord, read_record
from sealstream.sinks.store.rows import EntryRow, entry_row
from support.chained import INSTANCE, Chains

OTHER: dict[str, Any] = {
    "partition": 9,
    "tenant": "other",
    "seq": 99,
    "kind": 2,
    "topic_id": bytes(16),
    "offset": 99,
    "event_id": "ev-9",
    "received": 1,
}


def _record(chains: Chains, event_id: str) -> ChainedRecord:
    sealed = chains.event("acme", event_id)[-1]
    headers = [("seal-entry", sealed.entry)]
    return read_record("c", sealed.partition, 0, sealed.key, sealed.value, headers, instance=INSTANCE)


def _row(event_id: str = "ev-1") -> EntryRow:
    return entry_row(_record(Chains(), event_id))


def test_equal_rows_do_not_differ() -> None:
    """What was stored before and comes again is nothing to report."""
    row = _row()
    assert compare_entries(row, row, instance=INSTANCE) is None
    assert holds_together(row)


@pytest.mark.parametrize(("column", "value"), [*OTHER.items(), ("hash", bytes(32))])
def test_a_changed_column_is_an_edit(column: str, value: Any) -> None:
    """Every column is compared; the violation names the one that differs, and the log's place."""
    row = _row()
    changed = row._replace(**{column: value})
    found = compare_entries(changed, row, instance=INSTANCE)

    assert found is not None
    assert (found.type, found.tenant, found.seq) == (ViolationType.EDITED, "acme", 1)
    assert column in found.message
    assert not holds_together(changed)


@pytest.mark.parametrize("column", OTHER)
def test_a_column_is_compared_with_the_entry(column: str) -> None:
    """Look-up columns are not evidence: each is held against the entry."""
    row = _row()
    record = _record(Chains(), "ev-1")
    assert columns_at_fault(row, record.entry) == []
    assert columns_at_fault(row._replace(**{column: OTHER[column]}), record.entry) == [column]


def test_another_sound_entry_is_a_fork_and_an_unsound_one_an_edit() -> None:
    """A double write is never called an edit, nor an edit a double write."""
    row, other = _row("ev-1"), _row("ev-2")
    fork = compare_entries(other, row, instance=INSTANCE)
    edit = compare_entries(row._replace(entry=other.entry), row, instance=INSTANCE)
    junk = compare_entries(row._replace(entry=b"junk"), row, instance=INSTANCE)
    elsewhere = compare_entries(_row("ev-1"), row._replace(seq=2, entry=other.entry), instance=INSTANCE)

    assert fork is not None
    assert edit is not None
    assert junk is not None
    assert elsewhere is not None
    assert (fork.type, edit.type, junk.type) == (ViolationType.FORK, ViolationType.EDITED, ViolationType.EDITED)
    assert (elsewhere.type, elsewhere.seq) == (ViolationType.FORK, 2)
    assert (fork.expected, fork.found) == (row.hash.hex(), other.hash.hex())


def test_payloads_are_compared_byte_for_byte() -> None:
    """An altered payload is reported; one that is no longer stored may have been moved to another tier."""
    row = _row()
    found = compare_payloads(b"a", b"b", row, instance=INSTANCE)
    assert found is not None
    assert found.type is ViolationType.PAYLOAD_ALTERED
    assert found.expected != found.found
    assert compare_payloads(b"a", b"a", row, instance=INSTANCE) is None
    assert compare_payloads(None, b"a", row, instance=INSTANCE) is None
