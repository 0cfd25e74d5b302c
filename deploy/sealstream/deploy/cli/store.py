"""``sealstream migrate | migrate-notary | rebuild-search``: databases at this version, search rows made anew."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from typing import Annotated

import typer

from sealstream.deploy.cli.output import ExitCode, JsonOption, print_json, print_line, print_table

_PANEL = "Set up"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=_PANEL)(migrate)
    app.command("migrate-notary", rich_help_panel=_PANEL)(migrate_notary)
    app.command("rebuild-search", rich_help_panel=_PANEL)(rebuild_search)


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


def migrate_notary(*, as_json: JsonOption = False) -> None:
    """Create the notary's database in PostgreSQL, or bring it to this version; safe to run again.

    The user in SEALSTREAM_NOTARY_DATABASE must be one that may create roles and a schema. Run it once for a new log: a
    database that is empty where a log was published before is a lost memory, and the notary refuses to begin anew.
    """
    from sealstream.schemas.errors import ConfigError
    from sealstream.worker.settings import load_settings

    settings = load_settings()
    url = settings.notary_database.get_secret_value()
    if not url:
        raise ConfigError("SEALSTREAM_NOTARY_DATABASE is not set", hint="give a URL such as postgresql://...")
    from sealstream.sinks.notary.migrate import migrate as bring_up_to_date

    applied = bring_up_to_date(url, timeout_seconds=settings.request_timeout_seconds)
    if as_json:
        print_json({"applied": [migration.name for migration in applied]})
        return
    for migration in applied:
        print_line(f"applied {migration.name}")
    if not applied:
        print_line("the notary's database is at this version already")


def rebuild_search(
    *,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.", show_default="all")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the rows that `sealstream search` looks through anew from the evidence, while everything runs on.

    The user in SEALSTREAM_DATABASE must be a member of sealstream_owner. Exit code 1 if an entry is damaged.
    """
    from sealstream.worker.settings import load_settings

    settings = load_settings()
    url = settings.database_url()
    from sealstream.deploy.records import event_reader
    from sealstream.sinks.store.rebuild import rebuild_events

    rebuilt = rebuild_events(url, tenant=tenant, reader=event_reader(settings))
    if as_json:
        print_json({"events": rebuilt.events, "undecoded": rebuilt.undecoded, "damaged": rebuilt.damaged})
    else:
        print_line(f"{rebuilt.events:,} search rows made, {rebuilt.undecoded:,} of events that could not be decoded")
    if rebuilt.damaged:
        if not as_json:
            print_table(("tenant", "seq"), rebuilt.damaged)
            print_line("error: these entries do not hold together and have no search row", error=True)
            print_line("hint: sealstream verify", error=True)
        raise typer.Exit(ExitCode.FOUND)
