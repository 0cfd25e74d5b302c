"""Turns source records into entries (pure: no I/O, no clock, no setting but what genesis pins).

The chain is a function of the source partition alone: any split into batches and any restart gives the same bytes.
Every record becomes exactly one entry. The checks run in a fixed order, and the first that fails decides; a test holds
this code equal to a plain model of the rules.
"""

# ruff: noqa: D102 - the methods of the two protocols are described by their classes
from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from sealstream.kafka.partition import partition_of
from sealstream.kafka.topics import TRACEPARENT_HEADER
from sealstream.processors.window import Window, namespace
from sealstream.schemas.codec import ordinary_event_id, ordinary_mark, read_prefix
from sealstream.schemas.entry import (
    CARRIED_KINDS,
    EVENT_ID_BYTES,
    EVENT_ID_BYTES_MAX,
    PAYLOAD_PREFIX,
    TENANT_PATTERN,
    VALUE_BYTES_MAX,
    ZERO_HASH,
    Genesis,
    Kind,
    Quarantine,
    entry_head,
    epoch_payload,
    pack_trusted,
    packer,
    partition_chain,
    payload_digest,
)
from sealstream.schemas.errors import FrameInvalid, SealstreamError

if TYPE_CHECKING:
    from sealstream.processors.gaps import Gap

LOG_APPEND_TIME: Final = 2
"""The timestamp type of a record whose time is the broker's, as the Kafka protocol and librdkafka number it."""

MICROSECONDS: Final = 1_000_000
_EVENT_KINDS: Final = (Kind.EVENT, Kind.IMPORTED, Kind.CONTROL)  # by the index of the enum on the wire
_CARRIED: Final = tuple(kind in CARRIED_KINDS for kind in Kind)
_TRACEPARENT_PATTERN: Final = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_NONE: Final = b""


class Record(Protocol):
    """A record of audit.events, as confluent-kafka's ``Message`` presents it: nothing is copied to be chained."""

    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def offset(self) -> int | None: ...
    def timestamp(self) -> tuple[int, int]: ...
    def headers(self) -> object: ...


class PositionDiffers(SealstreamError):
    """A batch does not begin where its partition's heads end, or does not go forward: it must be read again."""


@dataclass(slots=True)
class Link:
    """The end of one chain.

    Arguments:
        name: The chain's name.
        seq: The seq of the entry to come.
        hash: The hash of the entry before it; zeros before genesis.
        previous_topic: UUID of the source topic that the chain comes from, as long as nothing of it stands in this
            one: then it goes on with an entry of kind 8. Else empty.
    """

    name: bytes
    seq: int = 0
    hash: bytes = ZERO_HASH
    previous_topic: bytes = b""


class Heads(Protocol):
    """Where chains end, by their names; kept packed, because there may be a million of them."""

    folded: int

    def get(self, name: bytes) -> Link | None: ...
    def put(self, link: Link) -> None: ...
    def __len__(self) -> int: ...


@dataclass(slots=True)
class PartitionState:
    """All that chaining knows of one source partition.

    Arguments:
        partition: The partition.
        heads: The ends of its chains.
        window: The records that later ones can repeat.
        position: The source offset to go on from.
        last_offset: The offset of the last record that was chained; -1 before the first.
        last_received: Its append time in microseconds.
        gap: A range right behind the position that is lost and accepted; it is chained before anything else is.
    """

    partition: int
    heads: Heads
    window: Window
    position: int = 0
    last_offset: int = -1
    last_received: int = 0
    gap: Gap | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What every entry of an instance depends on besides the records.

    Arguments:
        genesis: What each chain pins.
        topic_id: The UUID of the source topic, 16 bytes.
    """

    genesis: Genesis
    topic_id: bytes

    @property
    def genesis_digest(self) -> bytes:
        """The digest of each genesis entry's payload."""
        return payload_digest(self.genesis.payload())

    def window(self) -> Window:
        """Return an empty duplicate window."""
        return Window(offsets=self.genesis.window_offsets, microseconds=self.genesis.window_seconds * MICROSECONDS)


Sealed: TypeAlias = tuple[bytes, bytes, bytes, bytes | None]
"""A record for audit.chained: key, value, entry, and the traceparent if there was a valid one."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A quarantined record and where its entry stands.

    Arguments:
        key: The record's key.
        value: Its value.
        offset: Its source offset.
        reason: Why it is quarantined.
        digest: The digest of its payload.
        chain: The chain that holds its entry.
        seq: The seq of its entry.
    """

    key: bytes | None
    value: bytes | None
    offset: int
    reason: Quarantine
    digest: bytes
    chain: bytes
    seq: int


@dataclass(slots=True)
class Chained:
    """What the records of one partition became.

    Arguments:
        sealed: The records for audit.chained, in order, geneses included.
        letters: The quarantined records, in order.
        links: The chains that grew.
        kinds: Number of entries by kind.
    """

    sealed: list[Sealed] = field(default_factory=list[Sealed])
    letters: list[DeadLetter] = field(default_factory=list[DeadLetter])
    links: list[Link] = field(default_factory=list[Link])
    kinds: list[int] = field(default_factory=lambda: [0] * len(Kind))


def chain(rules: Rules, state: PartitionState, records: Iterable[Record]) -> Chained:
    """Chain records of one partition and move its state behind them.

    Arguments:
        rules: What every entry depends on.
        state: What is known of the partition. If this raises, the state is half moved and must be thrown away.
        records: The records, in the order of their offsets.

    Raises:
        PositionDiffers: A record stands before the position, or before another one that came first.
    """
    # One pass, a few microseconds a record: what the loop touches is bound to locals. Ordinary records, which are new
    # and sound in every way that can be told at a glance, are done here; all others by _Others, which knows all rules,
    # those of ordinary records included. A test holds the two equal.
    chained, topic_id, partition = Chained(), rules.topic_id, state.partition
    append, remember = chained.sealed.append, state.window.remember
    position, received, ordinary = state.position, state.last_received, 0
    keys, others = _Keys(rules, state), _Others(rules, state, chained)
    ends = keys.entered
    for record in records:
        key, value, offset = record.key(), record.value() or _NONE, record.offset() or 0
        if offset < position:
            raise PositionDiffers(f"partition {partition} has offset {offset} behind {position - 1}")
        position = offset + 1
        time_type, milliseconds = record.timestamp()
        received = milliseconds * 1000 if time_type == LOG_APPEND_TIME else 0
        end = ends.get(key) or keys.enter(key)
        link, head = end.link, end.head
        seq, digest = link.seq, sha256(PAYLOAD_PREFIX + value).digest()
        event_id = ordinary_event_id(value, end.mark) if received and head else _NONE
        if event_id and remember(end.namespace + event_id, offset, received, seq, digest):
            size = len(event_id)
            entry = packer(len(head), size)(
                head, seq, link.hash, received, topic_id, partition, offset, 0, size, event_id, len(value), digest
            )
            link.seq, link.hash = seq + 1, sha256(b"\x00" + entry).digest()
            append((link.name, value, entry, traceparent(record)))
            ordinary += 1
        else:
            others.chain(record, end, received, digest)
    chained.kinds[Kind.EVENT] += ordinary
    chained.links = keys.grown()
    for link in chained.links:
        state.heads.put(link)
    if position > state.position:
        state.position, state.last_offset, state.last_received = position, position - 1, received
    return chained


class _Others:
    """Chains one record by all the rules.

    Arguments:
        rules: What every entry depends on.
        state: The partition.
        chained: Where it goes.
    """

    def __init__(self, rules: Rules, state: PartitionState, chained: Chained) -> None:
        self._rules = rules
        self._partition = state.partition
        self._judge = state.window.judge
        self._chained = chained

    def chain(self, record: Record, end: _End, received: int, digest: bytes) -> None:
        """Chain a record.

        Arguments:
            record: The record.
            end: The end of its chain.
            received: Its time in microseconds; 0 if that is not the broker's.
            digest: The digest of its value.
        """
        link, value, offset, chained = end.link, record.value() or _NONE, record.offset() or 0, self._chained
        reason, event_id, kind, ref = end.reason, _NONE, Kind.QUARANTINED, 0
        if not reason:
            append_time = record.timestamp()[0] == LOG_APPEND_TIME
            reason, event_id, kind = judge_value(link.name, value, append_time=append_time)
        if not link.seq or link.previous_topic:
            open_chain(self._rules, chained, link, self._partition, offset, received)
            end.open()
        if reason:
            letter = DeadLetter(
                record.key(), record.value(), offset, Quarantine(reason), digest, link.name, link.seq
            )  # fmt: skip
            chained.letters.append(letter)
        else:
            repeat = self._judge(link.name, event_id, offset, received, link.seq, digest)
            if repeat is not None:
                kind, ref = repeat
        entry = pack_trusted(
            kind, reason, link.name, link.seq, link.hash, received, self._rules.topic_id, self._partition, offset, ref,
            event_id, len(value), digest,
        )  # fmt: skip
        link.seq, link.hash = link.seq + 1, sha256(b"\x00" + entry).digest()
        chained.sealed.append((link.name, value if _CARRIED[kind] else _NONE, entry, traceparent(record)))
        chained.kinds[kind] += 1


def judge_value(tenant: bytes, value: bytes, *, append_time: bool) -> tuple[int, bytes, Kind]:
    """Check a record whose key is its tenant and stands in the right partition.

    Arguments:
        tenant: The key.
        value: The value; empty if it is null.
        append_time: Whether the record's time is the broker's.

    Returns:
        The reason of the first check that failed or 0, the event id as the entry holds it, and the kind that the
        payload claims (``QUARANTINED`` with a reason).
    """
    bad = Kind.QUARANTINED
    if not value or len(value) > VALUE_BYTES_MAX:
        return Quarantine.VALUE_SIZE, _NONE, bad
    try:
        event_id, named, index = read_prefix(value)
    except FrameInvalid:
        return Quarantine.MALFORMED, _NONE, bad
    # Five times as fast as EVENT_ID_PATTERN; a test holds the two equal.
    valid = 0 < len(event_id) <= EVENT_ID_BYTES_MAX and not event_id.translate(None, EVENT_ID_BYTES)
    if named != tenant:
        return Quarantine.TENANT_DIFFERS, event_id if valid else _NONE, bad
    if not valid:
        return Quarantine.EVENT_ID_INVALID, _NONE, bad
    if not append_time:
        return Quarantine.TIMESTAMP_TYPE, event_id, bad
    return 0, event_id, _EVENT_KINDS[index]


def judge_key(key: bytes | None, *, partition: int, partitions: int) -> Quarantine | None:
    """Return what is wrong with a record's key, or ``None`` if it names a tenant of this partition."""
    if not key:
        return Quarantine.NO_KEY
    if TENANT_PATTERN.fullmatch(key) is None:
        return Quarantine.TENANT_INVALID
    if partition_of(key, partitions) != partition:
        return Quarantine.PARTITION_WRONG
    return None


def traceparent(record: Record) -> bytes | None:
    """Return the value of a record's first ``traceparent`` header if it is valid, as W3C Trace Context has it."""
    try:
        headers = record.headers()
        if headers is None:
            return None
    except (SystemError, UnicodeError):
        # confluent-kafka cannot present headers of which one has a name that is no UTF-8. Headers are no evidence.
        return None
    if not isinstance(headers, list):
        return None
    for name, value in headers:  # pyright: ignore[reportUnknownVariableType]
        if name == TRACEPARENT_HEADER:
            return value if isinstance(value, bytes) and _TRACEPARENT_PATTERN.fullmatch(value) else None
    return None


class _End:
    """The end of the chain that the records with a key go to, and what all its ordinary entries have in common.

    Arguments:
        link: The end.
        reason: Why records with this key are quarantined, or 0.
    """

    __slots__ = ("head", "link", "mark", "namespace", "reason")

    def __init__(self, link: Link, reason: int) -> None:
        self.link = link
        self.reason = reason
        self.head = self.mark = self.namespace = _NONE
        if link.seq and not link.previous_topic:
            self.open()

    def open(self) -> None:
        """Take ordinary records from now on, if this is a tenant's chain; it has begun."""
        if not self.reason:
            name = self.link.name
            self.head, self.mark, self.namespace = entry_head(Kind.EVENT, name), ordinary_mark(name), namespace(name)


class _Keys:
    """The keys of one batch: each is judged once, and its chain's end unpacked once.

    Arguments:
        rules: What every entry depends on.
        state: The partition.
    """

    def __init__(self, rules: Rules, state: PartitionState) -> None:
        self._partitions = rules.genesis.partitions
        self._state = state
        self._apart: Link | None = None
        self.entered: dict[bytes | None, _End] = {}

    def enter(self, key: bytes | None) -> _End:
        """Return the end of the chain that records with this key go to."""
        heads, partition = self._state.heads, self._state.partition
        # A tenant that has a chain here was judged before. The chain !partition-<n> is no tenant, whatever a key says.
        known = heads.get(key) if key and key[0] != ord("!") else None
        reason = judge_key(key, partition=partition, partitions=self._partitions) if known is None else None
        if reason is None:
            end = _End(known or Link(key or _NONE), 0)
        else:
            if self._apart is None:
                name = partition_chain(partition).encode()
                self._apart = heads.get(name) or Link(name)
            end = _End(self._apart, int(reason))
        self.entered[key] = end
        return end

    def grown(self) -> list[Link]:
        """Return the chains that were entered, each once."""
        tenants = [end.link for end in self.entered.values() if not end.reason]
        return tenants if self._apart is None else [*tenants, self._apart]


def open_chain(rules: Rules, chained: Chained, link: Link, partition: int, offset: int, received: int) -> None:
    """Begin a chain, or go on with it in this source topic, right before its first entry from there.

    Arguments:
        rules: What every entry depends on.
        chained: Where the genesis or epoch entry goes.
        link: The chain's end; it is moved.
        partition: The source partition.
        offset: The offset of the first entry's record.
        received: Its time in microseconds.
    """
    previous = link.previous_topic
    kind = Kind.EPOCH if previous else Kind.GENESIS
    payload = epoch_payload(rules.genesis, previous) if previous else rules.genesis.payload()
    entry = pack_trusted(
        kind, 0, link.name, link.seq, link.hash, received, rules.topic_id, partition, offset, 0, _NONE, len(payload),
        payload_digest(payload),
    )  # fmt: skip
    link.seq, link.hash, link.previous_topic = link.seq + 1, sha256(b"\x00" + entry).digest(), b""
    chained.sealed.append((link.name, payload, entry, None))
    chained.kinds[kind] += 1
