"""What a bundle shows to its reader: that a part of a chain is whole and unchanged, under a checkpoint he believes.

Pure: lines come from the caller, keys, policy and time from the reader. It takes one pass in constant memory, and names
the exact seq wherever one can be named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from sealstream.schemas.bundle import LINE_BYTES_MAX, BundleEnd, BundleEntry, BundleHead, BundleSchema, parse_line
from sealstream.schemas.chain import ChainVerifier, Link
from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.entry import CARRIED_KINDS, WINDOW_KINDS, entry_hash, parse
from sealstream.schemas.errors import (
    BundleInvalid,
    CheckpointInvalid,
    EntryInvalid,
    EvidenceInvalid,
    FormatError,
    ProofInvalid,
    SealstreamError,
    SignatureInvalid,
    TimestampInvalid,
)
from sealstream.schemas.evidence import ProofLevel, RootedEvidence, refuse_other, verify_payload, verify_rooted
from sealstream.schemas.policy import NO_QUORUM
from sealstream.schemas.tenant_map import MapLeaf, map_key
from sealstream.schemas.trust import Reader
from sealstream.schemas.violation import Violation, ViolationType

VIOLATIONS_MAX: Final = 100
"""How many violations a result carries; all of them are counted."""

_PROGRESS_ENTRIES: Final = 1_000
CLEAN: Final = 0
VIOLATED: Final = 1
NOT_CHECKED: Final = 2
_CONTRADICTIONS: Final = (CheckpointInvalid, EvidenceInvalid, ProofInvalid, SignatureInvalid, TimestampInvalid)
"""What says that the bundle contradicts itself or is signed wrongly, whoever judges; all else could not be judged."""

ReadLine = Callable[[int], bytes]
"""Returns the next line, its newline included, or so many bytes of it; nothing at the end: a binary file's readline."""

Progress = Callable[[int, int], None]


@dataclass(kw_only=True)
class BundleResult:
    """What a bundle shows.

    Arguments:
        tenant: The chain; empty if that much could not be read.
        first: The seq of the first entry that the bundle says it has.
        last: That of the last one.
        entries: How many entries were checked.
        shown: The root checkpoint and who stands behind it; ``None`` if it did not come to that.
        violations: What is wrong; only the first of very many.
        violations_total: How much is wrong.
        failure: Why it could not be checked; ``None`` if it was.
        not_excluded: What a clean result does not exclude, in words.
    """

    tenant: str = ""
    first: int = 0
    last: int = 0
    entries: int = 0
    shown: RootedEvidence | None = None
    violations: list[Violation] = field(default_factory=list[Violation])
    violations_total: int = 0
    failure: SealstreamError | None = None
    not_excluded: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 if all of the bundle holds, 1 after a violation or a contradiction, 2 if it could not be checked."""
        if self.violations_total or isinstance(self.failure, _CONTRADICTIONS):
            return VIOLATED
        return CLEAN if self.failure is None and self.shown is not None else NOT_CHECKED

    @property
    def is_valid(self) -> bool:
        """Whether all of it was checked and holds."""
        return self.exit_code == CLEAN

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values, for JSON."""
        shown = self.shown
        document: dict[str, Any] = {
            "exit_code": self.exit_code,
            "tenant": self.tenant,
            "first": self.first,
            "last": self.last,
            "complete": self.is_valid,
            "entries": self.entries,
            "level": None if shown is None else shown.level.word,
            "violations_total": self.violations_total,
            "violations": [violation.to_dict() for violation in self.violations],
            "failure": None
            if self.failure is None
            else {"message": self.failure.message, "hint": self.failure.hint, "type": type(self.failure).__name__},
            "not_excluded": list(self.not_excluded),
        }
        if shown is not None:
            checkpoint = shown.trusted.checkpoint
            document["checkpoint"] = {
                "origin": checkpoint.origin,
                "size": checkpoint.size,
                "root": checkpoint.root.hex(),
                "signed_by": str(shown.trusted.log_key),
                "cosigned_by": {one.witness: one.time_seconds for one in shown.trusted.cosignatures},
                "existed_by": {one.by: one.time_seconds for one in shown.existed_by},
            }
        return document


def verify_bundle(
    read_line: ReadLine,
    reader: Reader,
    *,
    timestamp_roots: bytes | None = None,
    origin: str | None = None,
    tenant: str | None = None,
    require: ProofLevel = ProofLevel.CHECKPOINT,
    on_progress: Progress | None = None,
) -> BundleResult:
    """Return what a bundle shows: whatever is wrong with it is in the result, and nothing is raised.

    Arguments:
        read_line: Gives its lines.
        reader: Whom its reader believes, by which rotations, and what time it is.
        timestamp_roots: The certificates of the timestamp authorities that he believes, in PEM; ``None`` if he judges
            no timestamps.
        origin: The instance that was asked for; ``None`` for any whose root log the policy knows.
        tenant: The chain that was asked for; ``None`` for any. A bundle of another one counts as not checked.
        require: The level that is needed; a lower one counts as not checked.
        on_progress: Called with the number of entries that are done, and of all that there are to do.
    """
    result = BundleResult()
    check = _Check(result, read_line, on_progress)
    try:
        head = check.head()
        refuse_other("bundle", "tenant", tenant, head.tenant)
        whole = check.entries(head)
        if whole is None:
            return result
        shown = verify_rooted(
            head.rooted,
            MapLeaf(map_key(head.nonce, head.tenant), head.size, whole.root()),
            reader,
            timestamp_roots=timestamp_roots,
            origin=origin,
        )
        check.instance(shown.trusted.checkpoint.origin)
        check.end()
        result.shown = shown
        result.not_excluded = tuple(_not_excluded(head, shown, reader, timestamp_roots))
        if shown.level < require:
            result.failure = BundleInvalid(
                f"the bundle holds at the level {shown.level.word}, and {require.word} is asked for",
                hint="a quorum in the policy makes it witnessed; a timestamp and its authority's roots, anchored",
            )
    except ProofInvalid as error:
        check.rewritten(error)
    except SealstreamError as error:
        result.failure = error
    return result


class _Check:
    """One pass through a bundle."""

    def __init__(self, result: BundleResult, read_line: ReadLine, on_progress: Progress | None) -> None:
        self._result = result
        self._read_line = read_line
        self._on_progress = on_progress
        self._digest = hashlib.sha256()
        self._lines = 0
        self._before_end = b""
        self._end: BundleEnd | None = None
        self._verifier = ChainVerifier("")

    def head(self) -> BundleHead:
        """Read the first line.

        Raises:
            BundleInvalid: It is none, or the bundle is empty.
        """
        data = self._next()
        if not data:
            raise BundleInvalid("the bundle is empty", hint="get it again")
        head = BundleHead.parse(parse_line(data))
        self._result.tenant, self._result.first, self._result.last = head.tenant, head.first, head.last
        return head

    def entries(self, head: BundleHead) -> CompactRange | None:
        """Read everything behind the first line, and return the chain's tree; ``None`` after a violation."""
        tree = CompactRange.from_hashes(0, head.first, list(head.before))
        self._verifier = ChainVerifier(head.tenant, seq=head.first)
        while data := self._next():
            if not self._line(head, data, tree):
                break
        self._missing_end(head)
        if self._result.violations_total:
            return None
        if self._end is None:
            raise BundleInvalid("the bundle is cut: its last line is missing", hint="get it again")
        tree.merge(CompactRange.from_hashes(head.last + 1, head.size, list(head.behind)))
        return tree

    def end(self) -> None:
        """Refuse a last line that is not that of the lines before it, and what stands behind it.

        Raises:
            BundleInvalid: It is none.
        """
        end = self._end
        if end is None or (end.entries, end.sha256.hex()) != (self._result.entries, self._before_end.hex()):
            raise BundleInvalid(
                "the last line is not that of the lines before it: the bundle is damaged",
                hint="every entry holds; a schema or the last line was changed",
            )
        if self._next():
            raise BundleInvalid("something stands behind the last line", hint="the bundle was edited")

    def instance(self, origin: str) -> None:
        """Refuse a chain of another instance than the root log's.

        Raises:
            EvidenceInvalid: It is one.
        """
        found = self._verifier.instance
        if found and found != origin:
            raise EvidenceInvalid(f"the chain {self._result.tenant} is of instance {found}, and the log of {origin}")

    def rewritten(self, error: ProofInvalid) -> None:
        """Note that the entries hold together, and are not those that were logged."""
        result = self._result
        self._note(
            ViolationType.EDITED,
            None,
            f"entries {result.first} to {result.last} hold together, and are not what the root checkpoint commits to:"
            f" one of them or what is around them was made anew ({error.message})",
        )

    def _next(self) -> bytes:
        data = self._read_line(LINE_BYTES_MAX + 1)
        self._before_end = self._digest.digest()
        self._digest.update(data)
        self._lines += 1
        return data

    def _line(self, head: BundleHead, data: bytes, tree: CompactRange) -> bool:
        """Check a line behind the first one, and return whether there may be more."""
        seq = self._verifier.seq
        try:
            line = parse_line(data)
            kind = line.get("type")
            if kind == "end":
                self._end = BundleEnd.parse(line)
                return False
            if kind == "schema":
                BundleSchema.parse(line)
                return True
            self._entry(head, BundleEntry.parse(line), tree)
        except FormatError as error:
            whole = data.endswith(b"\n")
            if not whole and len(data) <= LINE_BYTES_MAX:
                return False  # cut here; what is missing is said at the end
            self._note(ViolationType.EDITED, seq, f"line {self._lines} is not the one of entry {seq}: {error.message}")
            # The place counts as taken, so that the entries behind it are blamed for nothing.
            self._verifier.check(Link(seq, b"", None))
            return whole
        return True

    def _entry(self, head: BundleHead, line: BundleEntry, tree: CompactRange) -> None:
        result = self._result
        result.entries += 1
        if not result.entries % _PROGRESS_ENTRIES and self._on_progress is not None:
            self._on_progress(result.entries, head.last - head.first + 1)
        if not head.first <= line.seq <= head.last:
            message = f"line {self._lines} has entry {line.seq}, and the bundle entries {head.first} to {head.last}"
            self._note(ViolationType.FOREIGN, line.seq, message)
            return
        if result.entries == 1 and head.first:
            self._verifier.prev = _prev(line)  # what is before is not in the bundle: only the tree says whether it fits
        found = self._verifier.check(Link(line.seq, line.entry, line.payload, line.hash))
        for violation in found:
            self._note(violation.type, violation.seq, violation.message)
        if not found:
            self._look_beside(line)
        if not result.violations_total:
            tree.append(entry_hash(line.entry))

    def _look_beside(self, line: BundleEntry) -> None:
        """Compare what stands beside an entry that holds: the line's own words, and those of the payload."""
        if wrong := line.says_of_itself():
            self._note(ViolationType.EDITED, line.seq, wrong)
        fields = parse(line.entry)
        if line.payload is not None and fields.kind not in CARRIED_KINDS:
            self._note(
                ViolationType.EDITED, line.seq, "the line has a payload, and the log carries none for such an entry"
            )
        elif line.payload is not None and fields.kind in WINDOW_KINDS:
            try:
                verify_payload(fields, line.payload)
            except EvidenceInvalid as error:
                self._note(ViolationType.EDITED, line.seq, error.message)

    def _missing_end(self, head: BundleHead) -> None:
        """Note the entries that are missing at the end."""
        if self._verifier.seq <= head.last:
            names = (
                f"entry {head.last} is"
                if self._verifier.seq == head.last
                else (f"entries {self._verifier.seq} to {head.last} are")
            )
            where = "the bundle is cut" if self._end is None else "the bundle ends before"
            self._note(ViolationType.TRUNCATED, self._verifier.seq, f"{where}: {names} missing")

    def _note(self, kind: ViolationType, seq: int | None, message: str) -> None:
        self._result.violations_total += 1
        if len(self._result.violations) < VIOLATIONS_MAX:
            self._result.violations.append(Violation(type=kind, tenant=self._result.tenant, seq=seq, message=message))


def _prev(line: BundleEntry) -> bytes:
    try:
        return parse(line.entry).prev
    except EntryInvalid:
        return bytes(32)  # it is reported as edited in any case


def _not_excluded(head: BundleHead, shown: RootedEvidence, reader: Reader, timestamp_roots: bytes | None) -> list[str]:
    """Return what a bundle that holds does not show, in words."""
    words = [
        "that what the events say is true, the times they name included: that is the application's word",
        "that nothing was left out before it came to the log",
        f"anything about entries behind {head.last}"
        + (f", or before {head.first}: they are not in the bundle" if head.first else ": they are not in the bundle"),
        "that the schemas in the bundle are those that the events were written with: nothing vouches for them",
    ]
    if reader.policy.quorum == NO_QUORUM:
        words.append("that the log shows everybody the same history: the policy asks for no witness")
    if shown.level < ProofLevel.ANCHORED:
        judged = timestamp_roots is not None or not head.rooted.timestamps
        words.append(
            "by when it was there, by somebody else's word than the witnesses': "
            + ("no timestamp is in the bundle" if judged else "no roots of timestamp authorities were given")
        )
    return words
