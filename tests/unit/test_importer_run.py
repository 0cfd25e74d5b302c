"""An import and its check, with a store in memory: whatever is done to chain or source is found and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sealstream.producers.importer.check import CheckResult, ImportCheck
from sealstream.producers.importer.events import EventMaker, JobKey
from sealstream.producers.importer.job import Identity, Job
from sealstream.producers.importer.mapping import parse_mapping
from sealstream.producers.importer.quarantine import Quarantine
from sealstream.producers.importer.records import RecordMaker
from sealstream.producers.importer.rows import SourceRow
from sealstream.producers.importer.run import Importer, OnBadRow, RunResult
from sealstream.producers.importer.sample import BAD_ROWS_MAX, dry_run
from sealstream.producers.receipt import Published, SyncReceipt
from sealstream.producers.record import Record
from sealstream.schemas.codec import EventReader
from sealstream.schemas.control_body import ImportEnd
from sealstream.schemas.entry import Kind
from sealstream.schemas.errors import ConfigError, DeliveryError, RowRefused, UnsafeState
from support.importing import MAPPING, MemorySource, MemoryStore, row, rows

INSTANCE = "demo.example/audit"
MAP = parse_mapping(MAPPING)
BAD = row(4, "no tenant!", "2024-01-01T00:00:00Z", "u", None)


class Log:
    """An audit log that publishes into a store in memory, and may break after so many events."""

    def __init__(self, store: MemoryStore, fails_after: int = 10_000) -> None:
        self.store = store
        self.fails_after = fails_after

    def log_record(self, record: Record) -> SyncReceipt:
        """Publish a record; its receipt knows at once what became of it."""
        receipt = SyncReceipt.of(record)
        if len(self.store.records) >= self.fails_after:
            receipt.settle(DeliveryError("gone"))
            return receipt
        event = EventReader().read(record.value)
        event.check()
        assert (event.tenant, event.id) == (record.tenant, record.event_id)
        self.store.add(event)
        assert self.store.records[-1].digest == record.digest
        receipt.settle(Published(0, len(self.store.records)))
        return receipt


class Trail:
    """A job over rows in memory."""

    def __init__(self, directory: Path, given: list[SourceRow]) -> None:
        self.source = MemorySource(given)
        self.store = MemoryStore()
        self.path = directory / "trail.import"
        Job.create(self.path, Identity(INSTANCE, "t", "memory", MAP.digest.hex()), MAPPING, {}).close()

    def run(self, on_bad_row: OnBadRow = "stop", *, fails_after: int = 10_000) -> RunResult:
        """Run it, or go on with it."""
        log = Log(self.store, fails_after)
        with Job(self.path) as job, Quarantine(self.path.with_name("bad"), job.progress.quarantine_bytes) as bad:
            key = JobKey(job.name, job.secret)
            found = {(one.tenant, one.event_id): one.digest for one in self.store.records}
            return Importer(
                job=job,
                source=self.source,
                maker=RecordMaker(MAP, self.source, key, instance=INSTANCE),
                audit=log,
                found=found,
                quarantine=bad,
                on_bad_row=on_bad_row,
                mapping_digest=MAP.digest,
                end_offsets=dict,
            ).run()

    def check(self) -> CheckResult:
        """Check it."""
        with Job(self.path) as job:
            maker = EventMaker(MAP, self.source, JobKey(job.name, job.secret))
            return ImportCheck(job=job, source=self.source, maker=maker, reader=self.store).run()

    def found(self) -> dict[str, int]:
        """Check it, and return how many findings there are of each type."""
        return dict(self.check().counts)


def replace_row(one: SourceRow, *, key: str = "", position: tuple[int, ...] = (), note: str = "") -> SourceRow:
    """Return a row with something else in it."""
    texts = [*one.texts[:-1], note or one.texts[-1]]
    return SourceRow(key or one.key, texts, position or one.position)


CHANGES: dict[str, tuple[Callable[[list[SourceRow]], object], dict[str, int]]] = {
    "deleted": (lambda given: given.pop(4), {"count": 3, "foreign": 1}),
    "added": (
        lambda given: given.insert(3, replace_row(given[2], key="3b", position=(3, 1))),
        {"count": 3, "missing": 1},
    ),
    "changed": (lambda given: given.__setitem__(4, replace_row(given[4], note="x")), {"differs": 1, "root": 1}),
    "spoiled": (lambda given: given.__setitem__(4, BAD), {"count": 3, "foreign": 1}),
    "reordered": (lambda given: given.insert(0, given.pop(2)), {"root": 1}),
}
"""What may happen to a source, and how many findings of each type there are then."""


@pytest.fixture
def trail(tmp_path: Path) -> Trail:
    """A trail of ten rows of two tenants, imported."""
    made = Trail(tmp_path, rows(10))
    made.run()
    return made


class TestRun:
    """Every row once, between a beginning and an end."""

    def test_order(self, trail: Trail) -> None:
        """In each chain stand the beginning, the rows in their order, and the end with their number."""
        for tenant in ("org-0", "org-1"):
            own = [record for record in trail.store.records if record.tenant == tenant]
            assert [record.kind for record in own] == [Kind.CONTROL, *[Kind.IMPORTED] * 5, Kind.CONTROL]
            ended = trail.store.control_of(tenant, own[-1].event_id)
            assert ended is not None
            assert ImportEnd.parse(ended[1].body).count == 5

    @pytest.mark.parametrize("fails_after", range(14))
    def test_broken_anywhere(self, tmp_path: Path, fails_after: int) -> None:
        """Wherever Kafka stops taking events, the next run brings in what is missing, and nothing twice."""
        trail = Trail(tmp_path, rows(10))
        with pytest.raises(DeliveryError):
            trail.run(fails_after=fails_after)
        trail.run()

        assert len({(one.tenant, one.event_id) for one in trail.store.records}) == len(trail.store.records) == 14
        assert trail.check().is_complete

    def test_stop(self, tmp_path: Path) -> None:
        """At a bad row it stops, behind those before it; put right, it goes on from there."""
        given = rows(10)
        trail = Trail(tmp_path, [*given[:3], BAD, *given[4:]])
        with pytest.raises(RowRefused, match="row 4: tenant") as caught:
            trail.run()
        assert caught.value.key == "4"
        assert sum(record.kind is Kind.IMPORTED for record in trail.store.records) == 3
        trail.source.rows[3] = given[3]

        assert trail.run().imported == 10
        assert trail.check().is_complete

    def test_quarantine(self, tmp_path: Path) -> None:
        """Bad rows are counted, in the file and in every chain's end, and the check counts them as well."""
        given = rows(10)
        trail = Trail(tmp_path, [*given[:3], BAD, *given[4:]])

        result = trail.run("quarantine")
        assert (result.rows, result.imported, result.quarantined) == (10, 9, 1)
        assert len(trail.path.with_name("bad").read_text().splitlines()) == 1
        checked = trail.check()
        assert (checked.is_complete, checked.quarantined) == (True, 1)

    def test_changed_in_between(self, tmp_path: Path) -> None:
        """A row that is another one now than when it was sent is no second event under its id: the run stops."""
        trail = Trail(tmp_path, rows(10))
        with pytest.raises(DeliveryError):
            trail.run(fails_after=3)
        trail.source.rows[0] = row(1, "org-1", "2024-01-01T00:00:01Z", "another", None)
        with pytest.raises(UnsafeState, match="other bytes"):
            trail.run()

    def test_nothing(self, tmp_path: Path) -> None:
        """A source without rows is imported and checked: nothing is in no chain."""
        trail = Trail(tmp_path, [])
        assert trail.run().chains == 0
        assert trail.check().is_complete


class TestCheck:
    """Whatever differs is named; whatever is well is not."""

    def test_complete(self, trail: Trail) -> None:
        """All is well, also with rows that came later."""
        assert trail.check().is_complete
        trail.source.rows += rows(12)[10:]
        result = trail.check()
        assert (result.is_complete, result.behind, result.rows) == (True, 2, 10)

    @pytest.mark.parametrize("name", CHANGES)
    def test_source(self, trail: Trail, name: str) -> None:
        """A row that was deleted, added, changed, spoiled or moved since is found."""
        change, types = CHANGES[name]
        change(trail.source.rows)
        assert trail.found() == types

    def test_chain_lost_a_row(self, trail: Trail) -> None:
        """A row that is not in the chain is missing, by its key."""
        victim = next(one for one in trail.store.records if one.event_id.endswith(":5"))
        trail.store.records.remove(victim)
        result = trail.check()
        assert dict(result.counts) == {"missing": 1}
        assert (result.findings[0].key, result.findings[0].tenant) == ("5", "org-1")

    def test_chain_has_more(self, trail: Trail) -> None:
        """A second first occurrence, a conflict, an event of the job that no row gives, and one behind the end."""
        fifth = next(one for one in trail.store.records if one.event_id.endswith(":5"))
        for added, types in (
            (fifth._replace(seq=90), {"twice": 1}),
            (fifth._replace(seq=90, kind=Kind.CONFLICT, digest=bytes(32)), {"conflict": 1}),
            (fifth._replace(seq=90, kind=Kind.DUPLICATE), {}),
            (fifth._replace(event_id=fifth.event_id + "5"), {"foreign": 1}),
        ):
            trail.store.records.append(added)
            assert trail.found() == types
            trail.store.records.pop()
        trail.store.records[trail.store.records.index(fifth)] = fifth._replace(seq=99)
        assert trail.found() == {"outside": 1}

    def test_marks(self, trail: Trail) -> None:
        """A mark that is missing, there twice, or of another chain is found."""
        marks = sorted(trail.store.controls)
        begin, end = (trail.store.controls[key] for key in marks[:2])
        for wrong in ([], end * 2, trail.store.controls[marks[3]], [(end[0][0], begin[0][1])]):
            trail.store.controls[marks[1]] = wrong
            assert trail.found() == {"marker": 1}

    def test_not_done(self, tmp_path: Path) -> None:
        """A job that is not done cannot be checked."""
        with pytest.raises(ConfigError, match="not done"):
            Trail(tmp_path, rows(1)).check()

    def test_findings_are_bounded(self, tmp_path: Path) -> None:
        """All are counted, and the first hundred told."""
        trail = Trail(tmp_path, rows(300))
        trail.run()
        trail.store.records = [one for one in trail.store.records if one.kind is not Kind.IMPORTED]
        result = trail.check()
        assert (result.counts["missing"], len(result.findings)) == (300, 100)
        assert result.to_dict()["complete"] is False


class TestDryRun:
    """Everything is checked, some is shown, nothing is published."""

    def test_counts(self) -> None:
        """All bad rows are counted by their reason, some are shown, and so are the first events."""
        bad = [row(n, "no tenant!", "2024-01-01T00:00:00Z", "u", None) for n in range(100, 130)]
        late = row(200, "acme", "yesterday", "u", None)
        sample = dry_run(MemorySource([*rows(10), *bad, late]), MAP, instance=INSTANCE)

        assert (sample.rows, sample.bad.total(), sorted(sample.bad.values())) == (41, 31, [1, 30])
        assert (len(sample.bad_rows), len(sample.events), sample.tenants) == (BAD_ROWS_MAX, 3, 2)
        assert sample.events[0]["actor"]["id"] == "u-1"
        assert sample.to_dict()["bad"] == 31
