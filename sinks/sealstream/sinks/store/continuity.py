"""Whether the records of a batch go on where each chain ended. Pure.

A head follows the log: it is the last entry of its chain before the worker's position. So it moves with the position,
also where the position was set back and rows are met again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sealstream.schemas.entry import ZERO_HASH
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.sinks.store.records import ChainedRecord


class Head(NamedTuple):
    """The end of a chain.

    Arguments:
        seq: The last entry's place; -1 before a chain has begun.
        hash: Its hash.
    """

    seq: int
    hash: bytes


NO_HEAD = Head(-1, ZERO_HASH)


def follow(heads: Mapping[str, Head], records: Iterable[ChainedRecord]) -> tuple[dict[str, Head], bool]:
    """Follow each chain through a batch.

    Arguments:
        heads: Where the chains ended; a tenant that is missing has no chain yet.
        records: What comes, in the log's order.

    Returns:
        Where the chains of the batch end now, and whether every record was the next one of its chain.
    """
    moved: dict[str, Head] = {}
    unbroken = True
    for record in records:
        tenant, seq = record.tenant, record.seq
        head = moved.get(tenant) or heads.get(tenant, NO_HEAD)
        if seq != head.seq + 1 or record.prev != head.hash:
            unbroken = False
        moved[tenant] = Head(seq, record.hash)
    return moved, unbroken


def discontinuity(head: Head, record: ChainedRecord, *, instance: str) -> Violation | None:
    """Return what is wrong with a record as the next one of its chain; ``None`` if nothing is."""
    entry, expected = record.entry, head.seq + 1
    if entry.seq > expected:
        last = entry.seq - 1
        kind, seq = ViolationType.GAP, expected
        message = f"the log goes on at entry {entry.seq}: entries {expected} to {last} are missing"
    elif entry.seq < expected:
        kind, seq = ViolationType.REORDERED, entry.seq
        message = f"the log has this entry behind entry {head.seq}, and the store had none in its place"
    elif entry.prev != head.hash:
        kind, seq = ViolationType.EDITED, entry.seq
        message = "the entry does not follow the one before it in the log"
    else:
        return None
    return Violation(
        type=kind,
        tenant=entry.tenant,
        seq=seq,
        message=message,
        instance=instance,
        partition=entry.partition,
        offset=entry.offset,
        topic_id=entry.topic_id,
        expected=head.hash.hex() if kind is ViolationType.EDITED else "",
        found=entry.prev.hex() if kind is ViolationType.EDITED else "",
    )
