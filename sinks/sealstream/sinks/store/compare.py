"""Compares what is stored with what the log says. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sealstream.schemas.entry import Entry, entry_hash, parse, payload_digest
from sealstream.schemas.errors import EntryInvalid
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.sinks.store.rows import EntryRow

_COMPARED: Final = ("partition", "tenant", "seq", "kind", "topic_id", "offset", "event_id", "received")


def columns_at_fault(row: EntryRow, entry: Entry) -> list[str]:
    """Return the names of those columns of a row that do not say what its entry says."""
    return [
        name
        for name in _COMPARED
        if getattr(row, name) != (getattr(entry, name) or None if name == "event_id" else getattr(entry, name))
    ]


def compare_entries(stored: EntryRow, logged: EntryRow, *, instance: str) -> Violation | None:
    """Compare the stored row with the one that the log's record would become.

    Returns:
        What is wrong: ``edited`` if the stored row does not hold together or has other columns, ``fork`` if it holds
        and is another entry for the same place or source record; ``None`` if all columns are equal.
    """
    if stored == logged:
        return None
    if stored.entry == logged.entry:
        names = [name for name in EntryRow._fields if getattr(stored, name) != getattr(logged, name)]
        return _violation(
            ViolationType.EDITED, stored, logged, instance, f"the stored row has another {', '.join(names)}"
        )
    if not holds_together(stored):
        message = "the stored row does not hold together, and is not the entry that the log has here"
        return _violation(ViolationType.EDITED, stored, logged, instance, message)
    if (stored.tenant, stored.seq) == (logged.tenant, logged.seq):
        message = "another entry is stored in this place"
    else:
        message = f"the source record is stored as entry {stored.seq} of {stored.tenant}"
    return _violation(ViolationType.FORK, stored, logged, instance, message)


def compare_payloads(stored: bytes | None, logged: bytes | None, row: EntryRow, *, instance: str) -> Violation | None:
    """Compare a stored payload with the one in the log; one that is no longer stored may have been moved away."""
    if stored is None or stored == logged:
        return None
    message = "the stored payload is not the one in the log"
    found = _violation(ViolationType.PAYLOAD_ALTERED, row, row, instance, message)
    return replace(found, expected=payload_digest(logged or b"").hex(), found=payload_digest(stored).hex())


def holds_together(row: EntryRow) -> bool:
    """Return whether a row's columns and hash are those of its entry."""
    try:
        entry = parse(row.entry)
    except EntryInvalid:
        return False
    return row.hash == entry_hash(row.entry) and not columns_at_fault(row, entry)


def _violation(kind: ViolationType, stored: EntryRow, logged: EntryRow, instance: str, message: str) -> Violation:
    return Violation(
        type=kind,
        tenant=logged.tenant,
        seq=logged.seq,
        message=message,
        instance=instance,
        partition=logged.partition,
        offset=logged.offset,
        topic_id=logged.topic_id,
        expected=logged.hash.hex(),
        found=entry_hash(stored.entry).hex(),
    )
