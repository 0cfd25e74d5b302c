"""Verifies a chain row by row as the store returns it, in constant memory. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from sealstream.schemas.chain import ChainVerifier, Link
from sealstream.schemas.entry import parse
from sealstream.schemas.errors import StoreError
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.sinks.store.compare import columns_at_fault
from sealstream.sinks.store.results import LEVEL_CHAIN, ChainVerification
from sealstream.sinks.store.rows import ENTRY_COLUMNS, EntryRow

VIOLATIONS_MAX: Final = 100
"""How many violations a result carries; all of them are counted."""

_PAYLOAD: Final = len(ENTRY_COLUMNS)  # the column behind those of the entry


class ChainCheck:
    """One verification of one chain.

    Arguments:
        tenant: The chain.
    """

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._verifier = ChainVerifier(tenant)
        self._violations: list[Violation] = []
        self._count = self._entries = 0
        self._last = -1
        self._first_bad: int | None = None

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Check the next rows: the columns of an entry, and its payload or ``None``, in the order of their seq."""
        for values in rows:
            row = EntryRow(*values[:_PAYLOAD])
            found = self._verifier.check(Link(row.seq, row.entry, values[_PAYLOAD], row.hash))
            if all(violation.type is ViolationType.PAYLOAD_ALTERED for violation in found):
                # A payload is looked for by the columns: where these are wrong, they are what is at fault.
                found = self._columns(row) or found
            for violation in found:
                self._note(violation)
            self._entries += 1
            self._last = row.seq

    def result(self, as_of: datetime) -> ChainVerification:
        """Return what was found.

        Raises:
            StoreError: There was nothing to check.
        """
        if not self._entries:
            raise StoreError(
                f"the store shows no entries of tenant {self._tenant}",
                hint="check the name, and that sealstream.reader_tenants gives it to this login",
            )
        return ChainVerification(
            tenant=self._tenant,
            is_valid=not self._count,
            first_bad_seq=self._first_bad,
            level=LEVEL_CHAIN,
            checked_through=self._last,
            entries=self._entries,
            as_of=as_of,
            violations=tuple(self._violations),
            violation_count=self._count,
        )

    def _columns(self, row: EntryRow) -> list[Violation]:
        """An entry that holds may stand in a row that says something else."""
        names = columns_at_fault(row, parse(row.entry))
        if not names:
            return []
        return [
            Violation(
                type=ViolationType.EDITED,
                tenant=self._tenant,
                seq=row.seq,
                message=f"the stored row has another {', '.join(names)} than its entry",
                instance=self._verifier.instance,
            )
        ]

    def _note(self, violation: Violation) -> None:
        self._count += 1
        if len(self._violations) < VIOLATIONS_MAX:
            self._violations.append(violation)
        if violation.seq is not None and (self._first_bad is None or violation.seq < self._first_bad):
            self._first_bad = violation.seq
