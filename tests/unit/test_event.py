"""The event model: what a valid event is, and that whatever is not one is refused by the name of its field."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.codec import EventReader, encode_event
from sealstream.schemas.entry import is_event_id
from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.event import (
    METADATA_KEYS_MAX,
    TARGETS_MAX,
    TEXT_CHARACTERS_MAX,
    Actor,
    AuditEvent,
    Context,
    Control,
    EventKind,
    ProducerMark,
    Sealed,
    Target,
    new_event_id,
    new_salt,
)
from support.events import events

VALID = AuditEvent(tenant="acme", actor=Actor("user", "u-1"), action="document.updated")
SEALED = Sealed(v=1, subject_key_id="k", salt=bytes(32), commitment=bytes(32), nonce=bytes(12), ciphertext=b"")
LONG_TEXT = "x" * (TEXT_CHARACTERS_MAX + 1)


class _Nowhere(tzinfo):
    """A time zone that does not know its offset."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        """Return no offset."""
        del dt
        return None

    dst = utcoffset

    def tzname(self, dt: datetime | None) -> str | None:
        """Return no name."""
        del dt
        return None


def changed(**fields: Any) -> AuditEvent:
    """Return the valid event with other fields, of whatever type."""
    return replace(VALID, **fields)


@settings(max_examples=150)
@given(events())
def test_valid_events_pass_and_encode(event: AuditEvent) -> None:
    """What the check lets through can be encoded, and comes back as it was."""
    event.check()
    assert EventReader().read(encode_event(event)) == event


@pytest.mark.parametrize(
    ("field", "event"),
    [
        ("id", changed(id="")),
        ("id", changed(id="a b")),
        ("id", changed(id="x" * 129)),
        ("id", changed(id=7)),
        ("tenant", changed(tenant="")),
        ("tenant", changed(tenant="..")),
        ("tenant", changed(tenant="!partition-0")),
        ("tenant", changed(tenant="ä")),
        ("tenant", changed(tenant=b"acme")),
        ("salt", changed(salt=bytes(15))),
        ("salt", changed(salt="x" * 16)),
        ("kind", changed(kind="event ")),
        ("outcome", changed(outcome=None)),
        ("occurred_at", changed(occurred_at=datetime(2026, 1, 1))),  # noqa: DTZ001  # the point of the test
        ("occurred_at", changed(occurred_at=datetime(2026, 1, 1, tzinfo=_Nowhere()))),
        ("occurred_at", changed(occurred_at=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))))),
        ("occurred_at", changed(occurred_at=datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12))))),
        ("occurred_at", changed(occurred_at="2026-01-01T00:00:00Z")),
        ("actor", changed(actor="user:u-1")),
        ("actor.type", changed(actor=Actor("", "u-1"))),
        ("actor.id", changed(actor=Actor("user", ""))),
        ("actor.id", changed(actor=Actor("user", 7))),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        ("actor.name", changed(actor=Actor("user", "u-1", LONG_TEXT))),
        ("action", changed(action="")),
        ("action", changed(action=LONG_TEXT)),
        ("action", changed(action="\ud800")),
        ("targets", changed(targets=[Target("document", "7")])),
        ("targets", changed(targets=(Target("document", "7"),) * (TARGETS_MAX + 1))),
        ("targets.1.id", changed(targets=(Target("document", "7"), Target("document", "")))),
        ("targets.0", changed(targets=("document:7",))),
        ("context", changed(context={"ip": "10.0.0.1"})),
        ("context.ip", changed(context=Context(ip=7))),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        ("context.user_agent", changed(context=Context(user_agent=LONG_TEXT))),
        ("metadata", changed(metadata={str(number): "" for number in range(METADATA_KEYS_MAX + 1)})),
        ("metadata", changed(metadata=[("a", "b")])),
        ("metadata key", changed(metadata={"": "b"})),
        ("metadata key", changed(metadata={7: "b"})),
        ("metadata.a", changed(metadata={"a": 7})),
        ("metadata.a", changed(metadata={"a": None})),
        ("metadata.a", changed(metadata={"a": "\udfff"})),
        ("personal.salt", changed(personal=replace(SEALED, salt=bytes(31)))),
        ("personal.commitment", changed(personal=replace(SEALED, commitment=b""))),
        ("personal.nonce", changed(personal=replace(SEALED, nonce=bytes(13)))),
        ("personal.v", changed(personal=replace(SEALED, v=2**31))),
        ("producer.n", changed(producer=ProducerMark("p", 0, -1))),
        ("producer.epoch", changed(producer=ProducerMark("p", 2**63, 0))),
        ("producer.id", changed(producer=ProducerMark("", 0, 0))),
        ("control", changed(control=Control("note", b""))),
        ("control", changed(kind=EventKind.CONTROL)),
        ("control.note", changed(kind=EventKind.CONTROL, control=Control("", b""))),
    ],
)
def test_refused_by_field(field: str, event: AuditEvent) -> None:
    """What is no valid event is refused by the name of the field at fault."""
    with pytest.raises(EventInvalid) as caught:
        event.check()
    assert caught.value.field == field


_ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=20),
    st.lists(st.text(max_size=3), max_size=3),
    st.lists(st.text(max_size=3), max_size=3).map(tuple),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.datetimes(),
    st.builds(Actor, st.none() | st.integers(), st.text(max_size=3)),
    st.builds(Sealed, *[st.none() | st.integers() | st.binary(max_size=3)] * 6),
    st.builds(ProducerMark, *[st.none() | st.integers() | st.text(max_size=3)] * 3),
)


@settings(max_examples=300)
@given(st.sampled_from([field.name for field in dataclasses.fields(AuditEvent)]), _ANYTHING)
def test_any_value_is_refused_or_encodes(name: str, value: object) -> None:
    """Whatever an application without a type checker passes is refused as invalid, or can be encoded."""
    event = changed(**{name: value})
    try:
        event.check()
    except EventInvalid:
        return
    assert EventReader().read(encode_event(event)) == event


def test_metadata_values_may_be_long() -> None:
    """Metadata holds what has no field of its own, so only the whole event's size bounds its values."""
    event = changed(metadata={"a": LONG_TEXT * 3, "b": ""})
    event.check()
    assert EventReader().read(encode_event(event)).metadata == event.metadata


def test_events_are_immutable() -> None:
    """An event cannot be changed after it was made: its bytes are its identity."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        VALID.action = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(VALID.metadata, Mapping)


def test_ids_are_version_7() -> None:
    """A new id is a UUID of version 7 that says when it was made, and a valid event id."""
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(new_event_id())
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= after
    assert is_event_id(str(made))


def test_ids_and_salts_do_not_repeat() -> None:
    """Ids and salts are drawn anew for every event."""
    count = 1_000
    assert len({new_event_id() for _ in range(count)}) == count
    assert len({new_salt() for _ in range(count)}) == count
    assert len(new_salt()) == 16


def test_time_is_now_in_utc() -> None:
    """An event without a time happened now."""
    made = AuditEvent(tenant="acme", actor=Actor("user", "u-1"), action="a")
    assert abs((datetime.now(UTC) - made.occurred_at).total_seconds()) < 60
    assert made.occurred_at.tzinfo is UTC
