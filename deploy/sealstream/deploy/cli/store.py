"""``sealstream migrate``: the store, brought to this version."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

import typer

from sealstream.deploy.cli.output import JsonOption, print_json, print_line

_PANEL = "Set up"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=_PANEL)(migrate)


def migrate(*, as_json: JsonOption = False) -> None:
    """Create the store in PostgreSQL, or bring it to this version; safe to run again.

    The user in SEALSTREAM_DATABASE must be one that may create roles and a schema; workers and readers need much less.
    """
    from sealstream.worker.settings import load_settings

    settings = load_settings()
    url = settings.database_url()
    from sealstream.sinks.store.migrate import migrate as bring_up_to_date

    applied = bring_up_to_date(url, partitions=settings.partitions, timeout_seconds=settings.request_timeout_seconds)
    if as_json:
        print_json({"applied": [migration.name for migration in applied]})
        return
    for migration in applied:
        print_line(f"applied {migration.name}")
    if not applied:
        print_line("the store is at this version already")
