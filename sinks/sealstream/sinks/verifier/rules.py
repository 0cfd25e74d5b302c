"""The rules by which a source record becomes an entry, as the verifier understands them.

Written from the specification alone: nothing here is shared with the processor but the entry's layout and the reading
of the event's first fields. Pure, and made for one pass: a record is judged once, then settled at its place.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sealstream.kafka.partition import partition_of
from sealstream.schemas.codec import read_prefix
from sealstream.schemas.entry import (
    TENANT_PATTERN,
    VALUE_BYTES_MAX,
    ZERO_HASH,
    Entry,
    Genesis,
    Kind,
    Quarantine,
    pack_trusted,
    partition_chain,
    payload_digest,
)
from sealstream.schemas.errors import FrameInvalid
from sealstream.sinks.verifier.window import Window, name_of

KIND_BY_INDEX: Final = (Kind.EVENT, Kind.IMPORTED, Kind.CONTROL)
"""The kind of an entry by the index of its event's own kind."""
EVENT_ID_BYTES: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._:"
EVENT_ID_BYTES_MAX: Final = 128
NOT_CARRIED: Final = b""
"""The value on audit.chained where the entry commits to bytes that stay behind (kinds 3 and 4)."""


class SourceRecord(NamedTuple):
    """A record of audit.events as a read_committed reader sees it.

    Arguments:
        offset: Its offset.
        key: Its key.
        value: Its value.
        received: The broker's append time in microseconds since the Unix epoch; ``None`` if its time is not of that
            type.
    """

    offset: int
    key: bytes | None
    value: bytes | None
    received: int | None


class Verdict(NamedTuple):
    """What a source record must become, wherever its chain stands.

    Arguments:
        chain: The chain's name.
        kind: The entry's kind.
        reason: Why, for kind 4.
        ref: Seq of the first occurrence, for kinds 3 and 5.
        event_id: The entry's event id.
        received: The entry's time.
        offset: The record's offset.
        length: Size of the value in bytes.
        digest: The value's payload digest.
        value: What the chained record carries.
    """

    chain: bytes
    kind: Kind
    reason: int
    ref: int
    event_id: bytes
    received: int
    offset: int
    length: int
    digest: bytes
    value: bytes


class Rules:
    """The rules for one partition of one source topic.

    Arguments:
        genesis: What the instance's chains pin.
        topic_id: UUID of the source topic, 16 bytes.
        partition: The source partition.
    """

    def __init__(self, genesis: Genesis, topic_id: bytes, partition: int) -> None:
        self.genesis = genesis
        self.topic_id = topic_id
        self.partition = partition
        self.genesis_value: bytes = genesis.payload()
        self.window = Window(genesis.window_offsets, genesis.window_seconds)
        self._genesis_digest = payload_digest(self.genesis_value)
        self._partitions = genesis.partitions
        self.partition_chain = partition_chain(partition).encode()
        self._tenants: set[bytes] = set()  # keys that passed, so that each is hashed and matched once

    def judge(self, record: SourceRecord) -> Verdict:
        """Return what a record must become. Records are judged in the order of their offsets, each once."""
        key, value, offset, received = record.key, record.value or b"", record.offset, record.received or 0
        digest = payload_digest(value)
        reason, event_id, index = self._check(key, value, dated=record.received is not None)
        if reason:
            chain = self.partition_chain if reason <= Quarantine.PARTITION_WRONG or key is None else key
            return Verdict(
                chain, Kind.QUARANTINED, reason, 0, event_id, received, offset, len(value), digest, NOT_CARRIED
            )
        assert key is not None, "a record without a key has reason 1"
        repeat = self.window.find(name_of(key, event_id), offset, received, digest)
        if repeat is None:
            kind, ref = KIND_BY_INDEX[index], 0
        elif repeat.same:
            kind, ref, value = Kind.DUPLICATE, repeat.seq, NOT_CARRIED
        else:
            kind, ref = Kind.CONFLICT, repeat.seq
        return Verdict(key, kind, 0, ref, event_id, received, offset, len(record.value or b""), digest, value)

    def settle(self, verdict: Verdict, seq: int) -> None:
        """Let later records repeat this one, which stands at ``seq``."""
        if verdict.kind is not Kind.DUPLICATE and verdict.kind is not Kind.QUARANTINED:
            self.window.add(
                name_of(verdict.chain, verdict.event_id), verdict.offset, verdict.received, verdict.digest, seq
            )

    def entry(self, verdict: Verdict, seq: int, prev: bytes) -> bytes:
        """Return the entry that a record must be at a place of its chain."""
        return pack_trusted(
            verdict.kind,
            verdict.reason,
            verdict.chain,
            seq,
            prev,
            verdict.received,
            self.topic_id,
            self.partition,
            verdict.offset,
            verdict.ref,
            verdict.event_id,
            verdict.length,
            verdict.digest,
        )

    def genesis_entry(self, first: Verdict) -> bytes:
        """Return the genesis entry that must stand right before a chain's first entry."""
        return pack_trusted(
            Kind.GENESIS,
            0,
            first.chain,
            0,
            ZERO_HASH,
            first.received,
            self.topic_id,
            self.partition,
            first.offset,
            0,
            b"",
            len(self.genesis_value),
            self._genesis_digest,
        )

    def epoch_value(self, previous_topic: bytes) -> bytes:
        """Return the payload of the epoch entry of a chain that comes from another source topic."""
        return self.genesis_value + b"previous_topic " + previous_topic.hex().encode() + b"\n"

    def epoch_entry(self, first: Verdict, seq: int, prev: bytes, previous_topic: bytes) -> bytes:
        """Return the epoch entry that must stand right before a chain's first entry from this source topic."""
        value = self.epoch_value(previous_topic)
        return pack_trusted(
            Kind.EPOCH,
            0,
            first.chain,
            seq,
            prev,
            first.received,
            self.topic_id,
            self.partition,
            first.offset,
            0,
            b"",
            len(value),
            payload_digest(value),
        )

    def is_here(self, entry: Entry) -> bool:
        """Return whether an entry says that its source record is of this topic and partition."""
        return (entry.topic_id, entry.partition) == (self.topic_id, self.partition)

    def belongs(self, chain: bytes) -> bool:
        """Return whether a chain is one that this partition's records can stand in."""
        return chain == self.partition_chain or self._key_reason(chain) == 0

    def _check(  # noqa: PLR0911  # one return a check, in the order that the specification gives
        self, key: bytes | None, value: bytes, *, dated: bool
    ) -> tuple[int, bytes, int]:
        """Return the first reason to quarantine a record (0 for none), the entry's event id, the event kind's index."""
        if key is None or key not in self._tenants:
            reason = self._key_reason(key)
            if reason or key is None:
                return reason, b"", 0
            self._tenants.add(key)
        if not 0 < len(value) <= VALUE_BYTES_MAX:
            return Quarantine.VALUE_SIZE, b"", 0
        try:
            event_id, tenant, index = read_prefix(value)
        except FrameInvalid:
            return Quarantine.MALFORMED, b"", 0
        valid = 0 < len(event_id) <= EVENT_ID_BYTES_MAX and not event_id.translate(None, EVENT_ID_BYTES)
        if tenant != key:
            return Quarantine.TENANT_DIFFERS, event_id if valid else b"", 0
        if not valid:
            return Quarantine.EVENT_ID_INVALID, b"", 0
        if not dated:
            return Quarantine.TIMESTAMP_TYPE, event_id, 0
        return 0, event_id, index

    def _key_reason(self, key: bytes | None) -> int:
        if not key:
            return Quarantine.NO_KEY
        if TENANT_PATTERN.fullmatch(key) is None:
            return Quarantine.TENANT_INVALID
        if partition_of(key, self._partitions) != self.partition:
            return Quarantine.PARTITION_WRONG
        return 0
