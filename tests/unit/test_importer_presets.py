"""Presets: each reads rows as the tool in its name writes them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sealstream.producers.importer.events import EventMaker
from sealstream.producers.importer.mapping import needs_tenant, parse_mapping, preset_names, preset_text
from sealstream.producers.importer.opening import open_source
from sealstream.schemas.errors import ConfigError
from sealstream.schemas.event import Actor, Outcome, Target
from support.importing import KEY, make

AUDITLOG: dict[str, str | None] = dict.fromkeys(
    ("id", "content_type_id", "object_pk", "object_id", "object_repr", "serialized_data", "action", "changes_text",
     "changes", "actor_id", "actor_email", "cid", "remote_addr", "remote_port", "timestamp", "additional_data")
)  # fmt: skip
EASYAUDIT: dict[str, str | None] = dict.fromkeys(
    ("id", "event_type", "object_id", "datetime", "content_type_id", "object_repr", "object_json_repr",
     "changed_fields", "user_id", "user_pk_as_string")
)  # fmt: skip
VERSIONS: dict[str, str | None] = dict.fromkeys(
    ("id", "item_type", "item_id", "event", "whodunnit", "object", "created_at")
)


def test_names() -> None:
    """All of them are there, parse, and say in their first line what they are for."""
    assert set(preset_names()) == {
        "django-auditlog", "django-easy-audit", "papertrail", "pgaudit-csv", "retraced", "workos"
    }  # fmt: skip
    for name in preset_names():
        assert parse_mapping(preset_text(name)).digest
        assert preset_text(name).startswith("# ")
    with pytest.raises(ConfigError, match="no preset"):
        preset_text("../mapping")


def test_tenant_is_asked_for() -> None:
    """Where rows do not say whose they are, the preset needs a tenant; where they do, it takes none."""
    assert {name for name in preset_names() if needs_tenant(preset_text(name))} == {
        "django-auditlog", "django-easy-audit", "papertrail", "pgaudit-csv"
    }  # fmt: skip
    text = preset_text("papertrail", '{org}"')
    assert not needs_tenant(text)
    assert parse_mapping(text).tenant.templates == ('{org}"',)
    with pytest.raises(ConfigError, match="whose"):
        preset_text("workos", "acme")


def test_django_auditlog() -> None:
    """A LogEntry keeps its object, its actor, its changes, and all its other columns."""
    texts = AUDITLOG | {
        "id": "7", "content_type_id": "12", "object_pk": "42", "object_repr": "Report", "action": "1",
        "changes": '{"title": ["a", "b"]}', "actor_id": "3", "actor_email": "ann@example.com", "cid": "c-1",
        "remote_addr": "192.0.2.1", "timestamp": "2024-01-02 03:04:05.6+00", "additional_data": "{}",
    }  # fmt: skip
    event, _ = make(parse_mapping(preset_text("django-auditlog", "acme")), texts, key="7")

    event.check()
    assert (event.tenant, event.action, event.outcome) == ("acme", "object.updated", Outcome.SUCCESS)
    assert event.actor == Actor("user", "3", "ann@example.com")
    assert event.targets == (Target("content_type:12", "42", "Report"),)
    assert event.context.ip == "192.0.2.1"
    assert event.occurred_at == datetime(2024, 1, 2, 3, 4, 5, 600_000, UTC)
    assert event.metadata["changes"] == '{"title": ["a", "b"]}'
    assert event.metadata["additional_data"] == "{}"


def test_django_easy_audit() -> None:
    """A CRUDEvent of any type, known or not, becomes an event."""
    texts = EASYAUDIT | {
        "id": "1", "event_type": "3", "object_id": "9", "datetime": "2024-01-02 03:04:05+00", "content_type_id": "4",
        "object_repr": "x", "object_json_repr": "[]", "user_pk_as_string": "5",
    }  # fmt: skip
    how = parse_mapping(preset_text("django-easy-audit", "acme"))

    assert make(how, texts).event.action == "object.deleted"
    assert make(how, texts).event.actor.id == "5"
    assert make(how, texts | {"event_type": "99"}).event.action == "object.event_99"
    assert make(how, texts | {"user_pk_as_string": ""}).event.actor.id == "unknown"


def test_papertrail() -> None:
    """A version without whodunnit has an unknown actor; a time without zone is Rails' UTC."""
    texts = VERSIONS | {
        "id": "1", "item_type": "Invoice", "item_id": "8", "event": "destroy", "object": "---\nid: 8\n",
        "created_at": "2024-01-02 03:04:05.123456",
    }  # fmt: skip
    event, _ = make(parse_mapping(preset_text("papertrail", "acme")), texts)

    assert (event.action, event.actor.id, event.targets) == ("object.deleted", "unknown", (Target("Invoice", "8"),))
    assert event.occurred_at == datetime(2024, 1, 2, 3, 4, 5, 123_456, UTC)
    assert event.metadata["before"].startswith("---")


CSVLOG = '''\
2024-01-02 03:04:05.678 UTC,"app","shop",4711,"192.0.2.9:5432",65937a1b.1267,3,"SELECT",2024-01-02 03:00:00 UTC,4/12,0,\
LOG,00000,"AUDIT: SESSION,1,1,READ,SELECT,,,""SELECT 1"",<not logged>",,,,,,,,,"psql","client backend",,0
2024-01-02 03:04:05.680 UTC,"app","shop",4711,"192.0.2.9:5432",65937a1b.1267,4,"INSERT",2024-01-02 03:00:00 UTC,4/13,0,\
LOG,00000,"AUDIT: SESSION,2,1,WRITE,INSERT,TABLE,public.item,INSERT INTO item VALUES ($1),""""""Zoë """"""""Z"""""""",
two lines""""""",,,,,,,,,"billing","client backend",,0
2024-01-02 03:04:05.681 UTC,"app","shop",4711,"192.0.2.9:5432",65937a1b.1267,5,"BIND",2024-01-02 03:00:00 UTC,4/14,0,\
LOG,00000,"AUDIT: SESSION,3,1,READ,SELECT,TABLE,public.item,SELECT * FROM item WHERE id = $1,1",,,,,,,,,"billing",\
"client backend",,-4711
2024-01-02 03:04:05.682 UTC,"app","shop",4711,"192.0.2.9:5432",65937a1b.1267,6,"DELETE",2024-01-02 03:00:00 UTC,4/15,0,\
ERROR,42501,"permission denied for table item",,,,,,"DELETE FROM item",,,"billing","client backend",,0
2024-01-02 03:04:05.683 UTC,,,4700,,65937a10.125c,7,,2024-01-02 03:00:00 UTC,,0,\
LOG,00000,"checkpoint starting: time",,,,,,,,,"","checkpointer",,0
2024-01-02 03:04:05.684 UTC,,,4712,"192.0.2.9:5433",65937a1b.1268,1,"",2024-01-02 03:04:05 UTC,,0,\
LOG,00000,"connection received: host=192.0.2.9 port=5433",,,,,,,,,"","not initialized",,0
'''
"""Lines of csvlog in the forms that PostgreSQL 15 with pgAudit 1.7 and PostgreSQL 18 write."""


def test_pgaudit_csv(tmp_path: Path) -> None:
    """Each line of csvlog is an event: pgAudit's, of several lines too, errors, and those of the server itself."""
    how = parse_mapping(preset_text("pgaudit-csv", "shop"))
    path = tmp_path / "log.csv"
    path.write_text(CSVLOG)
    with open_source(str(path), how) as source:
        maker = EventMaker(how, source, KEY)
        events = [maker.make(row).event for chunk in source.chunks(()) for row in chunk]
    for event in events:
        event.check()

    assert [event.action.removeprefix("database.") for event in events] == [
        "SELECT", "INSERT", "BIND", "DELETE", "LOG", "LOG"
    ]  # fmt: skip
    assert [event.actor.id for event in events] == ["app"] * 4 + ["server"] * 2
    assert [event.outcome for event in events[2:4]] == [Outcome.UNKNOWN, Outcome.FAILURE]
    assert events[0].occurred_at == datetime(2024, 1, 2, 3, 4, 5, 678_000, UTC)
    assert events[0].metadata["application_name"] == "psql"
    assert events[1].metadata["message"].startswith("AUDIT: SESSION,2,1,WRITE,INSERT")
    assert events[1].metadata["message"].endswith('two lines"""')
    assert events[4].targets == ()


def test_retraced() -> None:
    """A failed event of a group, with its actor and target; what has no place of its own stays in the metadata."""
    line = {
        "id": "e-1", "action": "user.login", "group": {"id": "acme", "name": "Acme"}, "crud": "r",
        "actor": {"id": "u-1", "name": "Ann"}, "target": {"id": "t-1", "type": "session"}, "is_failure": True,
        "source_ip": "192.0.2.1", "canonical_time": 1_704_164_645_678, "component": "web",
    }  # fmt: skip
    event, _ = make(parse_mapping(preset_text("retraced")), {"line": json.dumps(line)}, whole=True)

    event.check()
    assert (event.tenant, event.action, event.outcome) == ("acme", "user.login", Outcome.FAILURE)
    assert event.targets == (Target("session", "t-1"),)
    assert event.occurred_at == datetime(2024, 1, 2, 3, 4, 5, 678_000, UTC)
    assert (event.metadata["component"], event.metadata["retraced_id"]) == ("web", "e-1")


def test_workos() -> None:
    """An audit log event with its targets and its context."""
    line = {
        "id": "audit_log_event_1", "organization_id": "org_1", "action": "user.signed_in",
        "occurred_at": "2024-01-02T03:04:05.678Z", "version": 1,
        "actor": {"type": "user", "id": "u-1", "metadata": {"role": "admin"}},
        "targets": [{"type": "team", "id": "t-1"}], "context": {"location": "192.0.2.1", "user_agent": "Chrome"},
    }  # fmt: skip
    event, _ = make(parse_mapping(preset_text("workos")), {"line": json.dumps(line)}, whole=True)

    event.check()
    assert (event.tenant, event.targets) == ("org_1", (Target("team", "t-1"),))
    assert event.context.user_agent == "Chrome"
    assert '"role":"admin"' in event.metadata["actor"]
    assert event.metadata["version"] == "1"
