"""``inventory``: which tables of a database look like audit trails, how large they are, and how they would be mapped.

It reads the catalogue and the statistics, and no row of any table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sealstream.producers.importer.mapping import parse_mapping, preset_text
from sealstream.producers.importer.postgres_source import connect_read_only, translated

TABLES_MAX: Final = 20_000
"""How many tables are looked at; the largest first."""
SCORE_MIN: Final = 5
"""From how many points on a table is one that looks like an audit trail."""
_STATEMENT_SECONDS: Final = 60.0
_STEADY_RATIO: Final = 100
"""So many inserts for each update or delete, or more, and a table is only added to."""
_INSERTS_MIN: Final = 100

_TABLES: Final = """
SELECT n.nspname, c.relname, greatest(c.reltuples, coalesce(s.n_live_tup, 0))::bigint, pg_total_relation_size(c.oid),
       coalesce(s.n_tup_ins, 0), coalesce(s.n_tup_upd, 0), coalesce(s.n_tup_del, 0),
       (SELECT extract(epoch FROM now() - d.stats_reset) FROM pg_stat_database AS d
        WHERE d.datname = current_database())::float8,
       ARRAY(SELECT a.attname::text FROM pg_attribute AS a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
       ARRAY(SELECT format_type(a.atttypid, NULL) FROM pg_attribute AS a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
       (SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
                     JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum ORDER BY k.place)
        FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_user_tables AS s ON s.relid = c.oid
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%%'
  AND n.nspname <> 'sealstream'
ORDER BY pg_total_relation_size(c.oid) DESC LIMIT %s
"""

_TABLE_WORDS: Final = ("audit", "log", "history", "version", "trail", "activit", "event", "journal", "changes")
_TIMES: Final = (
    "occurred_at", "event_time", "timestamp", "logged_at", "log_time", "action_time", "action_tstamp", "datetime",
    "created_at", "created", "created_on", "changed_at", "performed_at", "date", "time", "ts",
)  # fmt: skip
_ACTIONS: Final = (
    "action", "event", "event_type", "event_name", "operation", "op", "verb", "activity", "action_type", "action_flag",
    "change_type", "crud", "type", "tg_op", "method",
)  # fmt: skip
_ACTORS: Final = (
    "actor_id", "actor", "user_id", "whodunnit", "userid", "username", "user_name", "user", "performed_by",
    "changed_by", "created_by", "author_id", "who", "causer_id", "session_user_name", "account_id", "member_id",
)  # fmt: skip
_OBJECTS: Final = (
    "object_id", "object_pk", "item_id", "target_id", "resource_id", "entity_id", "record_id", "auditable_id",
    "subject_id", "row_id", "object", "target", "resource", "entity",
)  # fmt: skip
_OBJECT_TYPES: Final = (
    "object_type", "item_type", "target_type", "resource_type", "entity_type", "auditable_type", "subject_type",
    "content_type_id", "table_name", "model", "entity_name", "resource_name",
)  # fmt: skip
_TENANTS: Final = (
    "tenant_id", "tenant", "organization_id", "organisation_id", "org_id", "workspace_id", "company_id", "team_id",
    "account_uuid", "customer_id",
)  # fmt: skip
_CHANGES: Final = (
    "changes", "object_changes", "diff", "changed_fields", "old_values", "new_values", "old_data", "new_data",
    "payload", "audited_changes", "row_data", "details", "change_message", "before", "after", "old_value", "new_value",
)  # fmt: skip
_ADDRESSES: Final = ("ip", "ip_address", "remote_addr", "source_ip", "client_ip", "remote_ip", "client_addr")
_PRESETS: Final = {
    "auditlog_logentry": "django-auditlog", "easyaudit_crudevent": "django-easy-audit", "versions": "papertrail"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Candidate:
    """A table that looks like an audit trail.

    Arguments:
        table: Its name, with its schema.
        score: How many points speak for it.
        reasons: What they are for, in words.
        rows: How many rows it has, by the planner's estimate.
        size_bytes: What it takes, indexes included.
        inserts_per_day: How many rows a day came since the statistics began; ``None`` if that is not known.
        updates: How many rows were changed since then.
        deletes: How many were deleted.
        preset: The preset that it matches; empty if it matches none.
        mapping: A mapping file to begin with.
    """

    table: str
    score: int
    reasons: tuple[str, ...]
    rows: int
    size_bytes: int
    inserts_per_day: float | None
    updates: int
    deletes: int
    preset: str
    mapping: str


def take_inventory(url: str) -> tuple[Candidate, ...]:
    """Return the tables of a database that look like audit trails, those that most speaks for first.

    Arguments:
        url: The database; what it holds is never shown.

    Raises:
        ConfigError: The URL is none.
        Unreachable, SourceUnreadable: PostgreSQL does not answer, or refuses.
    """
    connection = connect_read_only(url, statement_seconds=_STATEMENT_SECONDS)
    try:
        with translated():
            rows = connection.execute(_TABLES, (TABLES_MAX,)).fetchall()
    finally:
        connection.close()
    found = [candidate for row in rows if (candidate := judge(*row)).score >= SCORE_MIN]
    return tuple(sorted(found, key=lambda one: (-one.score, -one.size_bytes, one.table)))


def judge(
    schema: str,
    name: str,
    rows: int,
    size_bytes: int,
    inserts: int,
    updates: int,
    deletes: int,
    seconds: float | None,
    columns: Sequence[str],
    types: Sequence[str],
    key: Sequence[str] | None,
) -> Candidate:
    """Return what speaks for a table, and how it would be mapped. Pure."""
    kinds = dict(zip(columns, types, strict=True))
    roles = _roles(kinds)
    reasons: list[tuple[int, str]] = []
    if any(word in name.lower() for word in _TABLE_WORDS):
        reasons.append((1, "its name says so"))
    for points, role, words in (
        (2, "time", "when"),
        (2, "action", "what was done"),
        (2, "actor", "who did it"),
        (1, "object", "to what"),
        (1, "changes", "what was changed"),
        (1, "address", "from where"),
    ):
        if role in roles:
            reasons.append((points, f"{roles[role]} says {words}"))
    if inserts >= _INSERTS_MIN and (updates + deletes) * _STEADY_RATIO <= inserts:
        reasons.append((2, "rows are added, and hardly ever changed or deleted"))
    preset = _preset(name, kinds)
    if preset:
        reasons.append((4, f"it is the table of {preset}"))
    if "time" not in roles or not {"action", "changes"} & roles.keys():
        reasons = []  # whatever else speaks for it: no event can be made of its rows
    qualified = name if schema == "public" else f"{schema}.{name}"
    days = None if not seconds else seconds / 86_400
    return Candidate(
        table=qualified,
        score=sum(points for points, _ in reasons),
        reasons=tuple(words for _, words in reasons),
        rows=rows,
        size_bytes=size_bytes,
        inserts_per_day=None if days is None else round(inserts / days, 1),
        updates=updates,
        deletes=deletes,
        preset=preset,
        mapping=_from_preset(preset, qualified) if preset else _propose(qualified, kinds, roles, key or ()),
    )


def _roles(kinds: Mapping[str, str]) -> dict[str, str]:
    """Return which column plays which part, by its name and type."""
    lower = {name.lower(): name for name in kinds}
    roles: dict[str, str] = {}
    for role, names in (
        ("action", _ACTIONS),
        ("actor", _ACTORS),
        ("object", _OBJECTS),
        ("object_type", _OBJECT_TYPES),
        ("tenant", _TENANTS),
        ("changes", _CHANGES),
        ("address", _ADDRESSES),
    ):
        found = next((lower[name] for name in names if name in lower), None)
        if found is not None and found not in roles.values():
            roles[role] = found
    times = [name for name, kind in kinds.items() if kind.startswith("timestamp")]
    named = [lower[name] for name in _TIMES if lower.get(name) in times]
    if named or times:
        roles["time"] = (named or times)[0]
    return roles


def _preset(name: str, kinds: Mapping[str, str]) -> str:
    preset = _PRESETS.get(name, "")
    if preset:
        text = preset_text(preset)
        # A preset is of one version of its tool: the columns of another one may have other names.
        used = [part.split("}")[0] for part in text.split("{")[1:] if "}" in part]
        if not all(column in kinds for column in used if column.isidentifier()):
            return ""
    return preset


def _from_preset(preset: str, table: str) -> str:
    text = preset_text(preset)
    return text.replace(_text(parse_mapping(text).source.table), _text(table))


def _propose(table: str, kinds: Mapping[str, str], roles: Mapping[str, str], key: Sequence[str]) -> str:
    lines = [
        f"# Proposed for {table} from the names and types of its columns: look at every line of it.",
        "# Columns that no line names go to the event's metadata.",
        "",
        "[source]",
        f"table = {_text(table)}",
        f"key = [{', '.join(_text(name) for name in key)}]" + ("" if key else "  # it has no primary key: name one"),
        "",
        "[event]",
        f"tenant = {_field(roles['tenant'])}" if "tenant" in roles else 'tenant = "default"  # whose rows are they?',
    ]
    if "time" in roles:
        zone = "" if "with time zone" in kinds[roles["time"]] else ', timezone = "UTC"'
        lines.append(f"occurred_at = {{ value = {_field(roles['time'])}{zone} }}")
    action = f'[{_field(roles["action"])}, "row.written"]' if "action" in roles else '"row.written"'
    actor = f'[{_field(roles["actor"])}, "unknown"]' if "actor" in roles else '"unknown"'
    lines += [f"action = {action}", f'actor = {{ type = "user", id = {actor} }}']
    if "object" in roles:
        object_type = f'[{_field(roles["object_type"])}, "object"]' if "object_type" in roles else '"object"'
        lines.append(f"targets = [{{ type = {object_type}, id = {_field(roles['object'])} }}]")
    if "address" in roles:
        lines.append(f"context = {{ ip = {_field(roles['address'])} }}")
    return "\n".join(lines) + "\n"


def _field(column: str) -> str:
    return _text("{" + column + "}")


def _text(value: Any) -> str:
    """Return a text as TOML: a JSON string is one of its basic strings."""
    return json.dumps(str(value))
