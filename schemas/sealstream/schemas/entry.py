"""The entry: the only bytes that are ever hashed into a chain. Packed and parsed here, and nowhere else.

The layout is fixed and big-endian; ``SPEC.md`` gives it with test vectors. The hash of an entry is at the same time its
leaf hash in the sense of RFC 6962 section 2.1, so the chain and the tree commit to the same 32 bytes.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Final

from sealstream.schemas.errors import EntryInvalid

LABEL: Final = b"sealstream1\n"
SUITE_SHA256: Final = 1
ZERO_HASH: Final = bytes(32)
VALUE_BYTES_MAX: Final = 1_000_000
"""A source record with a larger value is quarantined: it must fit the output topic together with its seal."""

PAYLOAD_PREFIX: Final = b"sealstream/payload1\n"
TENANT_BYTES_MAX: Final = 64
TENANT_PATTERN: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
EVENT_ID_PATTERN: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
EVENT_ID_BYTES: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-"
EVENT_ID_BYTES_MAX: Final = 128
INSTANCE_PATTERN: Final = re.compile(r"[a-z0-9./-]{1,120}")

_HEAD: Final = struct.Struct(">12sBBBB")  # label, suite, kind, reason, length of the tenant
# seq, prev, received, topic_id, partition, offset, ref, length of the id
_MIDDLE: Final = struct.Struct(">Q32sQ16sIQQB")
_TAIL: Final = struct.Struct(">I32s")  # length, payload
_TOPIC_ID_BYTES: Final = 16
# The fields are unsigned on the wire. What they hold is signed in Kafka, in Avro and in PostgreSQL: only a forger could
# make an entry with a highest bit set, and nobody could store it.
_INT32_MAX: Final = 2**31 - 1
_INT64_MAX: Final = 2**63 - 1


class Kind(IntEnum):
    """What an entry says about its source record."""

    GENESIS = 0
    EVENT = 1
    IMPORTED = 2
    DUPLICATE = 3
    QUARANTINED = 4
    CONFLICT = 5
    CONTROL = 6
    GAP = 7
    EPOCH = 8


SOURCELESS_KINDS: Final = frozenset({Kind.GENESIS, Kind.GAP, Kind.EPOCH})
"""Kinds that stand for no source record of their own: the coordinates are those of a neighbour."""

CARRIED_KINDS: Final = frozenset(set(Kind) - {Kind.DUPLICATE, Kind.QUARANTINED})
"""Kinds whose payload bytes travel on audit.chained; the others commit to bytes that are not carried."""

PUBLISHED_KINDS: Final = frozenset({Kind.EVENT, Kind.IMPORTED, Kind.CONFLICT})
"""Kinds that the verifier hands on to audit.verified."""

WINDOW_KINDS: Final = frozenset({Kind.EVENT, Kind.IMPORTED, Kind.CONFLICT, Kind.CONTROL})
"""Kinds that a later record can repeat."""


class Quarantine(IntEnum):
    """Why a source record became an entry of kind 4. The checks run in this order and the first failure decides."""

    NO_KEY = 1
    TENANT_INVALID = 2
    PARTITION_WRONG = 3
    VALUE_SIZE = 4
    MALFORMED = 5
    TENANT_DIFFERS = 6
    EVENT_ID_INVALID = 7
    TIMESTAMP_TYPE = 8


class GapReason(IntEnum):
    """Why a source range that an operator accepted as lost (kind 7) is lost."""

    EXPIRED = 1
    DELETED = 2
    TRUNCATED = 3


PARTITION_CHAIN_REASONS: Final = frozenset({Quarantine.NO_KEY, Quarantine.TENANT_INVALID, Quarantine.PARTITION_WRONG})
"""Reasons of records that belong to no tenant of their partition: they stand in the chain ``!partition-<n>``."""

_NAMELESS_REASONS: Final = frozenset(Quarantine) - {Quarantine.TENANT_DIFFERS, Quarantine.TIMESTAMP_TYPE}

_REASONS: Final[dict[Kind, frozenset[int]]] = {
    Kind.QUARANTINED: frozenset(Quarantine),
    Kind.GAP: frozenset(GapReason),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One link of a chain, unpacked.

    Arguments:
        kind: What the entry says about its source record.
        tenant: The chain's name: a tenant, or ``!partition-<n>`` for records that belong to no tenant.
        seq: The place in the chain, from 0 (genesis); equal to the leaf index in the tenant's tree.
        prev: Hash of entry ``seq - 1``, 32 bytes; zeros for genesis.
        received: The broker's append time in microseconds since the Unix epoch.
        topic_id: UUID of the source topic, 16 bytes.
        partition: The source partition.
        offset: The source offset.
        event_id: The event's id; empty if the record had no valid one.
        length: Size of the payload in bytes.
        payload: Digest of the payload (:func:`payload_digest`), 32 bytes.
        reason: A :class:`Quarantine` for kind 4, a :class:`GapReason` for kind 7, else 0.
        ref: ``seq`` of the first occurrence for kinds 3 and 5, else 0.
    """

    kind: Kind
    tenant: str
    seq: int
    prev: bytes
    received: int
    topic_id: bytes
    partition: int
    offset: int
    event_id: str
    length: int
    payload: bytes
    reason: int = 0
    ref: int = 0


def pack(entry: Entry) -> bytes:
    """Return the bytes of an entry, exactly as they are hashed.

    Raises:
        EntryInvalid: A field is out of range, or the fields contradict each other.
    """
    _check(entry)
    tenant, event_id = entry.tenant.encode("ascii"), entry.event_id.encode("ascii")
    head = _HEAD.pack(LABEL, SUITE_SHA256, entry.kind, entry.reason, len(tenant))
    middle = _MIDDLE.pack(
        entry.seq, entry.prev, entry.received, entry.topic_id, entry.partition, entry.offset, entry.ref, len(event_id)
    )
    return b"".join((head, tenant, middle, event_id, _TAIL.pack(entry.length, entry.payload)))


def pack_trusted(
    kind: int,
    reason: int,
    tenant: bytes,
    seq: int,
    prev: bytes,
    received: int,
    topic_id: bytes,
    partition: int,
    offset: int,
    ref: int,
    event_id: bytes,
    length: int,
    payload: bytes,
) -> bytes:
    """Return the bytes of an entry whose fields the caller has checked already: :func:`pack` for the hot path.

    The chaining code calls this once a record. It must not be used on fields that come from outside; a test holds it
    equal to :func:`pack`.
    """
    return b"".join(
        (
            _HEAD.pack(LABEL, SUITE_SHA256, kind, reason, len(tenant)),
            tenant,
            _MIDDLE.pack(seq, prev, received, topic_id, partition, offset, ref, len(event_id)),
            event_id,
            _TAIL.pack(length, payload),
        )
    )


def entry_head(kind: int, tenant: bytes) -> bytes:
    """Return what all entries of a kind in a tenant's chain begin with, if they have no reason."""
    return _HEAD.pack(LABEL, SUITE_SHA256, kind, 0, len(tenant)) + tenant


@cache  # a head has at most 80 bytes and an id at most 128
def packer(head_size: int, id_size: int) -> Callable[..., bytes]:
    """Return what packs entries whose head and id have these sizes in bytes: :func:`pack_trusted` in one call.

    It takes the head (:func:`entry_head`), seq, prev, received, topic_id, partition, offset, ref, the size of the id,
    the id, length and payload. What was said of :func:`pack_trusted` holds for it, too.
    """
    return struct.Struct(f">{head_size}s{_MIDDLE.format[1:]}{id_size}s{_TAIL.format[1:]}").pack


def parse(data: bytes) -> Entry:
    """Return the entry that the bytes are, the inverse of :func:`pack`.

    Raises:
        EntryInvalid: The bytes are not an entry: wrong label or suite, cut, too long, or a field out of range.
    """
    try:
        label, suite, kind, reason, tenant_size = _HEAD.unpack_from(data, 0)
        position = _HEAD.size + tenant_size
        tenant = data[_HEAD.size : position]
        seq, prev, received, topic_id, partition, offset, ref, id_size = _MIDDLE.unpack_from(data, position)
        position += _MIDDLE.size + id_size
        event_id = data[position - id_size : position]
        length, payload = _TAIL.unpack_from(data, position)
    except struct.error as error:
        raise EntryInvalid(f"entry is cut short: {len(data)} bytes") from error
    if label != LABEL:
        raise EntryInvalid("entry does not begin with its label", hint="the bytes are no entry, or of a newer format")
    if suite != SUITE_SHA256:
        raise EntryInvalid(f"entry has the unknown suite {suite}", hint="read it with a newer version")
    if len(data) != position + _TAIL.size:
        raise EntryInvalid(f"entry has {len(data) - position - _TAIL.size} bytes behind its end")
    try:
        entry = Entry(
            kind=Kind(kind),
            tenant=tenant.decode("ascii"),
            seq=seq,
            prev=prev,
            received=received,
            topic_id=topic_id,
            partition=partition,
            offset=offset,
            event_id=event_id.decode("ascii"),
            length=length,
            payload=payload,
            reason=reason,
            ref=ref,
        )
    except ValueError as error:  # an unknown kind, or a tenant or id that is not ASCII
        raise EntryInvalid(f"entry has a field that does not decode: {error}") from error
    _check(entry)
    return entry


def entry_hash(data: bytes) -> bytes:
    """Return the hash of an entry's bytes: ``SHA-256(0x00 || entry)``, the leaf hash of RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x00" + data).digest()


def payload_digest(value: bytes) -> bytes:
    """Return the digest by which an entry commits to a source record's value, byte for byte as it was received."""
    return hashlib.sha256(PAYLOAD_PREFIX + value).digest()


def partition_chain(partition: int) -> str:
    """Return the name of the chain that holds the records of a partition which belong to no tenant."""
    return f"!partition-{partition}"


def is_tenant(name: str) -> bool:
    """Return whether a name may be a tenant's: 1 to 64 of ``A-Za-z0-9_.-``, beginning with a letter or digit."""
    return name.isascii() and TENANT_PATTERN.fullmatch(name.encode()) is not None


def is_event_id(event_id: str) -> bool:
    """Return whether a string may be an event's id: 1 to 128 of ``A-Za-z0-9._:-``."""
    return event_id.isascii() and EVENT_ID_PATTERN.fullmatch(event_id.encode()) is not None


def is_instance(name: str) -> bool:
    """Return whether a string may name an instance: a schema-less URL of 1 to 120 of ``a-z0-9./-``."""
    return INSTANCE_PATTERN.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Genesis:
    """What every chain of an instance depends on, pinned by its first entry.

    Arguments:
        instance: The instance's name, a schema-less URL of at most 120 bytes.
        partitions: Number of partitions of the source topic.
        window_offsets: How many offsets back a record can repeat another one.
        window_seconds: How many seconds back a record can repeat another one.
        operators: Hex digest of the operators' policy, or ``none``.
    """

    instance: str
    partitions: int
    window_offsets: int = 65_536
    window_seconds: int = 86_400
    operators: str = "none"

    def payload(self) -> bytes:
        """Return the payload of a genesis entry.

        Raises:
            EntryInvalid: A field is out of range.
        """
        if not is_instance(self.instance):
            raise EntryInvalid(f"instance {self.instance!r} is not 1 to 120 of a-z0-9./-")
        numbers = (self.partitions, self.window_offsets, self.window_seconds)
        if not all(0 < number <= _INT32_MAX for number in numbers):
            raise EntryInvalid(f"genesis has a number outside 1 to {_INT32_MAX}: {numbers}")
        if self.operators != "none" and not re.fullmatch("[0-9a-f]{64}", self.operators):
            raise EntryInvalid("the operators' policy is neither a SHA-256 in hex nor 'none'")
        lines = (
            f"instance {self.instance}",
            f"partitions {self.partitions}",
            f"window_offsets {self.window_offsets}",
            f"window_seconds {self.window_seconds}",
            f"value_bytes_max {VALUE_BYTES_MAX}",
            f"operators {self.operators}",
        )
        return "".join(f"{line}\n" for line in lines).encode()

    @classmethod
    def parse(cls, payload: bytes) -> Genesis:
        """Return what a genesis payload pins, the inverse of :meth:`payload`.

        Raises:
            EntryInvalid: The bytes are not exactly those that :meth:`payload` makes.
        """
        match = _GENESIS_PATTERN.fullmatch(payload)
        if match is None:
            raise EntryInvalid("genesis payload is malformed")
        instance, partitions, offsets, seconds, operators = (group.decode() for group in match.groups())
        genesis = cls(instance, int(partitions), int(offsets), int(seconds), operators)
        if genesis.payload() != payload:
            raise EntryInvalid("genesis payload is not in its one normal form")
        return genesis


_GENESIS_PATTERN: Final = re.compile(
    rb"instance ([a-z0-9./-]{1,120})\npartitions ([0-9]{1,10})\nwindow_offsets ([0-9]{1,10})\n"
    rb"window_seconds ([0-9]{1,10})\nvalue_bytes_max 1000000\noperators (none|[0-9a-f]{64})\n"
)


def gap_payload(first: int, last: int) -> bytes:
    """Return the payload of a gap entry (kind 7): the first and the last source offset that are lost.

    Raises:
        EntryInvalid: The range is empty or out of range.
    """
    if not 0 <= first <= last <= _INT64_MAX:
        raise EntryInvalid(f"gap from offset {first} to {last} is no range")
    return f"first {first}\nlast {last}\n".encode()


def parse_gap_payload(payload: bytes) -> tuple[int, int]:
    """Return the first and the last lost offset that a gap's payload names, the inverse of :func:`gap_payload`.

    Raises:
        EntryInvalid: The bytes are not exactly those that :func:`gap_payload` makes.
    """
    match = _GAP_PATTERN.fullmatch(payload)
    if match is None:
        raise EntryInvalid("gap payload is malformed")
    first, last = int(match[1]), int(match[2])
    if gap_payload(first, last) != payload:
        raise EntryInvalid("gap payload is not in its one normal form")
    return first, last


def epoch_payload(genesis: Genesis, previous_topic_id: bytes) -> bytes:
    """Return the payload of an epoch entry (kind 8): what the new epoch pins, and the UUID of the topic before it.

    Raises:
        EntryInvalid: A field is out of range.
    """
    if len(previous_topic_id) != _TOPIC_ID_BYTES:
        raise EntryInvalid("a topic UUID has 16 bytes")
    return genesis.payload() + f"previous_topic {previous_topic_id.hex()}\n".encode()


def parse_epoch_payload(payload: bytes) -> tuple[Genesis, bytes]:
    """Return what an epoch's payload pins and the UUID of the topic before it, the inverse of :func:`epoch_payload`.

    Raises:
        EntryInvalid: The bytes are not exactly those that :func:`epoch_payload` makes.
    """
    match = _EPOCH_PATTERN.fullmatch(payload)
    if match is None:
        raise EntryInvalid("epoch payload is malformed")
    return Genesis.parse(match[1]), bytes.fromhex(match[2].decode())


_GAP_PATTERN: Final = re.compile(rb"first ([0-9]{1,19})\nlast ([0-9]{1,19})\n")
_EPOCH_PATTERN: Final = re.compile(rb"(.*\n)previous_topic ([0-9a-f]{32})\n", re.DOTALL)


def _check(entry: Entry) -> None:
    """Refuse an entry whose fields are out of range or contradict each other."""
    _check_names(entry)
    for name, number, limit in (
        ("seq", entry.seq, _INT64_MAX),
        ("received", entry.received, _INT64_MAX),
        ("offset", entry.offset, _INT64_MAX),
        ("ref", entry.ref, _INT64_MAX),
        ("partition", entry.partition, _INT32_MAX),
        ("length", entry.length, _INT32_MAX),
    ):
        if not 0 <= number <= limit:
            raise EntryInvalid(f"entry has {name} {number}, outside 0 to {limit}")
    for name, value, size in (
        ("prev", entry.prev, 32),
        ("topic_id", entry.topic_id, _TOPIC_ID_BYTES),
        ("payload", entry.payload, 32),
    ):
        if len(value) != size:
            raise EntryInvalid(f"entry has {name} of {len(value)} bytes instead of {size}")
    _check_kind(entry)
    _check_event_id(entry)


def _check_names(entry: Entry) -> None:
    """Refuse an entry in a chain that cannot exist, or cannot hold its kind and reason."""
    apart = not is_tenant(entry.tenant)
    if apart and entry.tenant != partition_chain(entry.partition):
        raise EntryInvalid("entry has an invalid tenant")
    if entry.event_id and not is_event_id(entry.event_id):
        raise EntryInvalid("entry has an invalid event id")
    if entry.kind in (Kind.GENESIS, Kind.EPOCH):
        return
    if apart != (entry.kind is Kind.GAP or entry.reason in PARTITION_CHAIN_REASONS):
        raise EntryInvalid(f"entry of kind {entry.kind.name} and reason {entry.reason} stands in the wrong chain")


def _check_kind(entry: Entry) -> None:
    """Refuse an entry whose reason, seq or ref do not go with its kind."""
    allowed = _REASONS.get(entry.kind, frozenset({0}))
    if entry.reason not in allowed:
        raise EntryInvalid(f"entry of kind {entry.kind.name} has the reason {entry.reason}")
    if (entry.kind is Kind.GENESIS) != (entry.seq == 0):
        raise EntryInvalid(f"entry of kind {entry.kind.name} has seq {entry.seq}: genesis is 0, and only genesis")
    if entry.kind is Kind.GENESIS and entry.prev != ZERO_HASH:
        raise EntryInvalid("genesis has a predecessor")
    refers = entry.kind in (Kind.DUPLICATE, Kind.CONFLICT)
    if refers != (0 < entry.ref < entry.seq) or (not refers and entry.ref):
        raise EntryInvalid(f"entry of kind {entry.kind.name} at seq {entry.seq} has ref {entry.ref}")
    if entry.kind is Kind.QUARANTINED and entry.reason == Quarantine.TIMESTAMP_TYPE and entry.received:
        raise EntryInvalid(f"entry says that it has no broker's time, and has received {entry.received}")


def _check_event_id(entry: Entry) -> None:
    """Refuse an entry that has an event id where its kind and reason allow none, or has none where they need one."""
    if entry.kind is Kind.QUARANTINED:
        needed = entry.reason == Quarantine.TIMESTAMP_TYPE
        forbidden = entry.reason in _NAMELESS_REASONS
    else:
        needed = entry.kind not in SOURCELESS_KINDS
        forbidden = not needed
    if (needed and not entry.event_id) or (forbidden and entry.event_id):
        word = "no" if needed else "an"
        raise EntryInvalid(f"entry of kind {entry.kind.name} and reason {entry.reason} has {word} event id")
