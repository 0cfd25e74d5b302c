"""Chains and entries made for tests: valid ones of every kind, and hypothesis strategies over all valid fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hypothesis import strategies as st

from sealstream.schemas.chain import Link
from sealstream.schemas.entry import (
    CARRIED_KINDS,
    PARTITION_CHAIN_REASONS,
    SOURCELESS_KINDS,
    ZERO_HASH,
    Entry,
    GapReason,
    Genesis,
    Kind,
    Quarantine,
    entry_hash,
    epoch_payload,
    gap_payload,
    pack,
    partition_chain,
    payload_digest,
)

TENANT: Final = "acme"
GENESIS: Final = Genesis("demo.example/audit", 4)
TOPIC_ID: Final = bytes(range(16))
NEXT_TOPIC_ID: Final = bytes(range(16, 32))
RECEIVED: Final = 1_700_000_000_000_000  # microseconds since the epoch, at offset 0
TENANT_KINDS: Final = (
    Kind.EVENT,
    Kind.IMPORTED,
    Kind.EVENT,
    Kind.DUPLICATE,
    Kind.QUARANTINED,
    Kind.CONFLICT,
    Kind.CONTROL,
    Kind.EPOCH,
    Kind.EVENT,
    Kind.EVENT,
)
"""Every kind that a tenant's chain can hold, behind its genesis."""
PARTITION_KINDS: Final = (Kind.QUARANTINED, Kind.GAP, Kind.QUARANTINED, Kind.EPOCH, Kind.QUARANTINED)
"""Every kind that the chain of a partition can hold, behind its genesis."""


def make_chain(kinds: Sequence[Kind] = TENANT_KINDS, *, tenant: str = TENANT) -> list[Link]:
    """Return a valid chain, as a store holds it: a genesis and an entry of each kind given, with the stored hashes."""
    links: list[Link] = []
    prev, offset, topic_id = ZERO_HASH, 0, TOPIC_ID
    for seq, kind in enumerate((Kind.GENESIS, *kinds)):
        if kind is Kind.EPOCH:
            topic_id, offset = NEXT_TOPIC_ID, 0
        payload = _payload(kind, seq, offset)
        entry = pack(
            Entry(
                kind=kind,
                tenant=tenant,
                seq=seq,
                prev=prev,
                received=RECEIVED + 1000 * offset,
                topic_id=topic_id,
                partition=0,
                offset=offset,
                event_id="" if kind in SOURCELESS_KINDS or kind is Kind.QUARANTINED else f"ev-{seq}",
                length=len(payload),
                payload=payload_digest(payload),
                reason=_reason(kind, tenant),
                ref=1 if kind in (Kind.DUPLICATE, Kind.CONFLICT) else 0,
            )
        )
        prev = entry_hash(entry)
        links.append(Link(seq, entry, payload if kind in CARRIED_KINDS else None, prev))
        if kind not in (Kind.GENESIS, Kind.EPOCH):  # those share the coordinates of the record behind them
            offset += 1
    return links


def _payload(kind: Kind, seq: int, offset: int) -> bytes:
    if kind is Kind.GENESIS:
        return GENESIS.payload()
    if kind is Kind.EPOCH:
        return epoch_payload(GENESIS, TOPIC_ID)
    return gap_payload(offset, offset) if kind is Kind.GAP else f"payload {seq}".encode()


def _reason(kind: Kind, tenant: str) -> int:
    if kind is Kind.GAP:
        return GapReason.EXPIRED
    if kind is Kind.QUARANTINED:
        return Quarantine.TENANT_INVALID if tenant.startswith("!") else Quarantine.MALFORMED
    return 0


_INT32 = st.integers(0, 2**31 - 1)
_INT64 = st.integers(0, 2**63 - 1)
_HASHES = st.binary(min_size=32, max_size=32)
TENANTS: Final = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True)
EVENT_IDS: Final = st.from_regex(r"[A-Za-z0-9._:-]{1,128}", fullmatch=True)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Draw any valid entry: every kind, every reason, every field over its whole range."""
    kind = draw(st.sampled_from(Kind))
    reason = 0
    if kind is Kind.QUARANTINED:
        reason = draw(st.sampled_from(Quarantine))
    elif kind is Kind.GAP:
        reason = draw(st.sampled_from(GapReason))
    partition = draw(_INT32)
    in_partition_chain = kind is Kind.GAP or (kind is Kind.QUARANTINED and reason in PARTITION_CHAIN_REASONS)
    if kind in (Kind.GENESIS, Kind.EPOCH):
        in_partition_chain = draw(st.booleans())
    refers = kind in (Kind.DUPLICATE, Kind.CONFLICT)
    seq = 0 if kind is Kind.GENESIS else draw(st.integers(2 if refers else 1, 2**63 - 1))
    return Entry(
        kind=kind,
        tenant=partition_chain(partition) if in_partition_chain else draw(TENANTS),
        seq=seq,
        prev=ZERO_HASH if kind is Kind.GENESIS else draw(_HASHES),
        received=0 if (kind, reason) == (Kind.QUARANTINED, Quarantine.TIMESTAMP_TYPE) else draw(_INT64),
        topic_id=draw(st.binary(min_size=16, max_size=16)),
        partition=partition,
        offset=draw(_INT64),
        event_id=draw(_event_ids(kind, reason)),
        length=draw(_INT32),
        payload=draw(_HASHES),
        reason=reason,
        ref=draw(st.integers(1, seq - 1)) if refers else 0,
    )


def _event_ids(kind: Kind, reason: int) -> st.SearchStrategy[str]:
    if kind is Kind.QUARANTINED:
        if reason == Quarantine.TENANT_DIFFERS:
            return st.just("") | EVENT_IDS
        return EVENT_IDS if reason == Quarantine.TIMESTAMP_TYPE else st.just("")
    return st.just("") if kind in SOURCELESS_KINDS else EVENT_IDS
