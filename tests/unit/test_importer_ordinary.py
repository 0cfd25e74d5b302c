"""Ordinary rows: the short way from a row to a record gives what the long one gives, or leaves it to that."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.producers.headers import record_headers
from sealstream.producers.importer.events import EventMaker, final_bytes
from sealstream.producers.importer.mapping import parse_mapping
from sealstream.producers.importer.ordinary_row import ordinary_rows
from sealstream.producers.importer.records import RecordMaker
from sealstream.producers.importer.rows import SourceRow
from sealstream.schemas.codec import EventReader
from sealstream.schemas.entry import payload_digest
from sealstream.schemas.errors import EventInvalid
from support.importing import KEY, MemorySource, mapping, rows
from support.importing import MAPPING as PLAIN

INSTANCE = "demo.example/audit"
COLUMNS = ("id", "org", "at", "op", "who", "what", "note", "diff")
WIDE = mapping(
    """tenant = "{org}"
occurred_at = { value = "{at}", timezone = "Europe/Paris" }
action = { value = "{op}", map = { I = "document.created" }, otherwise = "document.{op}" }
outcome = { value = "{op}", map = { I = "success", U = "failure", X = "perhaps" }, otherwise = "unknown" }
actor = { type = "user", id = ["{who}", "{note}"], name = "{who} of {org}" }
targets = [
  { type = "document", id = "{what}", name = "{note}" },
  { type = "{op}", id = "{diff.by}" },
  { type = "trail", id = "1" },
]
context = { ip = "192.0.2.17", user_agent = "{note}", session = "{what}", traceparent = "{diff.trace}" }
metadata = { title = "{diff.title}", what = "{what}", "the note" = ["{note}", "none"] }
"""
)
MAPPINGS = {
    "plain": (parse_mapping(PLAIN), ("id", "org", "at", "who", "note")),
    "wide": (WIDE, COLUMNS),
    "without the rest": (mapping('tenant = "{org}"\nactor = { type = "user", id = "{who}" }\nrest = false'), COLUMNS),
    "constant": (
        mapping('tenant = "acme"\noutcome = "denied"\ntargets = [{ type = "a", id = "b", name = "" }]'),
        COLUMNS,
    ),
}
"""Mappings, and the columns of the rows that they are for."""
LEFT = {
    "a constant is none": (mapping('action = ""'), COLUMNS),
    "a constant outcome is none": (mapping('outcome = "perhaps"'), COLUMNS),
    "a constant null": (mapping('context = { ip = "" }\noutcome = { value = "x", map = { y = "z" } }'), COLUMNS),
    "names twice": (mapping('metadata = { note = "{org}", "import.key" = "x" }'), COLUMNS),
    "a column like a field": (mapping('metadata = { note = "{org}" }'), COLUMNS),
    "many columns": (mapping('tenant = "{org}"'), (*COLUMNS, *[f"c{number}" for number in range(70)])),
    "a column without a name": (mapping('tenant = "{org}"'), (*COLUMNS, "")),
}
"""Mappings of which no row is ordinary: what counts, or what is wrong, is to be looked at row by row."""

TEXTS = st.one_of(
    st.none(),
    st.sampled_from(
        ["acme", "org-1", "I", "U", "X", "u-7", "", "2024-01-01T00:00:00Z", "2024-07-01 12:00:00.123456+02"]
    ),
    st.sampled_from(
        ["2024-07-01 12:00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00", "1969-12-31T23:59:59Z"]
    ),
    st.sampled_from(
        ['{"title": "Ä", "by": "7", "trace": "x"}', "a\x07b", "é" * 512, "x" * 1_023, "x" * 1_024, "x" * 9_000]
    ),
    st.sampled_from(["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "\ud800", "\xa0", "x" * 1_000_000]),
    st.text(max_size=30),
)


USUAL = {
    "org": st.sampled_from(["acme", "org-1"]),
    "at": st.sampled_from(["2024-01-01T00:00:00Z", "2024-07-01 12:00:00.123456+02", "1969-12-31 23:59:59.5+00"]),
    "op": st.sampled_from(["I", "U", "D"]),
    "who": st.sampled_from(["u-7", "Zoë"]),
    "what": st.sampled_from([None, "d-1", "x" * 300]),
    "diff": st.sampled_from([None, "{}", '{"title": ["Ä", ""], "by": "7", "trace": "x"}']),
}
"""What most rows have, by column: of rows made of any text, next to none are events."""


def texts_of(column: str) -> st.SearchStrategy[str | None]:
    """Return texts of a column, most of them usual ones."""
    usual = USUAL.get(column, st.sampled_from([None, "note", ""]))
    return st.integers(0, 30).flatmap(lambda number: usual if number else TEXTS)


@pytest.mark.parametrize("name", MAPPINGS)
@settings(max_examples=60)
@given(st.data())
def test_same_as_the_long_way(name: str, data: st.DataObject) -> None:
    """Whatever a row holds, the short way makes the very bytes and headers of the long one, or leaves the row to it."""
    how, columns = MAPPINGS[name]
    schema_id = data.draw(st.sampled_from([None, 7]))
    texts = data.draw(st.tuples(*[texts_of(column) for column in columns]))
    row = SourceRow(data.draw(st.sampled_from(["17", "a key", "é", ""])), texts, (1,))
    source = MemorySource(columns=columns)
    made = ordinary_rows(how, source, KEY, instance=INSTANCE, schema_id=schema_id)(row)
    if made is None:
        return

    event, digest = EventMaker(how, source, KEY).make(row)
    value = final_bytes(event, INSTANCE, schema_id)
    record = made.record
    assert record.value == value
    assert (record.tenant, record.event_id, record.digest) == (event.tenant, event.id, payload_digest(value))
    assert record.headers == record_headers(event, INSTANCE)
    assert made.row_hash == digest


@pytest.mark.parametrize("name", ["plain", "wide", "without the rest", "constant"])
def test_usual_rows_go_the_short_way(name: str) -> None:
    """Rows as older trails have them go the short way, in whatever language, with nulls and long texts."""
    how, columns = MAPPINGS[name]
    texts = {
        "id": "17", "org": "org-1", "at": "2024-07-01 12:00:00.123456+00", "op": "I", "who": "Zoë", "what": "d-1",
        "note": None, "diff": json.dumps({"title": "é" * 2_000}),
    }  # fmt: skip
    row = SourceRow("17", tuple(texts[column] for column in columns), (1,))
    make = ordinary_rows(how, MemorySource(columns=columns), KEY, instance=INSTANCE, schema_id=None)

    assert make(row) is not None


@pytest.mark.parametrize("name", LEFT)
def test_left_to_the_long_way(name: str) -> None:
    """Where two values have one name, a constant is not valid, or there are very many columns, no row is ordinary."""
    how, columns = LEFT[name]
    row = SourceRow("17", ("x",) * len(columns), (1,))

    assert ordinary_rows(how, MemorySource(columns=columns), KEY, instance=INSTANCE, schema_id=None)(row) is None


def test_a_bad_row_says_why() -> None:
    """A row that is no valid event is refused with its field, by whichever way."""
    how, columns = MAPPINGS["plain"]
    maker = RecordMaker(how, MemorySource(columns=columns), KEY, instance=INSTANCE)
    good, bad = rows(2)
    with pytest.raises(EventInvalid, match="tenant"):
        maker.make(bad._replace(texts=("2", "no tenant!", *bad.texts[2:])))
    with pytest.raises(EventInvalid, match="fields"):
        maker.make(bad._replace(problem="has 3 fields"))

    assert EventReader().read(maker.make(good).record.value).tenant == "org-1"
