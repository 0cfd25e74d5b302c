"""What the reader of the store returns. Immutable, and safe to keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, overload

from sealstream.schemas.entry import Kind
from sealstream.schemas.violation import Violation

LEVEL_CHAIN: Final = "chain"
"""Only the chain itself was checked: nothing outside the store took part."""

NOT_EXCLUDED: Final = (
    "that entries behind the last one were cut off",
    "that the chain was rewritten from some entry on to its end, its genesis included",
    "that events were never published, or were left out before they were chained",
)
"""What a chain by itself cannot show, in words. Checkpoints, the verifier and receipts exist for these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainVerification:
    """The result of verifying one tenant's chain as it is stored.

    Arguments:
        tenant: The chain.
        is_valid: Whether nothing was found wrong.
        first_bad_seq: The first entry at fault; ``None`` if nothing was found.
        level: How much took part in the check: ``chain``.
        checked_through: The last entry that was checked.
        entries: How many entries were checked.
        as_of: When, by the store's clock: later entries were not seen.
        violations: What is wrong, in the order it was met; only the first of very many.
        violation_count: How much is wrong in all.
        not_excluded: What this level cannot exclude, in words.
    """

    tenant: str
    is_valid: bool
    first_bad_seq: int | None
    level: str
    checked_through: int
    entries: int
    as_of: datetime
    violations: tuple[Violation, ...]
    violation_count: int
    not_excluded: tuple[str, ...] = NOT_EXCLUDED


@dataclass(frozen=True, slots=True, kw_only=True)
class EventProof:
    """One record of an event in its chain, found to hold together as it is stored.

    Arguments:
        tenant: The chain.
        event_id: The event's id.
        seq: The place in the chain.
        kind: What the entry says of the record: an event, a duplicate, a conflict.
        chain_hash: The entry's hash, which the next entry is linked to; 32 bytes.
        prev_hash: The hash of the entry before it; 32 bytes.
        received: When the broker took the record.
        entry: The entry's bytes, the evidence: ``chain_hash`` is ``SHA-256(0x00 || entry)``.
        payload: The event's bytes; ``None`` for a duplicate, whose bytes are those of its first occurrence.
        repeat_of: The seq of the first record with the same id and bytes, if this one came again later than the
            duplicate window reaches; seen from the store, no part of the evidence.
        ref: The seq that the entry itself refers to, for duplicates and conflicts; else ``None``.
    """

    tenant: str
    event_id: str
    seq: int
    kind: Kind
    chain_hash: bytes
    prev_hash: bytes
    received: datetime
    entry: bytes
    payload: bytes | None
    repeat_of: int | None
    ref: int | None


@dataclass(frozen=True, slots=True)
class EventProofs:
    """Every record of one event's id within a tenant, in the chain's order. An id alone is not unique.

    Arguments:
        matches: The records; empty if there is none.
        complete: Whether these are all; else there are more than the limit.
    """

    matches: tuple[EventProof, ...]
    complete: bool

    def __iter__(self) -> Iterator[EventProof]:
        return iter(self.matches)

    def __len__(self) -> int:
        return len(self.matches)

    @overload
    def __getitem__(self, place: int) -> EventProof: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[EventProof, ...]: ...
    def __getitem__(self, place: int | slice) -> EventProof | tuple[EventProof, ...]:
        return self.matches[place]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundEvent:
    """An event as the search found it: derived columns, which are no evidence. A proof is.

    Arguments:
        tenant: Whose it is.
        seq: The place in its chain.
        kind: What its entry says of it.
        event_id: Its id.
        received_at: When the broker took it.
        occurred_at: When it happened, as the application claims.
        actor_type: What kind of actor did it.
        actor_id: Who did it.
        actor_name: The actor's name at that time.
        action: What was done.
        outcome: How it ended.
        targets: What it was done to, each with ``type``, ``id`` and perhaps ``name``.
        ip: The caller's address.
        request_id: The request's id.
        context: More of where it came from.
        metadata: The application's own words.
        undecoded: Why the payload could not be decoded, in which case only the first six of these are known.
    """

    tenant: str
    seq: int
    kind: Kind
    event_id: str
    received_at: datetime
    occurred_at: datetime | None
    actor_type: str | None
    actor_id: str | None
    actor_name: str | None
    action: str | None
    outcome: str | None
    targets: tuple[Mapping[str, str], ...]
    ip: str | None
    request_id: str | None
    context: Mapping[str, str]
    metadata: Mapping[str, str]
    undecoded: str | None


@dataclass(frozen=True, slots=True)
class SearchPage:
    """A page of a search.

    Arguments:
        events: The events, newest first.
        cursor: Gives the next page to the same search; ``None`` if this is the last one.
        as_of: What was received until then was looked through, and of what came later perhaps not all; ``None`` if
            everything that is stored of the tenant was.
    """

    events: tuple[FoundEvent, ...]
    cursor: str | None
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class TenantHead:
    """The end of a chain as it is stored.

    Arguments:
        tenant: The chain.
        seq: Its last entry.
        hash: That entry's hash.
    """

    tenant: str
    seq: int
    hash: bytes
