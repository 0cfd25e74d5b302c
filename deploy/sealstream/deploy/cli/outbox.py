"""``sealstream outbox init | relay | status``: events that commit with the application's data."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sealstream.deploy.cli.output import ExitCode, JsonOption, print_fields, print_json, print_line, print_table

if TYPE_CHECKING:
    from sealstream.producers.outbox.table import OutboxTable
    from sealstream.producers.relay.setup import Status
    from sealstream.worker.settings import Settings

_PANEL = "Run workers"
_group = typer.Typer(help="A table whose events commit with the application's data: init, relay, status.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_group, name="outbox", rich_help_panel=_PANEL, no_args_is_help=True)


@_group.command()
def init(
    *,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL instead, for your own migrations.")] = False,
    notify: Annotated[
        bool, typer.Option(help="Wake the relays at each commit; without it they look every second or so.")
    ] = True,
    writer: Annotated[str | None, typer.Option(help="Let this role, the application's, add events.")] = None,
    relay: Annotated[str | None, typer.Option(help="Let this role, the relay's, publish them.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Create the outbox in the application's database; safe to run again.

    The user in SEALSTREAM_OUTBOX_DATABASE must be one that may create tables there.
    """
    settings, table = _settings()
    script = table.create_sql(notify=notify)
    grants = table.grant_sql(writer=writer, relay=relay)
    script += f"\n{grants}" if grants else ""
    if sql:
        if as_json:
            print_json({"table": table.name, "sql": script})
        else:
            typer.echo(script, nl=False)
        return
    from sealstream.producers.relay.setup import init as create
    from sealstream.producers.relay.worker import outbox_url

    create(outbox_url(settings), table, script, timeout_seconds=settings.request_timeout_seconds)
    if as_json:
        print_json({"table": table.name, "notify": notify, "writer": writer, "relay": relay})
    else:
        print_line(f"the outbox {table.name} is there")


@_group.command("relay")
def relay_(
    *,
    keep: Annotated[
        bool | None, typer.Option("--keep/--delete", help="Mark published rows, or delete them.", show_default="delete")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Publish what commits: outbox -> audit.events. Several may run side by side.

    Runs until SIGTERM or Ctrl-C. Logs go to standard error, as JSON lines with --json or where it is no terminal.
    """
    from sealstream.worker.settings import load_settings

    settings = load_settings(log_format="json" if as_json else None, outbox_keep=keep)
    from sealstream.producers.relay.service import run

    raise typer.Exit(run(settings))


@_group.command()
def status(*, as_json: JsonOption = False) -> None:
    """Show what waits, what was set aside, and who relays. Exit code 1 if a row is set aside."""
    settings, table = _settings()
    from sealstream.producers.relay.setup import status as look
    from sealstream.producers.relay.worker import outbox_url

    found = look(outbox_url(settings), table, timeout_seconds=settings.request_timeout_seconds)
    if as_json:
        print_json(_plain(table, found))
    else:
        _show(table, found)
    if found.backlog.refused:
        raise typer.Exit(ExitCode.FOUND)


def _settings() -> tuple[Settings, OutboxTable]:
    from sealstream.producers.outbox.table import OutboxTable
    from sealstream.worker.settings import load_settings

    settings = load_settings()
    return settings, OutboxTable(settings.outbox_table)


def _plain(table: OutboxTable, found: Status) -> dict[str, object]:
    return {
        "table": table.name,
        "waiting": found.backlog.waiting,
        "oldest_seconds": round(found.backlog.oldest_seconds, 3),
        "set_aside": found.backlog.refused,
        "kept": found.kept,
        "rows_set_aside": found.set_aside,
        "relays": found.relays,
    }


def _show(table: OutboxTable, found: Status) -> None:
    backlog = found.backlog
    print_fields(
        [
            ("table", table.name),
            ("waiting", f"{backlog.waiting:,}"),
            ("oldest", f"{backlog.oldest_seconds:.1f} s"),
            ("kept", f"{found.kept:,}"),
            ("set aside", f"{backlog.refused:,}"),
        ]
    )
    if found.relays:
        print_line()
        rows = [(one.relay, one.served_at.isoformat(timespec="seconds"), one.shards) for one in found.relays]
        print_table(("relay", "last served", "shards"), rows)
    if found.set_aside:
        print_line()
        aside = [(row.id, row.tenant, row.reason) for row in found.set_aside]
        print_table(("row set aside", "tenant", "reason"), aside)
