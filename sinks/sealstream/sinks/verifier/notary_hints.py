"""What the notary remembers and does not publish: names and map leaves. A hint, held against the signed root."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sealstream.schemas.errors import ConfigError, StoreError, Unreachable
from sealstream.schemas.tenant_map import MAP_LEAF_BYTES
from sealstream.sinks.verifier.copying import MILLISECONDS, Connection

_LEAVES: Final = sql.SQL("SELECT data FROM sealstream_notary.map_leaves WHERE round = %s ORDER BY index")
_CHAINS: Final = sql.SQL("SELECT chain FROM sealstream_notary.chains")
_COVERAGE: Final = sql.SQL("SELECT coverage FROM sealstream_notary.rounds WHERE round = %s")
_MADE_AT: Final = sql.SQL("SELECT made_at FROM sealstream_notary.rounds WHERE round = %s")
_STAMPED: Final = sql.SQL(
    "SELECT max(round) FROM sealstream_notary.rounds WHERE timestamp_token IS NOT NULL AND round < %s"
)
_ROWS_FETCHED: Final = 64


class NotaryHints:
    """Reads the notary's database.

    Arguments:
        connection: A connection in a transaction that changes nothing.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def map_leaves(self, round_number: int) -> Iterator[bytes]:
        """Yield the bytes of each leaf of the tenant map of a round, in their order; none if it is no longer kept."""
        with self._connection.cursor("leaves", binary=True) as rows:
            rows.itersize = _ROWS_FETCHED
            rows.execute(_LEAVES, (round_number,))
            for (data,) in rows:
                for place in range(0, len(data), MAP_LEAF_BYTES):
                    yield data[place : place + MAP_LEAF_BYTES]

    def chains(self) -> set[str]:
        """Return the names of all chains that the notary knows."""
        return {name for (name,) in self._connection.execute(_CHAINS)}

    def coverage(self, round_number: int) -> bytes | None:
        """Return the coverage of a round, if it is kept."""
        row = self._connection.execute(_COVERAGE, (round_number,), binary=True).fetchone()
        return None if row is None else row[0]

    def made_at(self, round_number: int) -> datetime | None:
        """Return when the notary made a round, by its own clock."""
        row = self._connection.execute(_MADE_AT, (round_number,)).fetchone()
        return None if row is None else row[0]

    def stamped_size(self, size: int) -> int | None:
        """Return the size of the newest root checkpoint that has a timestamp, up to a size."""
        row = self._connection.execute(_STAMPED, (size,)).fetchone()
        return None if row is None or row[0] is None else row[0] + 1


@contextmanager
def open_hints(database_url: str, *, timeout_seconds: float) -> Generator[NotaryHints]:
    """Open the notary's database.

    Arguments:
        database_url: As somebody who may read it (``sealstream_notary_reader``).
        timeout_seconds: How long connecting, and each single query, may take.

    Raises:
        ConfigError: The URL cannot be understood.
        StoreError: It refuses, or has not the notary's tables.
        Unreachable: It does not answer.
    """
    milliseconds = str(int(timeout_seconds * MILLISECONDS))
    defaults = {
        "application_name": "sealstream-verify",
        "connect_timeout": str(max(2, round(timeout_seconds))),
        "tcp_user_timeout": milliseconds,
    }
    try:
        info = make_conninfo(database_url, **(defaults | conninfo_to_dict(database_url)))
    except psycopg.ProgrammingError:  # its message would repeat the URL, password included
        raise ConfigError(
            "the URL of the notary's database cannot be understood", hint="postgresql://user@host:5432/database"
        ) from None
    with _translated(), psycopg.connect(info) as connection:
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED  # what is published later is there as well
        connection.read_only = True
        connection.execute("SELECT set_config('statement_timeout', %s, true)", (milliseconds,))
        # It rests while the store is verified.
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield NotaryHints(connection)


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except psycopg.Error as error:
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = "check SEALSTREAM_NOTARY_DATABASE"
        if isinstance(error, errors.InsufficientPrivilege):
            hint = "read it as a role with sealstream_notary_reader"
        elif isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            raise Unreachable(f"the notary's database does not answer: {text}", hint=hint) from error
        raise StoreError(f"the notary's database refuses: {text}", hint=hint) from error
