"""``inventory``: tables that look like audit trails are found, others are not, and what is proposed parses."""

from __future__ import annotations

import pytest

from sealstream.producers.importer.inventory import SCORE_MIN, Candidate, judge
from sealstream.producers.importer.mapping import parse_mapping

TIME = "timestamp with time zone"


def candidate(name: str, columns: dict[str, str], *, inserts: int = 0, updates: int = 0, key: str = "id") -> Candidate:
    """Return what is said of a table."""
    return judge("public", name, 10, 8192, inserts, updates, 0, 86_400.0, [*columns], [*columns.values()], [key])


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("audit_log", {"id": "bigint", "created_at": TIME, "action": "text", "user_id": "integer"}),
        ("activity", {"id": "uuid", "happened": "timestamp without time zone", "verb": "text", "actor": "text"}),
        (
            "logged_actions",
            {
                "id": "bigint",
                "action_tstamp": TIME,
                "action": "text",
                "session_user_name": "text",
                "row_data": "hstore",
            },
        ),
    ],
)
def test_found(name: str, columns: dict[str, str]) -> None:
    """Tables that say when, what and who are found, with a mapping that parses and names their columns."""
    found = candidate(name, columns)
    mapping = parse_mapping(found.mapping)

    assert found.score >= SCORE_MIN
    assert found.reasons
    assert (mapping.source.table, mapping.source.key) == (name, ("id",))
    used = {template.strip("{}") for template in (*mapping.occurred_at.field.templates, *mapping.actor.id.templates)}
    assert used - {"unknown"} <= columns.keys()


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("users", {"id": "bigint", "created_at": TIME, "email": "text"}),
        ("event_types", {"id": "integer", "type": "text"}),
        ("orders", {"id": "bigint", "created_at": TIME, "user_id": "integer", "total": "numeric"}),
    ],
)
def test_not_found(name: str, columns: dict[str, str]) -> None:
    """Ordinary tables are not."""
    assert candidate(name, columns).score < SCORE_MIN


def test_statistics_speak() -> None:
    """A table that is only added to says so by its statistics; its rate is per day."""
    columns = {"id": "bigint", "created_at": TIME, "op": "text"}
    steady, edited = candidate("x", columns, inserts=5_000), candidate("x", columns, inserts=5_000, updates=4_000)

    assert steady.score == edited.score + 2
    assert (steady.inserts_per_day, edited.updates) == (5_000.0, 4_000)


def test_time_without_zone_and_no_key() -> None:
    """A time without zone gets one to be looked at, and a table without a key asks for one."""
    found = judge("app", "audit", 0, 0, 0, 0, 0, None, ["at", "op"], ["timestamp without time zone", "text"], None)
    mapping = parse_mapping(found.mapping)

    assert mapping.occurred_at.zone is not None
    assert mapping.source.key == ()
    assert (found.table, found.inserts_per_day) == ("app.audit", None)


def test_names_are_quoted() -> None:
    """Names with quotes and braces in them make no other mapping than theirs."""
    found = candidate('log"x', {"id": "bigint", "created_at": TIME, "action": "text", 'user"': "text"})
    assert parse_mapping(found.mapping).source.table == 'log"x'


def test_presets() -> None:
    """The tables of known tools are given their preset, if their columns are those of its version."""
    columns = {"id": "bigint", "item_type": "text", "item_id": "bigint", "event": "text", "whodunnit": "text",
               "object": "text", "created_at": TIME}  # fmt: skip
    assert candidate("versions", columns).preset == "papertrail"
    del columns["whodunnit"]
    assert candidate("versions", columns).preset == ""
