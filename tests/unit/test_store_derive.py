"""The rows of ``events``: exactly these columns, whatever a payload holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from sealstream.schemas.codec import EventReader, encode_event, schema_text
from sealstream.schemas.entry import Kind, Quarantine
from sealstream.schemas.errors import SchemaUnknown, Unreachable
from sealstream.schemas.event import Actor, AuditEvent, Context, Outcome, Target
from sealstream.sinks.store.derive import Deriver, stored_from
from sealstream.sinks.store.records import ChainedRecord, read_record
from sealstream.sinks.store.rows import EVENT_COLUMNS, EventRow
from support.chained import INSTANCE, Chains

EVENT = AuditEvent(
    tenant="acme",
    actor=Actor("user", "u-1", "Ada Lovelace"),
    action="document.updated",
    targets=(Target("document", "d-1"), Target("folder", "f-1", "Plans")),
    outcome=Outcome.DENIED,
    context=Context(ip="10.0.0.1", user_agent="curl/8", request_id="r-1", location="Paris"),
    metadata={"plan": "pro"},
    occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    id="ev-1",
)


def _record(payload: bytes, kind: Kind = Kind.EVENT) -> ChainedRecord:
    sealed = Chains().record("acme", payload, event_id="ev-1", kind=kind)[1]
    headers = [("seal-entry", sealed.entry)]
    return read_record("chained", sealed.partition, 0, sealed.key, sealed.value, headers, instance=INSTANCE)


def _derive(payload: bytes) -> EventRow:
    row = Deriver(EventReader())(stored_from(_record(payload)))
    assert row is not None
    return row


def test_every_column_says_what_the_event_says() -> None:
    """A search row is the event, field for field; absent fields are NULL, empty ones empty."""
    row = _derive(encode_event(EVENT))

    assert list(row._fields) == list(EVENT_COLUMNS)
    assert row == EventRow(
        tenant="acme",
        seq=1,
        retention_class="standard",
        kind=1,
        event_id="ev-1",
        received_at=datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        actor_type="user",
        actor_id="u-1",
        actor_name="Ada Lovelace",
        action="document.updated",
        outcome="denied",
        targets='[{"type":"document","id":"d-1"},{"type":"folder","id":"f-1","name":"Plans"}]',
        ip="10.0.0.1",
        request_id="r-1",
        context='{"user_agent":"curl/8","location":"Paris"}',
        metadata='{"plan":"pro"}',
        undecoded=None,
    )


def test_a_nul_in_a_text_does_not_stop_the_sink() -> None:
    """PostgreSQL holds no NUL in texts: it is shown as the replacement character, and the payload keeps it."""
    event = AuditEvent(
        tenant="acme",
        actor=Actor("user\0", "u\0", "A\0"),
        action="a\0b",
        targets=(Target("d", "t\0"),),
        context=Context(ip="\0", session="s\0"),
        metadata={"k\0": "v\0", "literal": "\\u0000"},
        id="ev-1",
    )
    row = _derive(encode_event(event))

    assert (row.actor_type, row.actor_id, row.actor_name) == ("user\ufffd", "u\ufffd", "A\ufffd")
    assert (row.action, row.ip) == ("a\ufffdb", "\ufffd")
    assert json.loads(row.targets or "") == [{"type": "d", "id": "t\ufffd"}]
    assert json.loads(row.context or "") == {"session": "s\ufffd"}
    assert json.loads(row.metadata or "") == {"k\ufffd": "v\ufffd", "literal": "\\u0000"}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        pytest.param(encode_event(EVENT, schema_id=7), "schema-unknown", id="registry-not-configured"),
        pytest.param(b"\xc3\x01" + bytes(8) + encode_event(EVENT)[10:], "schema-unknown", id="unknown-fingerprint"),
        pytest.param(encode_event(EVENT)[:-3], "malformed", id="cut"),
        pytest.param(encode_event(EVENT) + b"x", "malformed", id="long"),
    ],
)
def test_an_undecodable_payload_still_has_its_row(payload: bytes, reason: str) -> None:
    """Such an event can be found by its id, and by the reason; and the reason is counted."""
    counted: list[str] = []
    row = Deriver(EventReader(), count=counted.append)(stored_from(_record(payload)))

    assert row is not None
    assert (row.tenant, row.seq, row.event_id, row.kind, row.undecoded) == ("acme", 1, "ev-1", 1, reason)
    assert all(value is None for value in (row.occurred_at, row.actor_id, row.action, row.targets, row.metadata))
    assert counted == [reason]


@pytest.mark.parametrize(
    ("error", "reason"), [(Unreachable("away"), "registry-unreachable"), (SchemaUnknown("none"), "schema-unknown")]
)
def test_a_registry_that_is_away_does_not_stop_the_sink(error: Exception, reason: str) -> None:
    """The entry is stored in any case; a rebuild mends the search row when the registry is back."""

    def fail(_schema_id: int) -> object:
        raise error

    row = Deriver(EventReader(schema_by_id=fail))(stored_from(_record(encode_event(EVENT, schema_id=7))))

    assert row is not None
    assert row.undecoded == reason


def test_a_schema_that_takes_the_time_for_a_number_is_malformed() -> None:
    """A registry's schema may leave out what a long means; its events are found by their id all the same."""
    other = json.loads(schema_text("AuditEvent"))
    other["fields"][4]["type"] = "long"
    record = _record(encode_event(EVENT, schema_id=7))
    row = Deriver(EventReader(schema_by_id=lambda _id: other))(stored_from(record))

    assert row is not None
    assert (row.event_id, row.undecoded) == ("ev-1", "malformed")


def test_only_kinds_that_are_events_have_rows() -> None:
    """A genesis and a quarantined record are in the chain, and no search result."""
    derive = Deriver(EventReader())
    for sealed in (Chains().event("acme", "ev-1")[0], Chains().quarantined("acme", Quarantine.VALUE_SIZE)[1]):
        headers = [("seal-entry", sealed.entry)]
        record = read_record("chained", sealed.partition, 0, sealed.key, sealed.value, headers, instance=INSTANCE)
        assert derive(stored_from(record)) is None
