"""Adds batches to the store: rows, heads and positions in one SQL transaction.

A batch is added by binary COPY. Where a row is there already, the transaction is rolled back and the batch is added
row by row instead (:mod:`~sealstream.sinks.store.slow`): compared with what is stored, added where it is missing, and
reported where it differs. No row is ever changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from psycopg import errors

from sealstream.schemas.errors import InstanceDiffers, SourceGap, WriterConflict
from sealstream.schemas.violation import Violation
from sealstream.sinks.store.batch import Batch
from sealstream.sinks.store.continuity import Head, follow, goes_on
from sealstream.sinks.store.copying import add_rows
from sealstream.sinks.store.database import translated
from sealstream.sinks.store.derive import Derive
from sealstream.sinks.store.migrate import make_months
from sealstream.sinks.store.session import open_session
from sealstream.sinks.store.slow import compare_and_complete
from sealstream.worker.postgres_session import Connection, abort_session, close_session

Report = Callable[[Sequence[Violation]], None]


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
        derive: Makes rows of ``events``, of records that come behind what was searched of their partition already.
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
        self._sources: frozenset[tuple[int, bytes]] = frozenset()

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        connection, self._connection = self._connection, None
        close_session(connection)

    def abort(self) -> None:
        """End whatever the writer waits for, from another thread: what it is at fails as :class:`Unreachable`."""
        abort_session(self._connection)

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
        self._sources = frozenset()
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
        with translated():
            written = self._write(connection, batch)
        self._sources |= batch.sources
        return written

    def _write(self, connection: Connection, batch: Batch) -> Written:
        with contextlib.suppress(errors.UniqueViolation):
            if self._add(connection, batch):
                return Written(len(batch), compared=False, violations=())
        return self._compare(connection, batch)

    def _add(self, connection: Connection, batch: Batch) -> bool:
        """Add a batch that goes on where the store ends; return False, and do nothing, if it does not."""
        with connection.transaction():
            self._lock_positions(connection, batch)
            heads = self._heads(connection, set(batch.runs))
            if not (batch.unbroken and goes_on(heads, batch.runs)):
                return False
            add_rows(connection, batch.entries, batch.payloads)
            self._move(connection, batch, heads, {tenant: run.head for tenant, run in batch.runs.items()})
        # Dying before the commit leaves nothing; dying behind it, the next claim finds the position behind the batch.
        return True

    def _compare(self, connection: Connection, batch: Batch) -> Written:
        with connection.transaction():
            self._lock_positions(connection, batch)
            records = batch.all()
            heads = self._heads(connection, {record.tenant for record in records})
            added, violations = compare_and_complete(connection, batch, heads, self._derive, instance=self._instance)
            self._move(connection, batch, heads, follow(heads, records)[0])
            if violations:
                # Before the commit: dying in between reports them twice, under the same ids, and never not at all.
                self._report(violations)
        return Written(added, compared=True, violations=tuple(violations))

    def _open(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        connection = open_session(
            self._database_url, application="sealstream-sink", timeout_seconds=self._timeout_seconds
        )
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

    def _begin_search(self, connection: Connection, batch: Batch) -> None:
        """Let the search follow source partitions that are new to this writer, from their beginning."""
        fresh = sorted(batch.sources - self._sources)
        if fresh:
            # Waits for nobody: whoever moves such a position has found it there.
            connection.execute(
                "INSERT INTO sealstream.search_positions (partition, topic_id, next_offset, received)"
                " SELECT partition, topic_id, 0, 0 FROM unnest(%s::integer[], %s::bytea[]) AS s (partition, topic_id)"
                " ON CONFLICT DO NOTHING",
                ([partition for partition, _ in fresh], [topic_id for _, topic_id in fresh]),
            )

    def _move(self, connection: Connection, batch: Batch, heads: Mapping[str, Head], moved: Mapping[str, Head]) -> None:
        """Move heads and positions behind a batch."""
        self._begin_search(connection, batch)
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
