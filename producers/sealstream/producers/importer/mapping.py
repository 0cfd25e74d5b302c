"""Mapping files: which rows of an older trail become events, and how. TOML, with one form for all sources.

A mapping is made of text that its user wrote; what is wrong with it is met before the first row, with its place.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Literal, TypeAlias, cast
from zoneinfo import ZoneInfo

from sealstream.producers.importer.template import Field
from sealstream.schemas.errors import ConfigError
from sealstream.schemas.event import METADATA_KEYS_MAX, TARGETS_MAX, Context

FileFormat: TypeAlias = Literal["csv", "ndjson"]

MAPPING_BYTES_MAX: Final = 1_000_000
_CONTEXT_KEYS: Final = frozenset(Context.__slots__)
_PARTY_KEYS: Final = frozenset({"type", "id", "name"})
_EVENT_KEYS: Final = frozenset(
    {"tenant", "action", "occurred_at", "outcome", "actor", "targets", "context", "metadata", "rest"}
)
_SOURCE_KEYS: Final = frozenset({"table", "query", "key", "format", "delimiter", "columns"})
_TIME_KEYS: Final = frozenset({"value", "format", "timezone"})
_OPEN_TENANT: Final = 'tenant = "default"\n'
_HINT: Final = "sealstream import presets --show NAME prints one that is whole"


@dataclass(frozen=True, slots=True)
class Moment:
    """How the time of an event is made.

    Arguments:
        field: What gives its text.
        form: ``iso`` (which PostgreSQL writes too), ``unix``, ``unix_ms``, or a format of ``strptime``.
        zone: The zone of times that name none; ``None`` if these are an error.
    """

    field: Field
    form: str = "iso"
    zone: ZoneInfo | None = None


@dataclass(frozen=True, slots=True)
class Party:
    """How an actor or a target is made; it is left out if its id is null."""

    type: Field
    id: Field
    name: Field | None = None


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Where the rows are.

    Arguments:
        table: A table or view, with or without its schema; or
        query: a query whose rows are read.
        key: The columns that name a row. Rows are read in their order; none is null, and no two rows have the same.
        format: What a file is: ``csv`` or ``ndjson``.
        delimiter: What stands between the fields of a CSV file.
        columns: The names of a CSV file's columns, if no header names them.
    """

    table: str = ""
    query: str = ""
    key: tuple[str, ...] = ()
    format: FileFormat | None = None
    delimiter: str = ","
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping, read and found to be whole; whether its columns exist is seen at the source.

    Arguments:
        text: The file's text, by whose digest an import says how it was made.
        source: Where the rows are.
        tenant, action, actor, occurred_at, outcome, targets, context, metadata: How the event's fields are made.
        rest: Whether columns that no field uses go to the metadata under their names.
    """

    text: str
    source: SourceSpec
    tenant: Field
    action: Field
    actor: Party
    occurred_at: Moment
    outcome: Field | None
    targets: tuple[Party, ...]
    context: MappingOf[str, Field]
    metadata: MappingOf[str, Field]
    rest: bool

    @property
    def digest(self) -> bytes:
        """SHA-256 of the mapping's text."""
        return hashlib.sha256(self.text.encode()).digest()


def parse_mapping(text: str) -> Mapping:
    """Return the mapping that a file's text is.

    Raises:
        ConfigError: It is no TOML, a key is missing or unknown, or has another form; says which.
    """
    if len(text) > MAPPING_BYTES_MAX:
        raise ConfigError(f"mapping has {len(text)} characters, more than {MAPPING_BYTES_MAX}")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"mapping is no TOML: {error}") from None
    _check_keys("", document, frozenset({"source", "event"}))
    event = _table("event", document.get("event"))
    _check_keys("event", event, _EVENT_KEYS)
    rest = event.get("rest", True)
    if not isinstance(rest, bool):
        raise ConfigError("mapping: event.rest is neither true nor false")
    return Mapping(
        text=text,
        source=_source(_table("source", document.get("source", {}))),
        tenant=_required("event", event, "tenant"),
        action=_required("event", event, "action"),
        actor=_party("event.actor", event.get("actor")),
        occurred_at=_moment(event),
        outcome=Field.parse("event.outcome", event["outcome"]) if "outcome" in event else None,
        targets=_targets(event.get("targets", [])),
        context=_fields("event.context", event.get("context", {}), _CONTEXT_KEYS),
        metadata=_fields("event.metadata", event.get("metadata", {}), None),
        rest=rest,
    )


def preset_names() -> tuple[str, ...]:
    """Return the names of the mappings that ship with Sealstream."""
    folder = files("sealstream.producers.importer").joinpath("presets")
    return tuple(sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml")))


def preset_text(name: str, tenant: str = "") -> str:
    """Return the text of a mapping that ships with Sealstream.

    Arguments:
        name: Its name.
        tenant: Whose rows they are, for a preset whose rows do not say it: a tenant, or a template.

    Raises:
        ConfigError: There is none of that name, or its rows say whose they are.
    """
    if name not in preset_names():
        raise ConfigError(f"there is no preset {name!r}", hint=f"there are {', '.join(preset_names())}")
    text = files("sealstream.producers.importer").joinpath("presets", f"{name}.toml").read_text(encoding="utf-8")
    if not tenant:
        return text
    if _OPEN_TENANT not in text:
        raise ConfigError(f"the rows of {name} say whose they are", hint="leave out the tenant, or write a mapping")
    return text.replace(_OPEN_TENANT, f"tenant = {json.dumps(tenant)}\n")


def needs_tenant(text: str) -> bool:
    """Return whether a preset's text still has to be told whose rows they are."""
    return _OPEN_TENANT in text


def _source(table: dict[str, object]) -> SourceSpec:
    _check_keys("source", table, _SOURCE_KEYS)
    texts = {name: table.get(name, "") for name in ("table", "query")}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise ConfigError(f"mapping: source.{name} is not a text")
    if texts["table"] and texts["query"]:
        raise ConfigError("mapping: source has a table and a query", hint="give one of the two")
    file_format, delimiter = table.get("format"), table.get("delimiter", ",")
    if file_format not in (None, "csv", "ndjson"):
        raise ConfigError(f"mapping: source.format is {file_format!r}", hint="give csv or ndjson")
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '\r\n"':
        raise ConfigError("mapping: source.delimiter is not one character")
    return SourceSpec(
        table=str(texts["table"]),
        query=str(texts["query"]),
        key=_names("source.key", table.get("key", [])),
        format=file_format,
        delimiter=delimiter,
        columns=_names("source.columns", table.get("columns", [])),
    )


def _names(where: str, given: object) -> tuple[str, ...]:
    if isinstance(given, list):
        names = cast("list[object]", given)
        texts = [name for name in names if isinstance(name, str) and name]
        if len(texts) == len(names) == len(set(texts)):
            return tuple(texts)
    raise ConfigError(f"mapping: {where} is no list of different names")


def _moment(event: dict[str, object]) -> Moment:
    given = event.get("occurred_at")
    if given is None:
        raise ConfigError("mapping: event.occurred_at is missing", hint=_HINT)
    if not isinstance(given, dict):
        return Moment(Field.parse("event.occurred_at", given))
    table = cast("dict[str, object]", given)
    _check_keys("event.occurred_at", table, _TIME_KEYS)
    form, zone = table.get("format", "iso"), table.get("timezone")
    if not isinstance(form, str) or (form not in ("iso", "unix", "unix_ms") and "%" not in form):
        raise ConfigError("mapping: event.occurred_at.format is none", hint="give iso, unix, unix_ms, or %Y-%m-%d ...")
    return Moment(_required("event.occurred_at", table, "value"), form, None if zone is None else _zone(zone))


def _zone(given: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(given))
    except (ValueError, OSError, LookupError):
        raise ConfigError(
            f"mapping: event.occurred_at.timezone {str(given)[:80]!r} is unknown", hint="give UTC, Europe/Paris"
        ) from None


def _targets(given: object) -> tuple[Party, ...]:
    if not isinstance(given, list):
        raise ConfigError("mapping: event.targets is no list of tables")
    targets = cast("list[object]", given)
    if len(targets) > TARGETS_MAX:
        raise ConfigError(f"mapping: event.targets has {len(targets)} targets, more than {TARGETS_MAX}")
    return tuple(_party(f"event.targets.{number}", target) for number, target in enumerate(targets))


def _party(where: str, given: object) -> Party:
    table = _table(where, given)
    _check_keys(where, table, _PARTY_KEYS)
    name = Field.parse(f"{where}.name", table["name"]) if "name" in table else None
    return Party(_required(where, table, "type"), _required(where, table, "id"), name)


def _fields(where: str, given: object, known: frozenset[str] | None) -> dict[str, Field]:
    table = _table(where, given)
    if known is not None:
        _check_keys(where, table, known)
    if len(table) > METADATA_KEYS_MAX:
        raise ConfigError(f"mapping: {where} has {len(table)} keys, more than {METADATA_KEYS_MAX}")
    return {name: Field.parse(f"{where}.{name}", value) for name, value in table.items()}


def _required(where: str, table: dict[str, object], name: str) -> Field:
    if name not in table:
        raise ConfigError(f"mapping: {where}.{name} is missing", hint=_HINT)
    return Field.parse(f"{where}.{name}", table[name])


def _table(where: str, given: object) -> dict[str, object]:
    if not isinstance(given, dict):
        raise ConfigError(f"mapping: {where} is no table", hint=_HINT)
    return cast("dict[str, object]", given)


def _check_keys(where: str, table: dict[str, Any], known: frozenset[str]) -> None:
    for name in table:
        if name not in known:
            place = f"{where}.{name}" if where else name
            raise ConfigError(f"mapping: {place} is unknown", hint=f"there are {', '.join(sorted(known))}")
