"""Violations: typed, with an id that the same finding always has, and a form on the wire and one for JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.codec import encode_body, frame_confluent, frame_single_object
from sealstream.schemas.errors import FormatError, FrameInvalid, SchemaUnknown
from sealstream.schemas.violation import Severity, Violation, ViolationType
from support.chains import TOPIC_ID
from support.mutation import mutated

FOUND = Violation(
    type=ViolationType.EDITED,
    tenant="acme",
    message="entry does not have the hash stored with it",
    seq=3,
    partition=1,
    offset=7,
    topic_id=TOPIC_ID,
    instance="demo.example/audit",
    expected="aa",
    found="bb",
    detected_at=datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_LONG = st.none() | st.integers(0, 2**63 - 1)
VIOLATIONS = st.builds(
    Violation,
    type=st.sampled_from(ViolationType),
    tenant=_TEXT,
    message=_TEXT,
    seq=_LONG,
    partition=st.integers(0, 2**31 - 1),
    offset=_LONG,
    topic_id=st.binary(min_size=16, max_size=16) | st.just(b""),
    instance=_TEXT,
    expected=_TEXT,
    found=_TEXT,
    severity=st.sampled_from(Severity),
    detected_at=st.datetimes(timezones=st.just(UTC)),
)


def test_types() -> None:
    """The types are those that the specification names, and alerts may rely on."""
    assert [kind.value for kind in ViolationType] == [
        "edited",
        "gap",
        "fork",
        "reordered",
        "rollback",
        "truncated",
        "foreign",
        "payload-altered",
        "clock",
        "producer-gap",
    ]


def test_id_is_specified() -> None:
    """The id is a hash over the place and what was found there, so that any program can compute it."""
    lines = ["sealstream/violation1", "demo.example/audit", "edited", "acme", "3", TOPIC_ID.hex(), "1", "7", "bb"]
    assert FOUND.id == hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def test_id_of_an_unknown_place() -> None:
    """What cannot be named is left empty, and zero is not nothing."""
    nowhere = replace(FOUND, seq=None, offset=None, topic_id=b"")
    lines = ["sealstream/violation1", "demo.example/audit", "edited", "acme", "", "", "1", "", "bb"]
    assert nowhere.id == hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]
    assert replace(nowhere, seq=0).id != nowhere.id


def test_same_finding_has_the_same_id() -> None:
    """A finding keeps its id when it is found again, later and in other words."""
    again = replace(FOUND, message="other words", expected="cc", detected_at=datetime(2027, 1, 1, tzinfo=UTC))
    assert again.id == FOUND.id


@pytest.mark.parametrize(
    "change",
    [
        {"type": ViolationType.GAP},
        {"tenant": "other"},
        {"seq": 4},
        {"partition": 2},
        {"offset": 8},
        {"topic_id": bytes(16)},
        {"instance": "other.example/audit"},
        {"found": "cc"},
    ],
)
def test_other_finding_has_another_id(change: dict[str, object]) -> None:
    """Another place, another type, or something else found there is another finding."""
    assert replace(FOUND, **change).id != FOUND.id  # type: ignore[arg-type]  # the table names real fields


def test_json() -> None:
    """A violation as plain values goes through JSON unharmed."""
    assert json.loads(json.dumps(FOUND.to_dict())) == {
        "id": FOUND.id,
        "instance": "demo.example/audit",
        "type": "edited",
        "severity": "violation",
        "tenant": "acme",
        "seq": 3,
        "topic_id": TOPIC_ID.hex(),
        "partition": 1,
        "offset": 7,
        "message": "entry does not have the hash stored with it",
        "expected": "aa",
        "found": "bb",
        "detected_at": "2026-01-02T03:04:05.678901+00:00",
    }


@settings(max_examples=150)
@given(VIOLATIONS)
def test_round_trip(violation: Violation) -> None:
    """Every violation comes back from its record's value as it was."""
    assert Violation.decode(violation.encode()) == violation


@settings(max_examples=150)
@given(st.binary(max_size=100) | mutated(VIOLATIONS.map(Violation.encode)))
def test_arbitrary_bytes(value: bytes) -> None:
    """Any bytes are a violation or raise an error of the format's own."""
    try:
        violation = Violation.decode(value)
    except FormatError:
        return
    assert len(violation.id) == 32


def test_of_another_schema() -> None:
    """Something else on the topic is named as such."""
    with pytest.raises(SchemaUnknown):
        Violation.decode(b"\xc3\x01" + bytes(8) + FOUND.encode()[10:])
    with pytest.raises(FrameInvalid):
        Violation.decode(frame_confluent(1, FOUND.encode()[10:]))


@pytest.mark.parametrize("change", [{"type": "boredom"}, {"topic_id": "xyz"}])
def test_values_that_are_no_violation(change: dict[str, str]) -> None:
    """A well-formed record with a type or a UUID that does not exist is an error of the format's own."""
    datum = FOUND.to_dict() | {"detected_at": FOUND.detected_at} | change
    with pytest.raises(FrameInvalid, match="Violation"):
        Violation.decode(frame_single_object("Violation", encode_body("Violation", datum)))
