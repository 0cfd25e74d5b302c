"""An application's database with an outbox, its relays, and the source topic that they fill."""

from __future__ import annotations

import contextlib
import sys
import threading
import uuid
from collections.abc import Generator
from pathlib import Path

import psycopg

from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicNames, topic_table
from sealstream.producers.outbox import OutboxTable
from sealstream.producers.relay.setup import init
from sealstream.producers.relay.worker import Relay
from sealstream.schemas.codec import read_prefix
from sealstream.worker.settings import PREFIX, load_settings
from sealstream.worker.stop import StopSignal
from support.harness import LogRecord, read_log
from support.workers import Worker, wait_for

PARTITIONS = 4
SECONDS = 60.0


class OutboxStage:
    """One outbox.

    Arguments:
        bootstrap: The brokers.
        url: The application's database, empty, as a login that may create tables.
        directory: Where the relays' logs go.
        table: The table's name.
    """

    def __init__(self, bootstrap: str, url: str, directory: Path, *, table: str = "audit_outbox") -> None:
        self.bootstrap, self.url, self.directory = bootstrap, url, directory
        self.table = OutboxTable(table)
        self.topics = TopicNames(prefix=f"t-{uuid.uuid4().hex[:8]}.")
        self.relays: list[Worker] = []
        specs = topic_table(self.topics, partitions=PARTITIONS, window_seconds=86_400)
        TopicAdmin(KafkaConnection(bootstrap)).create(spec for spec in specs if spec.name == self.topics.events)
        init(url, self.table, self.table.create_sql(), timeout_seconds=10)

    def settings(self, **settings: object) -> dict[str, str]:
        """Return a relay's environment."""
        given = {
            "kafka": self.bootstrap,
            "instance": "test.example/outbox",
            "topic_prefix": self.topics.prefix,
            "outbox_database": self.url,
            "outbox_table": self.table.name,
            "outbox_poll_seconds": 0.2,
        }
        return {f"{PREFIX}{name.upper()}": str(value) for name, value in (given | settings).items()}

    def start(self, **settings: object) -> Worker:
        """Start a relay as production runs it."""
        number = len(self.relays)
        environment = self.settings(worker_id=f"relay-{number}", **settings)
        command = [sys.executable, "-m", "sealstream.deploy", "outbox", "relay"]
        relay = Worker("outbox", environment, self.directory / f"relay-{number}.log", command=command)
        self.relays.append(relay)
        return relay

    @contextlib.contextmanager
    def relaying(self, **settings: object) -> Generator[Relay]:
        """Run a relay in a thread of the test's own."""
        stop = StopSignal()
        relay = Relay(load_settings(self.settings(worker_id="relay-t", **settings)), stop)
        errors: list[BaseException] = []

        def run() -> None:
            try:
                relay.run()
            except BaseException as error:  # noqa: BLE001 - the test raises it
                errors.append(error)
            finally:
                relay.close()

        thread = threading.Thread(target=run, name="relay")
        thread.start()
        try:
            yield relay
        finally:
            stop.set()
            thread.join(SECONDS)
        if errors:
            raise errors[0]

    def rows(self, condition: str = "true") -> int:
        """Return how many rows there are."""
        return int(str(self.query(f"SELECT count(*) FROM {self.table.name} WHERE {condition}")[0][0]))

    def query(self, statement: str, *arguments: object) -> list[tuple[object, ...]]:
        """Ask the database."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(statement.encode(), arguments or None).fetchall()

    def wait_until_empty(self) -> None:
        """Wait until nothing waits to be published."""
        waiting = "published_at IS NULL AND refused IS NULL"
        wait_for(lambda: self.rows(waiting) == 0, timeout_seconds=SECONDS, what="an empty outbox")

    def published(self) -> list[LogRecord]:
        """Return what the source topic holds, partition by partition."""
        log = read_log(KafkaConnection(self.bootstrap), self.topics.events, PARTITIONS)
        return [record for partition in log for record in partition]

    def published_ids(self) -> list[str]:
        """Return the ids of the published events, in the order of each tenant's."""
        return [event_id_of(record) for record in self.published()]

    def close(self) -> None:
        """End the relays that still run."""
        for relay in self.relays:
            relay.close()


def event_id_of(record: LogRecord) -> str:
    """Return the id of the event in a record."""
    assert record.value is not None
    return read_prefix(record.value)[0].decode()
