"""``sealstream config show`` and ``sealstream version``."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

import typer

from sealstream.deploy.cli.output import JsonOption, print_json, print_line, print_table

_PANEL = "Set up"
_group = typer.Typer(help="The settings that commands and workers see.", no_args_is_help=True)
_LIBRARIES = ("sealstream-native", "confluent-kafka", "faust-streaming", "psycopg", "fastavro")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_group, name="config", rich_help_panel=_PANEL)
    app.command(rich_help_panel=_PANEL)(version)


@_group.command()
def show(*, as_json: JsonOption = False) -> None:
    """Show every setting: its name in the environment, its value without secrets, where that came from, its use."""
    from sealstream.worker.settings import PREFIX, Settings, load_settings

    values = load_settings().redacted()
    rows: list[dict[str, object]] = []
    for name, field in Settings.model_fields.items():
        variable = f"{PREFIX}{name.upper()}"
        rows.append(
            {
                "name": name,
                "variable": variable,
                "value": values[name],
                "source": _source(variable),
                "description": field.description,
            }
        )
    if as_json:
        print_json(rows)
        return
    print_table(
        ("setting", "value", "from", "what for"),
        [(row["variable"], row["value"], row["source"], row["description"]) for row in rows],
    )
    print_line(f"Each can come from a file instead: {PREFIX}DATABASE_FILE holds the path of a file with the URL.")


def version(*, as_json: JsonOption = False) -> None:
    """Print the version of Sealstream and of what it stands on."""
    versions = {"sealstream": version_of("sealstream"), "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version_of(name)
        except PackageNotFoundError:  # an image has only its role's packages
            continue
    if as_json:
        print_json(versions)
        return
    for name, number in versions.items():
        print_line(f"{name} {number}")


def _source(variable: str) -> str:
    """Return where a setting's value came from."""
    if os.environ.get(f"{variable}_FILE"):
        return f"file in {variable}_FILE"
    return "environment" if os.environ.get(variable) else "default"
