"""The outbox on a real PostgreSQL and Kafka: what commits is published, in each tenant's order, and nothing else is."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sealstream.kafka.partition import partition_of
from sealstream.producers.outbox import AsyncOutbox, Outbox, OutboxRow
from sealstream.producers.outbox.sqlalchemy import SessionOutbox
from sealstream.producers.relay.database import BATCH_BYTES_MAX
from sealstream.producers.relay.publisher import Outcome, Publisher
from sealstream.producers.relay.rows import WaitingRow
from sealstream.producers.relay.setup import init
from sealstream.schemas.codec import EventReader
from sealstream.schemas.errors import ClientUnusable, StoreError
from sealstream.schemas.event import Actor, AuditEvent
from support import django_app
from support.brokers import fault_broker
from support.harness import LogRecord
from support.outbox import PARTITIONS, SECONDS, OutboxStage, event_id_of
from support.publish import event_value
from support.shell import Shell
from support.workers import Worker, wait_for

BATCH_ROWS = 40


@pytest.fixture
def stage(kafka_bootstrap: str, database_url: str, tmp_path: Path) -> Generator[OutboxStage]:
    """An outbox of the test's own, with an application's table beside it."""
    made = OutboxStage(kafka_bootstrap, database_url, tmp_path)
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE document (name text PRIMARY KEY)")
    yield made
    made.close()


def add(connection: psycopg.Connection, number: int, *, tenant: str = "acme", note: str = "") -> OutboxRow:
    """Add an event of a tenant to a transaction."""
    return Outbox().log(
        connection, tenant=tenant, actor="user:u-1", action=f"document.updated-{number}", metadata={"note": note}
    )


def event() -> AuditEvent:
    """Return an event."""
    return AuditEvent(tenant="acme", actor=Actor("user", "u-1"), action="document.updated")


class TestTransactions:
    """An event shares the fate of the business data."""

    def test_a_commit_publishes_and_a_rollback_does_not(self, stage: OutboxStage) -> None:
        """The event of a committed transaction is published once, just as it was logged; others never existed."""
        with psycopg.connect(stage.url) as connection:
            connection.execute("INSERT INTO document VALUES ('a')")
            logged = AuditEvent(tenant="acme", actor=Actor("user", "ü-1"), action="文書.更新", metadata={"k": "v"})
            kept = Outbox().log(connection, logged)
            connection.commit()
            add(connection, 2)
            connection.rollback()
            add(connection, 3)
            with pytest.raises(psycopg.errors.UniqueViolation):
                connection.execute("INSERT INTO document VALUES ('a')")
            connection.rollback()

        with stage.relaying():
            stage.wait_until_empty()

        [record] = stage.published()
        assert record.value == kept.value
        assert record.key == b"acme"
        assert record.partition == partition_of(b"acme", PARTITIONS)
        found = EventReader().read(kept.value)
        assert (found.id, found.action, found.salt) == (kept.id, "文書.更新", logged.salt)
        assert kept.id == f"outbox:audit_outbox:{logged.id}"
        assert stage.rows() == 0

    async def test_every_way_in_joins_the_callers_transaction(self, stage: OutboxStage) -> None:
        """Psycopg's cursors and asyncio connections, SQLAlchemy's sessions and Django: all commit and roll back."""
        rows: list[OutboxRow] = []
        with psycopg.connect(stage.url, autocommit=True) as connection, connection.transaction():
            rows.append(Outbox().log(connection.cursor(), event()))
        async with await psycopg.AsyncConnection.connect(stage.url) as later:
            rows.append(await AsyncOutbox().log(later, event()))
            await later.commit()
            await AsyncOutbox().log(later, event())
            await later.rollback()
        url = urlsplit(stage.url)._replace(scheme="postgresql+psycopg").geturl()
        engine = create_engine(url)
        with Session(engine) as session:
            rows.append(SessionOutbox().log(session, event()))
            session.commit()
            SessionOutbox().log(session, event())
            session.rollback()
        engine.dispose()
        with ThreadPoolExecutor(1) as thread:  # Django refuses to be called in an event loop
            rows += thread.submit(_with_django, stage.url).result()

        with stage.relaying():
            stage.wait_until_empty()

        assert stage.published_ids() == [row.id for row in rows]

    async def test_an_async_session_joins_its_transaction(self, stage: OutboxStage) -> None:
        """With SQLAlchemy's asyncio, commits and rollbacks decide as they do without, and autocommit is refused."""
        url = urlsplit(stage.url)._replace(scheme="postgresql+psycopg_async").geturl()
        engine, outbox = create_async_engine(url), SessionOutbox()
        async with AsyncSession(engine) as session:
            async with session.begin():
                await session.execute(text("INSERT INTO document VALUES ('a')"))
                whole = await session.run_sync(outbox.log, event())
            by_fields = await session.run_sync(outbox.log, tenant="acme", actor="user:u-1", action="document.updated")
            await session.commit()
            await session.run_sync(outbox.log, event())
            await session.rollback()
        async with engine.begin() as connection:
            direct = await connection.run_sync(outbox.log, event())
        automatic = engine.execution_options(isolation_level="AUTOCOMMIT")
        async with AsyncSession(automatic) as session:
            with pytest.raises(ClientUnusable):
                await session.run_sync(outbox.log, event())
        await engine.dispose()

        with stage.relaying():
            stage.wait_until_empty()

        assert stage.published_ids() == [whole.id, by_fields.id, direct.id]
        assert stage.query("SELECT name FROM document") == [("a",)]

    def test_an_event_never_commits_by_itself(self, stage: OutboxStage) -> None:
        """Where no transaction is open, the event is refused: it would be published whatever becomes of the data."""
        url = urlsplit(stage.url)._replace(scheme="postgresql+psycopg").geturl()
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with psycopg.connect(stage.url, autocommit=True) as connection, pytest.raises(ClientUnusable):
            add(connection, 1)
        with Session(engine) as session, pytest.raises(ClientUnusable):
            SessionOutbox().log(session, tenant="acme", actor="user:u-1", action="document.updated")
        engine.dispose()
        with django_app.database("app", stage.url):
            from sealstream.producers.outbox.django import DjangoOutbox  # noqa: PLC0415 - after Django is set up

            with pytest.raises(ClientUnusable):
                DjangoOutbox(using="app").log(tenant="acme", actor="user:u-1", action="document.updated")

        assert stage.rows() == 0

    def test_a_row_that_becomes_visible_late_is_published(self, stage: OutboxStage) -> None:
        """A transaction that took its place early and commits late is neither lost nor waited for."""
        with (
            stage.relaying(),
            psycopg.connect(stage.url) as slow,
            psycopg.connect(stage.url) as quick,
        ):
            first = add(slow, 1)
            second = add(quick, 2)
            quick.commit()
            wait_for(lambda: stage.rows() == 0, timeout_seconds=SECONDS, what="the quick one")
            slow.commit()
            wait_for(lambda: len(stage.published()) == 2, timeout_seconds=SECONDS, what="the slow one")

        assert stage.published_ids() == [second.id, first.id]


def _with_django(url: str) -> list[OutboxRow]:
    """Log in one transaction of Django's that commits, and in one that does not."""
    with django_app.database("app", url):
        from sealstream.producers.outbox.django import DjangoOutbox  # noqa: PLC0415 - after Django is set up

        outbox = DjangoOutbox(using="app")
        with django_app.atomic("app"):
            row = outbox.log(event())
        with django_app.atomic("app", rollback=True):
            outbox.log(event())
        return [row]


class TestRelay:
    """What the relay does with rows."""

    def test_a_row_that_holds_no_event_is_set_aside_and_blocks_nothing(self, stage: OutboxStage) -> None:
        """It stays with its reason, status says so with exit code 1, and when it is mended it is published."""
        with psycopg.connect(stage.url) as connection:
            before = add(connection, 1)
            broken = ["01900000-0000-7000-8000-00000000000" + digit for digit in "1234"]
            insert = stage.table.insert_sql
            other = f"outbox:audit_outbox:{broken[2]}"
            cut = event_value("acme", f"outbox:audit_outbox:{broken[3]}")[:-1]
            for row in (
                (broken[0], "acme", "a.b", b"no event"),
                (broken[1], "acme", "a.b", event_value("globex", f"outbox:audit_outbox:{broken[1]}")),
                (broken[2], "acme", "a.b", event_value("acme", other[:-1] + "9")),
                (broken[3], "acme", "a.b", cut),
            ):
                connection.execute(insert.encode(), row)
            after = add(connection, 2)

        with stage.relaying():
            stage.wait_until_empty()
        answer = Shell(**stage.settings()).run("outbox", "status", "--json")

        assert stage.published_ids() == [before.id, after.id]
        assert answer.returncode == 1
        found = json.loads(answer.stdout)
        assert (found["waiting"], found["set_aside"]) == (0, 4)
        assert {row["id"]: row["reason"] for row in found["rows_set_aside"]} == {
            broken[0]: "payload is no event: value begins with neither 00 and a schema id nor c3 01 and a fingerprint",
            broken[1]: "payload names another tenant than aggregateid",
            broken[2]: "payload's event id is not outbox:<table>:<id of the row>",
            broken[3]: "value: value does not decode: EOFError (make it with encode_event())",
        }
        with psycopg.connect(stage.url) as connection:
            mended = event_value("acme", other)
            connection.execute(
                "UPDATE audit_outbox SET payload = %s, refused = NULL WHERE id = %s::uuid", (mended, broken[2])
            )
        with stage.relaying():
            stage.wait_until_empty()
        assert stage.published_ids() == [before.id, after.id, other]

    def test_rows_that_are_kept_say_where_they_went(self, stage: OutboxStage) -> None:
        """With --keep a published row is marked with its place in the topic, and never sent again."""
        with psycopg.connect(stage.url) as connection:
            rows = [add(connection, number, tenant=f"t-{number % 3}") for number in range(9)]

        for _ in range(2):
            with stage.relaying(outbox_keep=True):
                stage.wait_until_empty()

        places = stage.query(
            "SELECT 'outbox:audit_outbox:' || id, published_partition, published_offset FROM audit_outbox"
        )
        published = {(event_id_of(record), record.partition, record.offset) for record in stage.published()}
        assert set(places) == published
        assert len(places) == len(rows)

    def test_large_rows_come_in_batches_of_bounded_size(
        self, stage: OutboxStage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A backlog of many megabytes is read a few megabytes at a time, and still in order."""
        note, count = "x" * 900_000, 2 * BATCH_BYTES_MAX // 900_000
        with psycopg.connect(stage.url) as connection:
            rows = [add(connection, number, note=note) for number in range(count)]

        sizes: list[int] = []
        publish = Publisher.publish

        def measured(self: Publisher, rows: Sequence[WaitingRow], *, hurried: Callable[[], bool]) -> Outcome:
            sizes.append(sum(len(row.value) for row in rows))
            return publish(self, rows, hurried=hurried)

        monkeypatch.setattr(Publisher, "publish", measured)
        with stage.relaying():
            stage.wait_until_empty()

        assert stage.published_ids() == [row.id for row in rows]
        assert max(sizes) <= BATCH_BYTES_MAX + len(rows[0].value)
        assert len(sizes) >= 2

    def test_roles_can_do_what_they_need_and_no_more(self, stage: OutboxStage) -> None:
        """The application adds and nothing else; the relay publishes and cannot change an event."""
        with _login(stage.url) as writer, _login(stage.url) as relay:
            grants = stage.table.grant_sql(writer=urlsplit(writer).username, relay=urlsplit(relay).username)
            init(stage.url, stage.table, grants, timeout_seconds=10)
            with psycopg.connect(writer) as connection:
                row = add(connection, 1)
            stage.url, owner = relay, stage.url
            with stage.relaying():
                stage.url = owner
                stage.wait_until_empty()

            assert stage.published_ids() == [row.id]
            for url, statement in (
                (writer, "SELECT id FROM audit_outbox"),
                (writer, "DELETE FROM audit_outbox"),
                (writer, "UPDATE audit_outbox SET payload = ''"),
                (writer, "INSERT INTO audit_outbox (id, refused) VALUES (gen_random_uuid(), 'x')"),
                (relay, "UPDATE audit_outbox SET payload = ''"),
                (relay, "INSERT INTO audit_outbox_shards (shard) VALUES (1)"),
            ):
                with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement.encode())

    def test_a_table_of_another_shape_is_refused(self, stage: OutboxStage) -> None:
        """A table of that name that is none of ours is left as it is, and said to be another one."""
        with psycopg.connect(stage.url) as connection:
            connection.execute("ALTER TABLE audit_outbox ALTER COLUMN type TYPE varchar(10)")

        with pytest.raises(StoreError, match=r"audit_outbox.type is character varying, and not text"), stage.relaying():
            pass

    def test_the_columns_are_those_of_debezium(self, stage: OutboxStage) -> None:
        """Names and types are those that Debezium's event router expects of an outbox table by default."""
        columns = stage.query(
            "SELECT column_name::text, data_type::text, is_nullable::text FROM information_schema.columns"
            " WHERE table_name = 'audit_outbox' ORDER BY ordinal_position LIMIT 5"
        )

        assert columns == [
            ("id", "uuid", "NO"),
            ("aggregatetype", "character varying", "NO"),
            ("aggregateid", "character varying", "NO"),
            ("type", "text", "NO"),
            ("payload", "bytea", "NO"),
        ]


class TestSideBySide:
    """Several relays, and their deaths."""

    def test_killed_relays_lose_nothing_and_keep_the_order(self, stage: OutboxStage) -> None:
        """Every committed event is in the topic, each tenant's in order; only what a death left open comes twice."""
        committed: dict[str, list[OutboxRow]] = defaultdict(list)
        done = threading.Event()

        def write(thread: int) -> None:
            with psycopg.connect(stage.url) as connection:
                number = 0
                while not done.is_set() or number < 50:
                    tenant = f"tenant-{thread}-{number % 5}"
                    rows = [add(connection, number, tenant=tenant), add(connection, number, tenant=tenant)]
                    if number % 7 == 3:
                        connection.rollback()
                    else:
                        connection.commit()
                        committed[tenant] += rows
                    number += 1
                    time.sleep(0.02)  # a rate, not a wait

        with ThreadPoolExecutor(2) as pool:
            writers = [pool.submit(write, thread) for thread in range(2)]
            stage.start(failpoints="after-publish#3=kill", outbox_rows_max=BATCH_ROWS)
            victim = stage.start(failpoints="after-settle#5=kill", outbox_rows_max=BATCH_ROWS)
            for relay in stage.relays[:2]:
                relay.wait(timeout_seconds=SECONDS)
            survivors = [stage.start(outbox_rows_max=BATCH_ROWS), stage.start(outbox_rows_max=BATCH_ROWS)]
            wait_for(lambda: _published(survivors[0]) > 50, timeout_seconds=SECONDS, what="a relay at work")
            survivors[0].kill()
            done.set()
            for writer in writers:
                writer.result(SECONDS)
        stage.wait_until_empty()
        ended = survivors[1].terminate()

        records = stage.published()
        assert ended == 0, survivors[1].report()
        assert victim.process.returncode == -9
        _check_complete(records, committed)
        twice = len(records) - sum(len(rows) for rows in committed.values())
        assert 0 < twice <= 3 * BATCH_ROWS, "what is sent twice is what the three that were killed were at"


def _published(relay: Worker) -> float:
    """Return how many rows a relay says that it has published."""
    status, text = relay.get("/metrics")
    found = re.search(r"^sealstream_outbox_published_total (\S+)$", text, re.MULTILINE)
    return float(found[1]) if status == 200 and found else 0.0


def _check_complete(records: list[LogRecord], committed: dict[str, list[OutboxRow]]) -> None:
    """Check that the topic holds what was committed, in each tenant's order, and repeats byte for byte."""
    values: dict[str, bytes] = {}
    firsts: dict[str, list[str]] = defaultdict(list)
    for record in records:
        event_id = event_id_of(record)
        assert record.key is not None
        assert record.value is not None
        if event_id not in values:
            firsts[record.key.decode()].append(event_id)
        assert values.setdefault(event_id, record.value) == record.value
    assert firsts == {tenant: [row.id for row in rows] for tenant, rows in committed.items()}
    assert all(values[row.id] == row.value for rows in committed.values() for row in rows)


class TestOutage:
    """While Kafka is away."""

    @pytest.mark.slow
    def test_rows_stay_while_kafka_is_away(self, database_url: str, tmp_path: Path) -> None:
        """The relay is not ready and says why, keeps no lock, and publishes everything once Kafka is back."""
        with fault_broker() as broker:
            stage = OutboxStage(broker.address, database_url, tmp_path)
            stage.bootstrap = broker.proxy.address
            relay = stage.start()
            try:
                with psycopg.connect(stage.url) as connection:
                    rows = [add(connection, 1)]
                stage.wait_until_empty()
                broker.proxy.cut()
                with psycopg.connect(stage.url) as connection:
                    rows += [add(connection, number) for number in range(2, 6)]
                wait_for(lambda: relay.get("/readyz")[0] == 503, timeout_seconds=SECONDS, what="readiness")
                assert relay.get("/healthz")[0] == 200
                assert stage.rows() == 4
                broker.proxy.mend()
                stage.wait_until_empty()
                wait_for(lambda: relay.get("/readyz")[0] == 200, timeout_seconds=SECONDS, what="readiness")
            finally:
                stage.close()
            stage.bootstrap = broker.address

            assert list(dict.fromkeys(stage.published_ids())) == [row.id for row in rows]


class TestCommands:
    """The command line."""

    def test_init_may_run_again_and_status_is_well(self, stage: OutboxStage) -> None:
        """The table is made once; a second time nothing changes, and an empty outbox is well."""
        shell = Shell(**stage.settings(outbox_table="public.billing_outbox"))
        for _ in range(2):
            made = shell.run("outbox", "init", "--no-notify")
            assert (made.returncode, made.stdout) == (0, "the outbox public.billing_outbox is there\n")

        assert shell.json("outbox", "status") == {
            "table": "public.billing_outbox",
            "waiting": 0,
            "oldest_seconds": 0.0,
            "set_aside": 0,
            "kept": 0,
            "rows_set_aside": [],
            "relays": [],
        }

    def test_the_printed_sql_is_what_init_runs(self, stage: OutboxStage) -> None:
        """Who migrates by himself gets the same table from the printed SQL."""
        printed = Shell(**stage.settings(outbox_table="other_outbox")).run("outbox", "init", "--sql").stdout
        with psycopg.connect(stage.url) as connection:
            connection.execute(printed.encode())

        shape = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s ORDER BY 1"
        assert stage.query(shape, "other_outbox") == stage.query(shape, "audit_outbox")


class _login:  # noqa: N801 - read as a function
    """A login role without any right, for a while; gives the database's URL for it."""

    def __init__(self, url: str) -> None:
        self._url, self._name, self._password = url, f"login_{secrets.token_hex(6)}", secrets.token_hex(12)

    def __enter__(self) -> str:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(self._name), sql.Literal(self._password)
                )
            )
        parts = urlsplit(self._url)
        return parts._replace(netloc=f"{self._name}:{self._password}@{parts.netloc.rpartition('@')[2]}").geturl()

    def __exit__(self, *_: object) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(self._name)))
