"""The notary's own database: what is committed to before a signature leaves.

The head of the root log is compared and swapped in the transaction of each round, together with the heads of all
chains that have grown. So two notaries can never sign two histories, and one that died goes on where its last commit
left it. What it says is its owner's memory, and no evidence.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, LiteralString

from psycopg import errors

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.errors import StoreError, WriterConflict
from sealstream.schemas.merkle import EMPTY_ROOT
from sealstream.sinks.notary.migrate import require_current
from sealstream.sinks.notary.postgres import APPLICATION, NOTARY
from sealstream.sinks.notary.steps import (
    ChainHead,
    LogHead,
    Memory,
    PositionStep,
    RoundRow,
    RoundStep,
)
from sealstream.worker.postgres_session import Connection, abort_session, close_session

MAP_KEPT_SECONDS: Final = 3_600
"""How long the map of a round is kept that was not anchored."""
MAP_ROUNDS_PRUNED_MAX: Final = 1_000
_FETCHED_ROWS: Final = 10_000
_FETCHED_PIECES: Final = 100
_CONFLICT_HINT: Final = "another notary runs on this database: only one may"

_CHAIN_COLUMNS: Final = "chain, partition, size, root, last_hash, hashes, grown_in, size_before"
_UPDATE_CHAINS: Final = """
UPDATE sealstream_notary.chains AS c SET partition = s.partition, size = s.size, root = s.root,
  last_hash = s.last_hash, hashes = s.hashes, grown_in = s.grown_in, size_before = s.size_before
FROM unnest(%b::text[], %b::int[], %b::bigint[], %b::bytea[], %b::bytea[], %b::bytea[], %b::bigint[], %b::bigint[],
  %b::bytea[]) AS s (chain, partition, size, root, last_hash, hashes, grown_in, size_before, root_before)
WHERE c.chain = s.chain COLLATE "C" AND c.size = s.size_before AND c.root = s.root_before
"""
_INSERT_CHAINS: Final = f"""
INSERT INTO sealstream_notary.chains ({_CHAIN_COLUMNS})
SELECT * FROM unnest(%b::text[], %b::int[], %b::bigint[], %b::bytea[], %b::bytea[], %b::bytea[], %b::bigint[],
  %b::bigint[])
"""  # noqa: S608 - made of constants
_ROUND_COLUMNS: Final = "round, leaf, coverage, root, made_at, COALESCE(note, ''), witnessed_at, published_at"


class NotaryDatabase:
    """The database, over one connection that is opened when it is first needed, and anew after it was lost.

    Arguments:
        url: The database, as a login that is granted ``sealstream_notary``.
        timeout_seconds: How long each statement may take.
    """

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._connection: Connection | None = None

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        close_session(self._connection)
        self._connection = None

    def abort(self) -> None:
        """End whatever another thread waits for: its call fails as :class:`Unreachable`."""
        abort_session(self._connection)

    def load(self) -> Memory | None:
        """Return what the notary has committed to; ``None`` if this database has begun no log.

        Raises:
            StoreError: The database is not migrated, or refuses, or holds half a log.
            Unreachable: It does not answer.
        """
        with self._transaction() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            log = connection.execute("SELECT instance, key FROM sealstream_notary.log").fetchone()
            head = _head(connection)
            if log is None and head is None:
                return None
            if log is None or head is None:
                raise StoreError("the notary's database has half a log", hint="restore it as a whole")
            rows = connection.execute("SELECT topic_id, partition, next_offset FROM sealstream_notary.positions")
            return Memory(
                instance=log[0],
                key=log[1],
                head=head,
                last=_round(connection, head.size - 1) if head.size else None,
                positions={(topic_id, partition): offset for topic_id, partition, offset in rows},
                chains=list(_chains(connection)),
            )

    def begin_log(self, instance: str, key: str) -> None:
        """Begin the log of an instance in a database that has none.

        Whoever calls it has made sure that nobody knows this log yet.

        Arguments:
            instance: The instance.
            key: The vkey by which its checkpoints are verified.

        Raises:
            WriterConflict: Another notary began one at the same time.
            StoreError: The database refuses.
            Unreachable: It does not answer. Whether the log has begun shows when it is loaded again.
        """
        try:
            with self._transaction() as connection:
                connection.execute("INSERT INTO sealstream_notary.log (instance, key) VALUES (%s, %s)", (instance, key))
                connection.execute(
                    "INSERT INTO sealstream_notary.root_log (size, root, hashes) VALUES (0, %b, %b)",
                    (EMPTY_ROOT, CompactRange().state()),
                )
        except errors.UniqueViolation as error:
            raise WriterConflict("another notary began the log of this database", hint=_CONFLICT_HINT) from error

    def advance(self, step: RoundStep) -> None:
        """Commit to a round: compare all heads with what the round was made from, and swap them.

        Raises:
            WriterConflict: A head is not the one that the round was made from. Nothing was changed.
            StoreError: The database refuses. Nothing was changed.
            Unreachable: It does not answer. Whether the round is committed to shows when the heads are loaded again.
        """
        try:
            with self._transaction() as connection:
                # Whoever comes second waits here for the first one's end, and then finds another head.
                _swap_root(connection, step)
                _swap_chains(connection, step)
                _swap_positions(connection, step.positions)
                _insert_round(connection, step)
        except errors.UniqueViolation as error:
            raise WriterConflict(
                f"round {step.round}: what it would add is there already", hint=_CONFLICT_HINT
            ) from error

    def require_head(self, size: int, root: bytes) -> None:
        """Refuse to go on if the root log is elsewhere than this notary believes.

        Arguments:
            size: Its size.
            root: Its root.

        Raises:
            WriterConflict: It is.
            StoreError: The database refuses.
            Unreachable: It does not answer.
        """
        with self._transaction() as connection:
            found = _head(connection)
        if found is None or (found.size, found.root) != (size, root):
            raise WriterConflict("another notary advanced the root log", hint=_CONFLICT_HINT)

    def round(self, number: int) -> RoundRow | None:
        """Return a round; ``None`` if there is none of that number.

        Raises:
            StoreError: The database refuses.
            Unreachable: It does not answer.
        """
        with self._transaction() as connection:
            return _round(connection, number)

    def keep_note(self, number: int, note: str) -> None:
        """Remember the signed root checkpoint of a round, before it leaves. It must be the last round.

        Raises:
            WriterConflict: It is not the last round any more: another notary went on.
            StoreError: The database refuses.
            Unreachable: It does not answer.
        """
        with self._transaction() as connection:
            # The lock on the head keeps another notary from advancing it at the same time.
            connection.execute("SELECT size FROM sealstream_notary.root_log FOR UPDATE")
            done = connection.execute(
                "UPDATE sealstream_notary.rounds AS r SET note = %s FROM sealstream_notary.root_log AS h"
                " WHERE r.round = %s AND h.size = r.round + 1",
                (note, number),
            )
            if done.rowcount != 1:
                raise WriterConflict(f"round {number} is not the last one any more", hint=_CONFLICT_HINT)

    def keep_witnessed(self, number: int, note: str) -> None:
        """Remember that a quorum has cosigned the root checkpoint of a round; the first time counts.

        Arguments:
            number: The round.
            note: The checkpoint with all its signatures.

        Raises:
            StoreError: There is no such round, or the database refuses.
            Unreachable: It does not answer.
        """
        self._mark(number, "note = %s, witnessed_at = COALESCE(witnessed_at, now())", note)

    def keep_timestamp(self, number: int, token: bytes, at: datetime) -> None:
        """Remember the timestamp over the cosigned root checkpoint of a round; its map is then kept for ever.

        Arguments:
            number: The round.
            token: The RFC 3161 response, DER.
            at: The time that it states.

        Raises:
            StoreError: There is no such round, or the database refuses.
            Unreachable: It does not answer.
        """
        self._mark(number, "timestamp_token = %b, timestamped_at = %s", token, at)

    def keep_locked(self, number: int) -> None:
        """Remember that the root checkpoint of a round lies in the locked bucket; its map is then kept for ever.

        Raises:
            StoreError: There is no such round, or the database refuses.
            Unreachable: It does not answer.
        """
        self._mark(number, "locked_at = COALESCE(locked_at, now())")

    def keep_published(self, number: int) -> None:
        """Remember that the cosigned root checkpoint of a round is public, and those of its chains.

        Raises:
            StoreError: There is no such round, or the database refuses.
            Unreachable: It does not answer.
        """
        self._mark(number, "published_at = COALESCE(published_at, now())")

    def last_published(self) -> int:
        """Return the last round whose root checkpoint is public; -1 if there is none.

        Raises:
            StoreError: The database refuses.
            Unreachable: It does not answer.
        """
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT round FROM sealstream_notary.rounds WHERE published_at IS NOT NULL ORDER BY round DESC LIMIT 1"
            ).fetchone()
        return -1 if row is None else int(row[0])

    def leaves(self) -> Iterator[bytes]:
        """Yield the leaves of the root log, from round 0 on.

        Raises:
            StoreError: The database refuses.
            Unreachable: It does not answer.
        """
        with self._transaction() as connection, connection.cursor("leaves", binary=True) as cursor:
            cursor.execute("SELECT leaf FROM sealstream_notary.rounds ORDER BY round")
            while rows := cursor.fetchmany(_FETCHED_ROWS):
                yield from (leaf for (leaf,) in rows)

    def map_leaves(self, number: int) -> Iterator[bytes]:
        """Yield the leaves of a round's tenant map, 256 to a piece; none if its map is not kept.

        Raises:
            StoreError: The database refuses.
            Unreachable: It does not answer.
        """
        with self._transaction() as connection, connection.cursor("map", binary=True) as cursor:
            cursor.execute("SELECT data FROM sealstream_notary.map_leaves WHERE round = %s ORDER BY index", (number,))
            while rows := cursor.fetchmany(_FETCHED_PIECES):
                yield from (data for (data,) in rows)

    def last_anchored(self) -> tuple[datetime | None, datetime | None]:
        """Return when a round was last timestamped, and when one was last locked.

        Raises:
            StoreError: The database refuses.
            Unreachable: It does not answer.
        """
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT max(timestamped_at), max(locked_at) FROM sealstream_notary.rounds"
            ).fetchone()
        return (None, None) if row is None else (row[0], row[1])

    def oldest_unwitnessed(self) -> datetime | None:
        """Return when the broker took the oldest entry of the rounds that no witnessed checkpoint covers yet.

        Raises:
            StoreError: The database refuses.
            Unreachable: It does not answer.
        """
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT min(appended_from) FROM sealstream_notary.rounds WHERE round > COALESCE("
                "(SELECT round FROM sealstream_notary.rounds WHERE witnessed_at IS NOT NULL"
                " ORDER BY round DESC LIMIT 1), -1)"
            ).fetchone()
        return None if row is None else row[0]

    def prune_maps(self) -> int:
        """Drop the maps of rounds that are neither recent nor anchored, and return of how many.

        Raises:
            StoreError: The database refuses.
            Unreachable: It does not answer.
        """
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT r.round FROM sealstream_notary.rounds AS r"
                " JOIN (SELECT DISTINCT round FROM sealstream_notary.map_leaves WHERE index = 0) AS m USING (round)"
                " WHERE r.made_at < now() - make_interval(secs => %s)"
                " AND r.timestamped_at IS NULL AND r.locked_at IS NULL"
                " AND r.round < (SELECT size - 1 FROM sealstream_notary.root_log) ORDER BY r.round LIMIT %s",
                (MAP_KEPT_SECONDS, MAP_ROUNDS_PRUNED_MAX),
            ).fetchall()
            rounds = [number for (number,) in rows]
            for table in ("map_tiles", "map_leaves"):
                connection.execute(f"DELETE FROM sealstream_notary.{table} WHERE round = ANY(%s)", (rounds,))  # noqa: S608
        # A crash here leaves maps that the next call drops.
        return len(rounds)

    def _mark(self, number: int, assignment: LiteralString, *values: object) -> None:
        with self._transaction() as connection:
            done = connection.execute(
                f"UPDATE sealstream_notary.rounds SET {assignment} WHERE round = %s",  # noqa: S608 - made of constants
                (*values, number),
            )
            if done.rowcount != 1:
                raise StoreError(f"the notary's database has no round {number}")

    @contextmanager
    def _transaction(self) -> Generator[Connection]:
        """Begin a transaction whose commit is durable; whatever fails within, the connection is given up."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = NOTARY.connect(
                    self._url, application=APPLICATION, timeout_seconds=self._timeout_seconds
                )
                require_current(self._connection)
            connection = self._connection
            with NOTARY.translated(), connection.transaction():
                # A head that a power cut takes back after its signature has left would be signed for a second time.
                connection.execute("SET LOCAL synchronous_commit = on")
                yield connection
        except BaseException:
            self.close()
            raise


def _head(connection: Connection) -> LogHead | None:
    row = connection.execute("SELECT size, root, hashes FROM sealstream_notary.root_log").fetchone()
    return None if row is None else LogHead(*row)


def _round(connection: Connection, number: int) -> RoundRow | None:
    row = connection.execute(
        f"SELECT {_ROUND_COLUMNS} FROM sealstream_notary.rounds WHERE round = %s",  # noqa: S608 - made of constants
        (number,),
    ).fetchone()
    return None if row is None else RoundRow(*row)


def _chains(connection: Connection) -> Iterator[ChainHead]:
    with connection.cursor("chains", binary=True) as cursor:
        cursor.execute(f"SELECT {_CHAIN_COLUMNS} FROM sealstream_notary.chains")  # noqa: S608 - made of constants
        while rows := cursor.fetchmany(_FETCHED_ROWS):
            for row in rows:
                yield ChainHead(*row)


def _swap_root(connection: Connection, step: RoundStep) -> None:
    done = connection.execute(
        "UPDATE sealstream_notary.root_log SET size = %s, root = %b, hashes = %b WHERE size = %s AND root = %b",
        (step.after.size, step.after.root, step.after.hashes, step.before.size, step.before.root),
    )
    if done.rowcount != 1:
        raise WriterConflict(f"round {step.round}: the root log is not where this notary left it", hint=_CONFLICT_HINT)


def _swap_chains(connection: Connection, step: RoundStep) -> None:
    grown = [(one.before, one.after) for one in step.chains if one.before is not None]
    if grown:
        roots = [before.root for before, _ in grown]
        done = connection.execute(_UPDATE_CHAINS, (*_columns([after for _, after in grown]), roots))
        if done.rowcount != len(grown):
            raise WriterConflict(
                f"round {step.round}: {len(grown) - done.rowcount} chains are not where this notary left them",
                hint=_CONFLICT_HINT,
            )
    if begun := [one.after for one in step.chains if one.before is None]:
        connection.execute(_INSERT_CHAINS, _columns(begun))


def _columns(heads: Sequence[ChainHead]) -> list[list[Any]]:
    return [[getattr(head, name) for head in heads] for name in _CHAIN_COLUMNS.split(", ")]


def _swap_positions(connection: Connection, positions: Sequence[PositionStep]) -> None:
    for one in positions:
        place = (one.topic_id, one.partition)
        if one.before:
            done = connection.execute(
                "UPDATE sealstream_notary.positions SET next_offset = %s"
                " WHERE topic_id = %b AND partition = %s AND next_offset = %s",
                (one.after, *place, one.before),
            )
        else:
            done = connection.execute(
                "INSERT INTO sealstream_notary.positions (next_offset, topic_id, partition) VALUES (%s, %b, %s)",
                (one.after, *place),
            )
        if done.rowcount != 1:
            raise WriterConflict(
                f"partition {one.partition} is not accounted for up to offset {one.before}", hint=_CONFLICT_HINT
            )


def _insert_round(connection: Connection, step: RoundStep) -> None:
    connection.execute(
        "INSERT INTO sealstream_notary.rounds (round, leaf, coverage, root, appended_from, appended_before)"
        " VALUES (%s, %b, %b, %b, %s, %s)",
        (step.round, step.leaf, step.coverage, step.after.root, step.appended_from, step.appended_before),
    )
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY sealstream_notary.map_tiles (round, level, index, data) FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types(("int8", "int4", "int8", "bytea"))
        for tile in step.map_tiles:
            copy.write_row((step.round, tile.level, tile.index, tile.data))
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY sealstream_notary.map_leaves (round, index, data) FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types(("int8", "int8", "bytea"))
        for index, data in enumerate(step.map_leaves):
            copy.write_row((step.round, index, data))
