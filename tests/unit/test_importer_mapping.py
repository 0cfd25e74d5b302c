"""Mappings: a row becomes what the mapping says, and what is wrong with a mapping is met before the first row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sealstream.producers.importer.mapping import parse_mapping
from sealstream.schemas.errors import ConfigError, EventInvalid
from sealstream.schemas.event import Actor, AuditEvent, Context, Outcome, Target
from support.importing import MAPPING, make, mapping


def event(lines: str, texts: dict[str, str | None], **settings: Any) -> AuditEvent:
    """Return the event of a row by a mapping of these lines."""
    return make(mapping(lines), texts, **settings).event


class TestFields:
    """Templates, alternatives, translations and paths."""

    def test_templates(self) -> None:
        """A template takes columns into a text, and braces are written twice."""
        assert event('action = "{table}.{op}"', {"table": "user", "op": "login"}).action == "user.login"
        assert event('action = "{{{op}}}"', {"op": "login"}).action == "{login}"

    def test_null_makes_the_whole_null(self) -> None:
        """A column that is null gives no half-made text: the alternative counts, or what is optional is left out."""
        lines = 'actor = { type = "user", id = ["user-{id}", "{mail}", "system"] }\ncontext = { ip = "{ip}" }'
        found = event(lines, {"id": None, "mail": "a@example.com", "ip": None})

        assert found.actor == Actor("user", "a@example.com")
        assert found.context == Context()
        assert event(lines, {"id": None, "mail": None, "ip": "::1"}).actor.id == "system"

    def test_empty_text_is_no_alternative(self) -> None:
        """Of several templates one that is empty does not count: trails write an empty text where they mean nobody."""
        lines = 'actor = { type = "user", id = ["{id}", "{mail}", "system"] }\nmetadata = { m = ["{mail}", "{id}"] }'

        assert event(lines, {"id": None, "mail": ""}).actor.id == "system"
        assert "m" not in event(lines, {"id": None, "mail": ""}).metadata
        assert event(lines, {"id": "", "mail": "a@example.com"}).actor.id == "a@example.com"

    def test_required_and_null(self) -> None:
        """What every event needs and a row does not have is an error that names the field."""
        for lines, field in (
            ('tenant = "{x}"', "tenant"),
            ('action = "{x}"', "action"),
            ('occurred_at = "{x}"', "occurred_at"),
            ('actor = { type = "user", id = "{x}" }', "actor.id"),
            ('actor = { type = "{x}", id = "1" }', "actor.type"),
        ):
            with pytest.raises(EventInvalid) as caught:
                event(lines, {"x": None})
            assert caught.value.field == field

    def test_translation(self) -> None:
        """A translation gives what stands for a text; one that it does not know is an error, or the otherwise."""
        strict = 'action = { value = "{op}", map = { "0" = "created" } }'
        loose = 'action = { value = "{op}", map = { "0" = "created" }, otherwise = "op_{op}" }'

        assert event(strict, {"op": "0"}).action == "created"
        assert event(loose, {"op": "9"}).action == "op_9"
        with pytest.raises(EventInvalid, match="translation"):
            event(strict, {"op": "9"})

    def test_targets_and_outcome(self) -> None:
        """A target without id is left out; an outcome is one of those that there are."""
        lines = 'targets = [{ type = "a", id = "{a}" }, { type = "b", id = "{b}", name = "{n}" }]\noutcome = "{o}"'
        found = event(lines, {"a": None, "b": "7", "n": "Seven", "o": "denied"})

        assert found.targets == (Target("b", "7", "Seven"),)
        assert found.outcome is Outcome.DENIED
        assert event(lines, {"a": "1", "b": None, "n": None, "o": None}).outcome is Outcome.UNKNOWN
        with pytest.raises(EventInvalid, match="outcome"):
            event(lines, {"a": "1", "b": None, "n": None, "o": "maybe"})

    def test_column_that_may_be_missing(self) -> None:
        """A name with a question mark is null where there is no such column, and else the column."""
        lines = 'metadata = { m = "{mail?}", p = "{diff.a?}" }\nrest = true'
        assert "m" not in event(lines, {"id": "1"}).metadata
        found = event(lines, {"mail": "x", "diff": '{"a": "y"}'}).metadata
        assert (found["m"], found["p"], "mail" in found) == ("x", "y", False)
        assert event(lines, {"line": '{"mail": "z"}'}, whole=True).metadata["m"] == "z"

    def test_paths_into_json(self) -> None:
        """A path leads into a column that holds JSON, through objects and lists; what is not there is null."""
        lines = 'metadata = { t = "{diff.title.1}", n = "{diff.n}", none = "{diff.x.y}", o = "{diff.o}" }\nrest = false'
        found = event(lines, {"diff": '{"title": ["a", "b"], "n": 1.5, "o": {"ü": null}}'})

        assert {k: v for k, v in found.metadata.items() if "." not in k} == {"t": "b", "n": "1.5", "o": '{"ü":null}'}
        with pytest.raises(EventInvalid, match="no JSON"):
            event(lines, {"diff": "{"})

    def test_whole_lines(self) -> None:
        """Of NDJSON every name is a path, and keys that no field uses as a whole go to the metadata."""
        lines = 'tenant = "{org.id}"'
        found = event(lines, {"line": '{"org": {"id": "acme"}, "extra": [1], "note": "x", "no": null}'}, whole=True)

        assert found.tenant == "acme"
        assert {k: v for k, v in found.metadata.items() if "import" not in k} == {
            "extra": "[1]", "note": "x", "org": '{"id":"acme"}'
        }  # fmt: skip
        for line in ("[]", "1", "{", '"x"'):
            with pytest.raises(EventInvalid, match="JSON"):
                event(lines, {"line": line}, whole=True)

    def test_rest_is_kept(self) -> None:
        """Columns that no field uses are kept in the metadata, unless the mapping says that they are not."""
        texts: dict[str, str | None] = {"op": "a.b", "note": "x", "none": None, "import.row": "forged"}
        kept, dropped = event('action = "{op}"', texts), event('action = "{op}"\nrest = false', texts)

        assert (kept.metadata["note"], "none" in kept.metadata) == ("x", False)
        assert kept.metadata["import.row"] != "forged"
        assert set(dropped.metadata) == {"import.row", "import.key"}


class TestTimes:
    """Whatever form a time has, it becomes one moment, or an error."""

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            ('"{t}"', "2024-02-29 12:30:00.5+01"),
            ('"{t}"', "2024-02-29T11:30:00.500Z"),
            ('{ value = "{t}", timezone = "Europe/Paris" }', "2024-02-29 12:30:00.5"),
            ('{ value = "{t}", format = "unix" }', "1709206200.5"),
            ('{ value = "{t}", format = "unix_ms" }', "1709206200500"),
            ('{ value = "{t}", format = "%d/%m/%Y %H:%M:%S.%f", timezone = "UTC" }', "29/02/2024 11:30:00.5"),
        ],
    )
    def test_forms(self, given: str, text: str) -> None:
        """Each form gives the moment that it stands for."""
        assert event(f"occurred_at = {given}", {"t": text}).occurred_at == datetime(
            2024, 2, 29, 11, 30, 0, 500_000, UTC
        )

    @pytest.mark.parametrize("text", ["yesterday", "infinity", "2024-02-30", "0044-03-15 BC", "2024-01-01 00:00:00"])
    def test_refused(self, text: str) -> None:
        """What is no time, or names no zone where the mapping names none, is an error and no guess."""
        with pytest.raises(EventInvalid, match="occurred_at"):
            event('occurred_at = "{t}"', {"t": text})
        with pytest.raises(EventInvalid, match="occurred_at"):
            event('occurred_at = { value = "{t}", format = "unix" }', {"t": "inf"})


class TestRefused:
    """A mapping that is wrong says where."""

    @pytest.mark.parametrize(
        ("change", "where"),
        [
            (("[event]", "[events]"), "events"),
            (('tenant = "{org}"', ""), "event.tenant is missing"),
            (('occurred_at = "{at}"', ""), "event.occurred_at is missing"),
            (('action = "document.updated"', "action = 7"), "event.action is a int"),
            (('action = "document.updated"', "action = []"), "event.action is no list"),
            (('action = "document.updated"', "action = { map = {} }"), "event.action has other keys"),
            (('action = "document.updated"', 'action = { value = "{a}", map = { a = 1 } }'), "event.action.map"),
            (('action = "document.updated"', 'action = { value = "{a}", otherwise = 1 }'), "event.action.otherwise"),
            (('id = "{who}"', 'nick = "{who}"'), "event.actor.nick is unknown"),
            (('"{at}"', '{ value = "{at}", format = "date" }'), "event.occurred_at.format"),
            (('"{at}"', '{ value = "{at}", timezone = "Mars" }'), "event.occurred_at.timezone"),
            (('key = ["id"]', 'key = "id"'), "source.key"),
            (('key = ["id"]', 'key = ["id", "id"]'), "source.key"),
            (('table = "trail"', 'table = "trail"\nquery = "SELECT 1"'), "a table and a query"),
            (('table = "trail"', "table = 1"), "source.table"),
            (('table = "trail"', 'format = "xml"'), "source.format"),
            (('table = "trail"', 'delimiter = ";;"'), "source.delimiter"),
            (("[event]", "[event]\nrest = 1"), "event.rest"),
            (("[event]", "[event]\ntargets = {}"), "event.targets"),
            (("[event]", '[event]\ncontext = { colour = "x" }'), "event.context.colour"),
            (("[event]", "[event"), "no TOML"),
        ],
    )
    def test_form(self, change: tuple[str, str], where: str) -> None:
        """Each is refused with the place in the message."""
        with pytest.raises(ConfigError, match=where):
            parse_mapping(MAPPING.replace(*change))

    @pytest.mark.parametrize("template", ["{", "}", "{}", "{a!r}", "{a:>3}", "{nowhere}", "{a.b"])
    def test_templates(self, template: str) -> None:
        """A template that is malformed, or names what the source does not have, is met before the first row."""
        with pytest.raises(ConfigError):
            make(mapping(f'action = "{template}"'), {"a": "1"})
