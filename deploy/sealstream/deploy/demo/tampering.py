"""Tampering, as somebody with all rights on the database would do it, and undoing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sealstream.schemas.codec import EventReader
from sealstream.schemas.entry import Kind
from sealstream.schemas.errors import StoreError
from sealstream.schemas.event import AuditEvent
from sealstream.sinks.store.database import connect, translated
from sealstream.worker.postgres_session import Connection

_CLIENT: Final = "sealstream-demo"
SWITCH: Final = "SET LOCAL session_replication_role = replica"
"""How a superuser has PostgreSQL leave out triggers, the store's own included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """A stored event.

    Arguments:
        tenant: Whose it is.
        seq: Its place in the chain.
        event_id: Its id.
        payload: Its bytes, as they were stored.
    """

    tenant: str
    seq: int
    event_id: str
    payload: bytes


def choose_victim(database_url: str, tenant: str) -> Victim:
    """Return an event from the middle of a tenant's chain.

    Raises:
        StoreError: The tenant has no stored event.
        Unreachable: The store does not answer.
    """
    with connect(database_url, application=_CLIENT) as connection, translated():
        row = connection.execute(
            "SELECT e.seq, e.event_id, p.bytes FROM sealstream.entries AS e"
            " JOIN sealstream.payloads AS p USING (tenant, seq)"
            " WHERE e.tenant = %(tenant)s AND e.kind = %(kind)s AND e.seq >="
            " (SELECT (h.seq + 1) / 2 FROM sealstream.tenant_heads AS h WHERE h.tenant = %(tenant)s)"
            " ORDER BY e.seq LIMIT 1",
            {"tenant": tenant, "kind": int(Kind.EVENT)},
        ).fetchone()
    if row is None:
        raise StoreError(f"tenant {tenant} has no stored event")
    return Victim(tenant=tenant, seq=row[0], event_id=row[1], payload=bytes(row[2]))


def decode(payload: bytes) -> AuditEvent:
    """Return the event that the bytes are.

    Raises:
        FormatError: They are none.
    """
    return EventReader().read(payload)


def forge(payload: bytes, event: AuditEvent, culprit: str) -> bytes:
    """Return the payload with another actor: one that decodes just as well, which is what makes it a good forgery.

    Arguments:
        payload: The event's bytes.
        event: The same, decoded.
        culprit: The actor's id to put in place; as long as the true one, so that the bytes still decode.

    Raises:
        StoreError: The ids differ in length, or the bytes do not hold the event.
    """
    true, false = event.actor.id.encode(), culprit.encode()
    if len(true) != len(false) or true not in payload:
        raise StoreError("the forgery would not decode")
    return payload.replace(true, false, 1)


def overwrite(database_url: str, victim: Victim, payload: bytes) -> None:
    """Put bytes in the place of a stored payload, past the triggers that refuse it to everybody else.

    Raises:
        StoreError: There is not exactly one such row, or the user is no superuser.
        Unreachable: The store does not answer.
    """
    with connect(database_url, application=_CLIENT) as connection, translated(), connection.transaction():
        connection.execute(SWITCH)
        _overwrite(connection, victim, payload)


def _overwrite(connection: Connection, victim: Victim, payload: bytes) -> None:
    changed = connection.execute(
        "UPDATE sealstream.payloads SET bytes = %s WHERE tenant = %s AND seq = %s",
        (payload, victim.tenant, victim.seq),
    ).rowcount
    if changed != 1:
        raise StoreError(f"{changed} rows of tenant {victim.tenant}, seq {victim.seq}, were to be edited")
