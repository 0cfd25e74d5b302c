"""A whole instance that has run once: its databases, files and topics, of which each attack gets copies of its own."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from unittest import mock
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from sealstream.deploy.cli import application
from sealstream.worker.settings import PREFIX, Settings, load_settings
from support.forging import abort_events
from support.providers import fresh_database
from support.publish import RawRecord, event_value, publish_raw
from support.stage import Answer, Stage
from support.workers import Pipeline, wait_for

PARTITIONS: Final = 2
"""acme, initech and umbrella are of partition 0, globex is of partition 1."""
SETTLED_SECONDS: Final = 90.0

PUBLISHED: Final = {"acme": 9, "globex": 5, "initech": 4, "!partition-0": 2}
"""The sizes of the chains that the last witnessed round covers."""
STORED: Final = {"acme": 11, "globex": 6, "initech": 5, "!partition-0": 2}
"""Their sizes in the store: what is more is not notarised yet."""
BACKED_UP: Final = {"acme": 4, "globex": 3, "initech": 3}
"""Their sizes at the time of the backup, just behind a witnessed round; one of them had not begun."""
ABORTED: Final = 3
"""Records of each transaction of acme's that was aborted: their offsets, and its marker's, are nobody's."""

_TABLES: Final = """
SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Backup:
    """All rows of a schema, as they were at a moment.

    Arguments:
        schema: The schema.
        tables: By table, its rows as COPY gives them.
    """

    schema: str
    tables: dict[str, bytes]

    @classmethod
    def take(cls, url: str, schema: str) -> Backup:
        """Read all rows of a schema, at one moment."""
        with psycopg.connect(url) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            names = [str(name) for (name,) in connection.execute(_TABLES, (schema,))]
            return cls(schema, {name: cls._rows(connection, sql.Identifier(schema, name)) for name in names})

    @staticmethod
    def _rows(connection: psycopg.Connection, table: sql.Identifier) -> bytes:
        statement = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT (FORMAT binary)").format(table)
        with connection.cursor() as cursor, cursor.copy(statement) as rows:
            return b"".join(bytes(data) for data in rows)

    def restore(self, url: str) -> None:
        """Put all rows back in place of those that are there, as a superuser who switches the guards off."""
        with psycopg.connect(url) as connection:
            connection.execute("SET session_replication_role = replica")
            for name, rows in self.tables.items():
                table = sql.Identifier(self.schema, name)
                connection.execute(sql.SQL("TRUNCATE {}").format(table))
                with connection.cursor() as cursor, cursor.copy(self._into(table)) as target:
                    target.write(rows)

    @staticmethod
    def _into(table: sql.Identifier) -> sql.Composed:
        return sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(table)


@dataclass(frozen=True, slots=True)
class Copies:
    """One attack's own copies of what was recorded; Kafka is shared, and nothing here writes to it.

    Arguments:
        stage: What was recorded.
        store_url: The store, as its superuser.
        notary_url: The notary's database, as its superuser.
        storage: What is published.
        witness_path: The memory of the verifier's witness.
        directory: Where files may go.
        store_backup: The store, a while ago.
        notary_backup: The notary's database, at that time.
        storage_backup: What was published then.
    """

    stage: Stage
    store_url: str
    notary_url: str
    storage: Path
    witness_path: Path
    directory: Path
    store_backup: Backup
    notary_backup: Backup
    storage_backup: Path

    @property
    def instance(self) -> str:
        """The instance's name."""
        return self.stage.pipeline.genesis.instance

    @property
    def _places(self) -> dict[str, str]:
        return {
            "database": self.store_url,
            "notary_database": self.notary_url,
            "log_storage": str(self.storage),
            "witness_path": str(self.witness_path),
        }

    def run(self, *arguments: str, **settings: object) -> Answer:
        """Run a command of the command line on the copies; a setting that is empty is not given."""
        return self.stage.run(*arguments, **(self._places | settings))

    def command(self, *arguments: str, **settings: str) -> Answer:
        """Run a command as :meth:`run` does, in this process: to start another one takes longer."""
        given = self.stage.pipeline.environment | {
            f"{PREFIX}{name.upper()}": value for name, value in (self._places | settings).items()
        }
        others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        output, errors = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, others | given, clear=True),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            code = application.run(list(arguments))
        return Answer(code, output.getvalue(), errors.getvalue())

    def settings(self) -> Settings:
        """Return the settings that a worker on the copies has."""
        places = {f"{PREFIX}{name.upper()}": value for name, value in self._places.items()}
        return load_settings(self.stage.pipeline.environment | places)

    def tamper(self, statement: str, *arguments: object) -> None:
        """Change the store as a superuser who switches the guards off; something must have changed."""
        self._tamper(self.store_url, statement, arguments)

    def tamper_notary(self, statement: str, *arguments: object) -> None:
        """Change the notary's database in the same way."""
        self._tamper(self.notary_url, statement, arguments)

    @staticmethod
    def _tamper(url: str, statement: str, arguments: tuple[object, ...]) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            done = connection.execute(statement.encode(), arguments or None)
            assert done.rowcount != 0, f"nothing was changed by {statement}"

    def put_storage_back(self) -> None:
        """Put what is published back to what was published at the time of the backup."""
        shutil.rmtree(self.storage)
        shutil.copytree(self.storage_backup, self.storage)


@dataclass
class Recorded:
    """An instance that has run, with nobody working on it any more.

    Arguments:
        stage: The instance.
        server_url: The databases' server, as its superuser.
        directory: Where files go.
    """

    stage: Stage
    server_url: str
    directory: Path
    store_backup: Backup = field(init=False)
    notary_backup: Backup = field(init=False)

    def play(self) -> None:
        """Let the instance run: events, a repeat, an altered one, records of nobody and aborted ones; then stop it.

        Its last events are stored and verified, and no round covers them.
        """
        stage = self.stage
        workers = stage.start()
        stage.publish("acme", "a-1", "a-2", "a-3")
        stage.publish("globex", "g-1", "g-2")
        stage.publish("initech", "i-1", "i-2")
        stage.wait_witnessed(**BACKED_UP)
        self.store_backup = Backup.take(stage.pipeline.database_url, "sealstream")
        self.notary_backup = Backup.take(stage.notary_url, "sealstream_notary")
        shutil.copytree(stage.storage, self.directory / "backup")
        abort_events(stage.pipeline, ABORTED)
        stage.publish("acme", "a-2")
        stage.publish("acme", "a-1", note="another one")
        self._publish_bad()
        stage.publish("acme", "a-4", "a-5")
        stage.publish("globex", "g-3", "g-4")
        stage.publish("initech", "i-3")
        for chain, size in PUBLISHED.items():
            stage.wait_witnessed(**{chain: size})
        assert workers["notary"].terminate() == 0
        assert workers["witness"].terminate() == 0
        stage.publish("acme", "a-6", "a-7")
        stage.publish("globex", "g-5")
        abort_events(stage.pipeline, ABORTED)
        stage.publish("initech", "i-4")
        stage.pipeline.harness().check("stored", "verified", timeout_seconds=SETTLED_SECONDS)
        for role in ("processor", "verifier", "sink"):
            assert workers[role].terminate() == 0
        self._wait_alone()

    def _publish_bad(self) -> None:
        """Publish what cannot be decoded under a tenant's name, and what has no name."""
        pipeline = self.stage.pipeline
        records = [RawRecord(b"acme", b"\xff"), RawRecord(None, event_value("acme", "nobody"), 0)]
        publish_raw(pipeline.bootstrap, pipeline.topics.events, records, partitions=PARTITIONS)

    def _wait_alone(self) -> None:
        """Wait until nobody is connected: a database in use cannot be copied."""
        names = [urlsplit(url).path[1:] for url in (self.stage.pipeline.database_url, self.stage.notary_url)]

        def alone() -> bool:
            with psycopg.connect(self.server_url, autocommit=True) as connection:
                query = "SELECT count(*) FROM pg_stat_activity WHERE datname = ANY(%s)"
                return connection.execute(query, (names,)).fetchone() == (0,)

        wait_for(alone, timeout_seconds=SETTLED_SECONDS, what="the databases to be left alone")

    @contextlib.contextmanager
    def copies(self, directory: Path) -> Generator[Copies]:
        """Give copies of everything, and drop the databases in the end."""
        storage = directory / "published"
        shutil.copytree(self.stage.storage, storage)
        witness_path = directory / "witness.sqlite"
        for path in self.directory.glob("witness.sqlite*"):
            shutil.copy(path, directory / path.name)
        with self._copied(self.stage.pipeline.database_url) as store, self._copied(self.stage.notary_url) as notary:
            yield Copies(
                self.stage,
                store,
                notary,
                storage,
                witness_path,
                directory,
                self.store_backup,
                self.notary_backup,
                self.directory / "backup",
            )

    @contextlib.contextmanager
    def _copied(self, url: str) -> Generator[str]:
        parts = urlsplit(url)
        name = f"attacked_{secrets.token_hex(6)}"
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(parts.path[1:]))
            )
        try:
            yield parts._replace(path=f"/{name}").geturl()
        finally:
            with psycopg.connect(self.server_url, autocommit=True) as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.contextmanager
def record(bootstrap: str, server_url: str, directory: Path) -> Generator[Recorded]:
    """Let an instance run on these servers, and give what it leaves.

    Arguments:
        bootstrap: The brokers.
        server_url: The databases' server, as its superuser.
        directory: Where files go.
    """
    with fresh_database(server_url) as store_url, fresh_database(server_url) as notary_url:
        name = f"r-{secrets.token_hex(4)}"
        pipeline = Pipeline(bootstrap, name, directory, database_url=store_url, partitions=PARTITIONS)
        pipeline.create_topics()
        recorded = Recorded(Stage(pipeline, notary_url, directory), server_url, directory)
        try:
            recorded.play()
            yield recorded
        finally:
            pipeline.close()
