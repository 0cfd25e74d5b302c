"""Events from keyword arguments: the short forms, and what is wrong with the wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from sealstream.producers.event_fields import event_from_fields
from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.event import Actor, Context, Outcome, Target

PLAIN: dict[str, Any] = {"tenant": "acme", "actor": Actor("user", "u-1"), "action": "document.updated"}


def test_the_shortest_call_makes_a_valid_event() -> None:
    """Tenant, actor and action suffice; id, time and salt are made."""
    made = event_from_fields({"tenant": "acme", "actor": "user:u-1", "action": "document.updated"})

    made.check()
    assert (made.actor, made.targets, made.outcome) == (Actor("user", "u-1"), (), Outcome.UNKNOWN)
    assert len(made.id) == 36


def test_every_form_of_a_target_means_the_same() -> None:
    """A target is given as an object, a mapping or ``type:id``; alone or in a list."""
    expected = (Target("document", "7:b"),)

    for given in (Target("document", "7:b"), {"type": "document", "id": "7:b"}, "document:7:b"):
        assert event_from_fields(PLAIN | {"target": given}).targets == expected
        assert event_from_fields(PLAIN | {"targets": [given]}).targets == expected


def test_a_free_context_is_kept() -> None:
    """Keys that the event's context does not have go to the metadata, so nothing the caller said is lost."""
    made = event_from_fields(PLAIN | {"context": {"ip": "10.0.0.1", "plan": "pro"}, "metadata": {"a": "b"}})

    assert made.context == Context(ip="10.0.0.1")
    assert made.metadata == {"a": "b", "plan": "pro"}


def test_an_outcome_may_be_given_by_name() -> None:
    """A text means the outcome of that name."""
    assert event_from_fields(PLAIN | {"outcome": "denied"}).outcome is Outcome.DENIED


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("tenant", {"actor": "user:1", "action": "a"}),
        ("user", PLAIN | {"user": "u-1"}),
        ("actor", PLAIN | {"actor": "u-1"}),
        ("actor", PLAIN | {"actor": None}),
        ("actor", PLAIN | {"actor": Target("document", "1")}),
        ("actor", PLAIN | {"actor": {"id": "1"}}),
        ("target", PLAIN | {"target": {"type": "a", "id": "1", "colour": "red"}}),
        ("target", PLAIN | {"target": "document:1", "targets": ["document:2"]}),
        ("targets", PLAIN | {"targets": "document:1"}),
        ("targets", PLAIN | {"targets": 7}),
        ("targets.1", PLAIN | {"targets": ["document:1", 2]}),
        ("outcome", PLAIN | {"outcome": "ok"}),
        ("context", PLAIN | {"context": "10.0.0.1"}),
        ("metadata", PLAIN | {"metadata": "a=b"}),
        ("context.plan", PLAIN | {"context": {"plan": "pro"}, "metadata": {"plan": "free"}}),
    ],
)
def test_a_wrong_field_is_named(field: str, fields: dict[str, Any]) -> None:
    """The error says which argument is at fault."""
    with pytest.raises(EventInvalid) as caught:
        event_from_fields(fields)

    assert caught.value.field == field


def test_values_are_left_to_the_events_own_check() -> None:
    """A context value of a wrong type makes an event that its check refuses, by its field."""
    with pytest.raises(EventInvalid) as caught:
        event_from_fields(PLAIN | {"context": {"ip": 4}}).check()

    assert caught.value.field == "context.ip"
