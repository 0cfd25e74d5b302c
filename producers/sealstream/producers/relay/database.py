"""The relay's session with the application's database: shards taken, rows read, and their end written down.

A batch is one transaction: it locks rows of the table of shards, reads what is committed of these shards in order, and
ends with what became of the rows. So two relays never publish the same tenant's events at a time, and one that dies
leaves nothing behind but rows that are published once more, byte for byte.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sealstream.producers.outbox.table import OutboxTable
from sealstream.producers.relay.publisher import Outcome
from sealstream.producers.relay.rows import WaitingRow
from sealstream.producers.relay.statements import Statements
from sealstream.schemas.errors import StoreError
from sealstream.worker.postgres import Database
from sealstream.worker.postgres_session import Connection, abort_session, close_session

OUTBOX_DATABASE: Final = Database(
    setting="SEALSTREAM_OUTBOX_DATABASE",
    absent_hint="run sealstream outbox init",
    rights_hint="sealstream outbox init --sql --relay ROLE shows what a relay's role needs",
)
SHARDS_MAX: Final = 16
"""How many shards one batch takes at most, so that there is something left for the next relay."""
BATCH_BYTES_MAX: Final = 16 * 1024 * 1024
_COLUMNS: Final = {
    "id": "uuid",
    "aggregatetype": "character varying",
    "aggregateid": "character varying",
    "type": "text",
    "payload": "bytea",
    "position": "bigint",
    "shard": "smallint",
    "inserted_at": "timestamp with time zone",
    "published_at": "timestamp with time zone",
    "published_partition": "integer",
    "published_offset": "bigint",
    "refused": "text",
}


@dataclass(frozen=True, slots=True)
class Taken:
    """The rows of one batch.

    Arguments:
        shards: The shards that are held.
        rows: Their first rows, in the order in which they are to be published.
    """

    shards: tuple[int, ...]
    rows: tuple[WaitingRow, ...]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the outbox.

    Arguments:
        waiting: Rows that wait to be published; at most 1,000,000 are counted.
        refused: Rows that are set aside; at most 1,000,000 are counted.
        oldest_seconds: Age of the oldest row that waits; 0 if there is none.
    """

    waiting: int
    refused: int
    oldest_seconds: float


class OutboxDatabase:
    """One session, opened when it is needed.

    Arguments:
        url: A PostgreSQL URL.
        table: The outbox's table.
        relay: The relay's name.
        keep: Mark published rows instead of deleting them.
        timeout_seconds: How long each statement may take.
    """

    def __init__(self, url: str, table: OutboxTable, *, relay: str, keep: bool, timeout_seconds: float) -> None:
        self._url = url
        self._table = table
        self._statements = Statements(table)
        self._relay = relay
        self._keep = keep
        self._timeout_seconds = timeout_seconds
        self._connection: Connection | None = None

    @contextmanager
    def taking(self, rows_max: int) -> Generator[Taken]:
        """Begin a batch: take shards that no other relay holds, and read their first rows.

        It ends with the block: a commit, or a rollback if an error leaves it.

        Arguments:
            rows_max: How many rows there may be, roughly: each shard gives one at least.

        Raises:
            Unreachable: The server is away, or cannot do it now.
            StoreError: The table is not as it must be, or the login lacks a right.
        """
        connection = self._open()
        with OUTBOX_DATABASE.translated(), connection.transaction():
            shards = tuple(row[0] for row in connection.execute(self._statements.lock, (SHARDS_MAX,)))
            # A statement of its own, whose snapshot shows what the shards' last owner has committed.
            yield Taken(shards, self._read(connection, shards, rows_max))

    def settle(self, taken: Taken, outcome: Outcome) -> None:
        """Write down what became of a batch's rows; it counts when the block of :meth:`taking` has ended.

        Raises:
            Unreachable, StoreError: As :meth:`taking`.
        """
        connection, statements = self._open(), self._statements
        with OUTBOX_DATABASE.translated():
            if outcome.refused:
                connection.execute(statements.refuse, (list(outcome.refused), list(outcome.refused.values())))
            if outcome.published and self._keep:
                places = outcome.published.values()
                partitions, offsets = [place.partition for place in places], [place.offset for place in places]
                connection.execute(statements.mark, (list(outcome.published), partitions, offsets))
            elif outcome.published:
                connection.execute(statements.delete, (list(outcome.published),))
            connection.execute(statements.served, (self._relay, len(outcome.published), list(taken.shards)))

    def measure(self) -> Backlog:
        """Return what waits.

        Raises:
            Unreachable, StoreError: As :meth:`taking`.
        """
        connection = self._open()
        with OUTBOX_DATABASE.translated():
            row = connection.execute(self._statements.measure).fetchone()
        assert row is not None
        return Backlog(*row)

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until a commit with events is notified, at most so long; return whether one was.

        Raises:
            Unreachable, StoreError: As :meth:`taking`.
        """
        connection = self._open()
        with OUTBOX_DATABASE.translated():
            return any(True for _ in connection.notifies(timeout=timeout_seconds, stop_after=1))

    def abort(self) -> None:
        """End whatever another thread waits for."""
        abort_session(self._connection)

    def close(self) -> None:
        """Close the session; what it held is rolled back and free."""
        connection, self._connection = self._connection, None
        close_session(connection)

    def _open(self) -> Connection:
        if self._connection is None:
            connection = OUTBOX_DATABASE.connect(
                self._url, application="sealstream-outbox", timeout_seconds=self._timeout_seconds
            )
            try:
                check_table(connection, self._table)
                with OUTBOX_DATABASE.translated():
                    connection.execute(self._statements.listen)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _read(self, connection: Connection, shards: Sequence[int], rows_max: int) -> tuple[WaitingRow, ...]:
        if not shards:
            return ()
        given = {"shards": list(shards), "rows": max(1, rows_max // len(shards)), "bytes": BATCH_BYTES_MAX}
        return tuple(WaitingRow(*row) for row in connection.execute(self._statements.read, given, binary=True))


def check_table(connection: Connection, table: OutboxTable) -> None:
    """Refuse a table that is missing, or not as this version needs it.

    Raises:
        StoreError: It is so; says which column.
        Unreachable: The server is away.
    """
    with OUTBOX_DATABASE.translated():
        found: dict[str, str] = dict(connection.execute(Statements(table).columns).fetchall())
    if not found:
        raise StoreError(
            f"{OUTBOX_DATABASE.setting} has no table {table.name}, or the login may not see it",
            hint=OUTBOX_DATABASE.absent_hint,
        )
    for name, kind in _COLUMNS.items():
        if found.get(name) != kind:
            is_now = found.get(name, "missing")
            raise StoreError(
                f"{table.name}.{name} is {is_now}, and not {kind}",
                hint="that table is none of sealstream outbox init: name another one, SEALSTREAM_OUTBOX_TABLE",
            )
