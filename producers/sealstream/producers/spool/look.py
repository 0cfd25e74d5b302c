"""A look into a spool that no process owns: what waits there, and what a person has to see to."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from sealstream.producers.spool.database import FILE_NAME, DroppedRow, RefusedRow, SpoolFile, Summary
from sealstream.producers.spool.owner import Ownership
from sealstream.schemas.codec import read_prefix
from sealstream.schemas.errors import FrameInvalid, SpoolError

REFUSED_MAX: Final = 1000


class Refused(NamedTuple):
    """An event that Kafka refused; what it says stays in the spool.

    Arguments:
        number: Its place: the order of ``log()``.
        tenant: Whose event it is; empty if the row is damaged.
        id: Its id; the same.
        refused_at: When, in ISO 8601.
        reason: Why, in words.
        size_bytes: How long its value is.
    """

    number: int
    tenant: str
    id: str
    refused_at: str
    reason: str
    size_bytes: int


class Contents(NamedTuple):
    """What a spool holds.

    Arguments:
        producer_id: The producer that its events are marked with; empty if no log has used it yet.
        epoch: The last start's epoch.
        summary: How much there is.
        refused: The first thousand events that Kafka refused.
        dropped: By tenant, events that found no room and were not told in the trail yet: tenant, count, since, until.
    """

    producer_id: str
    epoch: int
    summary: Summary
    refused: tuple[Refused, ...]
    dropped: tuple[DroppedRow, ...]


def look_into(directory: Path) -> Contents:
    """Return what a spool holds, and change nothing of it.

    Arguments:
        directory: The spool's directory.

    Raises:
        SpoolOwned: A process is using it: its ``stats`` say how much it holds.
        SpoolError: There is none, or it cannot be read.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        raise SpoolError(f"there is no spool in {directory}", hint="give the directory that the audit log is given")
    ownership = Ownership(directory)
    try:
        file = SpoolFile(path, "full")
        try:
            return Contents(
                producer_id=file.meta("producer_id") or "",
                epoch=int(file.meta("epoch") or 0),
                summary=file.summary(),
                refused=tuple(_refused(row) for row in file.refused(REFUSED_MAX)),
                dropped=tuple(file.dropped()),
            )
        finally:
            file.close()
    finally:
        ownership.release()


def _refused(row: RefusedRow) -> Refused:
    try:
        event_id, tenant, _ = read_prefix(row.value)
        names = tenant.decode("ascii"), event_id.decode("ascii")
    except (FrameInvalid, UnicodeDecodeError):  # set aside because it is damaged, which its reason says
        names = "", ""
    return Refused(row.number, *names, row.refused_at, row.reason, len(row.value))
