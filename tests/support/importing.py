"""Imports without servers: rows in memory, and a store in memory that has what a job has published."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Self

from sealstream.producers.importer.check import StoredEvent
from sealstream.producers.importer.events import EventMaker, JobKey, Made
from sealstream.producers.importer.mapping import Mapping, parse_mapping
from sealstream.producers.importer.rows import Position, SourceRow
from sealstream.schemas.codec import encode_event
from sealstream.schemas.entry import Kind, payload_digest
from sealstream.schemas.event import AuditEvent, Control, EventKind

KEY = JobKey("trail-0a1b2c3d", bytes(range(32)))
MAPPING = """
[source]
table = "trail"
key = ["id"]

[event]
tenant = "{org}"
occurred_at = "{at}"
action = "document.updated"
actor = { type = "user", id = "{who}" }
"""
COLUMNS = ("id", "org", "at", "who", "note")


def row(number: int, *texts: str | None) -> SourceRow:
    """Return a row of a number."""
    return SourceRow(str(number), (str(number), *texts), (number,))


def rows(count: int) -> list[SourceRow]:
    """Return rows of two tenants that fit :data:`MAPPING`."""
    return [row(n, f"org-{n % 2}", f"2024-01-01T00:00:{n % 60:02}Z", f"u-{n}", None) for n in range(1, count + 1)]


class MemorySource:
    """A source of rows that are at hand; a position is a row's number."""

    def __init__(
        self, given: Sequence[SourceRow] = (), columns: tuple[str, ...] = COLUMNS, *, whole: bool = False
    ) -> None:
        self.rows = list(given)
        self.columns = columns
        self.whole = whole
        self.description = "memory"

    def total(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    def done(self, position: Position, rows: int) -> int:
        """How many were read."""
        del position
        return rows

    def chunks(self, after: Position, until: Position = ()) -> Generator[list[SourceRow]]:
        """Yield the rows, three at a time."""
        found = [one for one in self.rows if one.position > after and (not until or one.position <= until)]
        for first in range(0, len(found), 3):
            yield found[first : first + 3]

    def rows_behind(self, position: Position) -> int:
        """How many rows are behind one."""
        return sum(1 for one in self.rows if one.position > position)

    def close(self) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None: ...


class MemoryStore:
    """What the chains have, given the published events in their order."""

    def __init__(self) -> None:
        self.records: list[StoredEvent] = []
        self.controls: dict[tuple[str, str], list[tuple[int, Control]]] = {}

    def add(self, event: AuditEvent, kind: Kind | None = None) -> None:
        """Add an event behind all others."""
        kinds = {EventKind.IMPORTED: Kind.IMPORTED, EventKind.CONTROL: Kind.CONTROL, EventKind.EVENT: Kind.EVENT}
        seq = len(self.records) + 1
        digest = payload_digest(encode_event(event))
        self.records.append(StoredEvent(event.tenant, event.id, seq, kind or kinds[event.kind], digest))
        if event.control is not None:
            self.controls.setdefault((event.tenant, event.id), []).append((seq, event.control))

    def records_of(self, events: Sequence[tuple[str, str]]) -> list[StoredEvent]:
        """Return all records of events."""
        return [record for record in self.records if (record.tenant, record.event_id) in set(events)]

    def control_of(self, tenant: str, event_id: str) -> tuple[int, Control] | None:
        """Return the one control of an id."""
        found = self.controls.get((tenant, event_id), [])
        return found[0] if len(found) == 1 else None

    def imported_ids(self, tenant: str, prefix: str, after: str, limit: int) -> list[str]:
        """Return the ids of imported events."""
        found = {
            record.event_id
            for record in self.records
            if record.tenant == tenant and record.kind is Kind.IMPORTED and record.event_id.startswith(prefix)
        }
        return sorted(one for one in found if one > after)[:limit]


def mapping(event: str, source: str = "") -> Mapping:
    """Return a mapping with these lines for the event, besides those that every mapping needs."""
    given = {line.partition(" =")[0].strip() for line in event.splitlines()}
    needed = {
        "tenant": '"acme"',
        "occurred_at": '"2024-01-01T00:00:00Z"',
        "action": '"document.updated"',
        "actor": '{ type = "user", id = "u-1" }',
    }
    lines = [f"{name} = {value}" for name, value in needed.items() if name not in given]
    return parse_mapping("\n".join(["[source]", source, "[event]", *lines, event]))


def make(how: Mapping, texts: dict[str, str | None], *, whole: bool = False, key: str = "1") -> Made:
    """Return the event of one row."""
    source = MemorySource((), tuple(texts), whole=whole)
    return EventMaker(how, source, KEY).make(SourceRow(key, tuple(texts.values()), (1,)))
