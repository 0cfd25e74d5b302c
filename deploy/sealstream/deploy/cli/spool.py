"""``sealstream spool``: what an application's audit log has left on its disk."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sealstream.deploy.cli.output import ExitCode, JsonOption, print_json, print_line

if TYPE_CHECKING:
    from sealstream.producers.spool.look import Contents

_PANEL = "Look and check"
_SHOWN: Final = 100
_group = typer.Typer(help="Spools, where applications keep events on their way to Kafka.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_group, name="spool", rich_help_panel=_PANEL)


@_group.callback()
def spool() -> None:
    """Keep the group a group, though it has one command."""


@_group.command()
def show(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="The spool's directory.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what a spool holds that no process is using: what waits to be sent, and which events Kafka refused.

    It changes nothing. Exit code 1 if there are refused events, which need a person; 2 if the spool is in use, or
    cannot be read.
    """
    from sealstream.producers.spool.look import look_into

    contents = look_into(directory)
    if as_json:
        print_json(_to_dict(contents))
    else:
        _print(contents)
    if contents.summary.refused:
        raise typer.Exit(ExitCode.FOUND)


def _to_dict(contents: Contents) -> dict[str, object]:
    names = ("tenant", "count", "since", "until")
    return {
        "producer_id": contents.producer_id,
        "epoch": contents.epoch,
        "summary": contents.summary._asdict(),
        "refused": [refused._asdict() for refused in contents.refused],
        "dropped": [dict(zip(names, row, strict=True)) for row in contents.dropped],
    }


def _print(contents: Contents) -> None:
    summary = contents.summary
    if contents.producer_id:
        print_line(f"producer {contents.producer_id}, last started with epoch {contents.epoch}")
    print_line(
        f"{summary.events} events of {summary.events_bytes} bytes wait: the next log with this directory sends them"
    )
    for tenant, count, since, until in contents.dropped:
        print_line(f"{count} events of {tenant} found no room from {since} to {until}: the next log tells it")
    print_line(f"{summary.refused} events of {summary.refused_bytes} bytes were refused")
    for one in contents.refused[:_SHOWN]:
        name = f"{one.tenant}/{one.id}" if one.tenant else f"row {one.number}"
        print_line(f"  {one.refused_at} {name} ({one.size_bytes} bytes): {one.reason}")
    if summary.refused > _SHOWN:
        print_line(f"  and {summary.refused - _SHOWN} more")
