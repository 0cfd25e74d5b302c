"""Adds batches to the store: rows, heads and positions in one SQL transaction.

A batch is added by binary COPY. Where a row is there already, the transaction is rolled back and the batch is added
row by row instead (:mod:`~sealstream.sinks.store.slow`): compared with what is stored, added where it is missing, and
reported where it differs. No row is ever changed.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import errors

from sealstream.schemas.errors import InstanceDiffers, SourceGap, WriterConflict
from sealstream.schemas.violation import Violation
from sealstream.sinks.store.batch import Batch
from sealstream.sinks.store.continuity import Head, follow
from sealstream.sinks.store.copying import add_rows
from sealstream.sinks.store.database import Connection, connect, translated
from sealstream.sinks.store.migrate import make_months, require_current
from sealstream.sinks.store.rows import Derive, Rows, rows_of
from sealstream.sinks.store.slow import compare_and_complete

Report = Callable[[Sequence[Violation]], None]

_LOCK_TIMEOUT_SECONDS: Final = 5.0
_IDLE_TIMEOUT_SECONDS: Final = 20.0
"""A writer that stopped within a transaction loses it after so long, and with it the lock on its positions."""
_CANCEL_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch.

    Arguments:
        added: How many of its records were stored now; the others were stored before.
        compared: Whether it met what was not expected, and was compared row by row.
        violations: What differed.
    """

    added: int
    compared: bool
    violations: tuple[Violation, ...]


class StoreWriter:
    """The one writer of its partitions.

    Use it from one thread; only :meth:`abort` may be called from another one.

    Arguments:
        database_url: The store, as a login that is granted ``sealstream_writer``.
        topic: The chained topic's name.
        instance: The instance's name, for violations.
        writer: Names this process; no two that ever run may have the same.
        derive: Makes the rows of ``events``.
        report: Delivers violations; called before the transaction that goes on behind them is committed.
        timeout_seconds: How long connecting, and each statement, may take.
    """

    def __init__(
        self,
        database_url: str,
        *,
        topic: str,
        instance: str,
        writer: str,
        derive: Derive,
        report: Report,
        timeout_seconds: float,
    ) -> None:
        self._database_url = database_url
        self._topic = topic
        self._instance = instance
        self._writer = writer
        self._derive = derive
        self._report = report
        self._timeout_seconds = timeout_seconds
        self._connection: Connection | None = None

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    def abort(self) -> None:
        """End whatever the writer waits for, from another thread: what it is at fails as :class:`Unreachable`."""
        connection = self._connection
        if connection is None or connection.closed:
            return
        with contextlib.suppress(psycopg.Error, OSError):
            connection.cancel_safe(timeout=_CANCEL_SECONDS)
        # The server may not answer at all. Without its socket nothing waits for it any longer.
        with contextlib.suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)

    def make_months(self) -> list[str]:
        """Make the partitions of the coming months, and return the names of those that were missing.

        Raises:
            StoreError: The store refuses.
            Unreachable: PostgreSQL does not answer.
        """
        return make_months(self._open())

    def claim(self, log_starts: Mapping[int, int], *, topic_id: bytes) -> dict[int, int]:
        """Become the writer of some partitions. Whoever was their writer before fails from now on.

        Arguments:
            log_starts: By partition, the first offset that its log still has.
            topic_id: The chained topic's UUID.

        Returns:
            The offset of the next record to store, by partition.

        Raises:
            SourceGap: The log no longer has the next record.
            InstanceDiffers: The topic was deleted and made anew since its position was stored.
            StoreError: The store refuses.
            Unreachable: PostgreSQL does not answer.
        """
        connection = self._open()
        with translated(), connection.transaction():
            return {
                partition: self._claim(connection, partition, topic_id, log_starts[partition])
                for partition in sorted(log_starts)
            }

    def skip(self, starts: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """Move positions over offsets that hold no records, so that a log which begins there later is no gap.

        Raises:
            WriterConflict, StoreError, Unreachable: As :meth:`write`.
        """
        self.write(Batch({}, starts, ends))

    def write(self, batch: Batch) -> Written:
        """Store a batch, and move the positions behind it.

        A failure leaves nothing of the batch behind, unless it happens while the commit is under way: then only
        :meth:`claim` tells.

        Raises:
            WriterConflict: Another writer moved a position, or a tenant's head, or became the partition's writer.
            StoreError: The store refuses.
            Unreachable: PostgreSQL does not answer, or violations could not be delivered.
        """
        connection = self._open()
        rows = {
            partition: [rows_of(record, self._derive) for record in records]
            for partition, records in batch.records.items()
        }
        with translated():
            with contextlib.suppress(errors.UniqueViolation):
                if self._add(connection, batch, rows):
                    return Written(len(batch), compared=False, violations=())
            return self._compare(connection, batch, rows)

    def _add(self, connection: Connection, batch: Batch, rows: Mapping[int, Sequence[Rows]]) -> bool:
        """Add a batch that goes on where the store ends; return False, and do nothing, if it does not."""
        with connection.transaction():
            self._lock_positions(connection, batch)
            records = batch.all()
            heads = self._heads(connection, {record.entry.tenant for record in records})
            moved, unbroken = follow(heads, records)
            if not unbroken:
                return False
            add_rows(connection, rows)
            self._move(connection, batch, heads, moved)
        # Dying before the commit leaves nothing; dying behind it, the next claim finds the position behind the batch.
        return True

    def _compare(self, connection: Connection, batch: Batch, rows: Mapping[int, Sequence[Rows]]) -> Written:
        with connection.transaction():
            self._lock_positions(connection, batch)
            records = batch.all()
            heads = self._heads(connection, {record.entry.tenant for record in records})
            added, violations = compare_and_complete(connection, batch, rows, heads, instance=self._instance)
            self._move(connection, batch, heads, follow(heads, records)[0])
            if violations:
                # Before the commit: dying in between reports them twice, under the same ids, and never not at all.
                self._report(violations)
        return Written(added, compared=True, violations=tuple(violations))

    def _open(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        connection = connect(
            self._database_url, application="sealstream-sink", timeout_seconds=min(5.0, self._timeout_seconds)
        )
        try:
            require_current(connection)
            with translated():
                for name, seconds in (
                    ("statement_timeout", self._timeout_seconds),
                    ("lock_timeout", min(_LOCK_TIMEOUT_SECONDS, self._timeout_seconds)),
                    ("idle_in_transaction_session_timeout", _IDLE_TIMEOUT_SECONDS),
                ):
                    connection.execute("SELECT set_config(%s, %s, false)", (name, f"{round(seconds * 1000)}ms"))
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _claim(self, connection: Connection, partition: int, topic_id: bytes, log_start: int) -> int:
        row = connection.execute(
            "UPDATE sealstream.positions SET writer = %s WHERE topic = %s AND partition = %s"
            " RETURNING next_offset, topic_id",
            (self._writer, self._topic, partition),
        ).fetchone()
        where = f"{self._topic} partition {partition}"
        if row is None:
            if log_start > 0:
                raise SourceGap(
                    f"{where}: the store has nothing of it yet, and the log begins only at offset {log_start}",
                    hint="restore the store from a backup that knows this log, or accept the gap",
                )
            connection.execute(
                "INSERT INTO sealstream.positions (topic, partition, topic_id, next_offset, writer)"
                " VALUES (%s, %s, %s, 0, %s)",
                (self._topic, partition, topic_id, self._writer),
            )
            return 0
        position, known_id = row
        if known_id != topic_id:
            raise InstanceDiffers(
                f"{where}: the topic was deleted and made anew since the store read it",
                hint="a new topic is a new epoch: SEALSTREAM_EPOCH",
            )
        if position < log_start:
            raise SourceGap(
                f"{where}: the store goes on at offset {position}, and the log begins only at {log_start}",
                hint="restore the store from a backup that is newer, or accept the gap",
            )
        return int(position)

    def _lock_positions(self, connection: Connection, batch: Batch) -> None:
        """Lock the positions of a batch, and refuse if they are not where this writer left them."""
        rows = connection.execute(
            "SELECT partition, next_offset, writer FROM sealstream.positions"
            " WHERE topic = %s AND partition = ANY(%s) ORDER BY partition FOR UPDATE",
            (self._topic, list(batch.starts)),
        ).fetchall()
        found = {partition: (position, writer) for partition, position, writer in rows}
        for partition, start in batch.starts.items():
            expected = (start, self._writer)
            if found.get(partition) != expected:
                position, writer = found.get(partition, ("nowhere", "nobody"))
                raise WriterConflict(
                    f"{self._topic} partition {partition}: {writer} writes it now, at {position} instead of {start}",
                    hint="one sink stores a partition: give each worker its own SEALSTREAM_WORKER_ID and one group",
                )

    @staticmethod
    def _heads(connection: Connection, tenants: set[str]) -> dict[str, Head]:
        rows = connection.execute(
            "SELECT tenant, seq, hash FROM sealstream.tenant_heads WHERE tenant = ANY(%s)", (list(tenants),)
        ).fetchall()
        return {tenant: Head(seq, digest) for tenant, seq, digest in rows}

    def _move(self, connection: Connection, batch: Batch, heads: Mapping[str, Head], moved: Mapping[str, Head]) -> None:
        """Move heads and positions behind a batch."""
        steps = sorted((tenant, heads.get(tenant), head) for tenant, head in moved.items() if heads.get(tenant) != head)
        row = connection.execute(
            "SELECT sealstream.advance_heads(%s::text[], %s::bigint[], %s::bytea[], %s::bigint[], %s::bytea[])",
            (
                [tenant for tenant, _, _ in steps],
                [before.seq if before else None for _, before, _ in steps],
                [before.hash if before else None for _, before, _ in steps],
                [after.seq for _, _, after in steps],
                [after.hash for _, _, after in steps],
            ),
        ).fetchone()
        if row != (len(steps),):
            raise WriterConflict(
                "another writer stored entries of the same tenants", hint="an epoch must be drained before the next one"
            )
        connection.execute(
            "UPDATE sealstream.positions AS p SET next_offset = s.next_offset"
            " FROM unnest(%s::integer[], %s::bigint[]) AS s (partition, next_offset)"
            " WHERE p.topic = %s AND p.partition = s.partition",
            (list(batch.ends), list(batch.ends.values()), self._topic),
        )
