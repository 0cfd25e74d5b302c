"""The outbox's table: its names, its SQL, and the ids of the events in it. Nothing here speaks to a database."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Final

from sealstream.schemas.errors import ConfigError

DEFAULT_TABLE: Final = "audit_outbox"
AGGREGATE_TYPE: Final = "audit"
SHARDS: Final = 64
"""Into how many parts the tenants fall, each served by one relay at a time: a power of two, and part of the table."""

_ID_PREFIX: Final = "outbox:"
_NAME_CHARACTERS_MAX: Final = 48  # with what is put behind it, within PostgreSQL's 63 bytes for an identifier
_NAME: Final = re.compile(r"([a-z_][a-z0-9_]*\.)?[a-z_][a-z0-9_]*")
_ROLE_CHARACTERS_MAX: Final = 63


@dataclass(frozen=True)
class OutboxTable:
    """The names that belong to one outbox table.

    Arguments:
        name: The table, with its schema if it needs one: ``audit_outbox``, ``billing.audit_outbox``. It stands in the
            events' ids.

    Raises:
        ConfigError: The name is not made of small letters, digits and underscores, or has more than 48 characters.
    """

    name: str = DEFAULT_TABLE

    def __post_init__(self) -> None:
        """Refuse a name that would have to be quoted: it stands in SQL and in event ids."""
        if _NAME.fullmatch(self.name) is None or len(self.name) > _NAME_CHARACTERS_MAX:
            raise ConfigError(
                f"{self.name!r} is no name for an outbox table",
                hint=f"use table or schema.table of a-z, 0-9 and _, {_NAME_CHARACTERS_MAX} characters at most",
            )

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The name's parts: the schema if there is one, and the table."""
        return tuple(self.name.split("."))

    @cached_property
    def shards_parts(self) -> tuple[str, ...]:
        """The parts of the name of the table of shards."""
        return (*self.parts[:-1], f"{self.parts[-1]}_shards")

    @property
    def channel(self) -> str:
        """The channel on which the relays are woken (``LISTEN``)."""
        return self.name

    @cached_property
    def insert_sql(self) -> str:
        """The statement that adds a row; parameters in DB-API's style ``format``: id, tenant, action, bytes."""
        return f"{self._insert_into} VALUES (%s::uuid, '{AGGREGATE_TYPE}', %s, %s, %s)"

    @cached_property
    def named_insert_sql(self) -> str:
        """The same with parameters named ``:id``, ``:tenant``, ``:action`` and ``:payload``."""
        return f"{self._insert_into} VALUES (CAST(:id AS uuid), '{AGGREGATE_TYPE}', :tenant, :action, :payload)"

    def event_id(self, row_id: str) -> str:
        """Return the id of the event in a row."""
        return f"{_ID_PREFIX}{self.name}:{row_id}"

    def create_sql(self, *, notify: bool = True) -> str:
        """Return the SQL that creates the table and what belongs to it; safe to run again.

        Arguments:
            notify: With the trigger that wakes the relays at a commit; without it they look by themselves.
        """
        texts = [_shipped("audit_outbox.sql")] + ([_shipped("notify.sql")] if notify else [])
        table = self.parts[-1]
        names = {
            "table": _quoted(self.parts),
            "shards": _quoted(self.shards_parts),
            "function": _quoted((*self.parts[:-1], f"{table}_notify")),
            "trigger": _quoted((f"{table}_notify",)),
            "waiting_index": _quoted((f"{table}_waiting",)),
            "refused_index": _quoted((f"{table}_refused",)),
            "channel": self.channel,
            "last_shard": str(SHARDS - 1),
        }
        script = "".join(texts)
        for name, value in names.items():
            script = script.replace(f"{{{name}}}", value)
        return script

    def grant_sql(self, *, writer: str | None = None, relay: str | None = None) -> str:
        """Return the SQL that gives existing roles what they need and no more.

        Arguments:
            writer: The application's role: it may add events, and neither read, change nor delete them.
            relay: The relay's role: it may read events, mark and delete them, and not change their bytes.

        Raises:
            ConfigError: A name cannot be a role's.
        """
        table, shards = _quoted(self.parts), _quoted(self.shards_parts)
        lines: list[str] = []
        if writer is not None:
            role = _quoted_role(writer)
            lines.append(f"GRANT INSERT (id, aggregatetype, aggregateid, type, payload) ON {table} TO {role};")
        if relay is not None:
            role = _quoted_role(relay)
            marks = "published_at, published_partition, published_offset, refused"
            lines.append(f"GRANT SELECT, DELETE, UPDATE ({marks}) ON {table} TO {role};")
            lines.append(f"GRANT SELECT, UPDATE (relay, served_at, published) ON {shards} TO {role};")
        return "".join(f"{line}\n" for line in lines)

    @property
    def _insert_into(self) -> str:
        return f"INSERT INTO {_quoted(self.parts)} (id, aggregatetype, aggregateid, type, payload)"


def names_row(event_id: str, row_id: str) -> bool:
    """Return whether an event's id is that of a row's event; under which name the table was known does not count."""
    return event_id.startswith(_ID_PREFIX) and event_id.endswith(f":{row_id}")


def _shipped(name: str) -> str:
    return files("sealstream.producers.outbox").joinpath(name).read_text(encoding="utf-8")


def _quoted(parts: tuple[str, ...]) -> str:
    """Return a checked name as SQL has it: quoted, so that no word of SQL's is in the way."""
    return ".".join(f'"{part}"' for part in parts)


def _quoted_role(role: str) -> str:
    if not role or len(role.encode()) > _ROLE_CHARACTERS_MAX or not role.isprintable():
        raise ConfigError(f"{role!r} is no name of a role")
    return '"' + role.replace('"', '""') + '"'
