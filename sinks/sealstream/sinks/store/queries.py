"""What the reader asks, and what it makes of the answers: the part that its two fronts share. No I/O."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from psycopg import sql

from sealstream.schemas.entry import CARRIED_KINDS, Kind, entry_hash, parse, payload_digest
from sealstream.schemas.errors import EntryInvalid, StoreDamaged, StoreError
from sealstream.sinks.store.compare import columns_at_fault
from sealstream.sinks.store.results import EventProof, EventProofs, FoundEvent, SearchPage
from sealstream.sinks.store.rows import ENTRY_COLUMNS, EVENT_COLUMNS, EntryRow, moment

LIMIT_MAX: Final = 1_000
_TEXT_CHARACTERS_MAX: Final = 8_192
_INDEXED_CHARACTERS: Final = 128  # of an actor's id, by the index events_actor
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN: Final = tuple(name for name in EVENT_COLUMNS if name != "retention_class")
_DAMAGED_HINT: Final = "run sealstream verify, and compare with audit.chained or a backup"

Parameters = dict[str, Any]

_ENTRY: Final = sql.SQL(", ").join(sql.Identifier("e", name) for name in ENTRY_COLUMNS)

CHAIN: Final = sql.SQL(
    "SELECT {}, p.bytes FROM sealstream.entries AS e LEFT JOIN sealstream.payloads AS p"
    " ON p.tenant = e.tenant AND p.seq = e.seq AND p.received = e.received"
    " WHERE e.tenant = %(tenant)s ORDER BY e.seq"
).format(_ENTRY)
"""A chain in its order. The payload's time is compared too, so that only the partition of its month is looked into."""

PROOFS: Final = sql.SQL(
    "SELECT {}, (SELECT p.bytes FROM sealstream.payloads AS p"
    " WHERE p.tenant = e.tenant AND p.seq = e.seq AND p.received = e.received LIMIT 1)"
    " FROM sealstream.entries AS e WHERE e.tenant = %(tenant)s AND e.event_id = %(event_id)s"
    " ORDER BY e.seq LIMIT %(limit)s"
).format(_ENTRY)
"""An event's records. A join might be planned as a walk over all payloads of the tenant; a sub-select never is."""

_RECORD: Final = sql.SQL(
    "SELECT {}, (SELECT p.bytes FROM sealstream.payloads AS p"
    " WHERE p.tenant = e.tenant AND p.seq = e.seq AND p.received = e.received LIMIT 1)"
    " FROM sealstream.entries AS e WHERE e.tenant = %(tenant)s"
).format(_ENTRY)

RECORD: Final = _RECORD + sql.SQL(" AND e.seq = %(seq)s")
"""One record of a chain, by its place; more than one row only if a place is taken twice."""

RECORDS: Final = _RECORD + sql.SQL(" AND e.seq BETWEEN %(first_seq)s AND %(last_seq)s ORDER BY e.seq")
"""The records of a part of a chain, in its order."""

FIRST_SINCE: Final = sql.SQL(
    "SELECT e.seq FROM sealstream.entries AS e"
    " WHERE e.tenant = %(tenant)s AND e.received >= %(received)s ORDER BY e.seq LIMIT 1"
)
LAST_BEFORE: Final = sql.SQL(
    "SELECT e.seq FROM sealstream.entries AS e"
    " WHERE e.tenant = %(tenant)s AND e.received < %(received)s ORDER BY e.seq DESC LIMIT 1"
)
"""Between them lies every record of a span of time, though a broker's times may step back."""

HEADS: Final = sql.SQL(
    "SELECT tenant, seq, hash FROM sealstream.tenant_heads WHERE tenant > %(after)s ORDER BY tenant LIMIT %(limit)s"
)

SEARCHED_UNTIL: Final = sql.SQL(
    "SELECT p.received FROM sealstream.tenant_heads AS h"
    " JOIN sealstream.entries AS e ON e.tenant = h.tenant AND e.seq = h.seq"
    " JOIN sealstream.search_positions AS p ON p.partition = e.partition AND p.topic_id = e.topic_id"
    ' WHERE h.tenant = %(tenant)s AND e."offset" >= p.next_offset'
)
"""Until when a tenant's events can be searched; no row if that is true of all that are stored."""

TENANTS_OF_EVENT: Final = sql.SQL(
    "SELECT h.tenant FROM sealstream.tenant_heads AS h WHERE EXISTS"
    " (SELECT FROM sealstream.entries AS e WHERE e.tenant = h.tenant AND e.event_id = %(event_id)s)"
    " ORDER BY h.tenant LIMIT %(limit)s"
)
"""One look into the index (event_id, tenant) for each tenant, so that it does not matter how often one has the id."""


def proofs(rows: Sequence[Sequence[Any]], limit: int) -> EventProofs:
    """Return the records that the rows of :data:`PROOFS` are, one more than the limit at most.

    Raises:
        StoreDamaged: A row does not hold together.
    """
    first: dict[bytes, int] = {}
    found: list[EventProof] = []
    for values in rows[:limit]:
        proof, digest = _proof(EntryRow(*values[:-1]), values[-1], first)
        if proof.kind in (Kind.EVENT, Kind.IMPORTED):
            first.setdefault(digest, proof.seq)
        found.append(proof)
    return EventProofs(tuple(found), complete=len(rows) <= limit)


def record(values: Sequence[Any]) -> EventProof:
    """Return the record that a row of :data:`RECORD` or :data:`RECORDS` is.

    Raises:
        StoreDamaged: The row does not hold together.
    """
    return _proof(EntryRow(*values[:-1]), values[-1], {})[0]


def one_record(rows: Sequence[Sequence[Any]], tenant: str, seq: int) -> EventProof:
    """Return the record that the rows of :data:`RECORD` are.

    Raises:
        StoreDamaged: The row does not hold together, or there are two.
        StoreError: There is none.
    """
    if not rows:
        raise StoreError(
            f"the store has no entry {seq} of tenant {tenant} that this login may see",
            hint="it may not be stored yet",
        )
    if len(rows) > 1:
        raise StoreDamaged(tenant, seq, "two entries are stored for this place", hint=_DAMAGED_HINT)
    return record(rows[0])


def _proof(row: EntryRow, payload: bytes | None, first: dict[bytes, int]) -> tuple[EventProof, bytes]:
    try:
        entry = parse(row.entry)
    except EntryInvalid as error:
        raise StoreDamaged(
            row.tenant, row.seq, f"the entry does not parse: {error.message}", hint=_DAMAGED_HINT
        ) from error
    wrong = columns_at_fault(row, entry)
    if row.hash != entry_hash(row.entry):
        wrong.append("hash")
    if wrong:
        raise StoreDamaged(
            row.tenant, row.seq, f"the stored {', '.join(wrong)} is not that of the entry", hint=_DAMAGED_HINT
        )
    carried = entry.kind in CARRIED_KINDS
    if carried and (payload is None or payload_digest(payload) != entry.payload):
        what = "missing" if payload is None else "not the one that the entry commits to"
        raise StoreDamaged(row.tenant, row.seq, f"the payload is {what}", hint=_DAMAGED_HINT)
    again = first.get(entry.payload) if entry.kind in (Kind.EVENT, Kind.IMPORTED) else None
    proof = EventProof(
        tenant=row.tenant,
        event_id=entry.event_id,
        seq=row.seq,
        kind=entry.kind,
        chain_hash=row.hash,
        prev_hash=entry.prev,
        received=moment(entry.received),
        entry=row.entry,
        payload=payload if carried else None,
        repeat_of=again,
        ref=entry.ref or None,
    )
    return proof, entry.payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search, within one tenant; what is not given does not narrow it.

    Arguments:
        tenant: Whose events.
        actor: The actor's id.
        action: The action; ``document.*`` stands for all that begin with ``document.``.
        target: The id of one of the targets.
        outcome: The outcome.
        request_id: The request's id.
        since: Received at this time or later.
        until: Received before this time.
        occurred_since: Occurred, as the application claims, at this time or later.
        occurred_until: Occurred before this time.
        text: Occurs, in either case, in the actor's name, the action, the targets or the metadata. Reads every event
            that the other conditions leave.
        limit: How many events at most, up to 1,000.
        cursor: Goes on behind an earlier page of the same search.
    """

    tenant: str
    actor: str | None = None
    action: str | None = None
    target: str | None = None
    outcome: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    occurred_since: datetime | None = None
    occurred_until: datetime | None = None
    text: str | None = None
    limit: int = 50
    cursor: str | None = None

    def query(self) -> tuple[sql.Composed, Parameters]:
        """Return what to ask: one row more than the limit, so that a next page is known of.

        Raises:
            StoreError: A condition is out of range, or the cursor is none.
        """
        self._check()
        given = [name for name in _CONDITIONS if getattr(self, name) is not None]
        conditions = {name: _CONDITIONS[name] for name in given}
        parameters: Parameters = {name: getattr(self, name) for name in given} | {"limit": self.limit + 1}
        if self.actor is not None:
            parameters["actor_begin"] = self.actor[:_INDEXED_CHARACTERS]
        if self.action is not None and self.action.endswith("*"):
            conditions["action"] = sql.SQL("starts_with(action, %(action)s)")
            parameters["action"] = self.action[:-1]
        if self.target is not None:
            parameters["target"] = json.dumps([{"id": self.target}])
        if self.text is not None:
            parameters["text"] = f"%{_escape(self.text)}%"
        if self.cursor is not None:
            conditions["cursor"] = sql.SQL("(received_at, seq) < (%(before)s, %(before_seq)s)")
            parameters["before"], parameters["before_seq"] = _read_cursor(self.cursor)
        query = sql.SQL(
            "SELECT {} FROM sealstream.events WHERE {} ORDER BY received_at DESC, seq DESC LIMIT %(limit)s"
        ).format(sql.SQL(", ").join(map(sql.Identifier, _SHOWN)), sql.SQL(" AND ").join(conditions.values()))
        return query, parameters

    def page(self, rows: Sequence[Sequence[Any]], behind: Sequence[Sequence[Any]] = ()) -> SearchPage:
        """Return the page that the rows are.

        Arguments:
            rows: What :meth:`query` gave.
            behind: What :data:`SEARCHED_UNTIL` gave before that.
        """
        as_of = min((moment(received) for (received,) in behind), default=None)
        found = tuple(_found(row) for row in rows[: self.limit])
        more = len(rows) > self.limit
        return SearchPage(found, _make_cursor(found[-1]) if more else None, as_of)

    def _check(self) -> None:
        check_limit(self.limit)
        for name in ("tenant", "actor", "action", "target", "outcome", "request_id", "text"):
            value = getattr(self, name)
            if value is not None and (len(value) > _TEXT_CHARACTERS_MAX or "\0" in value):
                raise StoreError(f"{name} is longer than {_TEXT_CHARACTERS_MAX} characters, or holds a NUL")
        for name in ("since", "until", "occurred_since", "occurred_until"):
            value = getattr(self, name)
            if value is not None and value.tzinfo is None:
                raise StoreError(f"{name} has no time zone", hint="use datetime.now(UTC), or an offset")


_CONDITIONS: Final = {
    "tenant": sql.SQL("tenant = %(tenant)s"),
    "actor": sql.SQL("left(actor_id, 128) = %(actor_begin)s AND actor_id = %(actor)s"),
    "action": sql.SQL("action = %(action)s"),
    "target": sql.SQL("targets @> %(target)s::jsonb"),
    "outcome": sql.SQL("outcome = %(outcome)s"),
    "request_id": sql.SQL("request_id = %(request_id)s"),
    "since": sql.SQL("received_at >= %(since)s"),
    "until": sql.SQL("received_at < %(until)s"),
    "occurred_since": sql.SQL("occurred_at >= %(occurred_since)s"),
    "occurred_until": sql.SQL("occurred_at < %(occurred_until)s"),
    "text": sql.SQL("concat_ws(' ', actor_name, action, targets::text, metadata::text) ILIKE %(text)s"),
}


def check_limit(limit: int) -> None:
    """Refuse a limit out of range.

    Raises:
        StoreError: It is.
    """
    if not 1 <= limit <= LIMIT_MAX:
        raise StoreError(f"a limit of {limit} cannot be served", hint=f"1 to {LIMIT_MAX}; page with the cursor")


def _found(row: Sequence[Any]) -> FoundEvent:
    values = dict(zip(_SHOWN, row, strict=True))
    values["kind"] = Kind(values["kind"])
    values["targets"] = tuple(values["targets"] or ())
    values["context"], values["metadata"] = values["context"] or {}, values["metadata"] or {}
    return FoundEvent(**values)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _make_cursor(last: FoundEvent) -> str:
    microseconds = (last.received_at - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(f"1:{microseconds}:{last.seq}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, int]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        microseconds, seq = text.removeprefix("1:").split(":")
        return _EPOCH + timedelta(microseconds=int(microseconds)), int(seq)
    except (ValueError, OverflowError, binascii.Error) as error:
        raise StoreError("the cursor is none that a search returned", hint="begin the search anew") from error


def between(
    tenant: str, since: datetime | None, until: datetime | None
) -> tuple[tuple[sql.SQL, Parameters] | None, tuple[sql.SQL, Parameters] | None]:
    """Return what to ask for the first entry of a time or later, and for the last one of before another time.

    Raises:
        StoreError: A time has no zone.
    """
    asked: list[tuple[sql.SQL, Parameters] | None] = []
    for name, query, time in (("since", FIRST_SINCE, since), ("until", LAST_BEFORE, until)):
        if time is not None and time.tzinfo is None:
            raise StoreError(f"{name} has no time zone", hint="use datetime.now(UTC), or an offset")
        received = None if time is None else (time - _EPOCH) // timedelta(microseconds=1)
        asked.append(None if received is None else (query, {"tenant": tenant, "received": received}))
    return asked[0], asked[1]


def number(rows: Sequence[Sequence[Any]]) -> int | None:
    """Return the one number of an answer of one row at most; ``None`` if there is no row."""
    return int(rows[0][0]) if rows else None


def names(rows: Iterable[Sequence[Any]]) -> tuple[str, ...]:
    """Return the first column of rows."""
    return tuple(str(row[0]) for row in rows)
