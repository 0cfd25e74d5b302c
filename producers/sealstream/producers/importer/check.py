"""``import verify``: the source read once more, every event made anew, and held against the chains and the job's file.

It shows that each row of the source, up to the last one imported, is in its chain exactly once and as it is now; that
nothing else is there in the job's name; and that count and root at the ends are those of the rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from sealstream.producers.importer.events import EventMaker, JobKey, final_bytes
from sealstream.producers.importer.job import Chain, Job, Stage
from sealstream.producers.importer.markers import BEGIN, END
from sealstream.producers.importer.rows import Source, SourceRow
from sealstream.producers.importer.run import OnProgress
from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.control import IMPORT_BEGIN, IMPORT_END, verify_control
from sealstream.schemas.control_body import ImportBegin, ImportEnd
from sealstream.schemas.entry import Kind, payload_digest
from sealstream.schemas.errors import ConfigError, ControlInvalid, EventInvalid, Untrusted
from sealstream.schemas.event import Control

FINDINGS_MAX: Final = 100
"""How many findings are told one by one; all are counted."""
_IDS: Final = 1_000
_FOREIGN_IDS: Final = 500_000

_Body = TypeVar("_Body", ImportBegin, ImportEnd)


class StoredEvent(NamedTuple):
    """One record of an event, as a chain has it.

    Arguments:
        tenant: The chain.
        event_id: The event's id.
        seq: The place.
        kind: What the entry says that it is.
        digest: The payload digest that the entry commits to.
    """

    tenant: str
    event_id: str
    seq: int
    kind: Kind
    digest: bytes


class ChainReader(Protocol):
    """What is asked of the store."""

    def records_of(self, events: Sequence[tuple[str, str]]) -> Iterable[StoredEvent]:
        """Return all records of events, given by tenant and id."""
        ...

    def control_of(self, tenant: str, event_id: str) -> tuple[int, Control] | None:
        """Return the place and the content of a control event; ``None`` if there is none, or more than one."""
        ...

    def imported_ids(self, tenant: str, prefix: str, after: str, limit: int) -> Sequence[str]:
        """Return the ids of a chain's imported events that begin so, in their order, behind one."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Arguments:
        type: Of a row ``missing``, ``differs``, ``twice``, ``conflict`` or ``outside``; of an event ``foreign``; of a
            chain or the job ``marker``, ``count`` or ``root``.
        message: What, in words.
        key: The row's key, if it is about a row.
        tenant: The chain, if it is about one.
        event_id: The event, if it is about one.
    """

    type: str
    message: str
    key: str | None = None
    tenant: str | None = None
    event_id: str | None = None


@dataclass(slots=True)
class CheckResult:
    """What came out.

    Arguments:
        job: The job's name.
        source: Its source.
        instance: Its instance.
        rows: How many rows were read.
        imported: How many of them are events.
        quarantined: How many of them are none.
        chains: How many chains the job has brought something into.
        behind: How many rows (of a file: bytes) lie behind the last one imported. They are no part of the job.
        as_of: When the check began.
        counts: How many findings there are of each type.
        findings: The first of them.
    """

    job: str
    source: str
    instance: str
    rows: int = 0
    imported: int = 0
    quarantined: int = 0
    chains: int = 0
    behind: int = 0
    as_of: datetime = field(default_factory=lambda: datetime.now(UTC))
    counts: Counter[str] = field(default_factory=Counter[str])
    findings: list[Finding] = field(default_factory=list[Finding])

    @property
    def is_complete(self) -> bool:
        """Whether nothing was found."""
        return not self.counts

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values, for JSON: the report."""
        return {
            **{name: getattr(self, name) for name in ("job", "source", "instance", "rows", "imported", "quarantined")},
            "chains": self.chains,
            "behind": self.behind,
            "as_of": self.as_of.isoformat(),
            "complete": self.is_complete,
            "counts": dict(self.counts),
            "findings": [asdict(finding) for finding in self.findings],
        }

    def add(self, finding: Finding) -> None:
        """Add a finding."""
        self.counts[finding.type] += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(finding)


@dataclass(slots=True)
class _Marks:
    """Between which places a job's events of a chain must stand, and what was found of them."""

    first: int
    last: int
    chain: Chain
    leaves: CompactRange = field(default_factory=CompactRange)
    seen: int = 0


class ImportCheck:
    """Checks a job that is done.

    Arguments:
        job: The job's file.
        source: The rows, as they are now.
        maker: Makes their events, as the job did.
        reader: The store.
        on_progress: Is told how far it is.

    Raises:
        ConfigError: The job is not done.
    """

    def __init__(
        self, *, job: Job, source: Source, maker: EventMaker, reader: ChainReader, on_progress: OnProgress | None = None
    ) -> None:
        if job.progress.stage is not Stage.DONE:
            raise ConfigError(f"job {job.name} is not done", hint="let sealstream import run finish it")
        self._job = job
        self._source = source
        self._maker = maker
        self._reader = reader
        self._on_progress = on_progress
        self._key = JobKey(job.name, job.secret)
        self._marks: dict[str, _Marks] = {}
        self._result = CheckResult(job.name, source.description, job.identity.instance)

    def run(self) -> CheckResult:
        """Check everything, and return what was found.

        Raises:
            Unreachable, SourceUnreadable: The source cannot be read.
            StoreError: The store cannot be read.
        """
        result, progress = self._result, self._job.progress
        self._read_marks()
        total = self._source.total()
        for chunk in self._source.chunks((), progress.position) if progress.position else ():
            self._check_rows(chunk)
            if self._on_progress is not None:
                self._on_progress(self._source.done(chunk[-1].position, result.rows), total)
        if progress.position:
            result.behind = self._source.rows_behind(progress.position)
        for name in ("rows", "imported", "quarantined"):
            found, expected = getattr(result, name), getattr(progress, name)
            if found != expected:
                result.add(Finding("count", f"the source has {found} {name} now, and had {expected}"))
        for tenant, marks in self._marks.items():
            self._check_chain(tenant, marks)
        return result

    def _read_marks(self) -> None:
        after = ""
        while chains := self._job.chains(after):
            for tenant, chain in chains:
                self._result.chains += 1
                self._marks[tenant] = self._marks_of(tenant, chain)
            after = chains[-1][0]

    def _marks_of(self, tenant: str, chain: Chain) -> _Marks:
        begin = self._control(tenant, BEGIN, IMPORT_BEGIN, ImportBegin.parse)
        end = self._control(tenant, END, IMPORT_END, ImportEnd.parse)
        first, last = -1, 2**63
        if begin is not None:
            first, begun = begin
            if (begun.job, begun.mapping_digest.hex()) != (self._job.name, self._job.identity.mapping):
                self._mark_differs(tenant, BEGIN, "is of another job or mapping")
        if end is not None:
            last, ended = end
            leaves = chain.leaves
            if (ended.job, ended.count, ended.root) != (self._job.name, len(leaves), leaves.root()):
                self._mark_differs(tenant, END, "has another job, count or root than the job's file")
        return _Marks(first, last, chain)

    def _control(
        self, tenant: str, name: str, action: str, parse: Callable[[bytes], _Body]
    ) -> tuple[int, _Body] | None:
        found = self._reader.control_of(tenant, f"{self._key.prefix}{name}")
        if found is None:
            self._mark_differs(tenant, name, "is not in the chain once")
            return None
        seq, control = found
        try:
            verified = verify_control(control, instance=self._job.identity.instance, tenant=tenant, authority=None)
            if verified.statement.action == action:
                return seq, parse(verified.body)
            self._mark_differs(tenant, name, f"says {verified.statement.action}")
        except (ControlInvalid, Untrusted) as error:
            self._mark_differs(tenant, name, error.message)
        return None

    def _mark_differs(self, tenant: str, name: str, what: str) -> None:
        self._result.add(Finding("marker", f"the mark import.{name} of {tenant} {what}", tenant=tenant))

    def _check_rows(self, chunk: list[SourceRow]) -> None:
        result = self._result
        made: list[tuple[SourceRow, tuple[str, str], bytes]] = []
        leaves: defaultdict[str, list[bytes]] = defaultdict(list)
        for row in chunk:
            result.rows += 1
            try:
                event, leaf = self._maker.make(row)
                digest = payload_digest(final_bytes(event, self._job.identity.instance, self._job.identity.schema_id))
            except EventInvalid:
                result.quarantined += 1
                continue
            result.imported += 1
            made.append((row, (event.tenant, event.id), digest))
            leaves[event.tenant].append(leaf)
        stored: defaultdict[tuple[str, str], list[StoredEvent]] = defaultdict(list)
        for record in self._reader.records_of([event for _, event, _ in made]):
            stored[record.tenant, record.event_id].append(record)
        for row, name, digest in made:
            self._check_row(row, name, digest, stored[name])
        for tenant, hashes in leaves.items():
            if tenant in self._marks:
                self._marks[tenant].leaves.extend(hashes)

    def _check_row(self, row: SourceRow, event: tuple[str, str], digest: bytes, stored: list[StoredEvent]) -> None:
        """Hold one row against what the chain has under its event's id."""
        marks = self._marks.get(event[0])
        counted = [record for record in stored if record.kind is Kind.IMPORTED]
        problem = what = ""
        if not counted:
            problem, what = "missing", "is not in the chain"
        elif any(record.digest != digest for record in counted):
            problem, what = "differs", "is in the chain as another one than it is now"
        elif len(counted) > 1:
            problem, what = "twice", f"is in the chain {len(counted)} times"
        elif any(record.kind not in (Kind.IMPORTED, Kind.DUPLICATE) for record in stored):
            problem, what = "conflict", "has a second event under its id"
        elif marks is None or not marks.first < counted[0].seq < marks.last:
            problem, what = "outside", "does not stand between the marks of its import"
        if problem:
            self._result.add(Finding(problem, f"row {row.key} of {event[0]} {what}", row.key, *event))
        if marks is not None and counted:
            marks.seen += 1

    def _check_chain(self, tenant: str, marks: _Marks) -> None:
        """Hold a chain's rows against the mark of its end, and name what the chain has and the source does not."""
        before, now = marks.chain.leaves, marks.leaves
        if len(before) != len(now):
            message = f"the source has {len(now)} rows of {tenant} now, and had {len(before)}"
            self._result.add(Finding("count", message, tenant=tenant))
        elif before.root() != now.root():
            message = f"the rows of {tenant} have the root {now.root().hex()} now, and had {before.root().hex()}"
            self._result.add(Finding("root", message, tenant=tenant))
        if self._imported(tenant) != marks.seen:
            self._name_foreign(tenant)

    def _imported(self, tenant: str) -> int:
        return sum(1 for _ in self._ids(tenant))

    def _ids(self, tenant: str) -> Iterable[str]:
        after = ""
        while ids := self._reader.imported_ids(tenant, self._key.prefix, after, _IDS):
            yield from ids
            after = ids[-1]

    def _name_foreign(self, tenant: str) -> None:
        """Name the events of a chain that no row of the source gives: in parts, so that memory stays bounded."""
        ids = iter(self._ids(tenant))
        while part := set(islice(ids, _FOREIGN_IDS)):
            for chunk in self._source.chunks((), self._job.progress.position):
                for row in chunk:
                    try:
                        event, _ = self._maker.make(row)
                    except EventInvalid:
                        continue
                    if event.tenant == tenant:
                        part.discard(event.id)
            for event_id in sorted(part):
                key = event_id.removeprefix(self._key.prefix)
                message = f"event {event_id} of {tenant} has no row in the source"
                self._result.add(Finding("foreign", message, key, tenant, event_id))
