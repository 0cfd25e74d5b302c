"""Imports on real servers: every row once, whatever ends the importer, and the proof of it afterwards."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from sealstream.deploy.cli import main
from sealstream.producers import importer
from sealstream.producers.importer.landed import end_offsets
from sealstream.producers.importer.mapping import SourceSpec, parse_mapping
from sealstream.producers.importer.points import Point
from sealstream.producers.importer.postgres_source import PostgresSource
from sealstream.producers.importer.rows import CHUNK_ROWS
from sealstream.producers.importer.sample import dry_run
from sealstream.schemas.codec import EventReader
from sealstream.schemas.control import verify_control
from sealstream.schemas.control_body import ImportEnd
from sealstream.schemas.entry import Kind
from sealstream.schemas.errors import ConfigError, SealstreamError, Unreachable
from support.commands import run_command
from support.harness import read_log
from support.providers import fresh_database
from support.workers import Pipeline

MakePipeline = Callable[..., Pipeline]
ROWS = 3 * CHUNK_ROWS + 100
TENANTS = 3
PARTITIONS = 2
KILLED = -9

MAPPING = """
[source]
table = "public.trail"
key = ["id"]

[event]
tenant = "tenant-{org}"
occurred_at = "{at}"
action = { value = "{op}", map = { I = "document.created", U = "document.updated" } }
actor = { type = "user", id = ["{who}", "unknown"] }
targets = [{ type = "document", id = "{what}" }]
"""


@pytest.fixture
def trail(database_server: str) -> Generator[str]:
    """The URL of a database with an older audit trail: rows of three tenants, some of them without an actor."""
    with fresh_database(database_server) as url:
        with psycopg.connect(url) as connection:
            connection.execute(
                "CREATE TABLE trail"
                " (id bigint PRIMARY KEY, org int, at timestamptz, op text, who text, what text, diff jsonb)"
            )
            connection.execute(
                "INSERT INTO trail SELECT n, n %% 3, '2020-01-01T00:00:00Z'::timestamptz + n * interval '1 minute',"
                " CASE WHEN n %% 5 = 0 THEN 'I' ELSE 'U' END, CASE WHEN n %% 7 <> 0 THEN 'u-' || n %% 11 END,"
                " 'd-' || n,"
                " jsonb_build_object('title', 'old ' || n) FROM generate_series(1, %s) AS n",
                (ROWS,),
            )
        yield url


def change(url: str, statement: str) -> None:
    """Change the trail, as its administrator can."""
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())


def lose_records(pipeline: Pipeline) -> None:
    """Have Kafka delete all events so far, as retention does."""
    topic = pipeline.topics.events
    ends = [TopicPartition(topic, number, offset) for number, offset in end_offsets(pipeline.connection, topic).items()]
    admin: Any = AdminClient(pipeline.connection.config("test"))
    for deleted in admin.delete_records(ends).values():
        deleted.result(30)


class Import:
    """A job on an instance, run as an operator runs it."""

    def __init__(self, pipeline: Pipeline, source: str, directory: Path, mapping: str = MAPPING) -> None:
        self.pipeline = pipeline
        self.source = source
        self.job = directory / "trail.import"
        self.mapping = directory / "mapping.toml"
        self.mapping.write_text(mapping)

    def run(self, *arguments: str, failpoints: str = "") -> Any:
        """Run it, with its source from the environment."""
        settings = {"import_source": self.source} | ({"failpoints": failpoints} if failpoints else {})
        done = run_command(
            self.pipeline,
            "import",
            "run",
            str(self.job),
            "--mapping",
            str(self.mapping),
            *arguments,
            "--json",
            **settings,
        )
        assert self.source.encode() not in done.stdout + done.stderr
        return done

    def verify(self) -> tuple[int, dict[str, Any]]:
        """Verify it against the store, in this process."""
        report = self.job.with_suffix(".json")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (self.pipeline.environment | {"SEALSTREAM_IMPORT_SOURCE": self.source}).items():
                patch.setenv(name, value)
            code = main(["import", "verify", str(self.job), "--report", str(report)])
        return code, json.loads(report.read_text())

    def found(self) -> set[tuple[str, str | None]]:
        """Verify it, which must find something, and return what: types and the rows' keys."""
        code, report = self.verify()
        assert code == 1
        assert not report["complete"]
        return {(finding["type"], finding["key"]) for finding in report["findings"]}


@pytest.mark.slow
def test_killed_everywhere_each_row_is_there_once(make_pipeline: MakePipeline, trail: str, tmp_path: Path) -> None:
    """An importer that is killed at each of its durable steps, and run again, brings each row in once, between one
    beginning and one end a chain; `verify` proves it, and names each row that is changed, added or deleted later.
    """
    pipeline = make_pipeline(partitions=PARTITIONS)
    pipeline.start("processor")
    pipeline.start("sink")
    imported = Import(pipeline, trail, tmp_path)
    for point, passage in ((Point.AFTER_PUBLISH, 2), (Point.AFTER_ACKNOWLEDGE, 2), (Point.AFTER_STEP, 1)):
        assert imported.run(failpoints=f"{point}#{passage}=kill").returncode == KILLED, point
    for point in (Point.AFTER_ROWS, Point.AFTER_ENDS):
        assert imported.run(failpoints=f"{point}=kill").returncode == KILLED, point
    done = imported.run()

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["rows"], result["imported"], result["chains"], result["found"]) == (ROWS, ROWS, TENANTS, TENANTS)
    kinds = pipeline.harness().check("stored").kinds
    duplicates = kinds.pop(Kind.DUPLICATE, 0)  # of what the killed client had on the wire: the chain knows them
    assert kinds == {Kind.GENESIS: TENANTS, Kind.IMPORTED: ROWS, Kind.CONTROL: 2 * TENANTS}
    assert duplicates < CHUNK_ROWS
    assert stat.S_IMODE(imported.job.stat().st_mode) == 0o600
    assert imported.run().returncode == 0  # there is nothing left to do

    code, report = imported.verify()
    assert (code, report["complete"], report["rows"], report["behind"]) == (0, True, ROWS, 0)
    change(trail, "UPDATE trail SET who = 'nobody' WHERE id = 77")
    assert imported.found() == {("differs", "77"), ("root", None)}
    change(trail, "UPDATE trail SET who = NULL WHERE id = 77")
    change(trail, "DELETE FROM trail WHERE id = 500")
    assert imported.found() == {("foreign", "500"), ("count", None)}
    change(trail, "INSERT INTO trail SELECT 0, org, at, op, who, what, diff FROM trail WHERE id = 1")
    assert ("missing", "0") in imported.found()
    change(trail, f"INSERT INTO trail SELECT {ROWS + 1}, org, at, op, who, what, diff FROM trail WHERE id = 1")
    assert imported.verify()[1]["behind"] == 1


def test_ends_say_count_and_root(make_pipeline: MakePipeline, tmp_path: Path) -> None:
    """Bad rows of a file stop the import before them, or go to the quarantine with line and reason; all others are in,
    and each chain's end says how many rows of it under which root.
    """
    pipeline = make_pipeline(partitions=PARTITIONS, store=False)
    file = tmp_path / "trail.csv"
    lines = ["id,org,at,op,who,what", *(f"{n},{n % 2},2024-01-01T00:00:{n:02}Z,I,u-{n},d-{n}" for n in range(1, 11))]
    lines[4] = "4,0,yesterday,I,u-4,d-4"
    lines[7] = "7,1,2024-01-01T00:00:07Z,D,u-7,d-7"
    lines[9] = "9,1,too,few"
    file.write_text("\n".join(lines) + "\n")
    mapping = MAPPING.replace('table = "public.trail"\nkey = ["id"]', 'format = "csv"')
    imported = Import(pipeline, str(file), tmp_path, mapping)

    stopped = imported.run()
    assert stopped.returncode == 1
    assert "row 5: occurred_at" in json.loads(stopped.stdout)["error"]
    dry = imported.run("--dry-run")
    assert (dry.returncode, json.loads(dry.stdout)["bad"]) == (1, 3)
    done = imported.run("--on-error", "quarantine")
    assert done.returncode == 1
    assert {name: json.loads(done.stdout)[name] for name in ("rows", "imported", "quarantined")} == {
        "rows": 10, "imported": 7, "quarantined": 3
    }  # fmt: skip

    bad = [json.loads(line) for line in Path(f"{imported.job}.quarantine.ndjson").read_text().splitlines()]
    assert [(one["key"], one["field"]) for one in bad] == [("5", "occurred_at"), ("8", "action"), ("10", "row")]
    assert bad[1]["row"]["what"] == "d-7"
    reader = EventReader()
    events = [
        reader.read(record.value or b"")
        for partition in read_log(pipeline.connection, pipeline.topics.events, PARTITIONS)
        for record in partition
    ]
    assert sorted(event.targets[0].id for event in events if event.kind == "imported") == sorted(
        f"d-{n}" for n in (1, 2, 3, 5, 6, 8, 10)
    )
    ends = [event for event in events if event.action == "import.end" and event.control is not None]
    for end in ends:
        assert end.control is not None
        verified = verify_control(end.control, instance=pipeline.genesis.instance, tenant=end.tenant, authority=None)
        body = ImportEnd.parse(verified.body)
        own = [event for event in events if event.tenant == end.tenant and event.kind == "imported"]
        assert (body.count, body.quarantined) == (len(own), 3)
    assert {end.tenant for end in ends} == {"tenant-0", "tenant-1"}


def test_what_a_job_began_with_stays(make_pipeline: MakePipeline, trail: str, tmp_path: Path) -> None:
    """A job does not go on with another mapping, nor where Kafka has lost what it may have written; its source is only
    ever read.
    """
    pipeline = make_pipeline(partitions=PARTITIONS, store=False)
    imported = Import(pipeline, trail, tmp_path)
    assert imported.run(failpoints=f"{Point.AFTER_ACKNOWLEDGE}=kill").returncode == KILLED
    imported.mapping.write_text(MAPPING + "# another one\n")
    other = imported.run()
    assert other.returncode == 2
    assert "mapping" in json.loads(other.stdout)["error"]
    imported.mapping.write_text(MAPPING)
    lose_records(pipeline)
    lost = imported.run()
    assert lost.returncode == 2
    assert "has lost records" in json.loads(lost.stdout)["error"]

    writing = MAPPING.replace('table = "public.trail"', 'query = "SELECT * FROM written()"')
    change(
        trail,
        "CREATE FUNCTION written() RETURNS SETOF trail LANGUAGE sql AS 'DELETE FROM trail RETURNING *'",
    )
    refused = Import(pipeline, trail, tmp_path, writing)
    refused.job = tmp_path / "other.import"
    done = refused.run()
    assert done.returncode == 2
    assert "read-only" in json.loads(done.stdout)["error"]
    assert not refused.job.exists()
    with psycopg.connect(trail) as connection:
        assert connection.execute("SELECT count(*) FROM trail").fetchone() == (ROWS,)
    assert not list(tmp_path.glob(".*"))


def test_inventory(trail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The older trail is found in its database, and the mapping proposed for it reads its rows."""
    change(trail, "CREATE TABLE users (id bigint PRIMARY KEY, name text)")
    change(trail, "ANALYZE trail")
    assert main(["inventory", trail, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)

    assert (found["table"], found["rows"]) == ("trail", ROWS)
    assert found["size_bytes"] > 100_000
    mapping = parse_mapping(found["mapping"])
    with PostgresSource(trail, mapping.source) as source:
        sample = dry_run(source, mapping, instance="demo.example/audit")
    assert (sample.rows, sample.bad.total()) == (ROWS, 0)
    assert trail not in str(found)
    assert main(["inventory", trail, "--mapping", "trail"]) == 0
    assert capsys.readouterr().out == found["mapping"]


class TestPostgresSource:
    """A table is read as it is, in the order of its key, from any row on."""

    def test_texts_and_places(self, database_url: str) -> None:
        """Values are PostgreSQL's own texts; a key of two columns goes on behind any row; equal keys are told."""
        change(
            database_url,
            "CREATE TABLE t (a text, b int, v jsonb, f float8, x bytea, w timestamptz, ok bool, n text);"
            "INSERT INTO t VALUES ('x', 2, '{\"a\": 1}', 0.1, '\\xff00', '2024-01-01 00:00:00+02', true, NULL),"
            " ('x', 10, 'null', 'NaN', '', 'infinity', false, '%s'), ('ü', 1, NULL, NULL, NULL, NULL, NULL, NULL),"
            " ('ü', 1, NULL, NULL, NULL, NULL, NULL, NULL)",
        )
        with PostgresSource(
            database_url, SourceSpec(query="SELECT * FROM t WHERE 'a%' <> 'b';", key=("a", "b"))
        ) as source:
            whole = [row for chunk in source.chunks(()) for row in chunk]
            assert [row.key for row in whole] == ['["x", "2"]', '["x", "10"]', '["ü", "1"]', '["ü", "1"]']
            assert list(whole[0].texts) == ["x", "2", '{"a": 1}', "0.1", "\\xff00", "2023-12-31 22:00:00+00", "t", None]
            assert [bool(row.problem) for row in whole] == [False, False, False, True]
            for number, row in enumerate(whole, 1):
                behind = [other for chunk in source.chunks(row.position) for other in chunk]
                assert [other.position for other in behind] == [other.position for other in whole[number:]]
            assert source.rows_behind(whole[0].position) == 3
            assert source.total() >= 1

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"table": "t"}, "key is missing"),
            ({"key": ("a",)}, "neither a table nor a query"),
            ({"table": "t", "key": ("none",)}, "names none"),
            ({"table": "missing", "key": ("a",)}, "does not exist"),
            ({"query": "SELECT 1 AS a, 2 AS a", "key": ("a",)}, "two of one name"),
            ({"query": "SELECT nullif(n, 3) AS a FROM generate_series(1, 3) AS n", "key": ("a",)}, "null in 1 rows"),
        ],
    )
    def test_refused(self, database_url: str, settings: dict[str, Any], message: str) -> None:
        """What cannot be read in order, or told apart, is refused before the first row, without the URL."""
        change(database_url, "CREATE TABLE t (a int)")
        with pytest.raises(SealstreamError, match=message) as caught:
            PostgresSource(database_url, SourceSpec(**settings))
        assert database_url not in str(caught.value)

    def test_unreachable(self) -> None:
        """A server that is not there is told without the password."""
        with pytest.raises(Unreachable) as caught:
            PostgresSource("postgresql://u:topsecret@127.0.0.1:1/x", SourceSpec(table="t", key=("a",)))
        assert "topsecret" not in str(caught.value)
        with pytest.raises(ConfigError) as refused:
            PostgresSource("postgresql://u:topsecret@[x/y?z", SourceSpec(table="t", key=("a",)))
        assert "topsecret" not in str(refused.value)


README = Path(importer.__file__).parent / "README.md"


class TestReadme:
    """The page's examples run as they stand."""

    def test_commands(
        self, make_pipeline: MakePipeline, database_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """From an unknown database to the proof that all of its trail is in the chain."""
        pipeline = make_pipeline(partitions=PARTITIONS)
        pipeline.start("processor")
        pipeline.start("sink")
        monkeypatch.chdir(tmp_path)
        blocks = re.findall(r"^```sh\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
        with fresh_database(database_server) as url:
            change(
                url,
                "CREATE TABLE audit_log (id serial PRIMARY KEY, created_at timestamptz DEFAULT now(), action text,"
                " user_id int, org_id text);"
                "INSERT INTO audit_log (action, user_id, org_id) SELECT 'document.read', n, 'acme'"
                " FROM generate_series(1, 20) AS n; ANALYZE audit_log;"
                "CREATE TABLE versions (id serial PRIMARY KEY, item_type text, item_id bigint, event text,"
                " whodunnit text, object text, created_at timestamp);"
                "INSERT INTO versions (item_type, item_id, event, created_at) VALUES ('Invoice', 1, 'create', now())",
            )
            for line in "".join(blocks).splitlines()[1:]:
                if "verify" in line:
                    pipeline.harness().check("stored")
                program, _, output = line.partition(" > ")
                done = run_command(pipeline, *program.split()[1:], import_source=url)
                assert done.returncode == 0, (line, done.stderr)
                if output:
                    Path(output).write_bytes(done.stdout)
        report = json.loads(Path("audit.report.json").read_text())
        assert (report["complete"], report["imported"]) == (True, 20)

    def test_mapping(self) -> None:
        """The mapping of the page is one."""
        (block,) = re.findall(r"^```toml\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
        assert parse_mapping(block).source.key == ("id",)
