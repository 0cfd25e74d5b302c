"""``sealstream gateway``, and ``sealstream gateway-keys new | list | revoke``: publishing over HTTP, and who may."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from sealstream.deploy.cli.output import JsonOption, print_json, print_line, print_table, printable
from sealstream.deploy.cli.times import time_option

if TYPE_CHECKING:
    from sealstream.producers.gateway.api_keys import ApiKey

_WORKERS_PANEL = "Run workers"
_SET_UP_PANEL = "Set up"
_COLUMNS = ("id", "tenant", "name", "actions", "created", "expires", "revoked")
_group = typer.Typer(help="API keys of the gateway: make, look at, revoke.", no_args_is_help=True)

_File = Annotated[Path, typer.Argument(help="The file of API keys: SEALSTREAM_GATEWAY_KEYS.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=_WORKERS_PANEL)(gateway)
    app.add_typer(_group, name="gateway-keys", rich_help_panel=_SET_UP_PANEL)


def gateway(*, as_json: JsonOption = False) -> None:
    """Take events over HTTP: POST /v1/events -> audit.events.

    Runs until SIGTERM or Ctrl-C. Logs go to standard error, as JSON lines with --json or where it is no terminal.
    """
    from sealstream.worker.settings import load_settings

    settings = load_settings(log_format="json" if as_json else None)
    from sealstream.producers.gateway.service import run

    raise typer.Exit(run(settings))


@_group.command()
def new(
    file: _File,
    *,
    tenant: Annotated[str, typer.Option(help="The tenant whose trail it may write to.")],
    name: Annotated[str, typer.Option(help="What its holder is called, for people.")] = "",
    action: Annotated[
        list[str] | None,
        typer.Option(metavar="PREFIX", help="What actions it may log begin with, such as document.; all of them."),
    ] = None,
    events_per_second: Annotated[
        float | None, typer.Option(min=0.001, max=1_000_000, help="Its rate; the gateway's setting.")
    ] = None,
    expires: Annotated[
        datetime | None, time_option("From then on it is not taken; ISO 8601, UTC if it says no zone; never.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is printed once, and kept nowhere: the file holds its digest. A running gateway takes it at once.

    The file is made if it is not there.
    """
    from sealstream.producers.gateway.api_keys import new_key
    from sealstream.producers.gateway.key_file import edit_keys

    key, token = new_key(
        name=name,
        tenant=tenant,
        actions=tuple(action or ()),
        events_per_second=events_per_second,
        expires=expires,
    )
    edit_keys(file, lambda keys: keys.added(key))
    if as_json:
        print_json(_document(key) | {"key": token})
        return
    print_line(f"key {key.id} of tenant {key.tenant}, shown this once:", error=True)
    typer.echo(printable(token))


@_group.command("list")
def show(file: _File, *, as_json: JsonOption = False) -> None:
    """Show the keys in a file; none of them can be had back."""
    from sealstream.producers.gateway.key_file import read_keys

    rows = [_document(key) for key in read_keys(file)]
    if as_json:
        print_json(rows)
        return
    print_table(_COLUMNS, [[_cell(row[column]) for column in _COLUMNS] for row in rows], whole=("tenant",))


@_group.command()
def revoke(
    file: _File,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as the list shows it.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Revoke a key: a running gateway refuses it a second later. Its entry stays."""
    from sealstream.producers.gateway.key_file import edit_keys

    keys = edit_keys(file, lambda found: found.revoked(key_id, datetime.now(UTC)))
    (key,) = (key for key in keys if key.id == key_id)
    if as_json:
        print_json(_document(key))
    else:
        print_line(f"key {key.id} of tenant {key.tenant} is revoked")


def _document(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "actions": list(key.actions),
        "events_per_second": key.events_per_second,
        "created": key.created.isoformat(),
        "expires": None if key.expires is None else key.expires.isoformat(),
        "revoked": None if key.revoked is None else key.revoked.isoformat(),
    }


def _cell(value: object) -> str:
    if isinstance(value, list):
        return " ".join(cast("list[str]", value))
    return "" if value is None else str(value)
