"""The row that carries one event: its final bytes, made once, before the transaction that it commits with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from sealstream.producers.event_fields import event_from_fields
from sealstream.producers.headers import record_headers
from sealstream.producers.outbox.table import OutboxTable
from sealstream.schemas.codec import encode_event
from sealstream.schemas.entry import VALUE_BYTES_MAX, payload_digest
from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.event import AuditEvent

_ID_HINT: Final = "leave the id out, or give a UUID: the row's id, which the event's is made from"


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One event as it stands in the outbox.

    Arguments:
        row_id: The row's id, a UUID.
        id: The event's id, ``outbox:<table>:<row id>``.
        tenant: Whose event it is.
        action: What was done.
        value: The event's final bytes.
    """

    row_id: str
    id: str
    tenant: str
    action: str
    value: bytes

    @property
    def digest(self) -> bytes:
        """The digest by which the chain will commit to the event's bytes."""
        return payload_digest(self.value)

    @property
    def parameters(self) -> tuple[str, str, str, bytes]:
        """The parameters of :attr:`OutboxTable.insert_sql`."""
        return self.row_id, self.tenant, self.action, self.value

    @property
    def named_parameters(self) -> dict[str, str | bytes]:
        """The parameters of :attr:`OutboxTable.named_insert_sql`."""
        return {"id": self.row_id, "tenant": self.tenant, "action": self.action, "payload": self.value}


def make_row(
    table: OutboxTable, event: AuditEvent | None, fields: Mapping[str, Any], *, schema_id: int | None
) -> OutboxRow:
    """Return the row of an event, given whole or by its fields.

    Arguments:
        table: The outbox's table.
        event: The event; its id, a UUID as it is by default, becomes the row's.
        fields: Or its fields, as ``log()`` takes them.
        schema_id: The id of the AuditEvent schema in a registry, for Confluent's framing.

    Raises:
        EventInvalid: The event breaks the model or takes more than 1,000,000 bytes; the error names the field.
    """
    if event is None:
        event = event_from_fields(fields)
    elif fields:
        raise EventInvalid("event", "is given together with fields", hint="give one of the two")
    row_id = _row_id(event.id)
    event = replace(event, id=table.event_id(row_id))
    event.check()
    record_headers(event, "")  # what cannot be sent later is refused now, where its maker can still do something
    value = encode_event(event, schema_id=schema_id)
    if len(value) > VALUE_BYTES_MAX:
        raise EventInvalid(
            "event",
            f"takes {len(value)} bytes, more than {VALUE_BYTES_MAX}",
            hint="keep large objects elsewhere and their digest in metadata",
        )
    return OutboxRow(row_id, event.id, event.tenant, event.action, value)


def _row_id(event_id: object) -> str:
    if isinstance(event_id, str):
        try:
            return str(UUID(event_id))
        except ValueError:
            pass
    raise EventInvalid("id", "is no UUID", hint=_ID_HINT)
