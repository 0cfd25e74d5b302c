"""Rows of a PostgreSQL table or query: one snapshot, read-only, through a server-side cursor."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self, TypeAlias

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.string import TextLoader

from sealstream.producers.importer.mapping import SourceSpec
from sealstream.producers.importer.rows import CHUNK_ROWS, Position, SourceRow
from sealstream.schemas.errors import ConfigError, SourceUnreadable, Unreachable

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

STATEMENT_SECONDS: Final = 3_600.0
"""How long one statement may take, the sorting of a query without an index included."""

SESSION: Final = (
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("idle_in_transaction_session_timeout", "600s"),  # Kafka may take a while between two fetches, and not for ever
)
"""What decides the texts of values: ``SPEC.md`` section 24.3 fixes it."""

_APPLICATION: Final = "sealstream-import"
_CONNECT_SECONDS: Final = 10
_ALIAS: Final = "source_row"


class PostgresSource:
    """The rows of a table or a query, in the order of their key.

    Everything is read in one transaction, ``REPEATABLE READ READ ONLY``: nothing is written, whatever the query says,
    and what others change meanwhile is not seen.

    Arguments:
        url: The database; what it holds is never shown.
        spec: The table or query, and the key.
        statement_seconds: How long one statement may take.

    Raises:
        ConfigError: The URL or the mapping is wrong.
        Unreachable: PostgreSQL does not answer.
        SourceUnreadable: It refuses the query, two columns have the same name, or the key is null somewhere.
    """

    whole = False

    def __init__(self, url: str, spec: SourceSpec, *, statement_seconds: float = STATEMENT_SECONDS) -> None:
        if bool(spec.table) == bool(spec.query):
            raise ConfigError("mapping: source has neither a table nor a query", hint="give source.table")
        if not spec.key:
            raise ConfigError("mapping: source.key is missing", hint="name the columns of the primary key")
        self._spec = spec
        self._rows_sql = _rows_sql(spec)
        self._connection = connect_read_only(url, statement_seconds=statement_seconds)
        try:
            with translated():
                self.columns = self._describe()
                self._check_key()
                info = self._connection.info
                self._where = f"postgresql://{info.host}:{info.port}/{info.dbname}"
        except BaseException:
            self._connection.close()
            raise

    @property
    def description(self) -> str:
        """Server, database and table; of a query that it is one."""
        return f"{self._where} {f'table {self._spec.table}' if self._spec.table else 'query'}"

    def total(self) -> int:
        """How many rows the planner expects."""
        with translated():
            answer = self._connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) ") + self._rows_sql).fetchone()
        assert answer is not None
        plan: Any = answer[0]  # JSON: loaded, unless the source has a column of that type, which is read as text
        loaded = json.loads(plan) if isinstance(plan, str) else plan
        return int(loaded[0]["Plan"]["Plan Rows"])

    def done(self, position: Position, rows: int) -> int:
        """The rows read so far."""
        del position
        return rows

    def rows_behind(self, position: Position) -> int:
        """How many rows have a larger key."""
        query = sql.SQL("SELECT count(*)::text FROM ({}) AS {} WHERE {} > {}").format(
            self._rows_sql, sql.Identifier(_ALIAS), self._key_sql(), _literals(position[1:])
        )
        with translated():
            answer = self._connection.execute(query).fetchone()
        assert answer is not None
        return int(answer[0])

    def chunks(self, after: Position, until: Position = ()) -> Generator[list[SourceRow]]:
        """Yield the rows by key; a position is the key of a row, behind how many rows of this key were read."""
        conditions = [
            sql.SQL(" {} {} {} {}").format(word, self._key_sql(), sign, _literals(position[1:]))
            for word, sign, position in (
                (sql.SQL("WHERE"), sql.SQL(">="), after),
                (sql.SQL("AND" if after else "WHERE"), sql.SQL("<="), until),
            )
            if position
        ]
        query = sql.SQL("SELECT {} FROM ({}) AS {}{} ORDER BY {}").format(
            sql.SQL(", ").join(sql.Identifier(_ALIAS, name) for name in self.columns),
            self._rows_sql,
            sql.Identifier(_ALIAS),
            sql.SQL("").join(conditions),
            sql.SQL(", ").join(sql.Identifier(_ALIAS, name) for name in self._spec.key),
        )
        order = _KeyOrder([self.columns.index(name) for name in self._spec.key], after)
        with translated(), self._connection.cursor(_APPLICATION, scrollable=False) as cursor:
            cursor.execute(query)
            while rows := cursor.fetchmany(CHUNK_ROWS):
                chunk = order.rows(rows)
                if chunk:
                    yield chunk

    def close(self) -> None:
        """End the transaction and the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _describe(self) -> tuple[str, ...]:
        """Return the names of the columns, and have each read as the text that PostgreSQL makes of it."""
        cursor = self._connection.execute(
            sql.SQL("SELECT * FROM ({}) AS {} LIMIT 0").format(self._rows_sql, sql.Identifier(_ALIAS))
        )
        found = cursor.description or []
        for column in found:
            self._connection.adapters.register_loader(column.type_code, TextLoader)
        names = tuple(column.name for column in found)
        if len(set(names)) != len(names) or not names:
            raise SourceUnreadable("the query has no columns, or two of one name", hint="rename one: AS other_name")
        for name in self._spec.key:
            if name not in names:
                raise ConfigError(f"mapping: source.key names {name}, which is no column", hint=", ".join(names)[:500])
        return names

    def _check_key(self) -> None:
        """Refuse a key that is null somewhere: behind such a row nobody could go on."""
        for name in self._spec.key:
            query = sql.SQL("SELECT count(*)::text FROM ({}) AS {} WHERE {} IS NULL").format(
                self._rows_sql, sql.Identifier(_ALIAS), sql.Identifier(_ALIAS, name)
            )
            answer = self._connection.execute(query).fetchone()
            assert answer is not None
            if answer[0] != "0":
                raise SourceUnreadable(
                    f"the key column {name} is null in {answer[0]} rows",
                    hint="choose a key that is never null, or leave these rows out by a query, and import them apart",
                )

    def _key_sql(self) -> sql.Composed:
        return sql.SQL("({})").format(sql.SQL(", ").join(sql.Identifier(_ALIAS, name) for name in self._spec.key))


class _KeyOrder:
    """Names rows by their key, and finds those that have the key of the row before.

    Arguments:
        places: The places of the key's columns.
        after: The position to go on behind.
    """

    def __init__(self, places: list[int], after: Position) -> None:
        self._places = places
        self._seen = int(after[0]) if after else 0
        self._last: Position = after[1:]
        self._skip = self._seen

    def rows(self, rows: Sequence[Sequence[str | None]]) -> list[SourceRow]:
        """Return rows with their keys and positions, without those that were read before."""
        if len(self._places) == 1 and not self._skip:
            return self._rows_of_one(rows, self._places[0])
        return [row for texts in rows if (row := self._row(texts)) is not None]

    def _rows_of_one(self, rows: Sequence[Sequence[str | None]], place: int) -> list[SourceRow]:
        """Do as :meth:`_row` for a key of one column, which most are, in a third of the time."""
        found: list[SourceRow] = []
        last: Position = self._last
        for texts in rows:
            key = texts[place] or ""
            if (key,) == last:
                self._last = last
                repeated = self._row(texts)
                assert repeated is not None
                found.append(repeated)
                continue
            last, self._seen = (key,), 1
            found.append(SourceRow(key, texts, (1, key)))
        self._last = last
        return found

    def _row(self, texts: Sequence[str | None]) -> SourceRow | None:
        key = tuple([texts[place] or "" for place in self._places])
        if key != self._last:
            self._last, self._seen, self._skip = key, 1, 0
        elif self._skip:
            self._skip -= 1
            return None
        else:
            self._seen += 1
        name = key[0] if len(key) == 1 else json.dumps(key, ensure_ascii=False)
        problem = "" if self._seen == 1 else "has the key of the row before it"
        return SourceRow(name, texts, (self._seen, *key), problem)


def connect_read_only(url: str, *, statement_seconds: float) -> Connection:
    """Return a connection whose transactions are ``REPEATABLE READ READ ONLY``, with the session that fixes texts.

    Raises:
        ConfigError: The URL is none; it is not quoted.
        Unreachable: PostgreSQL does not answer.
    """
    try:
        given = conninfo_to_dict(url)
        info = make_conninfo(
            url, **{"application_name": _APPLICATION, "connect_timeout": str(_CONNECT_SECONDS)} | given
        )
    except psycopg.ProgrammingError:
        raise ConfigError("the source is no PostgreSQL URL", hint="give postgresql://user@host:5432/database") from None
    with translated():
        connection = psycopg.connect(info)
        try:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            for name, value in (*SESSION, ("statement_timeout", f"{round(statement_seconds * 1000)}ms")):
                connection.execute("SELECT set_config(%s, %s, false)", (name, value))
            connection.commit()  # so that these are the session's, whatever becomes of a transaction
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def translated() -> Generator[None]:
    """Raise PostgreSQL's errors as this project's, without the URL.

    Raises:
        Unreachable: The server is away, or gave up.
        SourceUnreadable: It refuses.
    """
    try:
        yield
    except psycopg.Error as error:
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            raise Unreachable(f"the source does not answer: {text}", hint="the import goes on where it was") from error
        raise SourceUnreadable(f"the source refuses: {text}") from error


def _rows_sql(spec: SourceSpec) -> sql.Composed:
    if spec.table:
        return sql.SQL("SELECT * FROM {}").format(sql.Identifier(*spec.table.split(".")))
    # The user's own statement, from his own mapping, run by his own login in a read-only transaction.
    query: Any = spec.query.strip().rstrip(";")  # no literal string, which psycopg asks for to keep others' words out
    return sql.Composed([sql.SQL(query)])


def _literals(key: Sequence[int | str]) -> sql.Composed:
    return sql.SQL("({})").format(sql.SQL(", ").join(sql.Literal(str(part)) for part in key))
