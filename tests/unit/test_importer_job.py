"""A job's file and its quarantine: what is written stays, is written whole, and is for its owner alone."""

from __future__ import annotations

import json
import sqlite3
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sealstream.producers.importer.job import Chain, Identity, Job, Progress, Stage
from sealstream.producers.importer.quarantine import Quarantine
from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.control_body import ImportBegin
from sealstream.schemas.errors import ConfigError
from sealstream.schemas.merkle import leaf_hash

IDENTITY = Identity("demo.example/audit", "audit.events", "file trail.csv", "00" * 32)


def create(path: Path) -> Job:
    """Return a new job."""
    return Job.create(path, IDENTITY, "a mapping", {0: 7})


def test_begins(tmp_path: Path) -> None:
    """A new job has a name that is its own, a secret, and nothing done; its file is for its owner alone."""
    names: set[str] = set()
    for number in range(2):
        path = tmp_path / str(number) / "users üñd logs.import"
        path.parent.mkdir()
        with create(path) as job:
            assert job.progress == Progress(floors={0: 7})
            assert (len(job.secret), job.mapping, job.identity) == (32, "a mapping", IDENTITY)
            assert ImportBegin(job.name, "x", bytes(32))
            names.add(job.name)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(path.parent.iterdir()) == [path]
    assert len(names) == 2


def test_steps_stay(tmp_path: Path) -> None:
    """What a step has written is there when the job is opened again, and a chain's rows go on from where they were."""
    path = tmp_path / "a.import"
    leaves = CompactRange()
    leaves.extend(leaf_hash(bytes([n])) for n in range(5))
    progress = Progress(
        Stage.CLOSING, (3, "ü", "x"), 9, 8, 1, 120, {0: 12, 3: 4}, datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    )
    with create(path) as job:
        job.save(progress, [("acme", Chain(begun=True, leaves=leaves)), ("b", Chain(begun=True))])
        job.save(progress, [("b", Chain(begun=True, ended=True))])
        before = (job.name, job.secret)
    with Job(path) as job:
        assert job.progress == progress
        assert (job.name, job.secret) == before
        assert job.chain("acme") == Chain(begun=True, leaves=leaves)
        assert job.chain("none") == Chain()
        assert [name for name, _ in job.chains()] == ["acme", "b"]
        assert [(name, chain.ended) for name, chain in job.chains("acme", 1)] == [("b", True)]
        assert job.chain_count() == 2


def test_a_step_is_whole(tmp_path: Path) -> None:
    """A step that cannot be written leaves nothing of itself."""
    path = tmp_path / "a.import"
    with create(path) as job:
        with pytest.raises(sqlite3.Error):
            job.save(Progress(rows=5), [("acme", Chain(begun=True)), (None, Chain())])  # type: ignore[list-item]
        assert job.chain_count() == 0
    with Job(path) as job:
        assert job.progress.rows == 0


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A job that is open cannot be opened by another, and says so."""
    path = tmp_path / "a.import"
    with create(path), pytest.raises(ConfigError, match="another process"):
        Job(path)
    with pytest.raises(ConfigError, match="there already"):
        create(path)


@pytest.mark.parametrize("name", list(Identity.__slots__))
def test_goes_on_as_it_began(tmp_path: Path, name: str) -> None:
    """Another instance, topic, source, mapping or schema than the job began with is refused by name."""
    with create(tmp_path / "a.import") as job:
        job.check(replace(IDENTITY))
        another: dict[str, Any] = {name: "another"}
        with pytest.raises(ConfigError, match=f"began with the {name}"):
            job.check(replace(IDENTITY, **another))


def test_no_job(tmp_path: Path) -> None:
    """What is none, or is another file, is refused."""
    other = tmp_path / "other"
    other.write_text("no database, and long enough to be looked at as one" * 20)
    database = tmp_path / "database"
    sqlite3.connect(database).execute("CREATE TABLE job (name, value)").connection.close()
    for path in (tmp_path / "none", other, database, tmp_path):
        with pytest.raises(ConfigError):
            Job(path)
    with pytest.raises(ConfigError, match="cannot be made"):
        create(tmp_path / "missing" / "a.import")


class TestQuarantine:
    """The file of bad rows."""

    def test_is_cut_to_the_last_step(self, tmp_path: Path) -> None:
        """What was written behind the last step is cut, so that it is not there twice; bytes that are no text pass."""
        path = tmp_path / "bad.ndjson"
        with Quarantine(path, 0) as quarantine:
            quarantine.add({"key": "1", "row": {"a": "\udcff"}})
            quarantine.sync()
            size = quarantine.size_bytes
            quarantine.add({"key": "2"})
        with Quarantine(path, size) as quarantine:
            quarantine.add({"key": "3"})
        found = [json.loads(line) for line in path.read_text().splitlines()]

        assert [one["key"] for one in found] == ["1", "3"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_missing(self, tmp_path: Path) -> None:
        """A file that is shorter than the job knows is refused; one that has nothing yet is not made."""
        with pytest.raises(ConfigError, match="had 5"):
            Quarantine(tmp_path / "bad.ndjson", 5)
        with Quarantine(tmp_path / "bad.ndjson", 0):
            pass
        assert not (tmp_path / "bad.ndjson").exists()
