"""The hand-written Avro body equals what a general Avro writer makes of the schema."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.codec import EventReader, encode_body, encode_event, event_to_datum
from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.event import (
    Actor,
    AuditEvent,
    Context,
    Control,
    EventKind,
    Outcome,
    ProducerMark,
    Sealed,
    Target,
)
from sealstream.schemas.event_body import around_mark, event_body, long
from sealstream.schemas.ordinary_event import ordinary_head

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
LONG_TEXT = st.builds(str.__mul__, TEXT, st.sampled_from((1, 30, 200)))
NAME = st.none() | TEXT
BYTES = st.binary(max_size=200)
SIZE_32 = st.binary(min_size=32, max_size=32)
ZONES = st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))
MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=ZONES)  # noqa: DTZ001  # the zone is drawn
EVENTS = st.builds(
    AuditEvent,
    tenant=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True),
    id=st.from_regex(r"[A-Za-z0-9._:-]{1,128}", fullmatch=True),
    salt=st.binary(min_size=16, max_size=16),
    actor=st.builds(Actor, TEXT, TEXT, NAME),
    action=TEXT,
    targets=st.lists(st.builds(Target, TEXT, TEXT, NAME), max_size=4).map(tuple),
    outcome=st.sampled_from(Outcome),
    context=st.builds(Context, NAME, NAME, NAME, NAME, NAME, NAME),
    metadata=st.dictionaries(TEXT, st.just("") | LONG_TEXT, max_size=4),
    occurred_at=MOMENTS,
    kind=st.sampled_from((EventKind.EVENT, EventKind.IMPORTED)),
    personal=st.none()
    | st.builds(Sealed, st.integers(0, 2**31 - 1), TEXT, SIZE_32, SIZE_32, st.binary(min_size=12, max_size=12), BYTES),
    producer=st.none() | st.builds(ProducerMark, TEXT, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)),
)
CONTROL_EVENTS = st.builds(
    AuditEvent,
    tenant=st.just("acme"),
    actor=st.just(Actor("operator", "o-1")),
    action=st.just("purge"),
    kind=st.just(EventKind.CONTROL),
    control=st.builds(Control, LONG_TEXT, BYTES),
)


def event(**fields: Any) -> AuditEvent:
    """Return a valid event with some fields set."""
    given: dict[str, Any] = {"tenant": "acme", "actor": Actor("user", "u-1"), "action": "document.updated"}
    return AuditEvent(**given | fields)


@given(EVENTS | CONTROL_EVENTS)
def test_the_body_equals_what_fastavro_writes(drawn: AuditEvent) -> None:
    """The bytes of a valid event are those that any Avro library makes with the published schema."""
    drawn.check()

    assert event_body(drawn) == encode_body("AuditEvent", event_to_datum(drawn))


@given(EVENTS)
def test_a_value_reads_back_as_the_event(drawn: AuditEvent) -> None:
    """What was written decodes to an equal event, to the microsecond."""
    assert EventReader().read(encode_event(drawn)) == drawn


@given(st.integers(-(2**63), 2**63 - 1))
def test_numbers_are_zig_zag_varints(number: int) -> None:
    """A long takes at most ten bytes, and the shortest form."""
    data = long(number)

    rest = sum((byte & 0x7F) << 7 * index for index, byte in enumerate(data))
    assert (rest >> 1) ^ -(rest & 1) == number
    assert len(data) <= 10
    assert len(data) == 1 or data[-1] != 0


def test_a_mark_given_beside_the_event_stands_in_its_place() -> None:
    """The SDK fills in the producer's mark without another copy of the event."""
    mark = ProducerMark("api-1", 1_700_000_000_000, 7)
    plain = event(id="ev-1", salt=bytes(16), occurred_at=datetime(2026, 1, 1, tzinfo=UTC))

    read = EventReader().read(encode_event(plain, producer=mark))

    assert read.producer == mark


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("id", {"id": None}),
        ("tenant", {"tenant": 7}),
        ("salt", {"salt": "0123456789abcdef"}),
        ("occurred_at", {"occurred_at": "2026-01-01"}),
        ("occurred_at", {"occurred_at": datetime(2026, 1, 1)}),  # noqa: DTZ001  # the error under test
        ("actor", {"actor": "u-1"}),
        ("actor.id", {"actor": Actor("user", None)}),  # type: ignore[arg-type]
        ("targets", {"targets": [Target("document", "d-1")]}),
        ("targets.0", {"targets": ("d-1",)}),
        ("outcome", {"outcome": "success!"}),
        ("context", {"context": {"ip": "10.0.0.1"}}),
        ("context.ip", {"context": Context(ip=4)}),  # type: ignore[arg-type]
        ("metadata", {"metadata": [("a", "b")]}),
        ("metadata.a", {"metadata": {"a": None}}),
        ("metadata.a", {"metadata": {"a": "\ud800"}}),
        ("action", {"action": ""}),
        ("control", {"kind": EventKind.CONTROL}),
        ("personal.salt", {"personal": Sealed(1, "k", b"", bytes(32), bytes(12), b"")}),
        ("personal.nonce", {"personal": Sealed(1, "k", bytes(32), bytes(32), bytes(13), b"")}),
        ("producer.n", {"producer": ProducerMark("api", 0, -1)}),
    ],
)
def test_what_could_not_be_written_is_refused_by_its_field(field: str, fields: dict[str, Any]) -> None:
    """A valid event can always be written; an invalid one is refused with the field's name."""
    with pytest.raises(EventInvalid) as caught:
        event(**fields).check()

    assert caught.value.field == field


ASCII = st.text(st.characters(codec="ascii"), min_size=0, max_size=70)
NEARLY = st.one_of(ASCII, ASCII, TEXT, st.just("x" * 1024), st.just("x" * 8193), st.just("\ud800"), st.just(7))
OPTIONAL = st.one_of(st.none(), NEARLY)
NEARLY_ORDINARY = st.builds(
    AuditEvent,
    tenant=st.one_of(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True), NEARLY),
    id=st.one_of(st.from_regex(r"[A-Za-z0-9._:-]{1,128}", fullmatch=True), NEARLY),
    salt=st.sampled_from((bytes(16), bytes(16), bytes(15), bytearray(16))),
    actor=st.one_of(st.builds(Actor, NEARLY, NEARLY, OPTIONAL), st.just(Target("user", "u-1"))),
    action=NEARLY,
    targets=st.one_of(
        st.lists(st.builds(Target, NEARLY, NEARLY, OPTIONAL), max_size=2).map(tuple), st.none(), st.just(("a",))
    ),
    outcome=st.sampled_from((*Outcome, "success", "fine")),
    context=st.builds(Context, OPTIONAL, OPTIONAL, OPTIONAL, OPTIONAL, OPTIONAL, OPTIONAL) | st.none(),
    metadata=st.dictionaries(NEARLY, NEARLY, max_size=3) | st.none(),
    occurred_at=st.sampled_from((datetime.now(UTC), datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 1, 1), "now")),  # noqa: DTZ001
    kind=st.sampled_from((EventKind.EVENT, EventKind.EVENT, EventKind.CONTROL, "event")),
)


@settings(max_examples=500)
@given(NEARLY_ORDINARY | EVENTS | CONTROL_EVENTS)
def test_the_short_way_takes_only_what_the_long_way_takes_and_makes_the_same_bytes(drawn: AuditEvent) -> None:
    """Whatever is given as an event: if the short way makes bytes of it, it is valid, and they are the long way's."""
    head = ordinary_head(drawn)

    if head is not None:
        drawn.check()
        assert head + b"\x00\x00" == event_body(drawn)


@given(ASCII.filter(bool), st.none() | ASCII)
def test_ordinary_events_go_the_short_way(text: str, name: str | None) -> None:
    """The short way is for nearly every event, however its texts differ."""
    drawn = AuditEvent(
        tenant="acme",
        actor=Actor("user", text, name),
        action=text,
        targets=(Target(text, text, name), Target("a", "b")),
        outcome=Outcome.DENIED,
        context=Context(ip=name, user_agent=text * 9, traceparent=name),
        metadata={text: name or ""},
    )

    assert ordinary_head(drawn) == around_mark(drawn)[0]
    plain = event()
    assert ordinary_head(plain) == around_mark(plain)[0]
