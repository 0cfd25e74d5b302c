"""What a registry answers, in the words of everybody else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from sealstream.producers.registry.registering import register
from sealstream.producers.registry.subject import Subject, subject_name
from sealstream.schemas.codec import schema_text
from sealstream.schemas.errors import ConfigError, SchemaRefused, SealstreamError, Unreachable


class _AnswerError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.http_status_code = status
        self.error_message = "in its own words"


class _Client:
    """A registry that always answers the same."""

    def __init__(self, answer: object, **others: object) -> None:
        self._answer = answer
        self._others = others

    def __getattr__(self, name: str) -> Any:
        answer = self._others.get(name, self._answer)

        def call(*_: object) -> object:
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def _subject(answer: object, **others: object) -> Subject:
    return Subject(cast("Any", _Client(answer, **others)), "audit.events-value")


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (_AnswerError(401), ConfigError, "HTTP 401"),
        (_AnswerError(403), ConfigError, "HTTP 403"),
        (_AnswerError(409), SchemaRefused, "in its own words"),
        (_AnswerError(422), SchemaRefused, "in its own words"),
        (_AnswerError(500), Unreachable, "HTTP 500"),
        (ConnectionError("secret.example"), Unreachable, "ConnectionError"),
        (ValueError("no JSON"), Unreachable, "ValueError"),
    ],
)
def test_each_answer_is_an_error_with_a_hint(answer: Exception, kind: type[SealstreamError], said: str) -> None:
    """Whatever the client library raises comes as one of ours, and says what to do unless the registry says it."""
    subject = _subject(answer)
    for call in (subject.versions, subject.compatibility, subject.set_compatibility):
        with pytest.raises(kind, match=said) as caught:
            call()
        assert caught.value.hint or kind is SchemaRefused


def test_what_is_not_there_is_no_error() -> None:
    """A subject that nobody has made yet has no versions, no compatibility and no schema."""
    subject = _subject(_AnswerError(404))
    assert (subject.versions(), subject.compatibility(), subject.find("{}")) == ([], None, None)


def test_a_compatibility_that_does_not_stick_is_found() -> None:
    """It is not enough that the registry says yes: what it shows afterwards counts."""
    with pytest.raises(SchemaRefused, match="BACKWARD"):
        _subject("BACKWARD").set_compatibility()


def test_a_registry_that_gives_back_another_schema_is_found() -> None:
    """Events are not written under an id that means something else to their readers."""
    other = SimpleNamespace(schema_str='{"type":"string"}')
    with pytest.raises(SchemaRefused, match="another schema under the id 7"):
        _subject(7, get_schema=other).register(schema_text("AuditEvent"))


def test_nothing_is_asked_of_the_registry_for_a_schema_that_may_not_be_a_version() -> None:
    """A refused schema changes nothing, not even the compatibility."""
    with pytest.raises(SchemaRefused, match="not the record"):
        register(
            _subject(AssertionError("was asked")), '{"type":"record","name":"A","fields":[{"name":"a","type":"int"}]}'
        )


def test_the_subject_is_that_of_the_topics_values() -> None:
    """Confluent's serializers find it by themselves."""
    assert subject_name("audit.events") == "audit.events-value"
