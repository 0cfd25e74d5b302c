"""Ranges of the source that are declared lost (kind 7), as the verifier understands them. Pure.

Such an entry stands for nothing that the source could show. So it is believed only if it declares exactly what can be
missing: from right behind the last verified record on, and nothing that the source still has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sealstream.schemas.entry import Entry, Kind, parse_gap_payload, partition_chain, payload_digest
from sealstream.schemas.errors import EntryInvalid
from sealstream.sinks.verifier.diagnosis import claim_of
from sealstream.sinks.verifier.records import ChainedRecord
from sealstream.sinks.verifier.rules import Verdict


class Declared(NamedTuple):
    """A range that an entry declares lost.

    Arguments:
        last: Its last offset.
        verdict: What the entry must be, wherever its chain stands.
    """

    last: int
    verdict: Verdict


def declared(record: ChainedRecord, *, topic_id: bytes, partition: int) -> Declared | None:
    """Return the range that a record declares lost, if that is what it does, and it is in order by itself."""
    claim, value = claim_of(record), record.value or b""
    if claim is None or claim.kind is not Kind.GAP or not _is_here(claim, topic_id, partition):
        return None
    try:
        first, last = parse_gap_payload(value)
    except EntryInvalid:
        return None
    if first != claim.offset:
        return None
    chain, digest = claim.tenant.encode(), payload_digest(value)
    verdict = Verdict(chain, Kind.GAP, claim.reason, 0, b"", claim.received, first, len(value), digest, value)
    return Declared(last, verdict)


def begins_for(record: ChainedRecord, *, topic_id: bytes, partition: int) -> int | None:
    """Return the source offset for which a record opens the partition's own chain, if that is what it does."""
    claim = claim_of(record)
    if claim is None or claim.kind not in (Kind.GENESIS, Kind.EPOCH) or not _is_here(claim, topic_id, partition):
        return None
    return claim.offset if claim.tenant == partition_chain(partition) else None


def declared_from(records: Iterable[ChainedRecord], first: int, *, topic_id: bytes, partition: int) -> int:
    """Return the offset behind all that is declared lost right behind what was verified.

    Arguments:
        records: What comes next on audit.chained.
        first: The offset behind the last verified record.
        topic_id: UUID of the source topic.
        partition: The source partition.
    """
    position = first
    for record in records:
        if begins_for(record, topic_id=topic_id, partition=partition) == position:
            continue
        gap = declared(record, topic_id=topic_id, partition=partition)
        if gap is None or gap.verdict.offset != position:
            break
        position = gap.last + 1
    return position


def _is_here(claim: Entry, topic_id: bytes, partition: int) -> bool:
    return (claim.topic_id, claim.partition) == (topic_id, partition)
