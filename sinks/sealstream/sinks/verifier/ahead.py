"""A batch of chained records that can be looked ahead into, and that grows where a doubt needs more to be decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from sealstream.schemas.entry import parse
from sealstream.schemas.errors import EntryInvalid
from sealstream.sinks.verifier.records import ChainedMessage, ChainedRecord, chained_record

LOOKAHEAD_RECORDS: Final = 1_000
"""How far ahead an entry that is not at its place is looked for before it is called missing."""

More = Callable[[], Sequence[ChainedMessage]]


class Ahead:
    """The records of one partition that are still to be checked.

    Arguments:
        records: What has been read.
        more: Reads what comes next on the same partition, within a bounded time; empty if nothing came.
    """

    def __init__(self, records: Sequence[ChainedMessage], more: More) -> None:
        self.messages = list(records)
        """All records; those before :attr:`at` are dealt with."""
        self.at = 0
        """The index of the record to be checked now."""
        self._more = more
        self._current: ChainedRecord | None = None
        self._later: Counter[bytes] | None = None
        self._ended = False

    def current(self) -> ChainedRecord | None:
        """Return the record to be checked now; ``None`` behind the last."""
        if self._current is None and self.at < len(self.messages):
            self._current = chained_record(self.messages[self.at])
        return self._current

    def take(self, count: int = 1) -> None:
        """Move on by so many records."""
        begin, self.at, self._current = self.at, self.at + count, None
        if self._later is not None:
            for entry in _entries(self.messages[begin + 1 : self.at + 1]):
                self._later[entry] -= 1

    def holds(self, entry: bytes) -> bool:
        """Return whether an entry stands behind the current record, not further than is looked ahead."""
        if self._later is None:
            self._later = Counter(_entries(self.messages[self.at + 1 :]))
        while self._later[entry] <= 0:
            if not self._grow():
                return False
        return True

    def relinked(self, entry: bytes) -> bytes | None:
        """Return an entry behind the current record that is this one at another place of its chain, as far as was read.

        So it stands in a log whose writer went on from what he had swapped or put in.
        """
        wanted = parse(entry)
        for found in _entries(self.messages[self.at + 1 :]):
            if found.endswith(wanted.payload):
                with suppress(EntryInvalid):
                    if replace(parse(found), seq=wanted.seq, prev=wanted.prev) == wanted:
                        return found
        return None

    def following(self) -> ChainedRecord | None:
        """Return the record behind the current one, if there is one or one comes soon."""
        return chained_record(self.messages[self.at + 1]) if self.goes_on() else None

    def goes_on(self) -> bool:
        """Return whether any record stands behind the current one."""
        return self.at + 1 < len(self.messages) or self._grow()

    def _grow(self) -> bool:
        """Read more, if more may be looked at and comes."""
        if self._ended or len(self.messages) - self.at > LOOKAHEAD_RECORDS:
            return False
        more = self._more()
        self._ended = not more
        self.messages.extend(more)
        if self._later is not None:
            self._later.update(_entries(more))
        return bool(more)


def _entries(messages: Iterable[ChainedMessage]) -> Iterator[bytes]:
    """Return the entries of those that have one."""
    entries = (chained_record(message).entry for message in messages)
    return (entry for entry in entries if entry is not None)
