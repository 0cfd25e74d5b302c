"""What commands print: one JSON value, a table, or lines; never control characters that came in with data."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, TextIO, TypeAlias

import typer

from sealstream.schemas.errors import RowRefused, SchemaRefused, SealstreamError, StoreDamaged, UnsafeState

if TYPE_CHECKING:
    from rich.console import RenderableType

JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


class ExitCode(IntEnum):
    """What the command's exit code says."""

    OK = 0
    FOUND = 1
    """A violation, a fatal difference, or a worker that must not go on: a person has to look."""
    FAILED = 2
    """Usage or settings are wrong, or what was asked could not be done or checked."""
    INTERRUPTED = 130
    """Ctrl-C; another signal n gives 128 + n."""
    BROKEN_PIPE = 141
    """The reader of our output has gone."""


def print_json(value: object) -> None:
    """Print a value as one line of JSON."""
    typer.echo(json.dumps(value, default=_plain, ensure_ascii=False))


def print_line(text: str = "", *, error: bool = False) -> None:
    """Print text; at a terminal, lines that are too long are broken between words.

    Arguments:
        text: The text; control characters in it are shown escaped.
        error: Print to standard error.
    """
    width = _width(sys.stderr if error else sys.stdout)
    for line in printable(text).split("\n"):
        typer.echo(_wrapped(line, width, indent=0), err=error)


def confirmed(question: str) -> bool:
    """Ask a person, and return whether the answer is yes; where there is nobody to ask, it is no."""
    try:
        return typer.confirm(question)
    except typer.Abort:
        typer.echo()
        return False


def print_items(items: Iterable[str], *, numbered: bool = False) -> None:
    """Print a list, one item a line; at a terminal an item that is longer is wrapped below itself.

    Arguments:
        items: The items.
        numbered: Number them.
    """
    width = _width(sys.stdout)
    for number, item in enumerate(items, start=1):
        mark = f"  {number}. " if numbered else "  - "
        typer.echo(_wrapped(f"{mark}{printable(item, keep_newlines=False)}", width, indent=len(mark)))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, whole: Sequence[str] = ()) -> None:
    """Print rows under their headings: as a table at a terminal, else as lines with tabs, headings first.

    Arguments:
        columns: The headings.
        rows: What stands under them; ``None`` is shown as nothing.
        whole: The headings of what is never broken, because people copy it; the first one always.
    """
    texts = [[printable("" if cell is None else str(cell), keep_newlines=False) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for line in ([*columns], *texts):
            typer.echo("\t".join(line))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0 or column in whole, overflow="fold")
    for line in texts:
        table.add_row(*(Text(cell) for cell in line))
    Console().print(table)


def print_fields(rows: Iterable[tuple[str, str]]) -> None:
    """Print one thing's properties: at a terminal in two columns, else each on a line with a tab between."""
    if not sys.stdout.isatty():
        for name, text in rows:
            typer.echo(f"{name}\t{printable(text, keep_newlines=False)}")
        return
    from rich.console import Console

    Console().print(fields_grid(rows))


def fields_grid(rows: Iterable[tuple[str, str]], *, indent: int = 0) -> RenderableType:
    """Return one thing's properties in two columns, for a console."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, text in rows:
        grid.add_row(Text(name, style="dim"), Text(printable(text, keep_newlines=False)))
    return Padding(grid, (0, 0, 0, indent))


def printable(text: str, *, keep_newlines: bool = True) -> str:
    """Return text whose control characters are escaped: what an event says must not steer the reader's terminal."""
    kept = "\n\t" if keep_newlines else ""
    return "".join(
        character if character.isprintable() or character in kept else character.encode("unicode_escape").decode()
        for character in text
    )


def print_error(error: SealstreamError, *, as_json: bool) -> ExitCode:
    """Print an error for a person (standard error) or a program (one JSON object), and return the exit code.

    Arguments:
        error: What went wrong.
        as_json: Print JSON to standard output, where the result would have stood.
    """
    details = str(getattr(error, "log_tail", ""))
    if as_json:
        document: dict[str, object] = {"error": error.message, "hint": error.hint, "type": type(error).__name__}
        if isinstance(error, StoreDamaged):
            document |= {"tenant": error.tenant, "seq": error.seq}
        print_json(document | ({"details": details} if details else {}))
    else:
        print_line(f"error: {error.message}", error=True)
        if details:
            print_line(details, error=True)
        if error.hint:
            print_line(f"hint: {error.hint}", error=True)
    return (
        ExitCode.FOUND
        if isinstance(error, RowRefused | SchemaRefused | StoreDamaged | UnsafeState)
        else ExitCode.FAILED
    )


def _width(stream: TextIO) -> int | None:
    return shutil.get_terminal_size().columns if stream.isatty() else None


def _wrapped(line: str, width: int | None, *, indent: int) -> str:
    if width is None or len(line) <= width:
        return line
    return textwrap.fill(
        line,
        width,
        subsequent_indent=" " * indent,
        drop_whitespace=True,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain(value: object) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
