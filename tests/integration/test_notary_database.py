"""The notary's database: a round is committed to once, as a whole, and by one notary alone."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.errors import StoreError, WriterConflict
from sealstream.schemas.merkle import EMPTY_ROOT
from sealstream.sinks.notary.database import NotaryDatabase
from sealstream.sinks.notary.migrate import migrate, migrations
from sealstream.sinks.notary.steps import ChainHead, ChainStep, LogHead, MapTile, PositionStep, RoundStep

INSTANCE = "test.example/audit"
KEY = "test.example/audit+00000000+x"
TOPIC_ID = bytes(range(16))
SECONDS = 10.0
EMPTY = LogHead(0, EMPTY_ROOT, CompactRange().state())


@pytest.fixture
def database(database_url: str) -> Iterator[NotaryDatabase]:
    """A migrated database in which the log has begun."""
    migrate(database_url)
    found = NotaryDatabase(database_url, timeout_seconds=SECONDS)
    found.begin_log(INSTANCE, KEY)
    yield found
    found.close()


def _digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _chain(name: str, size: int, *, round_number: int = 0, size_before: int = 0) -> ChainHead:
    return ChainHead(name, 0, size, _digest(size), _digest(1000 + size), bytes(16), round_number, size_before)


def _step(before: LogHead, chains: list[ChainStep], positions: list[PositionStep]) -> RoundStep:
    after = LogHead(before.size + 1, _digest(before.size + 1), bytes(16))
    at = datetime(2023, 11, 14, tzinfo=UTC)
    return RoundStep(
        before,
        after,
        b"leaf",
        b"coverage",
        chains,
        positions,
        appended_from=at,
        appended_before=at,
        map_tiles=[MapTile(0, 0, b"tile")],
        map_leaves=[b"leaves"],
    )


def _first_two(database: NotaryDatabase) -> RoundStep:
    """Commit to a round, and return the next one."""
    first = _step(EMPTY, [ChainStep(None, _chain("a", 2))], [PositionStep(TOPIC_ID, 0, 0, 1)])
    database.advance(first)
    grown = ChainStep(_chain("a", 2), _chain("a", 5, round_number=1, size_before=2))
    return _step(
        first.after, [grown, ChainStep(None, _chain("b", 1, round_number=1))], [PositionStep(TOPIC_ID, 0, 1, 4)]
    )


def test_a_round_is_remembered_as_a_whole(database: NotaryDatabase) -> None:
    """Whoever starts finds heads, positions and the last round as they were committed to."""
    second = _first_two(database)
    database.advance(second)

    memory = database.load()
    assert memory is not None
    assert (memory.instance, memory.key, memory.head) == (INSTANCE, KEY, second.after)
    assert memory.positions == {(TOPIC_ID, 0): 4}
    assert sorted(memory.chains, key=lambda one: one.chain) == [one.after for one in second.chains]
    assert memory.last is not None
    assert (memory.last.round, memory.last.leaf, memory.last.coverage, memory.last.root) == (
        1,
        b"leaf",
        b"coverage",
        second.after.root,
    )


@pytest.mark.parametrize("what", ["root", "size", "chain-size", "chain-root", "new-chain", "position", "new-position"])
def test_a_head_that_is_elsewhere_refuses_the_round(database: NotaryDatabase, what: str) -> None:
    """Any head that another notary moved makes the round fail, and nothing of it stays."""
    step = _first_two(database)
    chain, begun = step.chains
    assert chain.before is not None
    other = {
        "root": replace(step, before=replace(step.before, root=_digest(77))),
        "size": replace(step, before=replace(step.before, size=2)),
        "chain-size": replace(step, chains=[replace(chain, after=replace(chain.after, size_before=1)), begun]),
        "chain-root": replace(step, chains=[replace(chain, before=replace(chain.before, root=_digest(77))), begun]),
        "new-chain": replace(step, chains=[ChainStep(None, chain.after)]),
        "position": replace(step, positions=[PositionStep(TOPIC_ID, 0, 2, 4)]),
        "new-position": replace(step, positions=[PositionStep(TOPIC_ID, 0, 0, 4)]),
    }[what]
    before = database.load()

    with pytest.raises(WriterConflict):
        database.advance(other)
    assert database.load() == before
    database.advance(step)


def test_of_two_notaries_one_fails(database: NotaryDatabase, database_url: str) -> None:
    """Two notaries that made the same round cannot both commit to it, and the second one cannot sign it either."""
    step = _first_two(database)
    other = NotaryDatabase(database_url, timeout_seconds=SECONDS)
    database.advance(step)

    with pytest.raises(WriterConflict):
        other.advance(step)
    with pytest.raises(WriterConflict):
        other.keep_note(0, "a note of the round before")
    with pytest.raises(WriterConflict):
        other.require_head(step.before.size, step.before.root)
    other.require_head(step.after.size, step.after.root)
    other.close()


def test_a_log_begins_once(database: NotaryDatabase) -> None:
    """A database has the log of one instance."""
    with pytest.raises(WriterConflict):
        database.begin_log("another.example/audit", KEY)
    memory = database.load()
    assert memory is not None
    assert memory.instance == INSTANCE


def test_without_migration_it_is_refused(database_url: str) -> None:
    """An empty database is refused with what to do: it is never filled by the worker."""
    database = NotaryDatabase(database_url, timeout_seconds=SECONDS)
    with pytest.raises(StoreError, match="migrate-notary"):
        database.load()


def test_migration_is_repeatable(database_url: str) -> None:
    """The second time there is nothing to do; a database without a log knows of none."""
    assert migrate(database_url) == list(migrations())
    assert migrate(database_url) == []
    database = NotaryDatabase(database_url, timeout_seconds=SECONDS)
    assert database.load() is None
    database.close()


def test_what_became_of_a_round_is_kept(database: NotaryDatabase, database_url: str) -> None:
    """Note, witnesses, timestamp and lock are remembered; anchored rounds keep their map when others lose theirs."""
    database.advance(_first_two(database))
    database.keep_note(1, "signed")
    assert database.oldest_unwitnessed() == datetime(2023, 11, 14, tzinfo=UTC)
    database.keep_witnessed(1, "cosigned")
    assert database.oldest_unwitnessed() is None
    at = datetime(2024, 1, 1, tzinfo=UTC)
    database.keep_timestamp(1, b"token", at)
    found = database.round(1)
    assert found is not None
    assert (found.note, found.witnessed_at is not None) == ("cosigned", True)
    assert database.last_anchored() == (at, None)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE sealstream_notary.rounds SET made_at = now() - interval '2 hours'")
    third = _step(LogHead(2, _digest(2), bytes(16)), [], [])
    database.advance(third)

    assert database.prune_maps() == 1
    with psycopg.connect(database_url, autocommit=True) as connection:
        for table in ("map_tiles", "map_leaves"):
            kept = connection.execute(f"SELECT round FROM sealstream_notary.{table} ORDER BY round".encode()).fetchall()
            assert kept == [(1,), (2,)]


def test_the_worker_needs_no_more_than_its_role(database: NotaryDatabase, database_url: str) -> None:
    """A login with sealstream_notary can do all that the worker does, and cannot change a round."""
    del database
    name = f"login_{secrets.token_hex(6)}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x' IN ROLE sealstream_notary").format(sql.Identifier(name))
        )
    try:
        parts = urlsplit(database_url)
        login = parts._replace(netloc=f"{name}:x@{parts.netloc.rpartition('@')[2]}").geturl()
        own = NotaryDatabase(login, timeout_seconds=SECONDS)
        own.advance(_first_two(own))
        own.keep_note(1, "signed")
        own.keep_witnessed(1, "cosigned")
        own.keep_locked(1)
        own.prune_maps()
        assert own.load() is not None
        own.close()
        with psycopg.connect(login, autocommit=True) as connection:
            for statement in (
                b"UPDATE sealstream_notary.rounds SET leaf = ''",
                b"DELETE FROM sealstream_notary.rounds",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)
    finally:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))
