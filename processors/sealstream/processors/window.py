"""The duplicate window of one source partition: which earlier records a record repeats (pure).

A record repeats an earlier one with the same tenant and id if it stands at most ``W`` offsets behind it and was
received at most ``A`` later (signed: a broker's clock may step back). Offsets only grow, so they prune; times do not,
so age is judged at each look-up.

Memory is bounded by offsets: two generations of records are kept, and the older one is dropped as a whole once every
record in it lies more than ``W`` offsets back. So there are never more than ``2 W`` records, and no bookkeeping per
record. The limits themselves are judged exactly, by the offset that each record is kept with.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from sealstream.schemas.entry import Kind
from sealstream.schemas.errors import UnsafeState

# offset, received (microseconds), seq, digest of the payload: packed, a record costs a third of what a tuple would.
_RECORD: Final = struct.Struct(">QQQ32s")
_COMPACT_RECORDS_MIN: Final = 1024

Repeat: TypeAlias = tuple[Kind, int]
"""What a repeat is (duplicate or conflict), and the seq of what it repeats."""


class _Record(NamedTuple):
    offset: int
    received: int
    seq: int
    digest: bytes


@dataclass(slots=True)
class _Namesakes:
    """The records of one id that occurred more than once, oldest first.

    Somebody may send one id again and again with ever different bytes. So equal bytes are found by their digest, and
    the search for the first record that is not too old goes on where the last one ended.
    """

    records: list[_Record] = field(default_factory=list[_Record])
    by_digest: dict[bytes, list[_Record]] = field(default_factory=dict[bytes, list[_Record]])
    first: int = 0  # index of the first record that is not too many offsets back
    fresh: int = 0  # all records before this index were received before ``fresh_least``
    fresh_least: int = 0

    def add(self, record: _Record) -> None:
        """Remember one more record."""
        self.records.append(record)
        self.by_digest.setdefault(record.digest, []).append(record)

    def forget_before(self, offset: int) -> None:
        """Forget the records before an offset."""
        records = self.records
        while self.first < len(records) and records[self.first].offset < offset:
            same = self.by_digest[records[self.first].digest]
            del same[0]
            if not same:
                del self.by_digest[records[self.first].digest]
            self.first += 1
        if self.first >= _COMPACT_RECORDS_MIN and self.first * 2 > len(records):
            del records[: self.first]
            self.fresh = max(self.fresh - self.first, 0)
            self.first = 0

    def find(self, digest: bytes, received_least: int) -> Repeat | None:
        """Return what a record with these bytes repeats, among the records received at or after a time."""
        for record in self.by_digest.get(digest, ()):
            if record.received >= received_least:
                return Kind.DUPLICATE, record.seq
        index = max(self.first, self.fresh) if received_least >= self.fresh_least else self.first
        while index < len(self.records) and self.records[index].received < received_least:
            index += 1
        self.fresh, self.fresh_least = index, received_least
        return (Kind.CONFLICT, self.records[index].seq) if index < len(self.records) else None


def namespace(tenant: bytes) -> bytes:
    """Return what the names of a tenant's ids begin with."""
    return tenant + b"/"  # neither tenant nor id can hold a slash


class WindowIncomplete(UnsafeState):
    """Chained records that the duplicate window may still need are gone from audit.chained."""


class Window:
    """Remembers the records that later ones can repeat.

    Arguments:
        offsets: How many offsets back a record can repeat another one (``W``).
        microseconds: How long after another one's time a record can repeat it (``A``).
    """

    __slots__ = ("_current", "_gone", "_microseconds", "_offsets", "_previous", "_turn")

    def __init__(self, *, offsets: int, microseconds: int) -> None:
        self._offsets = offsets
        self._microseconds = microseconds
        self._current: dict[bytes, bytes | _Namesakes] = {}
        self._previous: dict[bytes, bytes | _Namesakes] = {}
        self._turn = 0
        self._gone: tuple[int, int] | None = None

    def __len__(self) -> int:
        """Return how many ids are remembered."""
        return len(self._current) + len(self._previous)

    def remembers_the_same(self, other: Window) -> bool:
        """Return whether another window would say the same of every record to come."""
        mine = (self._current, self._previous, self._turn, self._gone, self._offsets, self._microseconds)
        return mine == (
            other._current, other._previous, other._turn, other._gone, other._offsets, other._microseconds,
        )  # fmt: skip

    def judge(
        self, tenant: bytes, event_id: bytes, offset: int, received: int, seq: int, digest: bytes
    ) -> Repeat | None:
        """Return what a record repeats, or ``None``; and remember it, unless it is a duplicate.

        Arguments:
            tenant: The record's tenant.
            event_id: The record's id.
            offset: Its source offset; must be greater than that of every record before.
            received: The broker's append time in microseconds.
            seq: The seq that its entry will have.
            digest: The digest of its payload.

        Raises:
            WindowIncomplete: The record may repeat one that was gone when the window was rebuilt.
        """
        if offset >= self._turn:
            self._turn_over(offset, received)
        name = namespace(tenant) + event_id
        known = self._current.get(name) or self._previous.get(name)
        if known is None:
            self._current[name] = _RECORD.pack(offset, received, seq, digest)
            return None
        return self._judge_namesake(name, known, _Record(offset, received, seq, digest))

    @property
    def current(self) -> dict[bytes, bytes | _Namesakes]:
        """The newer generation by names, for who does the work of :meth:`remember` in another language."""
        return self._current

    @property
    def previous(self) -> dict[bytes, bytes | _Namesakes]:
        """The older generation, likewise."""
        return self._previous

    @property
    def turn(self) -> int:
        """The offset from which on the generations change, and :meth:`judge` must be asked."""
        return self._turn

    def remember(self, name: bytes, offset: int, received: int, seq: int, digest: bytes) -> bool:
        """Remember a record whose id is new, or do nothing and return ``False``: then it must be judged.

        Arguments:
            name: The tenant's :func:`namespace` and the id.
            offset: As in :meth:`judge`, and so the others.
            received: Its time.
            seq: Its seq.
            digest: Its digest.
        """
        if offset >= self._turn or name in self._current or name in self._previous:
            return False
        self._current[name] = _RECORD.pack(offset, received, seq, digest)
        return True

    def restore(self, tenant: bytes, event_id: bytes, offset: int, received: int, seq: int, digest: bytes) -> None:
        """Remember a record whose kind is known already, when a window is rebuilt; oldest first."""
        name = namespace(tenant) + event_id
        known = self._current.get(name)
        if known is None:
            self._current[name] = _RECORD.pack(offset, received, seq, digest)
            return
        namesakes = self._namesakes(known)
        namesakes.add(_Record(offset, received, seq, digest))
        self._current[name] = namesakes

    def lacks(self, before_offset: int, received: int) -> None:
        """Note, when a window is rebuilt, that records before an offset are gone, the last of them of this time."""
        self._gone = (before_offset, received)

    def _turn_over(self, offset: int, received: int) -> None:
        """Begin a new generation at an offset; the first record after a rebuild always comes here."""
        if self._gone is not None:
            before_offset, gone_received = self._gone
            if offset - self._offsets < before_offset and received - gone_received <= self._microseconds:
                raise WindowIncomplete(
                    f"chained records before source offset {before_offset} are gone; offset {offset} may repeat one",
                    hint="audit.chained must be kept for the window and two days more: sealstream topics check",
                )
            self._gone = None
        # All that _previous holds lies before the last turn, and so more than W offsets back.
        self._previous, self._current, self._turn = self._current, {}, offset + self._offsets

    def _judge_namesake(self, name: bytes, known: bytes | _Namesakes, record: _Record) -> Repeat | None:
        namesakes = self._namesakes(known)
        namesakes.forget_before(record.offset - self._offsets)
        repeat = namesakes.find(record.digest, record.received - self._microseconds)
        if repeat is not None and repeat[0] is Kind.DUPLICATE:
            return repeat
        namesakes.add(record)
        self._current[name] = namesakes
        return repeat

    @staticmethod
    def _namesakes(known: bytes | _Namesakes) -> _Namesakes:
        if isinstance(known, _Namesakes):
            return known
        namesakes = _Namesakes()
        namesakes.add(_Record(*_RECORD.unpack(known)))
        return namesakes
