"""What a source partition must become, computed by the plainest code that could do it: the tests' own opinion.

It shares the entry's layout with the product (``schemas``) and nothing else: no processor, no verifier code.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sealstream.kafka.partition import partition_of
from sealstream.schemas.codec import read_prefix
from sealstream.schemas.entry import (
    EVENT_ID_PATTERN,
    TENANT_PATTERN,
    VALUE_BYTES_MAX,
    ZERO_HASH,
    Entry,
    GapReason,
    Genesis,
    Kind,
    Quarantine,
    entry_hash,
    pack,
    payload_digest,
)
from sealstream.schemas.errors import FrameInvalid

_TRACEPARENT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """A record of audit.events as a read_committed reader sees it.

    Arguments:
        partition: The partition it was read from.
        offset: Its offset.
        key: Its key.
        value: Its value.
        timestamp_ms: The broker's append time; ``None`` if the timestamp is not of that type.
        headers: Its headers.
    """

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass(frozen=True, slots=True)
class LostRange:
    """A range of the source that is lost, and that an operator has accepted as lost.

    Arguments:
        partition: The partition.
        first: The first lost offset.
        last: The last lost offset.
        received: The time of the first record behind it, in microseconds; 0 for none.
        reason: Why it is lost.
    """

    partition: int
    first: int
    last: int
    received: int
    reason: GapReason = GapReason.EXPIRED

    @property
    def offset(self) -> int:
        """Where it stands in the source."""
        return self.first


@dataclass(frozen=True, slots=True)
class ExpectedRecord:
    """A record of audit.chained as it must be."""

    partition: int
    key: bytes
    value: bytes
    entry: bytes
    traceparent: bytes | None

    @property
    def hash(self) -> bytes:
        """The entry's hash."""
        return entry_hash(self.entry)


@dataclass
class _Chain:
    seq: int = 0
    prev: bytes = ZERO_HASH
    came_from: bytes = b""  # the source topic that it comes from, until it goes on in this one
    topic_id: bytes = b""  # the source topic of its last entry


@dataclass
class Model:
    """Turns the records of one source partition into what audit.chained must hold of them."""

    genesis: Genesis
    topic_id: bytes
    partition: int
    chains: dict[str, _Chain] = field(default_factory=lambda: defaultdict[str, _Chain](_Chain))
    seen: dict[tuple[str, str], list[tuple[int, int, bytes, int]]] = field(
        default_factory=lambda: defaultdict[tuple[str, str], list[tuple[int, int, bytes, int]]](list)
    )

    def expect(self, records: Iterable[SourceRecord | LostRange]) -> list[ExpectedRecord]:
        """Return what records, and the ranges lost between them, must become, in order, geneses included."""
        return [
            expected
            for record in records
            for expected in (self._expect_gap(record) if isinstance(record, LostRange) else self._expect(record))
        ]

    def _expect_gap(self, lost: LostRange) -> Sequence[ExpectedRecord]:
        chain, at = f"!partition-{self.partition}", SourceRecord(self.partition, lost.first, None, None, None)
        made = self._open(at, chain, lost.received)
        payload = f"first {lost.first}\nlast {lost.last}\n".encode()
        return [*made, self._append(at, chain, Kind.GAP, payload, lost.received, reason=lost.reason)]

    def _expect(self, record: SourceRecord) -> Sequence[ExpectedRecord]:
        value = record.value or b""
        received = 0 if record.timestamp_ms is None else record.timestamp_ms * 1000
        reason, tenant, event_id, kind = self._judge(record, value)
        ref = 0
        if reason is None:
            kind, ref = self._repeat(record, tenant, event_id, kind, payload_digest(value), received)
        made = self._open(record, tenant, received)
        carried = value if kind in (Kind.EVENT, Kind.IMPORTED, Kind.CONFLICT, Kind.CONTROL) else b""
        made.append(
            self._append(record, tenant, kind, value, received, carried, reason=reason or 0, ref=ref, event_id=event_id)
        )
        return made

    def _open(self, record: SourceRecord, name: str, received: int) -> list[ExpectedRecord]:
        chain, payload = self.chains[name], self.genesis.payload()
        if chain.seq == 0:
            return [self._append(record, name, Kind.GENESIS, payload, received)]
        if chain.came_from:
            payload += f"previous_topic {chain.came_from.hex()}\n".encode()
            chain.came_from = b""
            return [self._append(record, name, Kind.EPOCH, payload, received)]
        return []

    def _judge(  # noqa: PLR0911  # one return a check, in the order that the rules give
        self, record: SourceRecord, value: bytes
    ) -> tuple[Quarantine | None, str, str, Kind]:
        bad = Kind.QUARANTINED
        own = f"!partition-{self.partition}"
        if not record.key:
            return Quarantine.NO_KEY, own, "", bad
        if not TENANT_PATTERN.fullmatch(record.key):
            return Quarantine.TENANT_INVALID, own, "", bad
        if partition_of(record.key, self.genesis.partitions) != self.partition:
            return Quarantine.PARTITION_WRONG, own, "", bad
        tenant = record.key.decode()
        if not 0 < len(value) <= VALUE_BYTES_MAX:
            return Quarantine.VALUE_SIZE, tenant, "", bad
        try:
            raw_id, raw_tenant, index = read_prefix(value)
        except FrameInvalid:
            return Quarantine.MALFORMED, tenant, "", bad
        valid = EVENT_ID_PATTERN.fullmatch(raw_id) is not None
        event_id = raw_id.decode() if valid else ""
        if raw_tenant != record.key:
            return Quarantine.TENANT_DIFFERS, tenant, event_id, bad
        if not valid:
            return Quarantine.EVENT_ID_INVALID, tenant, "", bad
        if record.timestamp_ms is None:
            return Quarantine.TIMESTAMP_TYPE, tenant, event_id, bad
        return None, tenant, event_id, (Kind.EVENT, Kind.IMPORTED, Kind.CONTROL)[index]

    def _repeat(
        self, record: SourceRecord, tenant: str, event_id: str, kind: Kind, digest: bytes, received: int
    ) -> tuple[Kind, int]:
        earlier = [
            (seq, known)
            for offset, then, known, seq in self.seen[tenant, event_id]
            if 0 < record.offset - offset <= self.genesis.window_offsets
            and received - then <= self.genesis.window_seconds * 1_000_000
        ]
        equal = [seq for seq, known in earlier if known == digest]
        if equal:
            return Kind.DUPLICATE, equal[0]
        chain = self.chains[tenant]  # a genesis or an epoch entry may have to come first
        seq = chain.seq + (1 if chain.seq == 0 or chain.came_from else 0)
        self.seen[tenant, event_id].append((record.offset, received, digest, seq))
        return (Kind.CONFLICT, earlier[0][0]) if earlier else (kind, 0)

    def _append(
        self,
        record: SourceRecord,
        tenant: str,
        kind: Kind,
        payload: bytes,
        received: int,
        carried: bytes | None = None,
        *,
        reason: int = 0,
        ref: int = 0,
        event_id: str = "",
    ) -> ExpectedRecord:
        chain = self.chains[tenant]
        entry = pack(
            Entry(
                kind=kind,
                tenant=tenant,
                seq=chain.seq,
                prev=chain.prev,
                received=received,
                topic_id=self.topic_id,
                partition=self.partition,
                offset=record.offset,
                event_id=event_id,
                length=len(payload),
                payload=payload_digest(payload),
                reason=reason,
                ref=ref,
            )
        )
        chain.seq, chain.prev, chain.topic_id = chain.seq + 1, entry_hash(entry), self.topic_id
        trace = None if kind in (Kind.GENESIS, Kind.EPOCH) else _traceparent(record)
        return ExpectedRecord(self.partition, tenant.encode(), payload if carried is None else carried, entry, trace)


def next_epoch(models: Iterable[Model], genesis: Genesis, topic_id: bytes) -> list[Model]:
    """Return what goes on in another source topic, after models that have seen all of the old one."""
    following = [Model(genesis, topic_id, number) for number in range(genesis.partitions)]
    for model in models:
        for name, chain in model.chains.items():
            is_tenant = not name.startswith("!")
            number = partition_of(name.encode(), genesis.partitions) if is_tenant else model.partition
            if chain.seq and number < genesis.partitions:
                came_from = chain.came_from or chain.topic_id
                following[number].chains[name] = _Chain(chain.seq, chain.prev, came_from, chain.topic_id)
    return following


def _traceparent(record: SourceRecord) -> bytes | None:
    first = next((value for name, value in record.headers if name == "traceparent"), None)
    return first if first and _TRACEPARENT.fullmatch(first) else None
