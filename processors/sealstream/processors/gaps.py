"""Gaps: ranges of the source that are lost and that an operator has accepted as lost, recorded and chained (pure).

An acceptance is a record in audit.heads, in the partition that it speaks of:

``gap/<partition>/<first>``   JSON: version, first, last, reason, received, topic_id, by, why, accepted_at

It takes effect if and only if the range begins right behind what is chained, ends right before what the source still
has, and the source is the topic it was accepted for. Then a worker writes the entry of kind 7 that is made of it: the
bytes depend on the acceptance and the chain alone, so a re-run makes the same. Afterwards the range begins no longer
where the chain ends, so the acceptance has no effect any more; it stays, and says who accepted what, and why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Self

from sealstream.processors.chaining import Chained, Link, PartitionState, Rules, open_chain
from sealstream.schemas.entry import (
    GapReason,
    Kind,
    gap_payload,
    pack_trusted,
    parse_gap_payload,
    partition_chain,
    payload_digest,
)
from sealstream.schemas.errors import EntryInvalid, FormatError

VERSION: Final = 1
KEY_PREFIX: Final = b"gap/"
TEXT_CHARACTERS_MAX: Final = 1_000
ACCEPTANCE_HINT: Final = "only `sealstream gap accept` writes such records: run it again, which replaces this one"
_UUID_PATTERN: Final = re.compile("[0-9a-f]{32}")
_INT64_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A range of a source partition that an operator accepted as lost.

    Arguments:
        first: The first lost offset.
        last: The last lost offset.
        reason: Why it is lost.
        received: The time of the first record behind the range when it was accepted, in microseconds; 0 for none.
        topic_id: UUID of the source topic.
        by: Who accepted it.
        why: Why it may be accepted.
        accepted_at: When, as ISO 8601.
    """

    first: int
    last: int
    reason: GapReason
    received: int
    topic_id: bytes
    by: str
    why: str
    accepted_at: str

    def key(self, partition: int) -> bytes:
        """Return the key under which the acceptance is recorded."""
        return gap_key(partition, self.first)

    def pack(self) -> bytes:
        """Return the acceptance as audit.heads holds it."""
        fields = {
            "version": VERSION,
            "first": self.first,
            "last": self.last,
            "reason": self.reason.name.lower(),
            "received": self.received,
            "topic_id": self.topic_id.hex(),
            "by": self.by,
            "why": self.why,
            "accepted_at": self.accepted_at,
        }
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Return the acceptance that the bytes are, the inverse of :meth:`pack`.

        Raises:
            FormatError: The bytes are none, or of another version.
        """
        try:
            fields: dict[str, Any] = json.loads(value)
            if fields["version"] != VERSION:
                raise FormatError(f"the acceptance of a gap is of version {fields['version']}")
            first, last, received = fields["first"], fields["last"], fields["received"]
            by, why, accepted_at = fields["by"], fields["why"], fields["accepted_at"]
            reason, topic_id = GapReason[str(fields["reason"]).upper()], str(fields["topic_id"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FormatError("the acceptance of a gap is malformed") from error
        numbers = all(type(number) is int and 0 <= number <= _INT64_MAX for number in (first, last, received))
        texts = all(isinstance(text, str) for text in (by, why, accepted_at))
        if not numbers or not texts or first > last or _UUID_PATTERN.fullmatch(topic_id) is None:
            raise FormatError("the acceptance of a gap is malformed")
        return cls(
            first=first,
            last=last,
            reason=reason,
            received=received,
            topic_id=bytes.fromhex(topic_id),
            by=by,
            why=why,
            accepted_at=accepted_at,
        )


def gap_key(partition: int, first: int) -> bytes:
    """Return the key under which the acceptance of a range that begins at an offset is recorded."""
    return b"%b%d/%d" % (KEY_PREFIX, partition, first)


def find_gap(
    acceptances: Mapping[bytes, bytes], partition: int, lost: tuple[int, int] | None, topic_id: bytes
) -> Gap | None:
    """Return the acceptance of exactly a lost range, if there is one.

    Arguments:
        acceptances: Values by their keys, as they stand in audit.heads.
        partition: The source partition.
        lost: The first and the last offset that are lost, if any are.
        topic_id: UUID of the source topic.

    Raises:
        FormatError: What stands there is none.
    """
    value = None if lost is None else acceptances.get(gap_key(partition, lost[0]))
    if value is None:
        return None
    gap = Gap.parse(value)
    return gap if ((gap.first, gap.last), gap.topic_id) == (lost, topic_id) else None


def begin_behind(state: PartitionState, gap: Gap | None) -> PartitionState:
    """Let a partition go on behind a gap that is still to be chained; without one, leave it as it is."""
    state.gap = gap
    if gap is not None:
        state.position = gap.last + 1
    return state


def end_of_gap(value: bytes | None) -> int:
    """Return the last lost offset, as the payload of a gap's entry has it.

    Raises:
        EntryInvalid: The value is no such payload.
    """
    if value is None:
        raise EntryInvalid("a gap's entry has no payload")
    return parse_gap_payload(value)[1]


def chain_gap(rules: Rules, state: PartitionState, gap: Gap) -> Chained:
    """Chain a gap and move the partition's state behind it.

    Arguments:
        rules: What every entry depends on.
        state: What is known of the partition; its chain ends right before the gap.
        gap: The gap.
    """
    chained, partition = Chained(), state.partition
    name = partition_chain(partition).encode()
    link = state.heads.get(name) or Link(name)
    if not link.seq or link.previous_topic:
        open_chain(rules, chained, link, partition, gap.first, gap.received)
    payload = gap_payload(gap.first, gap.last)
    entry = pack_trusted(
        Kind.GAP, gap.reason, name, link.seq, link.hash, gap.received, rules.topic_id, partition, gap.first, 0, b"",
        len(payload), payload_digest(payload),
    )  # fmt: skip
    link.seq, link.hash = link.seq + 1, sha256(b"\x00" + entry).digest()
    chained.sealed.append((name, payload, entry, None))
    chained.kinds[Kind.GAP] += 1
    chained.links = [link]
    state.heads.put(link)
    state.position, state.last_offset = gap.last + 1, gap.last
    state.last_received = gap.received or state.last_received
    state.gap = None
    return chained
