"""Turns source records into entries (pure: no I/O, no clock, no setting but what genesis pins).

The chain is a function of the source partition alone: any split into batches and any restart gives the same bytes.
Every record becomes exactly one entry. The checks run in a fixed order, and the first that fails decides; a test holds
this code equal to a plain model of the rules.
"""

# ruff: noqa: D102 - the methods of the two protocols are described by their classes
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from sealstream.kafka.partition import partition_of
from sealstream.processors.ordinary import LOG_APPEND_TIME as LOG_APPEND_TIME  # noqa: PLC0414 - for others, too
from sealstream.processors.ordinary import ChainOrdinary, End, Run, chain_ordinary, traceparent
from sealstream.processors.window import Window
from sealstream.schemas.codec import read_prefix
from sealstream.schemas.entry import (
    CARRIED_KINDS,
    EVENT_ID_BYTES,
    EVENT_ID_BYTES_MAX,
    TENANT_PATTERN,
    VALUE_BYTES_MAX,
    ZERO_HASH,
    Genesis,
    Kind,
    Quarantine,
    epoch_payload,
    pack_trusted,
    partition_chain,
    payload_digest,
)
from sealstream.schemas.errors import FrameInvalid, SealstreamError

if TYPE_CHECKING:
    from sealstream.processors.gaps import Gap

MICROSECONDS: Final = 1_000_000
_EVENT_KINDS: Final = (Kind.EVENT, Kind.IMPORTED, Kind.CONTROL)  # by the index of the enum on the wire
_CARRIED: Final = tuple(kind in CARRIED_KINDS for kind in Kind)
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
    def put_all(self, links: Iterable[Link]) -> None: ...
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


def chain(
    rules: Rules, state: PartitionState, records: Iterable[Record], chain_ordinary: ChainOrdinary = chain_ordinary
) -> Chained:
    """Chain records of one partition and move its state behind them.

    Arguments:
        rules: What every entry depends on.
        state: What is known of the partition. If this raises, the state is half moved and must be thrown away.
        records: The records, in the order of their offsets.
        chain_ordinary: What chains ordinary records, or some of them; it makes no difference to what comes out.

    Raises:
        PositionDiffers: A record stands before the position, or before another one that came first.
    """
    chained, keys = Chained(), _Keys(rules, state)
    run = Run(
        list(records), keys.enter, state.window, rules.topic_id, state.partition, state.position, state.last_received,
        ends=keys.entered, sealed=chained.sealed,
    )  # fmt: skip
    others = _Others(rules, state, chained)
    while True:
        before = len(run.sealed)
        chain_ordinary(run)
        chained.kinds[Kind.EVENT] += len(run.sealed) - before
        if run.index == len(run.records):
            break
        record = run.records[run.index]
        offset = record.offset() or 0
        if offset < run.position:
            raise PositionDiffers(f"partition {run.partition} has offset {offset} behind {run.position - 1}")
        time_type, milliseconds = record.timestamp()
        run.received = milliseconds * 1000 if time_type == LOG_APPEND_TIME else 0
        others.chain(record, keys.find(record.key()), run.received)
        run.position, run.index = offset + 1, run.index + 1
    chained.links = keys.grown()
    state.heads.put_all(chained.links)
    if run.position > state.position:
        state.position, state.last_offset, state.last_received = run.position, run.position - 1, run.received
    return chained


class _Others:
    """Chains one record by all the rules, those of ordinary records included.

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

    def chain(self, record: Record, end: End, received: int) -> None:
        """Chain a record.

        Arguments:
            record: The record.
            end: The end of its chain.
            received: Its time in microseconds; 0 if that is not the broker's.
        """
        link, value, offset, chained = end.link, record.value() or _NONE, record.offset() or 0, self._chained
        reason, event_id, kind, ref, digest = end.reason, _NONE, Kind.QUARANTINED, 0, payload_digest(value)
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
        self.entered: dict[bytes | None, End] = {}

    def find(self, key: bytes | None) -> End:
        """Return the end of the chain that records with this key go to."""
        return self.entered.get(key) or self.enter(key)

    def enter(self, key: bytes | None) -> End:
        """Find the end of the chain that records with this key go to, for the first time in this batch."""
        heads, partition = self._state.heads, self._state.partition
        # A tenant that has a chain here was judged before. The chain !partition-<n> is no tenant, whatever a key says.
        known = heads.get(key) if key and key[0] != ord("!") else None
        reason = judge_key(key, partition=partition, partitions=self._partitions) if known is None else None
        if reason is None:
            end = End(known or Link(key or _NONE), 0)
        else:
            if self._apart is None:
                name = partition_chain(partition).encode()
                self._apart = heads.get(name) or Link(name)
            end = End(self._apart, int(reason))
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
