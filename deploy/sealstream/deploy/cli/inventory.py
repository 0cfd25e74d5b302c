"""``sealstream inventory``: which tables of a database look like audit trails."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from typing import Annotated

import typer

from sealstream.deploy.cli.output import JsonOption, print_json, print_line, print_table
from sealstream.schemas.errors import ConfigError

_PANEL = "Bring in"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=_PANEL)(inventory)


def inventory(
    url: Annotated[
        str | None,
        typer.Argument(help="The database's PostgreSQL URL.", show_default="SEALSTREAM_IMPORT_SOURCE"),
    ] = None,
    *,
    mapping: Annotated[
        str | None, typer.Option(metavar="TABLE", help="Print the mapping proposed for this table, and no more.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look through a database for tables that look like audit trails, and propose a mapping for each.

    It reads names, types, sizes and statistics, in a read-only transaction, and no row of any table. Exit code 0 if
    there are some, 1 if none.
    """
    from sealstream.producers.importer.inventory import take_inventory
    from sealstream.worker.settings import load_settings

    source = url or load_settings().import_source.get_secret_value()
    if not source:
        raise ConfigError("no database is given", hint="give its URL, or SEALSTREAM_IMPORT_SOURCE")
    found = take_inventory(source)
    if mapping is not None:
        chosen = [candidate for candidate in found if candidate.table == mapping]
        if not chosen:
            raise ConfigError(f"no table {mapping} looks like an audit trail", hint="sealstream inventory lists them")
        typer.echo(chosen[0].mapping, nl=False)
        return
    if as_json:
        print_json(found)
    else:
        rows = [
            (
                one.table,
                one.score,
                f"{one.rows:,}",
                f"{one.size_bytes / 1e6:,.1f} MB",
                None if one.inserts_per_day is None else f"{one.inserts_per_day:,.0f}",
                f"{one.updates:,}/{one.deletes:,}",
                one.preset,
                "; ".join(one.reasons),
            )
            for one in found
        ]
        print_table(("table", "score", "rows", "size", "inserts/day", "upd/del", "preset", "why"), rows)
        if found:
            print_line(f"sealstream inventory --mapping {found[0].table} > mapping.toml")
    raise typer.Exit(0 if found else 1)
