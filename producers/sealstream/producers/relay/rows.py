"""Rows of the outbox, and which of them cannot be published."""

from __future__ import annotations

from dataclasses import dataclass

from sealstream.producers.outbox.table import names_row
from sealstream.schemas.codec import read_prefix
from sealstream.schemas.entry import VALUE_BYTES_MAX
from sealstream.schemas.errors import FrameInvalid


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """A committed row that waits to be published.

    Arguments:
        id: The row's id.
        tenant: Its aggregate id.
        value: Its payload.
    """

    id: str
    tenant: str
    value: bytes


def refusal_of(row: WaitingRow) -> str | None:
    """Return why a row cannot be published, or ``None``; what decodes the whole event may still find more.

    The reason never holds anything of the payload.
    """
    if len(row.value) > VALUE_BYTES_MAX:
        return f"payload has {len(row.value)} bytes, more than {VALUE_BYTES_MAX}"
    try:
        event_id, tenant, _kind = read_prefix(row.value)
    except FrameInvalid as error:
        return f"payload is no event: {error.message}"
    if tenant != row.tenant.encode():
        return "payload names another tenant than aggregateid"
    if not names_row(event_id.decode("ascii", "replace"), row.id):
        return "payload's event id is not outbox:<table>:<id of the row>"
    return None
