"""``sealstream processor | sink | verifier``: the long-running processes."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from sealstream.deploy.cli.output import JsonOption

if TYPE_CHECKING:
    from sealstream.worker.settings import Settings

_PANEL = "Run workers"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (processor, sink, verifier):
        app.command(rich_help_panel=_PANEL)(command)


def processor(*, as_json: JsonOption = False) -> None:
    """Chain events: audit.events -> audit.chained.

    Runs until SIGTERM or Ctrl-C. Logs go to standard error, as JSON lines with --json or where it is no terminal.
    """
    settings = _settings(as_json=as_json)
    from sealstream.processors.app import run

    raise typer.Exit(run(settings))


def sink(*, as_json: JsonOption = False) -> None:
    """Store chained records in PostgreSQL: audit.chained -> store.

    Runs until SIGTERM or Ctrl-C. Logs go to standard error, as JSON lines with --json or where it is no terminal.
    """
    settings = _settings(as_json=as_json)
    from sealstream.sinks.store.sink import run

    raise typer.Exit(run(settings))


def verifier(*, as_json: JsonOption = False) -> None:
    """Recompute every chain from the source: audit.chained -> audit.verified, audit.violations.

    Runs until SIGTERM or Ctrl-C. Logs go to standard error, as JSON lines with --json or where it is no terminal.
    """
    settings = _settings(as_json=as_json)
    from sealstream.sinks.verifier.service import run

    raise typer.Exit(run(settings))


def _settings(*, as_json: bool) -> Settings:
    from sealstream.worker.settings import load_settings

    return load_settings(log_format="json" if as_json else None)
