"""Rows into events: the same row of the same job is the same bytes, and nobody else's."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.producers.importer.events import EventMaker, JobKey, final_bytes
from sealstream.producers.importer.mapping import parse_mapping
from sealstream.producers.importer.markers import begin_marker, end_marker
from sealstream.producers.importer.rows import SourceRow
from sealstream.schemas.control_body import JOB_PATTERN, ImportBegin, ImportEnd
from sealstream.schemas.entry import is_event_id
from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.event import EventKind, now
from sealstream.schemas.source_row import row_hash, row_packer
from support.importing import COLUMNS, KEY, MAPPING, MemorySource, make, mapping, row, rows

INSTANCE = "demo.example/audit"


def maker(key: JobKey = KEY) -> EventMaker:
    """Return what makes events of the rows at hand."""
    return EventMaker(parse_mapping(MAPPING), MemorySource(), key)


def test_same_row_same_bytes() -> None:
    """Every making of a row gives the same bytes, in whatever process; another job's or another row's are others."""
    values = [final_bytes(maker().make(one).event, INSTANCE) for one in rows(20)]
    other_job = JobKey("other-0a1b2c3d", bytes(32))

    assert values == [final_bytes(maker().make(one).event, INSTANCE) for one in rows(20)]
    assert len(set(values)) == len({value[:90] for value in values}) == 20
    assert not set(values) & {final_bytes(maker(other_job).make(one).event, INSTANCE) for one in rows(20)}


def test_bytes_stay() -> None:
    """A later version makes the same bytes of a row, or the check of a job of today could never be made again."""
    values = b"".join(final_bytes(maker().make(one).event, INSTANCE) for one in rows(20))
    assert hashlib.sha256(values).hexdigest() == "9277ab0e74d7f882effcce6c06acba731596043227bb371442941b526d805765"


def test_event_carries_its_row() -> None:
    """An imported event has the kind, the key and the hash of its row, so that a root can be computed of the chain."""
    event, digest = maker().make(rows(1)[0])

    assert event.kind is EventKind.IMPORTED
    assert event.id == f"import:{KEY.job}:1"
    assert event.metadata["import.key"] == "1"
    assert event.metadata["import.row"] == digest.hex()
    assert digest == row_hash(row_packer(COLUMNS)(rows(1)[0].texts))


@given(st.text(max_size=50), st.text(max_size=50))
def test_ids(key: str, other: str) -> None:
    """Any key gives a valid id, another key another one, and none that a mark has; what is no number is not shown."""
    made = KEY.event_id(key)

    assert is_event_id(made)
    assert (made == KEY.event_id(other)) == (key == other)
    assert made not in {f"{KEY.prefix}begin", f"{KEY.prefix}end"}
    if not key.isdigit() and len(key) > 5:
        assert key not in made


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (row(1, "no tenant!", "2024-01-01T00:00:00Z", "u", None), "tenant"),
        (row(1, "acme", "2024-01-01T00:00:00Z", "", None), "actor.id"),
        (row(1, "acme", "2024-01-01T00:00:00Z", "u", "x" * 1_000_000), "event"),
        (row(1, "acme", "2024-01-01T00:00:00Z", "u", "\udcff"), "row"),
        (SourceRow("1", (), (1,), "has 3 fields instead of 5"), "row"),
    ],
)
def test_no_event(given: SourceRow, field: str) -> None:
    """A row of which no valid event can be made is told with the field that is wrong."""
    with pytest.raises(EventInvalid) as caught:
        final_bytes(maker().make(given).event, INSTANCE)
    assert caught.value.field == field


@given(st.dictionaries(st.text(max_size=10).filter(lambda name: not set(name) & set("{}")), st.text(max_size=20)))
def test_any_row(texts: dict[str, Any]) -> None:
    """Whatever names and texts a row has, it becomes an event or a typed error."""
    try:
        final_bytes(make(mapping(""), texts or {"a": None}).event, INSTANCE)
    except EventInvalid as error:
        assert error.field  # noqa: PT017  # either is right


def test_marks() -> None:
    """The marks of a job are valid control events, the same each time, with a body that says what the job is."""
    at = now()
    begin = ImportBegin(KEY.job, "memory", bytes(32))
    end = ImportEnd(KEY.job, "memory", 3, bytes(32), 0)
    for made in (begin_marker(KEY, INSTANCE, "acme", begin, at), end_marker(KEY, INSTANCE, "acme", end, at)):
        assert final_bytes(made, INSTANCE)
        assert made.kind is EventKind.CONTROL
    assert begin_marker(KEY, INSTANCE, "acme", begin, at) == begin_marker(KEY, INSTANCE, "acme", begin, at)
    assert JOB_PATTERN
