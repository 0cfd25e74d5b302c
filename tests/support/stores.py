"""Stores for tests: migrated, with logins as an operator would make them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from sealstream.schemas.codec import EventReader
from sealstream.schemas.violation import Violation
from sealstream.sinks.store.batch import Batch, batch_of
from sealstream.sinks.store.derive import Deriver
from sealstream.sinks.store.migrate import migrate
from sealstream.sinks.store.search_rows import derive_chunk, prepare_session, search_lag
from sealstream.sinks.store.session import open_session
from sealstream.sinks.store.writer import StoreWriter, Written
from support.chained import INSTANCE, Sealed

TOPIC = "audit.chained"
TOPIC_ID = bytes(range(16, 32))


@dataclass
class TestStore:
    """A migrated store and its logins.

    Arguments:
        url: As its superuser.
    """

    __test__ = False

    url: str
    partitions: int = 4
    logins: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        migrate(self.url, partitions=self.partitions)

    def login(self, *groups: str) -> str:
        """Make a login role that is granted these groups, and return the store's URL for it."""
        name, password = f"login_{secrets.token_hex(6)}", secrets.token_hex(12)
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
            )
            for group in groups:
                connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(name)))
        self.logins.append(name)
        parts = urlsplit(self.url)
        return parts._replace(netloc=f"{name}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()

    def reader(self, *tenants: str) -> str:
        """Make a login that may read these tenants, and return the store's URL for it."""
        url = self.login("sealstream_reader")
        with psycopg.connect(self.url, autocommit=True) as connection:
            for tenant in tenants:
                connection.execute(
                    "INSERT INTO sealstream.reader_tenants VALUES (%s, %s)", (urlsplit(url).username, tenant)
                )
        return url

    def drop_logins(self) -> None:
        """Drop the logins, which are the whole cluster's."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for name in self.logins:
                connection.execute(
                    sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)),
                )

    def query(self, statement: str, *arguments: object) -> list[tuple[object, ...]]:
        """Ask the store as its superuser."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(statement.encode(), arguments or None).fetchall()

    def tamper(self, statement: str, *arguments: object) -> None:
        """Change the store as a superuser who switches the guards off."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            assert connection.execute(statement.encode(), arguments or None).rowcount > 0, "nothing was changed"

    def clear(self) -> None:
        """Empty the store, as a superuser who switches the guards off."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            for table in ("entries", "payloads", "events", "tenant_heads", "positions", "search_positions"):
                connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier("sealstream", table)))

    def contents(self) -> tuple[list[tuple[object, ...]], ...]:
        """Return all rows of all tables that a batch changes, in a fixed order."""
        return tuple(
            self.query(f"SELECT * FROM sealstream.{table} ORDER BY {order}")
            for table, order in (
                ("entries", "tenant, seq, partition"),
                ("payloads", "tenant, seq"),
                ("events", "tenant, seq"),
                ("tenant_heads", "tenant"),
            )
        )


@contextmanager
def migrated(url: str, *, partitions: int = 4) -> Generator[TestStore]:
    """Migrate an empty database, and leave none of the logins that the test makes."""
    store = TestStore(url, partitions)
    try:
        yield store
    finally:
        store.drop_logins()


@dataclass(frozen=True, slots=True)
class Consumed:
    """A record of audit.chained at an offset, as the Kafka client gives it."""

    sealed: Sealed
    at: int

    def partition(self) -> int:
        """Return the partition."""
        return self.sealed.partition

    def offset(self) -> int:
        """Return the offset."""
        return self.at

    def key(self) -> bytes:
        """Return the key."""
        return self.sealed.key

    def value(self) -> bytes:
        """Return the value."""
        return self.sealed.value

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the headers."""
        return [("seal-entry", self.sealed.entry)]


class Feeder:
    """Feeds records into a store as the sink does, and counts offsets of audit.chained for them."""

    def __init__(
        self,
        url: str,
        *,
        writer: str = "test/1",
        partitions: int = 4,
        report: Callable[[Sequence[Violation]], None] | None = None,
    ) -> None:
        self.reported: list[Violation] = []
        self._url = url
        self._derive = Deriver(EventReader())
        self.writer = StoreWriter(
            url,
            topic=TOPIC,
            instance=INSTANCE,
            writer=writer,
            derive=self._derive,
            report=report or self.reported.extend,
            timeout_seconds=10.0,
        )
        self.offsets = dict.fromkeys(range(partitions), 0)

    def claim(self) -> dict[int, int]:
        """Claim all partitions and go on where the store says."""
        self.offsets = self.writer.claim(dict.fromkeys(self.offsets, 0), topic_id=TOPIC_ID)
        return dict(self.offsets)

    def batch(self, records: Iterable[Sealed]) -> Batch:
        """Return records as the next batch."""
        ends = dict(self.offsets)
        messages: list[Consumed] = []
        for record in records:
            messages.append(Consumed(record, ends[record.partition]))
            ends[record.partition] += 1
        return batch_of(messages, self.offsets, topic=TOPIC, instance=INSTANCE)

    def feed(self, records: Iterable[Sealed]) -> Written:
        """Store records as the next batch, and make them searchable."""
        batch = self.batch(records)
        written = self.writer.write(batch)
        self.offsets |= dict(batch.ends)
        self.search()
        return written

    def search(self) -> int:
        """Derive what cannot be searched yet, as the sink does beside its storing; return the number of rows."""
        rows = 0
        with open_session(self._url, application="test-search", timeout_seconds=10.0) as connection:
            prepare_session(connection)
            for partition in self.offsets:
                more = True
                while more:
                    done, more = derive_chunk(connection, partition, self._derive, records_max=7)
                    rows += done
            assert set(search_lag(connection, self.offsets).values()) <= {0}
        return rows

    def feed_log(self, log: Sequence[Sealed]) -> Written:
        """Store what a log, given from its beginning, has behind the positions."""
        places = dict.fromkeys(self.offsets, 0)
        rest: list[Sealed] = []
        for record in log:
            if places[record.partition] >= self.offsets[record.partition]:
                rest.append(record)
            places[record.partition] += 1
        return self.feed(rest)


@contextmanager
def open_feeder(store: TestStore, *, writer: str = "test/1") -> Generator[Feeder]:
    """Open a feeder with a login of its own that has claimed nothing yet, and close its connection in the end."""
    feeder = Feeder(store.login("sealstream_writer"), writer=writer)
    try:
        yield feeder
    finally:
        feeder.writer.close()
