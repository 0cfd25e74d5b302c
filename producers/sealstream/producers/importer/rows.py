"""What a source gives: rows in its order, each with what names it and how to go on behind it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final, NamedTuple, Protocol, Self, TypeAlias

CHUNK_ROWS: Final = 2_000
"""How many rows are read, and are in memory, at a time."""


Position: TypeAlias = tuple[int | str, ...]
"""Where to go on in a source: the source's own, kept as JSON; empty for its beginning."""


class SourceRow(NamedTuple):
    """One row.

    Arguments:
        key: What names it among the rows of its source, as a text.
        texts: The text of each column, or ``None`` for null; empty if it could not be read.
        position: Where to go on behind it.
        problem: Why it could not be read; empty if it could.
    """

    key: str
    texts: Sequence[str | None]
    position: Position
    problem: str = ""


class Source(Protocol):
    """A source of rows that can be read again: the same rows give the same texts in the same order."""

    @property
    def description(self) -> str:
        """Where the rows are, in words, without a password."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in the source's order."""
        ...

    @property
    def whole(self) -> bool:
        """Whether the one column is a JSON object, and a mapping's names are paths within it."""
        ...

    def total(self) -> int:
        """Return how much there is to read, for a progress bar: rows or bytes, estimated; 0 if not known."""
        ...

    def done(self, position: Position, rows: int) -> int:
        """Return how much of :meth:`total` is read, at a position and after so many rows."""
        ...

    def chunks(self, after: Position, until: Position = ()) -> Generator[list[SourceRow]]:
        """Yield the rows behind a position, up to and with another one.

        Arguments:
            after: Where to begin; empty for the first row.
            until: Where to end; empty for the last row.

        Raises:
            Unreachable: The source cannot be read now.
            SourceUnreadable: It cannot be read at all, or not on from here.
        """
        ...

    def rows_behind(self, position: Position) -> int:
        """Return how many rows, or bytes of a file, lie behind a position: what came later."""
        ...

    def close(self) -> None:
        """Let go of the source."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_error: object) -> None: ...
