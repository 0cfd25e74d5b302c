"""What audit.heads holds: where each chain ends, and how far the source is chained.

Three kinds of records, in the partition of the source partition that they speak of; of one transaction all chains come
first, and the partition itself last:

``<partition>/<chain>``   u8 1 | u64 seq of the next entry | 32 B hash of the last one                       (41 bytes)
``<partition>``           u8 1 | u64 position | i64 last offset | u64 last received | 16 B topic UUID
                          | u64 chains | 40 B fold | genesis payload
``<partition>/<chain>``   u8 2 | u64 seq | 32 B hash | 16 B UUID of the last entry's source topic          (57 bytes)
                          a chain that was carried over from another epoch, and has no entry in this one
``epoch/<partition>``     the partition is at its end (:mod:`~sealstream.processors.epoch_end`)
``gap/<partition>/<first>``   an operator's acceptance of a gap (:mod:`~sealstream.processors.gaps`)

Keys are ASCII text, numbers big-endian. ``position`` is the source offset to go on from, and equals the group's
committed offset: both are written in one transaction, so a reader knows from their equality that it has all of that
transaction. ``last offset`` is that of the last chained record, or of the last lost one of a gap (-1 for none). It may
lie further back than one before the position, because what a transactional publisher aborted, and the markers of its
transactions, are passed over. The records of audit.chained that the window is rebuilt from are complete if and only if
the last one has it. ``chains`` is how many chains there are, and ``fold`` the XOR of what the heads of all of them say:
so a head that got lost or changed is noticed, also of a tenant of whom nothing else is left. The genesis payload and
the topic's UUID are what the partition was chained with, so that a changed setting or topic is noticed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Self

from sealstream.processors.chaining import Link, PartitionState, Rules
from sealstream.processors.epoch_end import EpochEnd, end_key
from sealstream.processors.gaps import KEY_PREFIX as GAP_KEY_PREFIX
from sealstream.schemas.entry import Genesis
from sealstream.schemas.errors import FormatError, HeadsDiffer

VERSION: Final = 1
REBUILD_HINT: Final = "sealstream heads check compares them with audit.chained, heads rebuild makes them anew"
CARRIED_VERSION: Final = 2
_CHAIN: Final = struct.Struct(">BQ32s")
_CARRIED: Final = struct.Struct(">BQ32s16s")
_PARTITION: Final = struct.Struct(">BQqQ16sQ40s")
_FOLD_BYTES: Final = 40
MALFORMED_MAX: Final = 1_000
"""How many malformed records a reader of heads remembers before it gives up."""


def pack_link(link: Link) -> bytes:
    """Return the end of a chain as audit.heads holds it."""
    if link.previous_topic:
        return _CARRIED.pack(CARRIED_VERSION, link.seq, link.hash, link.previous_topic)
    return _CHAIN.pack(VERSION, link.seq, link.hash)


def parse_link(name: bytes, value: bytes) -> Link:
    """Return the end of a chain, the inverse of :func:`pack_link`.

    Raises:
        FormatError: The bytes are no head, or of another version.
    """
    if len(value) == _CHAIN.size and value[0] == VERSION:
        _, seq, digest = _CHAIN.unpack(value)
        return Link(name, seq, digest)
    if len(value) == _CARRIED.size and value[0] == CARRIED_VERSION:
        return Link(name, *_CARRIED.unpack(value)[1:])
    raise FormatError(f"the head of {name.decode(errors='backslashreplace')} is malformed or of another version")


def partition_key(partition: int) -> bytes:
    """Return the key of a partition's own record."""
    return b"%d" % partition


def chain_key(partition: int, name: bytes) -> bytes:
    """Return the key of a chain's record."""
    return b"%d/%s" % (partition, name)


def _foldable(value: bytes) -> int:
    return int.from_bytes(value[1 : _CHAIN.size], "big")


@dataclass(slots=True)
class PackedHeads:
    """The ends of a partition's chains, as they stand in audit.heads: about 170 bytes each.

    Arguments:
        packed: The values of their records by their names; whoever changes them keeps ``folded`` right.
        folded: The XOR of these values without their versions, as a number.
    """

    packed: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    folded: int = 0

    def get(self, name: bytes) -> Link | None:
        """Return the end of a chain, or ``None`` if it has not begun."""
        value = self.packed.get(name)
        return None if value is None else parse_link(name, value)

    def put(self, link: Link) -> None:
        """Remember the end of a chain."""
        self.put_packed(link.name, pack_link(link))

    def put_all(self, links: Iterable[Link]) -> None:
        """Remember the ends of chains: :meth:`put` for the hot path."""
        packed, folded, size = self.packed, self.folded, _CHAIN.size
        for link in links:
            name, value = link.name, pack_link(link)
            before = packed.get(name)
            if before is not None:
                folded ^= int.from_bytes(before[1:size], "big")
            folded ^= int.from_bytes(value[1:size], "big")
            packed[name] = value
        self.folded = folded

    def put_packed(self, name: bytes, value: bytes) -> None:
        """Remember the end of a chain as audit.heads holds it."""
        before = self.packed.get(name)
        if before is not None:
            self.folded ^= _foldable(before)
        self.folded ^= _foldable(value)
        self.packed[name] = value

    def remove(self, name: bytes) -> None:
        """Forget a chain, if it is known."""
        before = self.packed.pop(name, None)
        if before is not None:
            self.folded ^= _foldable(before)

    def copy(self) -> Self:
        """Return heads that say the same and can be moved on by themselves."""
        return type(self)(dict(self.packed), self.folded)

    def __len__(self) -> int:
        """Return the number of chains."""
        return len(self.packed)


@dataclass(frozen=True, slots=True)
class PartitionHead:
    """How far a source partition is chained, and with what.

    Arguments:
        position: The source offset to go on from.
        last_offset: The offset of the last chained record; -1 for none.
        last_received: Its append time in microseconds.
        topic_id: UUID of the source topic.
        chains: How many chains the partition has.
        folded: The XOR of what their heads say, as a number.
        genesis: The payload of each genesis entry.
    """

    position: int
    last_offset: int
    last_received: int
    topic_id: bytes
    chains: int
    folded: int
    genesis: bytes

    @classmethod
    def of(cls, state: PartitionState, rules: Rules) -> Self:
        """Return the head of a partition in this state."""
        heads, payload = state.heads, rules.genesis.payload()
        return cls(
            state.position,
            state.last_offset,
            state.last_received,
            rules.topic_id,
            chains=len(heads),
            folded=heads.folded,
            genesis=payload,
        )

    def pack(self) -> bytes:
        """Return the head as audit.heads holds it."""
        fixed = _PARTITION.pack(
            VERSION,
            self.position,
            self.last_offset,
            self.last_received,
            self.topic_id,
            self.chains,
            self.folded.to_bytes(_FOLD_BYTES, "big"),
        )
        return fixed + self.genesis

    def covers(self, heads: PackedHeads) -> bool:
        """Return whether these are the chains' heads that were written with this one, as far as can be told."""
        return (self.chains, self.folded) == (len(heads), heads.folded)

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Return the head that the bytes are, the inverse of :meth:`pack`.

        Raises:
            FormatError: The bytes are no partition's head, or of another version.
        """
        if len(value) < _PARTITION.size or value[0] != VERSION:
            raise FormatError("the head of a partition is malformed or of another version")
        _, position, last_offset, last_received, topic_id, chains, fold = _PARTITION.unpack_from(value)
        genesis = value[_PARTITION.size :]
        Genesis.parse(genesis)
        return cls(position, last_offset, last_received, topic_id, chains, int.from_bytes(fold, "big"), genesis)


class HeadsReader:
    """Takes in the records of one partition of audit.heads, in their order.

    Arguments:
        partition: The partition.
    """

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._key = partition_key(partition)
        self._prefix = chain_key(partition, b"")
        self.head: PartitionHead | None = None
        self.heads = PackedHeads()
        self.acceptances: dict[bytes, bytes] = {}
        self.end: EpochEnd | None = None
        self.malformed: dict[bytes | None, str] = {}

    def feed(self, key: bytes | None, value: bytes | None) -> None:
        """Take in one record; only the last one of a key counts, so what is wrong with it is told at the end.

        Raises:
            HeadsDiffer: Far too many records are not what a processor writes there.
        """
        self.malformed.pop(key, None)
        try:
            self._feed(key, value)
        except FormatError as error:
            self._forget(key)
            self.malformed[key] = error.message
            if len(self.malformed) > MALFORMED_MAX:
                self.require_sound()

    def require_sound(self) -> None:
        """Refuse records that no processor writes there.

        Raises:
            HeadsDiffer: The last record of a key is malformed, or its key is none of this partition.
        """
        for message in self.malformed.values():
            raise HeadsDiffer(f"audit.heads, partition {self._partition}: {message}", hint=REBUILD_HINT)

    def _feed(self, key: bytes | None, value: bytes | None) -> None:
        if value is None:  # a tombstone: the key was never there
            self._forget(key)
        elif key is not None and key.startswith(self._prefix):
            name = key[len(self._prefix) :]
            parse_link(name, value)
            self.heads.put_packed(name, value)
        elif key is not None and key.startswith(GAP_KEY_PREFIX):
            self.acceptances[key] = value
        elif key == end_key(self._partition):
            self.end = EpochEnd.parse(value)
        elif key == self._key:
            self.head = PartitionHead.parse(value)
        else:
            shown = "no key" if key is None else f"the key {key.decode(errors='backslashreplace')}"
            raise FormatError(f"a record has {shown}, which is neither the partition nor a chain of it")

    def _forget(self, key: bytes | None) -> None:
        if key == self._key:
            self.head = None
        elif key == end_key(self._partition):
            self.end = None
        elif key is not None:
            self.acceptances.pop(key, None)
            if key.startswith(self._prefix):
                self.heads.remove(key[len(self._prefix) :])
