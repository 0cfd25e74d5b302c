"""A batch of chained records that can be looked ahead into, and that grows where a doubt needs more to be decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from sealstream.sinks.verifier.records import ChainedRecord

LOOKAHEAD_RECORDS: Final = 1_000
"""How far ahead an entry that is not at its place is looked for before it is called missing."""

More = Callable[[], Sequence[ChainedRecord]]


class Ahead:
    """The records of one partition that are still to be checked.

    Arguments:
        records: What has been read.
        more: Reads what comes next on the same partition, within a bounded time; empty if nothing came.
    """

    def __init__(self, records: Sequence[ChainedRecord], more: More) -> None:
        self._records = list(records)
        self._more = more
        self._at = 0
        self._later: Counter[bytes] | None = None
        self._ended = False

    def current(self) -> ChainedRecord | None:
        """Return the record to be checked now; ``None`` behind the last."""
        return self._records[self._at] if self._at < len(self._records) else None

    def take(self) -> None:
        """Move on to the next record."""
        self._at += 1
        if self._later is not None and self._at < len(self._records):
            entry = self._records[self._at].entry
            if entry is not None:
                self._later[entry] -= 1

    def holds(self, entry: bytes) -> bool:
        """Return whether an entry stands behind the current record, not further than is looked ahead."""
        if self._later is None:
            self._later = Counter(r.entry for r in self._records[self._at + 1 :] if r.entry is not None)
        while self._later[entry] <= 0:
            if not self._grow():
                return False
        return True

    def goes_on(self) -> bool:
        """Return whether any record stands behind the current one."""
        return self._at + 1 < len(self._records) or self._grow()

    def _grow(self) -> bool:
        """Read more, if more may be looked at and comes."""
        if self._ended or len(self._records) - self._at > LOOKAHEAD_RECORDS:
            return False
        more = self._more()
        self._ended = not more
        self._records.extend(more)
        if self._later is not None:
            self._later.update(r.entry for r in more if r.entry is not None)
        return bool(more)
