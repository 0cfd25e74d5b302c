"""Migrations on a real PostgreSQL: applied once, forward only, never over a changed file."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from sealstream.schemas.errors import ConfigError, StoreError, Unreachable
from sealstream.sinks.store import migrate as module
from sealstream.sinks.store.database import connect
from sealstream.sinks.store.migrate import make_months, migrate, migrations, require_current
from sealstream.worker.migrations import Migration


def _partitions(url: str, parent: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass ORDER BY 1",
            (f"sealstream.{parent}",),
        ).fetchall()
    return [str(name).removeprefix("sealstream.") for (name,) in rows]


def test_migrating_again_changes_nothing(database_url: str) -> None:
    """The first run applies all files in order, the second none."""
    assert migrate(database_url, partitions=2) == list(migrations())
    assert migrate(database_url, partitions=2) == []
    with connect(database_url, application="test") as connection:
        require_current(connection)


def test_several_may_migrate_at_the_same_time(database_url: str) -> None:
    """Of several that start together one applies the files, and all end well."""
    gate = threading.Barrier(4)

    def run() -> list[Migration]:
        gate.wait(10)
        return migrate(database_url, partitions=2)

    with ThreadPoolExecutor(4) as pool:
        results = [future.result() for future in [pool.submit(run) for _ in range(4)]]
    assert sorted(map(len, results)) == [0, 0, 0, len(migrations())]


def test_more_partitions_can_be_added(database_url: str) -> None:
    """A larger number of source partitions adds tables, a smaller one takes none away."""
    migrate(database_url, partitions=2)
    assert _partitions(database_url, "entries") == ["entries_p0", "entries_p1"]
    migrate(database_url, partitions=3)
    migrate(database_url, partitions=1)
    assert _partitions(database_url, "entries") == ["entries_p0", "entries_p1", "entries_p2"]


def test_a_changed_file_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was applied stays as it was: a change is a new file. Nothing else is applied either."""
    migrate(database_url, partitions=2)
    first, *rest = migrations()
    changed = (replace(first, checksum="0" * 64), *rest, Migration(99, "0099_new.sql", "1" * 64, b"SELECT 1"))
    monkeypatch.setattr(module, "migrations", lambda: changed)

    with pytest.raises(StoreError, match=r"0001_tables\.sql was changed"):
        migrate(database_url, partitions=2)


def test_a_file_that_fails_leaves_nothing_behind(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is one transaction: a failing one is not half applied, and can be mended and run again."""
    migrate(database_url, partitions=2)
    bad = Migration(99, "0099_bad.sql", "1" * 64, b"CREATE TABLE sealstream.half (a int); SELECT 1 / 0")
    shipped = migrations()
    monkeypatch.setattr(module, "migrations", lambda: (*shipped, bad))
    with pytest.raises(StoreError, match="division by zero"):
        migrate(database_url, partitions=2)

    good = replace(bad, text=b"CREATE TABLE sealstream.half (a int)")
    monkeypatch.setattr(module, "migrations", lambda: (*shipped, good))
    assert migrate(database_url, partitions=2) == [good]


def test_a_newer_store_is_left_alone(database_url: str) -> None:
    """An older version does not touch a store that a newer one migrated."""
    migrate(database_url, partitions=2)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO sealstream.migrations VALUES (99, '0099_future.sql', 'x')")
    with pytest.raises(StoreError, match="newer"):
        migrate(database_url, partitions=2)


def test_a_database_without_a_store_is_said_so(database_url: str) -> None:
    """The error of whoever comes too early says what to run."""
    with (
        connect(database_url, application="test") as connection,
        pytest.raises(StoreError, match="sealstream migrate"),
    ):
        require_current(connection)


def test_an_ordinary_owner_can_migrate(database_url: str, database_server: str) -> None:
    """No superuser is needed: a role that may create roles, and schemas in this database, is enough."""
    with psycopg.connect(database_server, autocommit=True) as connection:
        name = "migrator_" + database_url.rpartition("_")[2]
        user, database = sql.Identifier(name), sql.Identifier(database_url.rpartition("/")[2])
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD 'test'").format(user))
        connection.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(database, user))
        # The group roles may be there already, made by another one: then they must be granted.
        for group in ("sealstream_owner", "sealstream_writer", "sealstream_reader"):
            exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (group,)).fetchone()
            if exists and group == "sealstream_owner":
                connection.execute(sql.SQL("GRANT sealstream_owner TO {}").format(user))
        try:
            host = database_url.rpartition("@")[2]
            assert len(migrate(f"postgresql://{name}:test@{host}", partitions=1)) == len(migrations())
        finally:
            with psycopg.connect(database_url, autocommit=True) as own:
                own.execute(sql.SQL("DROP OWNED BY {}").format(user))
            connection.execute(sql.SQL("DROP ROLE {}").format(user))


def test_months_are_made_ahead_and_a_used_month_stays_in_the_default_partition(database_url: str) -> None:
    """Payloads of a coming month have a partition of their own, which can be detached; others fall into a default."""
    migrate(database_url, partitions=1)
    found = _partitions(database_url, "payloads_standard")
    assert "payloads_standard_default" in found
    assert len(found) == 1 + 1 + module.MONTHS_AHEAD
    with psycopg.connect(database_url, autocommit=True) as connection:
        add = (
            "INSERT INTO sealstream.payloads VALUES (%s, 1, 'standard', %s, '\\x00') RETURNING tableoid::regclass::text"
        )
        january = 1_704_067_200_000_000  # 2024-01-01T00:00:00Z
        assert connection.execute(add, ("a", january)).fetchone() == ("sealstream.payloads_standard_default",)
        made = connection.execute("SELECT sealstream.make_months('2024-01-15', 3)").fetchall()
        names = {str(name) for (name,) in made}
        # December, February: their rows can come. January's first row is in the default partition and stays there.
        assert {"payloads_standard_2023_12", "payloads_standard_2024_02", "events_standard_2024_01"} <= names
        assert "payloads_standard_2024_01" not in names
        february = january + 31 * 86_400_000_000
        assert connection.execute(add, ("a", february)).fetchone() == ("sealstream.payloads_standard_2024_02",)
        assert connection.execute(add, ("a", february - 1)).fetchone() == ("sealstream.payloads_standard_default",)


def test_making_months_again_makes_none(database_url: str) -> None:
    """A worker may ask every day."""
    migrate(database_url, partitions=1)
    with connect(database_url, application="test") as connection:
        assert make_months(connection) == []


def test_what_cannot_be_reached_or_understood_is_said_without_its_password(database_url: str) -> None:
    """A server that is away, a wrong password and a broken URL are errors of ours, and none repeats the secret."""
    parts = database_url.rpartition("@")
    wrong = f"postgresql://nobody:hunter2@{parts[2]}"
    for url, error in (
        ("postgresql://u:hunter2@127.0.0.1:1/x", Unreachable),
        (wrong, Unreachable),
        ("postgresql://u:hunter2@[::1/x", ConfigError),
        ("nonsense hunter2", ConfigError),
    ):
        with pytest.raises(error) as raised:
            migrate(url, partitions=1, timeout_seconds=3)
        assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("partitions", [0, -1, 100_001])
def test_a_number_of_partitions_out_of_range_is_refused(database_url: str, partitions: int) -> None:
    """Nothing is created for it."""
    with pytest.raises(StoreError, match="partitions"):
        migrate(database_url, partitions=partitions)
