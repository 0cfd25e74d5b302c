"""Receipts against the store: is every event that an application has a receipt of in its chain, as it was?"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

import psycopg

from sealstream.schemas.entry import Kind, is_event_id, is_tenant, parse
from sealstream.schemas.errors import EntryInvalid
from sealstream.sinks.store.database import translate
from sealstream.sinks.store.session import open_reading

LINE_BYTES_MAX: Final = 4096
RECEIPTS_A_QUERY: Final = 1000
LISTED_MAX: Final = 10_000
"""How many receipts that are wrong are named; the others are counted."""
_APPLICATION: Final = "sealstream-receipts"
_CARRIED: Final = frozenset({Kind.EVENT, Kind.IMPORTED, Kind.CONFLICT, Kind.CONTROL})
_QUERY: Final = (
    "SELECT e.tenant, e.event_id, e.entry FROM unnest(%(tenants)s::text[], %(ids)s::text[]) AS r (tenant, id)"
    " JOIN sealstream.entries AS e ON e.tenant = r.tenant AND e.event_id = r.id"
)

Verdict: TypeAlias = Literal["missing", "differs", "unreadable"]
"""No entry of that id; entries of that id, and none of these bytes; a line that is no receipt of this instance."""


class Receipt(NamedTuple):
    """One line of a file of receipts.

    Arguments:
        line: Its number, from 1.
        tenant: The tenant.
        id: The event's id.
        digest: The digest by which the chain commits to the event's bytes.
    """

    line: int
    tenant: str
    id: str
    digest: bytes


class Wrong(NamedTuple):
    """A receipt that is not borne out.

    Arguments:
        line: The line's number.
        verdict: What is wrong.
        tenant: The tenant; empty of a line that cannot be read.
        id: The event's id, likewise.
    """

    line: int
    verdict: Verdict
    tenant: str = ""
    id: str = ""


@dataclass(slots=True)
class Checked:
    """What the check of a file came to.

    Arguments:
        receipts: How many receipts were read.
        found: How many of them have their event in the chain, byte for byte.
        missing: How many have none of their id there.
        differs: How many have their id there, and other bytes.
        unreadable: How many lines are no receipts of this instance.
        wrong: The first of those that are not found.
    """

    receipts: int = 0
    found: int = 0
    missing: int = 0
    differs: int = 0
    unreadable: int = 0
    wrong: list[Wrong] = field(default_factory=list[Wrong])

    def note(self, wrong: Wrong) -> None:
        """Count a receipt that is not borne out."""
        setattr(self, wrong.verdict, getattr(self, wrong.verdict) + 1)
        if len(self.wrong) < LISTED_MAX:
            self.wrong.append(wrong)


def check_receipts(
    lines: Iterable[bytes], database_url: str, *, instance: str | None, timeout_seconds: float
) -> Checked:
    """Look every receipt up in the store, in constant memory.

    Arguments:
        lines: The file's lines, each at most :data:`LINE_BYTES_MAX` long as far as it is believed.
        database_url: The store, as somebody who may read the tenants in question.
        instance: Whose receipts they must be; ``None`` for anyone's.
        timeout_seconds: How long PostgreSQL may take to answer one question.

    Raises:
        StoreError: The store cannot be used.
        Unreachable: PostgreSQL does not answer.
    """
    checked = Checked()
    receipts = _receipts(lines, instance, checked)
    with open_reading(
        database_url, application=_APPLICATION, timeout_seconds=timeout_seconds, statement_seconds=timeout_seconds
    ) as connection:
        try:
            while batch := list(islice(receipts, RECEIPTS_A_QUERY)):
                _look_up(connection, batch, checked)
        except psycopg.Error as error:
            raise translate(error) from error
    return checked


def _receipts(lines: Iterable[bytes], instance: str | None, checked: Checked) -> Generator[Receipt]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        receipt = _receipt(number, line, instance)
        if receipt is None:
            checked.note(Wrong(number, "unreadable"))
            continue
        checked.receipts += 1
        yield receipt


def _receipt(number: int, line: bytes, instance: str | None) -> Receipt | None:
    """Return the receipt on a line, or ``None`` if there is none of this instance: a line may be cut by a kill."""
    if len(line) > LINE_BYTES_MAX:
        return None
    try:
        fields: Any = json.loads(line)
        given = cast("dict[str, Any]", fields) if isinstance(fields, dict) else {}
        tenant, event_id, digest = (given.get(name) for name in ("tenant", "id", "digest"))
        found = bytes.fromhex(digest) if isinstance(digest, str) else b""
    except (ValueError, RecursionError):
        return None
    is_named = isinstance(tenant, str) and is_tenant(tenant) and isinstance(event_id, str) and is_event_id(event_id)
    is_ours = instance is None or given.get("instance") == instance
    return Receipt(number, str(tenant), str(event_id), found) if is_named and is_ours and len(found) == 32 else None


def _look_up(connection: psycopg.Connection[Any], batch: list[Receipt], checked: Checked) -> None:
    arguments = {"tenants": [receipt.tenant for receipt in batch], "ids": [receipt.id for receipt in batch]}
    digests: dict[tuple[str, str], set[bytes]] = {}
    for tenant, event_id, data in connection.execute(_QUERY, arguments):
        try:
            entry = parse(bytes(data))
        except EntryInvalid:
            continue  # `sealstream verify` says so; here it bears nothing out
        if entry.kind in _CARRIED and (entry.tenant, entry.event_id) == (tenant, event_id):
            digests.setdefault((tenant, event_id), set()).add(entry.payload)
    for receipt in batch:
        found = digests.get((receipt.tenant, receipt.id))
        if found is not None and receipt.digest in found:
            checked.found += 1
        else:
            verdict: Verdict = "missing" if found is None else "differs"
            checked.note(Wrong(receipt.line, verdict, receipt.tenant, receipt.id))
