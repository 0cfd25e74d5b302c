"""``sealstream processor | sink | verifier``: the long-running processes."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from collections.abc import Callable

import typer

from sealstream.deploy.cli.output import JsonOption

_PANEL = "Run workers"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (processor, sink, verifier):
        app.command(rich_help_panel=_PANEL)(command)


def processor(*, as_json: JsonOption = False) -> None:
    """Chain events: audit.events -> audit.chained.

    Runs until SIGTERM or Ctrl-C. Logs go to standard error, as JSON lines with --json or where it is no terminal.
    """
    from sealstream.processors.app import run

    _run(run, as_json=as_json)


def sink(*, as_json: JsonOption = False) -> None:
    """Store chained records in PostgreSQL: audit.chained -> store.

    Runs until SIGTERM or Ctrl-C. Logs go to standard error, as JSON lines with --json or where it is no terminal.
    """
    from sealstream.sinks.store.sink import run

    _run(run, as_json=as_json)


def verifier(*, as_json: JsonOption = False) -> None:
    """Recompute every chain from the source: audit.chained -> audit.verified, audit.violations.

    Runs until SIGTERM or Ctrl-C. Logs go to standard error, as JSON lines with --json or where it is no terminal.
    """
    from sealstream.sinks.verifier.service import run

    _run(run, as_json=as_json)


def _run(role: Callable[..., int], *, as_json: bool) -> None:
    from sealstream.worker.settings import load_settings

    raise typer.Exit(role(load_settings(log_format="json" if as_json else None)))
