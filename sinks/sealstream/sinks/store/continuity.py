"""Whether the records of a batch go on where each chain ended. Pure.

A head follows the log: it is the last entry of its chain before the worker's position. So it moves with the position,
also where the position was set back and rows are met again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sealstream.schemas.entry import ZERO_HASH, Kind
from sealstream.schemas.errors import Unreachable
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


class Run(NamedTuple):
    """What a batch adds to a chain, if it adds it without a break.

    Arguments:
        seq: The place of the first entry.
        prev: The hash that it goes on from.
        head: The last entry.
    """

    seq: int
    prev: bytes
    head: Head


def extend(runs: dict[str, Run], records: Iterable[ChainedRecord]) -> bool:
    """Take records into the runs of their chains, and return whether each goes on where the one before it ended.

    What :func:`follow` finds, but without the heads, so that it can be found before a transaction begins.
    """
    unbroken = True
    for record in records:
        _, _, tenant, seq, prev, _, digest, _ = record
        run = runs.get(tenant)
        if run is None:
            runs[tenant] = Run(seq, prev, Head(seq, digest))
            continue
        first, before, head = run
        if seq != head[0] + 1 or prev != head[1]:
            unbroken = False
        runs[tenant] = Run(first, before, Head(seq, digest))
    return unbroken


def goes_on(heads: Mapping[str, Head], runs: Mapping[str, Run]) -> bool:
    """Return whether every run goes on where its chain ended."""
    for tenant, run in runs.items():
        head = heads.get(tenant, NO_HEAD)
        if run.seq != head.seq + 1 or run.prev != head.hash:
            return False
    return True


def discontinuity(head: Head, record: ChainedRecord, *, instance: str) -> Violation | None:
    """Return what is wrong with a record as the next one of its chain; ``None`` if nothing is.

    Raises:
        Unreachable: The chain goes on from another epoch, and the store does not have all of it yet.
    """
    entry, expected = record.entry, head.seq + 1
    if entry.kind is Kind.EPOCH and entry.seq > expected:  # the two epochs' sinks do not wait for each other otherwise
        raise Unreachable(
            f"the store has chain {entry.tenant} up to entry {head.seq}, and this epoch goes on with entry {entry.seq}",
            hint="let a sink of the epoch before store all of it",
        )
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
