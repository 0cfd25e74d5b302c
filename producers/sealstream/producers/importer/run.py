"""An import as it runs: rows are read, published, acknowledged and written down, some thousands at a time.

Some steps are on their way at once: while Kafka acknowledges one, the next is made, and the rows behind it are read.
A step is written into the job's file when all of it is acknowledged. One recovery: whoever goes on reads from the log
what of a job is there already.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from sealstream.producers.importer.ahead import read_ahead
from sealstream.producers.importer.job import Chain, Job, Stage
from sealstream.producers.importer.landed import Landed
from sealstream.producers.importer.markers import begin_marker, end_marker
from sealstream.producers.importer.points import Point
from sealstream.producers.importer.quarantine import Quarantine, bad_row
from sealstream.producers.importer.record_log import RecordLog
from sealstream.producers.importer.records import RecordMaker
from sealstream.producers.importer.rows import Position, Source, SourceRow
from sealstream.producers.receipt import SyncReceipt
from sealstream.producers.record import Record
from sealstream.schemas.control_body import ImportBegin, ImportEnd
from sealstream.schemas.errors import ConfigError, EventInvalid, RowRefused, UnsafeState
from sealstream.worker.failpoints import OFF, Failpoints

OnBadRow: TypeAlias = Literal["stop", "quarantine"]
OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with how much is done, and how much there is: rows of a table, bytes of a file."""

TENANTS_MAX: Final = 100_000
"""The most chains of one job: what is kept of each in memory takes about a kilobyte."""
PUBLISH_SECONDS: Final = 180.0
"""How long Kafka may take to acknowledge an event."""

_STEPS_MAX: Final = 4
"""Kafka's client lingers, and the brokers take their time: with two, a fast import would wait for them."""
_FLOORS_SECONDS: Final = 60.0
"""How old the offsets may be from which the next run would read the log."""
_ENDS: Final = 1_000


@dataclass(frozen=True, slots=True)
class RunResult:
    """What has come of a run.

    Arguments:
        job: The job's name.
        rows: How many rows the job has read, this run and those before it.
        imported: How many of them are published.
        quarantined: How many are in the quarantine file.
        chains: Into how many chains.
        found: How many events this run found in the log already.
        seconds: How long this run took.
    """

    job: str
    rows: int
    imported: int
    quarantined: int
    chains: int
    found: int
    seconds: float


@dataclass(slots=True)
class _Step:
    """Rows that were published together.

    Arguments:
        floors: Where each partition ended before it, if that was asked.
    """

    floors: Mapping[int, int] | None = None
    rows: int = 0
    imported: int = 0
    quarantined: int = 0
    position: Position = ()
    receipts: list[SyncReceipt] = field(default_factory=list[SyncReceipt])
    leaves: defaultdict[str, list[bytes]] = field(default_factory=lambda: defaultdict[str, list[bytes]](list))
    quarantine_bytes: int = 0


class Importer:
    """Brings the rows of a source into the log, as far as a job has not done so yet.

    Arguments:
        job: The job's file.
        source: The rows.
        maker: Makes their records.
        audit: The audit log they go through.
        found: What of the job stands in the log already.
        quarantine: Where bad rows go.
        on_bad_row: Whether to stop at one.
        mapping_digest: The mapping's.
        end_offsets: Asks where the log's partitions end.
        on_progress: Is told how far it is.
        failpoints: Where a test makes it fail.
    """

    def __init__(
        self,
        *,
        job: Job,
        source: Source,
        maker: RecordMaker,
        audit: RecordLog,
        found: Landed,
        quarantine: Quarantine,
        on_bad_row: OnBadRow,
        mapping_digest: bytes,
        end_offsets: Callable[[], Mapping[int, int]],
        on_progress: OnProgress | None = None,
        failpoints: Failpoints = OFF,
    ) -> None:
        self._at: dict[Point, Callable[[], None]] = {point: failpoints.at(point) for point in Point}
        self._job = job
        self._source = source
        self._maker = maker
        self._audit = audit
        self._found = found
        self._quarantine = quarantine
        self._on_bad_row = on_bad_row
        self._end_offsets = end_offsets
        self._on_progress = on_progress or _no_progress
        self._key, self._instance = maker.key, maker.instance
        self._begin = ImportBegin(job.name, source.description, mapping_digest)
        self._progress = job.progress
        self._chains: dict[str, Chain] = {}
        self._steps: list[_Step] = []
        self._found_count = 0
        self._floors_at = 0.0

    def run(self) -> RunResult:
        """Go on until every row is published and every chain's end is marked.

        Raises:
            RowRefused: A row is bad, and the policy is to stop; the rows before it are done.
            DeliveryError: Kafka did not take an event in time.
            Unreachable, SourceUnreadable: The source cannot be read on.
            UnsafeState: An event of this job stands in the log with other bytes than it would have now.
            ConfigError: The rows are of more than 100,000 tenants.
        """
        begin = time.monotonic()
        if self._progress.stage is Stage.ROWS:
            self._publish_rows()
        if self._progress.stage is Stage.CLOSING:
            self._publish_ends()
        progress = self._progress
        return RunResult(
            self._job.name,
            progress.rows,
            progress.imported,
            progress.quarantined,
            self._job.chain_count(),
            self._found_count,
            time.monotonic() - begin,
        )

    def _publish_rows(self) -> None:
        total = self._source.total()
        with closing(read_ahead(self._source.chunks(self._progress.position))) as chunks:
            for chunk in chunks:
                refused = self._publish(chunk)
                if refused is not None:
                    self._finish()
                    raise refused
                if len(self._steps) == _STEPS_MAX:
                    self._write(self._steps.pop(0))
                progress = self._progress
                self._on_progress(self._source.done(progress.position, progress.rows), total)
        self._finish()
        self._progress.stage, self._progress.ended_at = Stage.CLOSING, datetime.now(UTC)
        # If we die behind this, the rows are done, and the next run marks the ends with this very time.
        self._job.save(self._progress)
        self._at[Point.AFTER_ROWS]()

    def _publish(self, chunk: list[SourceRow]) -> RowRefused | None:
        """Publish rows up to one that is bad, and return that, if the policy is to stop there."""
        step = _Step(floors=self._floors())
        self._steps.append(step)
        refused: RowRefused | None = None
        make, publish, leaves = self._maker.make, self._publish_record, step.leaves
        for row in chunk:
            try:
                record, digest = make(row)
            except EventInvalid as error:
                if self._on_bad_row == "stop":
                    refused = _refused(row, error)
                    break
                self._quarantine.add(bad_row(row, self._source.columns, error))
                step.quarantined += 1
            else:
                publish(step, record)
                leaves[record.tenant].append(digest)
            step.rows += 1
            step.position = row.position
        step.imported = step.rows - step.quarantined
        step.quarantine_bytes = self._quarantine.size_bytes
        self._at[Point.AFTER_PUBLISH]()
        return refused

    def _publish_record(self, step: _Step, record: Record) -> None:
        """Publish one record, behind its chain's mark if it is the chain's first."""
        tenant = record.tenant
        chain = self._chains.get(tenant) or self._chain(tenant)
        if not chain.begun:
            mark = begin_marker(self._key, self._instance, tenant, self._begin, self._job.started_at)
            self._send(step, self._maker.record_of(mark))
            chain.begun = True
        self._send(step, record)

    def _send(self, step: _Step, record: Record) -> None:
        if self._found:
            there = self._found.get((record.tenant, record.event_id))
            if there is not None:
                self._check_found(record, there)
                return
        step.receipts.append(self._audit.log_record(record))

    def _check_found(self, record: Record, there: bytes) -> None:
        if record.digest != there:
            raise UnsafeState(
                f"event {record.tenant}/{record.event_id} stands in the log with other bytes than its row gives now",
                hint="the row was changed since the import was interrupted: put it back, or begin another job",
            )
        self._found_count += 1

    def _chain(self, tenant: str) -> Chain:
        if len(self._chains) >= TENANTS_MAX:
            raise ConfigError(
                f"the rows are of more than {TENANTS_MAX} tenants", hint="import them in parts: narrow the query"
            )
        return self._chains.setdefault(tenant, self._job.chain(tenant))

    def _finish(self) -> None:
        while self._steps:
            self._write(self._steps.pop(0))

    def _write(self, step: _Step) -> None:
        """Wait until a step is acknowledged, and write it down."""
        progress = self._progress
        floors = progress.floors
        for receipt in reversed(step.receipts):  # the last one first: then nobody has to wait for each of the others
            partition, offset = receipt.published(PUBLISH_SECONDS)
            # Behind these, in the same partitions, stand the events of the next step: one producer keeps its order.
            if offset >= floors.get(partition, 0):
                floors[partition] = offset + 1
        self._at[Point.AFTER_ACKNOWLEDGE]()
        # If we die here, all of the step is in the log and none of it in the file: the next run finds it there.
        if self._steps and self._steps[0].floors is not None:
            for partition, offset in self._steps[0].floors.items():
                progress.floors[partition] = max(offset, progress.floors.get(partition, 0))
        progress.rows += step.rows
        progress.imported += step.imported
        progress.quarantined += step.quarantined
        progress.position = step.position or progress.position
        progress.quarantine_bytes = step.quarantine_bytes
        for tenant, leaves in step.leaves.items():
            self._chains[tenant].leaves.extend(leaves)
        if step.quarantined:
            self._quarantine.sync()
        self._job.save(progress, [(tenant, self._chains[tenant]) for tenant in step.leaves])
        self._at[Point.AFTER_STEP]()
        # If we die here, the next run begins behind this step, and reads the log from behind it.

    def _floors(self) -> Mapping[int, int] | None:
        """Return where the log ends, now and then: so that nobody has to read far who goes on."""
        now = time.monotonic()
        if now - self._floors_at < _FLOORS_SECONDS:
            return None
        self._floors_at = now
        return self._end_offsets()

    def _publish_ends(self) -> None:
        progress = self._progress
        assert progress.ended_at is not None
        after, total, done = "", self._job.chain_count(), 0
        while chains := self._job.chains(after, _ENDS):
            step = _Step()
            for tenant, chain in chains:
                if not chain.ended:
                    body = self._end_of(chain)
                    mark = end_marker(self._key, self._instance, tenant, body, progress.ended_at)
                    self._send(step, self._maker.record_of(mark))
                    chain.ended = True
            for receipt in step.receipts:
                receipt.published(PUBLISH_SECONDS)
            self._at[Point.AFTER_ENDS]()
            # If we die here, the next run finds these marks in the log: the offsets to read from have not moved.
            self._job.save(progress, chains)
            after, done = chains[-1][0], done + len(chains)
            self._on_progress(done, total)
        progress.stage = Stage.DONE
        self._job.save(progress)

    def _end_of(self, chain: Chain) -> ImportEnd:
        leaves = chain.leaves
        return ImportEnd(
            self._job.name, self._source.description, len(leaves), leaves.root(), self._progress.quarantined
        )


def _refused(row: SourceRow, error: EventInvalid) -> RowRefused:
    return RowRefused(
        row.key, error.message, hint="put the row or the mapping right and run again, or --on-error quarantine"
    )


def _no_progress(done: int, total: int) -> None:
    del done, total
