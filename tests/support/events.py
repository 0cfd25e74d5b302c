"""Hypothesis strategies for events: every valid one, with long ids, all of Unicode, and every optional part."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from hypothesis import strategies as st

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
from support.chains import EVENT_IDS, TENANTS

LONG: Final = st.integers(0, 2**63 - 1)
TEXT: Final = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
_OPTIONAL_TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_ZONES = st.just(UTC) | st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# A day from either end of the calendar, so that every zone's moment exists in UTC.
TIMES: Final = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=_ZONES)  # noqa: DTZ001
_SEALED = st.builds(
    Sealed,
    v=st.integers(0, 2**31 - 1),
    subject_key_id=TEXT,
    salt=st.binary(min_size=32, max_size=32),
    commitment=st.binary(min_size=32, max_size=32),
    nonce=st.binary(min_size=12, max_size=12),
    ciphertext=st.binary(max_size=100),
)


@st.composite
def events(draw: st.DrawFn) -> AuditEvent:
    """Draw any valid event."""
    kind = draw(st.sampled_from(EventKind))
    control = st.builds(Control, note=TEXT, body=st.binary(max_size=100))
    return AuditEvent(
        tenant=draw(TENANTS),
        actor=draw(st.builds(Actor, TEXT, TEXT, _OPTIONAL_TEXT)),
        action=draw(TEXT),
        targets=draw(st.lists(st.builds(Target, TEXT, TEXT, _OPTIONAL_TEXT), max_size=3).map(tuple)),
        outcome=draw(st.sampled_from(Outcome)),
        context=draw(st.builds(Context, *[_OPTIONAL_TEXT] * 6)),
        metadata=draw(st.dictionaries(TEXT, TEXT, max_size=3)),
        occurred_at=draw(TIMES),
        id=draw(EVENT_IDS),
        kind=kind,
        salt=draw(st.binary(min_size=16, max_size=16)),
        personal=draw(st.none() | _SEALED),
        producer=draw(st.none() | st.builds(ProducerMark, id=TEXT, epoch=LONG, n=LONG)),
        control=draw(control) if kind is EventKind.CONTROL else None,
    )
