"""Who may do what in the store, tried as each role on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import errors, sql

from support.chained import Chains
from support.stores import TestStore, migrated, open_feeder

APPEND_ONLY = ("entries", "entries_p2", "payloads", "payloads_standard", "payloads_standard_default")


@pytest.fixture
def store(database_url: str) -> Iterator[TestStore]:
    """A store with a few chains in all of its partitions."""
    with migrated(database_url) as found:
        with open_feeder(found) as feeder:
            feeder.claim()
            feeder.feed(Chains().events(8, 40))
        yield found


def _changes(*tables: str) -> list[bytes]:
    statements = ("UPDATE sealstream.{} SET {column} = {column}", "DELETE FROM sealstream.{}", "TRUNCATE sealstream.{}")
    return [
        statement.format(table, column="name" if table == "migrations" else "tenant").encode()
        for table in tables
        for statement in statements
    ]


def test_the_owner_cannot_change_what_is_stored(store: TestStore) -> None:
    """Triggers refuse UPDATE, DELETE and TRUNCATE even to the owner, on the tables and on each partition."""
    before = store.contents()
    with psycopg.connect(store.login("sealstream_owner"), autocommit=True) as connection:
        for statement in _changes(*APPEND_ONLY):
            with pytest.raises(errors.InsufficientPrivilege, match="only ever added to"):
                connection.execute(statement)
    assert store.contents() == before


def test_the_writer_cannot_change_what_is_stored(store: TestStore) -> None:
    """The writer's login has no right to change or remove rows anywhere but in its positions."""
    tables = (*APPEND_ONLY, "events", "events_standard", "migrations", "reader_tenants")
    with psycopg.connect(store.login("sealstream_writer"), autocommit=True) as connection:
        for statement in _changes(*tables):
            with pytest.raises(errors.InsufficientPrivilege, match="permission denied"):
                connection.execute(statement)


def test_the_writer_cannot_set_a_head_or_remove_a_position(store: TestStore) -> None:
    """Heads move by their function alone, from where they are; positions are moved, never removed."""
    with psycopg.connect(store.login("sealstream_writer"), autocommit=True) as connection:
        for statement in (
            "UPDATE sealstream.tenant_heads SET seq = 0",
            "INSERT INTO sealstream.tenant_heads VALUES ('x', 0, sha256(''))",
            "DELETE FROM sealstream.tenant_heads",
            "DELETE FROM sealstream.positions",
            "TRUNCATE sealstream.positions",
            "CREATE TABLE sealstream.mine (a int)",
            "SELECT sealstream.make_retention_class('mine')",
            "SELECT sealstream.make_entry_partitions(9)",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement.encode())
        moved = connection.execute(
            "SELECT sealstream.advance_heads('{tenant-0}', '{99}', ARRAY[sha256('')], '{100}', ARRAY[sha256('')])"
        ).fetchone()
    assert moved == (0,)


def test_the_writer_can_only_make_months_within_bounds(store: TestStore) -> None:
    """The one function with the owner's rights that makes tables takes no names and no endless numbers."""
    with psycopg.connect(store.login("sealstream_writer"), autocommit=True) as connection:
        assert connection.execute("SELECT sealstream.make_months('2031-05-01', 1)").fetchall()
        for arguments in ("'2031-05-01', 37", "'2031-05-01', 0", "'1999-01-01', 1", "'3000-01-01', 1"):
            with pytest.raises(errors.InvalidParameterValue):
                connection.execute(f"SELECT sealstream.make_months({arguments})".encode())


def _visible(url: str) -> list[set[str]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return [
            {str(tenant) for (tenant,) in connection.execute(f"SELECT tenant FROM sealstream.{table}".encode())}
            for table in ("entries", "payloads", "events", "tenant_heads")
        ]


def test_a_reader_sees_its_tenants_and_no_others(store: TestStore) -> None:
    """Without a row in ``reader_tenants`` a reader sees nothing; with rows these tenants; with a star all."""
    everybody = {f"tenant-{n}" for n in range(8)}

    assert _visible(store.reader()) == [set()] * 4
    assert _visible(store.reader("tenant-1", "tenant-2", "nobody")) == [{"tenant-1", "tenant-2"}] * 4
    assert _visible(store.reader("*")) == [everybody] * 4


def test_a_reader_sees_the_tenants_of_its_groups(store: TestStore) -> None:
    """Tenants can be given to a group, whose members then see them."""
    group = urlsplit(store.reader("tenant-3")).username
    assert group is not None
    assert _visible(store.login("sealstream_reader", group)) == [{"tenant-3"}] * 4


def test_a_reader_cannot_widen_its_view(store: TestStore) -> None:
    """No setting, no other role, no partition and no write lets a reader see another tenant."""
    url, other = store.reader("tenant-1"), urlsplit(store.reader("*")).username
    assert other is not None
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (
            sql.SQL("SET ROLE {}").format(sql.Identifier(other)),
            sql.SQL("SET SESSION AUTHORIZATION {}").format(sql.Identifier(other)),
            sql.SQL("SET ROLE sealstream_owner"),
            sql.SQL("SET row_security = off; SELECT * FROM sealstream.entries"),
            sql.SQL("INSERT INTO sealstream.reader_tenants VALUES (current_user, '*')"),
            sql.SQL("UPDATE sealstream.reader_tenants SET tenant = '*'"),
            sql.SQL("ALTER TABLE sealstream.entries DISABLE ROW LEVEL SECURITY"),
            sql.SQL("SELECT * FROM sealstream.entries_p0"),
            sql.SQL("SELECT * FROM sealstream.payloads_standard"),
            sql.SQL("SELECT * FROM sealstream.events_standard_default"),
            sql.SQL("INSERT INTO sealstream.events_standard (tenant, seq) VALUES ('a', 1)"),
            sql.SQL("SELECT sealstream.make_months('2031-05-01', 1)"),
            sql.SQL("SELECT sealstream.advance_heads('{}', '{}', '{}', '{}', '{}')"),
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)
        connection.execute("RESET row_security")
        connection.execute("SET sealstream.tenant = 'tenant-2'")
        assert connection.execute("SELECT DISTINCT tenant FROM sealstream.entries").fetchall() == [("tenant-1",)]
        # Not even through a function that leaks what it is shown.
        connection.execute(
            "CREATE FUNCTION pg_temp.leak(t text) RETURNS bool LANGUAGE plpgsql COST 0.0001 AS"
            " $$BEGIN RAISE NOTICE 'saw %', t; RETURN true; END$$"
        )
        notices: list[str] = []
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        connection.execute("SELECT count(*) FROM sealstream.events WHERE pg_temp.leak(tenant)")
        assert set(notices) == {"saw tenant-1"}
        assert connection.execute("SELECT DISTINCT tenant FROM sealstream.reader_tenants").fetchall() == [("tenant-1",)]
