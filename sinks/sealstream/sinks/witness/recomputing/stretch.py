"""One stretch of a source partition: what became of its offsets, counted from the entries that stand for them. Pure.

An offset for which no entry stands is one that no reader sees: the verifier has found the entries complete.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple, Protocol, cast

from sealstream.kafka.topics import SEAL_ENTRY_HEADER
from sealstream.schemas.coverage import COVERAGE_BYTES_MAX, OffsetRange, PartitionCoverage
from sealstream.schemas.entry import LABEL, SUITE_SHA256, Kind, parse_gap_payload, payload_digest
from sealstream.schemas.errors import EntryInvalid, SealInvalid
from sealstream.sinks.witness.recomputing.strands import Strands, Unlinked

_KIND_AT: Final = len(LABEL) + 1
_NAME_SIZE_AT: Final = _KIND_AT + 2
_NAME_AT: Final = _NAME_SIZE_AT + 1
_BEGIN: Final = LABEL + bytes((SUITE_SHA256,))
_MIDDLE: Final = struct.Struct(">Q32sQ16sIQ")  # seq, prev, received, topic_id, partition, offset
_PAYLOAD_BYTES: Final = 32
_RANGES_MAX: Final = COVERAGE_BYTES_MAX // 16
_LEADING: Final = (Kind.GENESIS, Kind.EPOCH)


class ChainedMessage(Protocol):
    """A record of audit.chained as confluent-kafka's ``Message`` presents it."""

    def value(self) -> bytes | None:
        """Return its value."""
        ...

    def offset(self) -> int | None:
        """Return its offset."""
        ...

    def headers(self) -> object:
        """Return its headers."""
        ...


class Lost(NamedTuple):
    """A range that an entry of kind 7 declares lost.

    Arguments:
        range: The range.
        seq: The entry's seq in the partition's chain.
    """

    range: OffsetRange
    seq: int


@dataclass(slots=True)
class Place:
    """Where one partition is read.

    Arguments:
        topic_id: UUID of the source topic, 16 bytes.
        partition: The partition.
        chained: The offset on audit.chained of the first record that was not taken.
        end: The source offset up to which the last cut accounts for the partition.
    """

    topic_id: bytes
    partition: int
    chained: int = 0
    end: int = 0


class Stretch:
    """What became of a partition's offsets from a cut on.

    Arguments:
        place: Where the partition is read; it moves along.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.begin = self.next = place.end
        self.counts = [0] * len(Kind)
        self.invisible: list[OffsetRange] = []
        self.lost: list[Lost] = []

    def take(self, messages: Sequence[ChainedMessage], strands: Strands, *, end: int, limit: int) -> tuple[int, bool]:
        """Take the next records up to a cut.

        A record that does not follow its chain is passed over and remembered: whether that is in order shows where
        the chain is compared with the verifier's.

        Arguments:
            messages: The records.
            strands: The chains.
            end: The source offset to cut at.
            limit: The offset on audit.chained up to which the verifier has verified.

        Returns:
            How many were taken, and whether the cut was reached.

        Raises:
            SealInvalid: An entry cannot stand where the verifier has let it stand.
        """
        topic_id, partition = self.place.topic_id, self.place.partition
        for index, message in enumerate(messages):
            at = cast("int", message.offset())
            if at >= limit:
                return index, False
            data = seal_of(message)
            if not data.startswith(_BEGIN):
                continue
            try:
                size = data[_NAME_SIZE_AT]
                name = data[_NAME_AT : _NAME_AT + size]
                seq, prev, _, topic, number, offset = _MIDDLE.unpack_from(data, _NAME_AT + size)
            except (IndexError, struct.error):
                continue
            strand = strands[name]
            if seq != strand.seq or prev != strand.prev or topic != topic_id or number != partition:
                late = data[_KIND_AT] == Kind.EPOCH and seq > strand.seq and (topic, number) == (topic_id, partition)
                if late and offset >= end:  # rounds of the epoch before are left of it, and of what stands behind it
                    return index, True
                strands.unlinked.setdefault(name, Unlinked(seq, strand.seq, offset))
                continue
            if offset >= end:
                return index, True
            strand.prev = digest = sha256(b"\x00" + data).digest()
            strand.seq = seq + 1
            strand.hashes.append(digest)
            kind = data[_KIND_AT]
            if offset == self.next and kind != Kind.GAP and kind not in _LEADING:
                self.counts[kind] += 1
                self.next = offset + 1
            else:
                self._account(kind, offset, seq, data, message)
            self.place.chained = at + 1
        return len(messages), False

    def _account(self, kind: int, offset: int, seq: int, data: bytes, message: ChainedMessage) -> None:
        """Account for an entry that does not simply stand for the next offset."""
        if offset < self.next or kind >= len(self.counts):
            raise SealInvalid(
                f"partition {self.place.partition}: an entry stands for offset {offset} again, or is of no known kind",
                hint=_ALTERED,
            )
        self.counts[kind] += 1
        if kind in _LEADING:  # it has the offset of the entry behind it
            return
        if offset > self.next:
            self._pass_over(offset)
        if kind != Kind.GAP:
            self.next = offset + 1
            return
        last = _last_lost(data, message, offset)
        self.lost.append(Lost(OffsetRange(offset, last), seq))
        self.next = last + 1

    def _pass_over(self, offset: int) -> None:
        if len(self.invisible) >= _RANGES_MAX:
            raise SealInvalid(
                f"partition {self.place.partition}: more ranges than a coverage holds",
                hint="the round has to end at earlier offsets",
            )
        self.invisible.append(OffsetRange(self.next, offset - 1))

    def coverage(self, end: int) -> PartitionCoverage:
        """Return what became of the offsets up to a cut; another one can follow from there.

        Raises:
            SealInvalid: The cut lies within a range that is lost.
        """
        if self.next > end:
            raise SealInvalid(
                f"partition {self.place.partition}: a round ends at offset {end}, within what is declared lost",
                hint="the round has to end behind it",
            )
        if self.next < end:
            self._pass_over(end)
            self.next = end
        self.place.end = end
        return PartitionCoverage(
            self.place.topic_id,
            self.place.partition,
            self.begin,
            end,
            tuple(self.counts),
            tuple(self.invisible),
            tuple(lost.range for lost in self.lost),
        )


@dataclass(frozen=True, slots=True)
class Followed:
    """Where chains go on behind a cut.

    Arguments:
        heads: The seq of each chain's next entry, and the hash before it.
        resumed: Chains that go on in this epoch from entries of the one before that no round covers yet: seq and prev
            of their entry of kind 8. Whether it follows the verified end of that epoch has to be seen.
    """

    heads: dict[bytes, tuple[int, bytes]] = field(default_factory=dict[bytes, tuple[int, bytes]])
    resumed: dict[bytes, tuple[int, bytes]] = field(default_factory=dict[bytes, tuple[int, bytes]])


def follow(messages: Sequence[ChainedMessage], followed: Followed, strands: Strands, place: Place, limit: int) -> int:
    """Follow the chains behind a cut, without accounting for anything: only where each of them goes on.

    Arguments:
        messages: The records.
        followed: How far they were followed; is brought forward.
        strands: Knows where the others go on.
        place: The partition; stays as it is.
        limit: The offset on audit.chained up to which the verifier has verified.

    Returns:
        How many of them lie before the limit.
    """
    heads = followed.heads
    for index, message in enumerate(messages):
        if cast("int", message.offset()) >= limit:
            return index
        data = seal_of(message)
        if not data.startswith(_BEGIN):
            continue
        try:
            size = data[_NAME_SIZE_AT]
            name = data[_NAME_AT : _NAME_AT + size]
            seq, prev, _, topic, number, offset = _MIDDLE.unpack_from(data, _NAME_AT + size)
        except (IndexError, struct.error):
            continue
        head = heads.get(name)
        if head is None:
            strand = strands[name]
            head = strand.seq, strand.prev
        is_here = topic == place.topic_id and number == place.partition
        if (seq, prev) != head or not is_here:
            strands.unlinked.setdefault(name, Unlinked(seq, head[0], offset))
            if name in heads or data[_KIND_AT] != Kind.EPOCH or not is_here or seq <= head[0]:
                continue
            followed.resumed[name] = seq, prev
        heads[name] = seq + 1, sha256(b"\x00" + data).digest()
    return len(messages)


def entry_at(messages: Sequence[ChainedMessage], wanted: int, place: Place) -> tuple[bytes, int] | None:
    """Return the chain and the seq of the entry that stands for a source offset, if it is among these records.

    Arguments:
        messages: The records.
        wanted: The source offset.
        place: The partition.
    """
    for message in messages:
        found = coordinates(message)
        if found is None or found.kind in _LEADING:
            continue
        if (found.offset, found.topic_id, found.partition) == (wanted, place.topic_id, place.partition):
            return found.name, found.seq
    return None


def hashes_of(messages: Sequence[ChainedMessage], name: bytes, begin: int) -> list[bytes]:
    """Return the hashes of a chain's entries from a seq on, as far as they follow one another in these records."""
    hashes: list[bytes] = []
    for message in messages:
        found = coordinates(message)
        if found is not None and (found.name, found.seq) == (name, begin + len(hashes)):
            hashes.append(sha256(b"\x00" + seal_of(message)).digest())
    return hashes


class Coordinates(NamedTuple):
    """What an entry says of where it stands.

    Arguments:
        name: Its chain.
        seq: Its seq.
        prev: The hash of the entry before it.
        kind: Its kind.
        topic_id: UUID of its source topic.
        partition: Its source partition.
        offset: Its source offset.
    """

    name: bytes
    seq: int
    prev: bytes
    kind: int
    topic_id: bytes
    partition: int
    offset: int


def coordinates(message: ChainedMessage) -> Coordinates | None:
    """Return where a record's entry stands; ``None`` if it has none."""
    data = seal_of(message)
    if not data.startswith(_BEGIN):
        return None
    try:
        size = data[_NAME_SIZE_AT]
        seq, prev, _, topic_id, partition, offset = _MIDDLE.unpack_from(data, _NAME_AT + size)
    except (IndexError, struct.error):
        return None
    return Coordinates(data[_NAME_AT : _NAME_AT + size], seq, prev, data[_KIND_AT], topic_id, partition, offset)


def seal_of(message: ChainedMessage) -> bytes:
    """Return a record's entry; nothing if it has none, or more than one."""
    try:
        headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    except (SystemError, UnicodeError):  # a name that is no UTF-8: confluent-kafka cannot present it
        return b""
    if len(headers) == 1 and headers[0][0] == SEAL_ENTRY_HEADER:
        return headers[0][1] or b""
    entries = [value for name, value in headers if name == SEAL_ENTRY_HEADER]
    return (entries[0] or b"") if len(entries) == 1 else b""


def _last_lost(data: bytes, message: ChainedMessage, first: int) -> int:
    """Return the last offset that a gap's payload declares lost, if that is the payload its entry commits to."""
    value = message.value() or b""
    try:
        begin, last = parse_gap_payload(value)
    except EntryInvalid as error:
        raise SealInvalid(f"the gap at offset {first} does not say what is lost", hint=_ALTERED) from error
    if begin != first or payload_digest(value) != data[-_PAYLOAD_BYTES:]:
        raise SealInvalid(f"the gap at offset {first} has another payload than its entry says", hint=_ALTERED)
    return last


_ALTERED: Final = "audit.chained was altered after it was verified: run sealstream verify on the store"
