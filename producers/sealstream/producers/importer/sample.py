"""``--dry-run``: every row made an event and checked, and nothing published."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from sealstream.producers.importer.events import EventMaker, JobKey, final_bytes
from sealstream.producers.importer.mapping import Mapping
from sealstream.producers.importer.quarantine import bad_row
from sealstream.producers.importer.rows import Source
from sealstream.producers.importer.run import OnProgress
from sealstream.schemas.codec import event_to_datum
from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.event import AuditEvent

BAD_ROWS_MAX: Final = 20
"""How many bad rows are told one by one; all are counted, by field and reason."""
_REASONS_MAX: Final = 1_000
_OTHER_REASONS: Final = "other reasons"
_TENANTS_MAX: Final = 100_000


@dataclass(slots=True)
class Sample:
    """What would become of a source.

    Arguments:
        rows: How many rows it has.
        bad: How many of them are none, by field and reason; all of them.
        bad_rows: The first of them.
        events: The first events, as plain values for JSON.
        tenants: How many tenants they are of; at most 100,000 are told apart.
    """

    rows: int = 0
    bad: Counter[str] = field(default_factory=Counter[str])
    bad_rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    tenants: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return {
            "rows": self.rows,
            "bad": self.bad.total(),
            "reasons": dict(self.bad.most_common()),
            "bad_rows": self.bad_rows,
            "tenants": self.tenants,
            "sample": self.events,
        }


def dry_run(
    source: Source, mapping: Mapping, *, instance: str, sample: int = 3, on_progress: OnProgress | None = None
) -> Sample:
    """Return what would become of a source's rows.

    Arguments:
        source: The rows.
        mapping: How they become events.
        instance: The instance.
        sample: How many events to show.
        on_progress: Is told how far it is.

    Raises:
        ConfigError: The mapping names a column that the source does not have.
        Unreachable, SourceUnreadable: The source cannot be read.
    """
    maker = EventMaker(mapping, source, JobKey("dry-run", secrets.token_bytes(32)))
    result, tenants, total = Sample(), set[str](), source.total()
    for chunk in source.chunks(()):
        for row in chunk:
            result.rows += 1
            try:
                event, _ = maker.make(row)
                final_bytes(event, instance)
            except EventInvalid as error:
                reason = error.message if error.message in result.bad or len(result.bad) < _REASONS_MAX else ""
                result.bad[reason or _OTHER_REASONS] += 1
                if len(result.bad_rows) < BAD_ROWS_MAX:
                    result.bad_rows.append(bad_row(row, source.columns, error))
                continue
            if len(tenants) < _TENANTS_MAX:
                tenants.add(event.tenant)
            if len(result.events) < sample:
                result.events.append(_shown(event))
        if on_progress is not None:
            on_progress(source.done(chunk[-1].position, result.rows), total)
    result.tenants = len(tenants)
    return result


def _shown(event: AuditEvent) -> dict[str, Any]:
    """Return an event as a person wants to see it: without what is made anew each time, or empty."""
    datum = event_to_datum(event)
    left_out = ("id", "salt", "kind", "personal", "producer", "control")
    datum["occurred_at"] = event.occurred_at.isoformat()
    datum["context"] = {name: value for name, value in datum["context"].items() if value is not None}
    return {name: value for name, value in datum.items() if name not in left_out}
