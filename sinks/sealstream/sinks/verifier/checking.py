"""Checks a piece of the store: reads its rows, lets the ordinary ones pass, and gives the others to the whole rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from sealstream.schemas.entry import Kind, entry_hash, parse_gap_payload
from sealstream.schemas.errors import EntryInvalid, StoreError
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.sinks.verifier.part_tree import PartTree
from sealstream.sinks.verifier.pieces import Part, PartResult, Piece, together
from sealstream.sinks.verifier.stored_chain import End, StoredChain, StoredRow
from sealstream.sinks.verifier.stored_copy import CopyRow, place_of, read_row, tenant_of
from sealstream.sinks.verifier.stored_ordinary import OrdinaryRows
from sealstream.sinks.verifier.stored_rows import StoreReader

VIOLATIONS_MAX: Final = 1_000
"""How many violations a result carries; all of them are counted."""
FIRST_FEW: Final = 10
"""A finding can name an entry before the one that it shows at, but never one before the first few findings."""

OnEntries = Callable[[int], None]


def check_piece(reader: StoreReader, piece: Piece, on_entries: OnEntries) -> list[PartResult]:
    """Check a piece and return what its parts came to, in their order.

    Arguments:
        reader: The store.
        piece: What to check.
        on_entries: Called with the number of entries that were checked since it was called last.
    """
    results: list[PartResult] = []
    for parts in together(piece.parts):
        room = Room()
        checks = {part.tenant: PartCheck(part, reader, room) for part in parts}
        if len(parts) > 1:
            blocks = reader.copied_between(parts[0].tenant, parts[-1].tenant)
        else:
            [part] = parts
            blocks = reader.copied(part.tenant, part.reads_from, part.last)
        _check_rows(blocks, checks, on_entries)
        ending = {check.part.tenant: check.place for check in checks.values() if check.part.is_last}
        payload_ends = reader.payload_ends(ending) if ending else {}
        results += [check.finish(payload_ends.get(tenant)) for tenant, check in checks.items()]
    return results


def _check_rows(blocks: Iterator[list[CopyRow]], checks: dict[str, PartCheck], on_entries: OnEntries) -> None:
    """Give each row to its chain. A row is judged with all of its place, so the last ones wait for the next block."""
    check: PartCheck | None = None
    waiting: list[CopyRow] = []
    for block in blocks:
        rows = [*waiting, *block] if waiting else block
        index, waiting = 0, []
        while index < len(rows):
            if check is not None and (after := check.accept(rows, index)) > index:
                index = after
                continue
            place = place_of(rows[index])
            behind = index + 1
            while behind < len(rows) and rows[behind].startswith(place):
                behind += 1
            if behind == len(rows):
                waiting = rows[index : index + 2]  # that there are several is all that counts
                break
            last, check = check, _of(rows[index], checks, check)
            if last is not None and last is not check:
                last.leave()
            check.judge(rows[index:behind])
            index = behind
        on_entries(index)
    if waiting:
        _of(waiting[0], checks, check).judge(waiting)
        on_entries(len(waiting))


def _of(row: CopyRow, checks: dict[str, PartCheck], check: PartCheck | None) -> PartCheck:
    tenant = tenant_of(row)
    if check is not None and check.part.tenant == tenant:
        return check
    try:
        return checks[tenant]
    except KeyError:
        raise StoreError(f"the store shows chain {tenant}, which it did not show before") from None


class Room:
    """How many violations a piece can still carry: what comes behind so many of them is only counted."""

    def __init__(self) -> None:
        self._left = VIOLATIONS_MAX

    def take(self, wanted: int) -> int:
        """Return how many of so many there is room for."""
        taken = min(wanted, self._left)
        self._left -= taken
        return taken


class PartCheck:
    """The check of one part.

    Arguments:
        part: The part.
        reader: The store; asked beside the rows that are being copied out of it.
        room: Room for what its rows come to; the few findings about a chain's end are always carried.
    """

    def __init__(self, part: Part, reader: StoreReader, room: Room) -> None:
        self.part = part
        self._reader = reader
        self._room = room
        first = part.reads_from
        genesis = reader.genesis(part.tenant, first) if first > 0 else None
        self._chain = StoredChain(part.tenant, first=first, seen=part.seen, genesis=genesis)
        if genesis is not None:
            reader.fill_window(self._chain, first, genesis.window_offsets)
        self._ordinary = OrdinaryRows(self._chain)
        self._tree = PartTree(part.first, part.tree_size)
        self._result = PartResult(part, holds_through=part.first - 1, pinned=(genesis, genesis))
        self._found: list[Violation] = []  # as many as are needed to know where the chain stops to hold

    @property
    def place(self) -> tuple[int, int]:
        """The seq of the last entry that was read, and the last that is to be looked at."""
        return self._chain.last, self.part.last

    def accept(self, rows: Sequence[CopyRow], start: int) -> int:
        """Let ordinary rows pass from an index on, and return the index of the first that is none."""
        seq, leaves = self._chain.last + 1, list[bytes]()
        after = self._ordinary.accept(rows, start, leaves)
        if leaves:
            self._tree.add(seq, leaves)
        return after

    def judge(self, rows: Sequence[CopyRow]) -> None:
        """Check all rows of one seq by the whole rules."""
        row = read_row(rows[0])
        if len(rows) > 1:
            # Entries or payloads are there more than once: which of them, the joined rows do not tell.
            stored = self._reader.second.rows(self.part.tenant, row.seq, row.seq, self._chain)
        else:
            stored = iter((row,))
        self._note_ordinary()
        for each in stored:
            new = [*self._chain.check(each), *self._within_gap(each)]
            self._note(new, self._room.take(len(new)))
            if self._tree.is_wanted:
                self._tree.add(each.seq, (entry_hash(each.entry),))
            if not self._found and self._chain.end is not None:
                self._result.holds_through = each.seq
        if self.part.number and self._result.begun is None and row.seq == self.part.reads_from:
            self._result.begun = self._chain.end

    def leave(self) -> None:
        """Take in that no more rows come, and give back what only they need."""
        self._chain.rest()
        self._tree.finish()

    def finish(self, payload_end: int | None) -> PartResult:
        """Check the end, if the part has it, and return the result.

        Arguments:
            payload_end: The seq of the last payload that stands behind the last entry, if one does.
        """
        chain, part, result = self._chain, self.part, self._result
        self._note_ordinary()
        result.end, result.entries = chain.end, chain.entries - bool(part.number and chain.entries)
        result.pinned = (result.pinned[0], chain.pinned)
        result.last, result.tree = chain.last, self._tree.finish()
        if not part.is_last:
            return result
        if payload_end is not None:
            chain.orphan(payload_end)
        end = part.end
        if end is not None and end.seq > part.last:
            end = End(part.last)  # the chain goes on behind the range
        result.is_there = end is not None or bool(chain.entries) or part.seen is not None
        if result.is_there:
            new = chain.finish(end)
            self._note(new, len(new))
        seqs = (violation.seq - 1 for violation in self._found if violation.seq is not None)
        result.holds_through = min([result.holds_through, *seqs])
        return result

    def _note_ordinary(self) -> None:
        """Rows that passed hold as long as nothing was found before them."""
        if not self._found and self._chain.end is not None:
            self._result.holds_through = self._chain.end.seq

    def _note(self, new: list[Violation], carried: int) -> None:
        self._result.violations_total += len(new)
        self._result.violations += new[:carried]
        if len(self._found) < FIRST_FEW:
            self._found += new

    def _within_gap(self, row: StoredRow) -> Iterator[Violation]:
        """What is stored of a range that is declared lost."""
        if row.kind != Kind.GAP:
            return
        try:
            first, last = parse_gap_payload(row.payload or b"")
        except EntryInvalid:  # the chain's own check reports it
            return
        within = self._reader.second.entry_within(row.partition, row.topic_id, first, last)
        if within is not None:
            yield Violation(
                type=ViolationType.GAP,
                tenant=self.part.tenant,
                seq=row.seq,
                message=f"offsets {first} to {last} are declared lost, and {within[0]} seq {within[1]} is one of them",
                partition=row.partition,
                offset=row.offset,
                topic_id=row.topic_id,
            )
