"""The duplicate window: which earlier records a record can repeat, remembered by this verifier for itself.

Two generations of a dictionary take turns, each covering at least the window's span of offsets. So nothing has to be
taken out record by record, and memory is bounded by twice the window whatever is published.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from typing import Final, NamedTuple, TypeAlias

MICROSECONDS: Final = 1_000_000

Name: TypeAlias = bytes
"""A tenant and an id as one key. The space between them stands in neither."""
Seen: TypeAlias = bytes
"""A record that a later one can repeat: offset, time received in microseconds, seq, payload digest. Packed, because a
window of a worker holds millions of them, and Python's garbage collector does not look into bytes."""

_SEEN: Final = struct.Struct(">Qqq")
_WHOLE: Final = struct.Struct(">Qqq32s")
_DIGEST: Final = _SEEN.size


class Repeat(NamedTuple):
    """What a record repeats.

    Arguments:
        same: Whether the payload is the same too (kind 3), or another one (kind 5).
        seq: Where in the chain the first occurrence stands.
    """

    same: bool
    seq: int


class _Several:
    """The records of one id where there is more than one, in the order of their offsets.

    They are indexed by digest as well: somebody who publishes one id with ever new bytes must not make each look-up
    dearer than the one before.
    """

    __slots__ = ("by_digest", "every")

    def __init__(self, first: Seen) -> None:
        self.every: list[Seen] = [first]
        self.by_digest: dict[bytes, list[Seen]] = {first[_DIGEST:]: [first]}

    def add(self, seen: Seen) -> None:
        self.every.append(seen)
        self.by_digest.setdefault(seen[_DIGEST:], []).append(seen)


def name_of(tenant: bytes, event_id: bytes) -> Name:
    """Return the key under which a tenant's id is remembered."""
    return b"%b %b" % (tenant, event_id)


class Window:
    """Remembers the records of one source partition that later ones can repeat.

    Arguments:
        offsets: How many offsets back a record can repeat another one.
        seconds: How many seconds back; measured on the brokers' times, which may step back.
    """

    def __init__(self, offsets: int, seconds: int) -> None:
        self._offsets = offsets
        self._age = seconds * MICROSECONDS
        self._newer: dict[Name, Seen | _Several] = {}
        self._older: dict[Name, Seen | _Several] = {}
        self._start = 0

    def find(self, name: Name, offset: int, received: int, digest: bytes) -> Repeat | None:
        """Return what a record repeats, or ``None`` if it is the first with its id within the window."""
        if offset >= self._start + self._offsets:
            self._turn(offset)
        older, newer = self._older.get(name), self._newer.get(name)
        if older is None and newer is None:
            return None
        groups = [group for group in (older, newer) if group is not None]
        for wanted in (digest, None):
            for group in groups:
                seen = self._first(group, offset, received, wanted)
                if seen is not None:
                    return Repeat(wanted is not None, _SEEN.unpack_from(seen)[2])
        return None

    def add(self, name: Name, offset: int, received: int, digest: bytes, seq: int) -> None:
        """Remember a record of kind 1, 2, 5 or 6. Offsets must rise from call to call."""
        if offset >= self._start + self._offsets:
            self._turn(offset)
        seen = _SEEN.pack(offset, received, seq) + digest
        if name in self._newer:
            _put(self._newer, name, seen)
        else:
            self._newer[name] = seen

    def remember(self, tenant: bytes, event_id: bytes, offset: int, received: int, digest: bytes, seq: int) -> bool:
        """Remember a record if it is certainly the first with its id, and return whether it is.

        What this does in one call, for the ordinary record, takes :meth:`find` and :meth:`add` twice the time.
        """
        newer, name = self._newer, b"%b %b" % (tenant, event_id)
        if offset >= self._start + self._offsets or name in newer or name in self._older:
            return False
        newer[name] = _WHOLE.pack(offset, received, seq, digest)
        return True

    def forget(self, tenant: bytes, first_seq: int) -> None:
        """Forget a tenant's records from a seq on: they turned out never to have entered the chain."""
        prefix = tenant + b" "
        for generation in (self._newer, self._older):
            for name in [name for name in generation if name.startswith(prefix)]:
                group = generation.pop(name)
                for seen in group.every if isinstance(group, _Several) else (group,):
                    if _SEEN.unpack_from(seen)[2] < first_seq:
                        _put(generation, name, seen)

    def remembered(self) -> tuple[frozenset[Name], frozenset[Name], int]:
        """Return the names in the newer and the older generation, and the offset at which the newer one began."""
        return frozenset(self._newer), frozenset(self._older), self._start

    def _first(self, group: Seen | _Several, offset: int, received: int, digest: bytes | None) -> Seen | None:
        """Return the first record of a group within the window, of one digest or of any."""
        if isinstance(group, _Several):
            found = group.every if digest is None else group.by_digest.get(digest, [])
        else:
            found = [group] if digest is None or group[_DIGEST:] == digest else []
        # Packed big-endian, they are ordered by offset.
        oldest = _SEEN.pack(max(0, offset - self._offsets), -(2**63), 0)[:8]
        for index in range(bisect_left(found, oldest), len(found)):
            if received - _SEEN.unpack_from(found[index])[1] <= self._age:
                return found[index]
        return None

    def _turn(self, offset: int) -> None:
        """Begin a generation; what stood in the one before the last is out of every later record's reach."""
        self._older, self._newer = self._newer, {}
        self._start = offset


def _put(generation: dict[Name, Seen | _Several], name: Name, seen: Seen) -> None:
    known = generation.get(name)
    if known is None:
        generation[name] = seen
    elif isinstance(known, _Several):
        known.add(seen)
    else:
        several = generation[name] = _Several(known)
        several.add(seen)
