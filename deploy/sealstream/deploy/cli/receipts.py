"""``sealstream receipts``: what an application was promised, against what the chain holds."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sealstream.deploy.cli.output import ExitCode, JsonOption, print_json, print_line
from sealstream.schemas.errors import ConfigError

if TYPE_CHECKING:
    from sealstream.sinks.store.receipts import Checked

_PANEL = "Look and check"
_SHOWN: Final = 100
_group = typer.Typer(help="Receipts that applications keep of what they have logged.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_group, name="receipts", rich_help_panel=_PANEL)


@_group.callback()
def receipts() -> None:
    """Keep the group a group, though it has one command."""


@_group.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Receipts, one JSON object a line.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Look every receipt of a file up in the store: is the event in its tenant's chain, byte for byte?

    Exit code 1 if an event is missing or has other bytes than its receipt says; 2 if a line is no receipt of this
    instance, or the store does not answer. What was published a moment ago may not be stored yet: check again then.
    """
    from sealstream.sinks.store.receipts import LINE_BYTES_MAX, check_receipts
    from sealstream.worker.settings import load_settings

    settings = load_settings()
    try:
        with file.open("rb") as lines:
            checked = check_receipts(
                iter(lambda: lines.readline(LINE_BYTES_MAX + 1), b""),
                settings.database_url(),
                instance=settings.instance or None,
                timeout_seconds=settings.request_timeout_seconds,
            )
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    if as_json:
        print_json(asdict(checked) | {"wrong": [wrong._asdict() for wrong in checked.wrong]})
    else:
        _print(checked)
    if checked.missing or checked.differs:
        raise typer.Exit(ExitCode.FOUND)
    if checked.unreadable:
        raise typer.Exit(ExitCode.FAILED)


def _print(checked: Checked) -> None:
    for wrong in checked.wrong[:_SHOWN]:
        where = f"line {wrong.line}"
        if wrong.verdict == "unreadable":
            print_line(f"{where}: no receipt of this instance")
        else:
            said = "is not in the chain" if wrong.verdict == "missing" else "is in the chain with other bytes only"
            print_line(f"{where}: {wrong.tenant}/{wrong.id} {said}")
    more = checked.missing + checked.differs + checked.unreadable - _SHOWN
    if more > 0:
        print_line(f"and {more} more")
    print_line(
        f"{checked.receipts} receipts: {checked.found} found, {checked.missing} missing, {checked.differs} with other"
        f" bytes; {checked.unreadable} lines are no receipts of this instance"
    )
