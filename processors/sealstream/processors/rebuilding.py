"""Decides what to write so that audit.heads says what audit.chained leads to, or why that cannot be known (pure).

audit.chained is kept for the duplicate window and two days more; audit.heads for ever. So once the beginning of
audit.chained has expired, the head of a tenant that has said nothing since stands in audit.heads alone. It is kept; and
because the partition's head counts and folds the heads of all chains, it can be proven that none of those is missing or
changed. Where that cannot be proven, nothing is written: a chain whose head is lost would begin a second time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sealstream.processors.chaining import Rules
from sealstream.processors.comparison import Examination
from sealstream.processors.heads import PackedHeads, PartitionHead, chain_key, partition_key
from sealstream.schemas.errors import UnsafeState

COPY_HINT: Final = (
    "what audit.heads said of chains that audit.chained has no record of any more stands nowhere else in Kafka:"
    " bring audit.heads back from a mirror or a backup"
)


class NotRebuildable(UnsafeState):
    """What the heads must say cannot be known for sure. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write to audit.heads, in one transaction with the committed offset.

    Arguments:
        partition: The partition.
        head: Its own record; it comes last.
        heads: What its chains' heads are afterwards.
        changes: The records of chains that must be written, by key; ``None`` is a tombstone.
        kept: How many heads are those of chains that audit.chained has no record of any more.
        back_from: The position that the heads had, if the new one is behind it: the worker chains those records anew.
    """

    partition: int
    head: PartitionHead
    heads: PackedHeads
    changes: dict[bytes, bytes | None] = field(repr=False)
    kept: int
    back_from: int | None


def plan_rebuild(examination: Examination, rules: Rules) -> Plan | None:
    """Return what to write; ``None`` for a partition of which nothing is known, and nothing needs to be.

    Raises:
        NotRebuildable: What the heads must say cannot be known.
    """
    where, recomputed = f"partition {examination.partition}", examination.recomputed
    if recomputed.faults_total:
        raise NotRebuildable(
            f"{where}: audit.chained does not hold itself, so no heads can be computed from it: {recomputed.faults[0]}",
            hint="sealstream heads check lists the faults, and sealstream violations list what the verifier found",
        )
    found = examination.reader
    known = recomputed.entries or recomputed.partial or len(found.heads) or found.malformed
    if found.head is None and not known and examination.committed is None:
        return None
    heads = examination.expected_heads()
    _require_proof(examination, heads)
    position = _position(examination)
    head = PartitionHead(
        position,
        examination.last_offset,
        examination.last_received,
        rules.topic_id,
        len(heads),
        heads.folded,
        rules.genesis.payload(),
    )
    kept = len(heads) - len(recomputed.heads)
    return Plan(
        examination.partition, head, heads, _changes(examination, heads), kept, _back_from(examination, position)
    )


def _require_proof(examination: Examination, heads: PackedHeads) -> None:
    """Make sure that no head of a chain without any record left is missing or changed."""
    if not examination.recomputed.partial:
        return
    where, head = (
        f"partition {examination.partition}: the beginning of audit.chained has expired",
        examination.reader.head,
    )
    if head is None:
        raise NotRebuildable(f"{where}, and audit.heads has no record of the partition", hint=COPY_HINT)
    if head.last_offset != examination.last_offset:
        raise NotRebuildable(
            f"{where}, and the heads are of source offset {head.last_offset} instead of {examination.last_offset}",
            hint=COPY_HINT,
        )
    if not head.covers(heads):
        raise NotRebuildable(
            f"{where}, and heads of chains that have no record there are missing or changed: {head.chains} chains were"
            f" written, {len(heads)} are known",
            hint=COPY_HINT,
        )


def _position(examination: Examination) -> int:
    """Return the source offset to go on from: behind the last chained record and before the next one.

    It may lie further than right behind the last record, where the source has no records: aborted ones, and markers.
    What the heads or the group say is taken if no record lies in between; else those offsets are read once more.
    """
    last, source, head = examination.last_offset, examination.source, examination.reader.head
    candidates = [last + 1]
    if head is not None and head.last_offset == last:
        candidates.append(head.position)
    if examination.committed is not None and examination.pinned:
        candidates.append(examination.committed)
    position = max(place for place in candidates if last < place <= max(source.next_offset, last + 1))
    before = -1 if head is None else head.last_offset
    if last < before and source.start > position:
        raise NotRebuildable(
            f"partition {examination.partition}: audit.chained ends with source offset {last}, the heads say {before},"
            f" and the source begins at {source.start}: what is missing cannot be chained anew",
            hint="bring audit.chained back from a mirror or a backup",
        )
    return position


def _back_from(examination: Examination, position: int) -> int | None:
    head = examination.reader.head
    return head.position if head is not None and head.position > position else None


def _changes(examination: Examination, heads: PackedHeads) -> dict[bytes, bytes | None]:
    found, partition = examination.reader, examination.partition
    changes: dict[bytes, bytes | None] = {
        chain_key(partition, name): None for name in found.heads.packed if name not in heads.packed
    }
    for key in found.malformed:
        if key is not None and key != partition_key(partition):
            changes[key] = None
    for name, value in heads.packed.items():
        if found.heads.packed.get(name) != value:
            changes[chain_key(partition, name)] = value
    return changes
