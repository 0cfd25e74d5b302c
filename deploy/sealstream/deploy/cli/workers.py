"""``sealstream processor | sink | verifier | notary | witness``: the long-running processes."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sealstream.deploy.cli.output import JsonOption

if TYPE_CHECKING:
    from sealstream.worker.settings import Settings

_PANEL = "Run workers"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (processor, sink, verifier, notary, witness):
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


def notary(*, as_json: JsonOption = False) -> None:
    """Sign how far each chain has come, and publish what proofs are made from: store -> checkpoints, tiles.

    Runs until SIGTERM or Ctrl-C. Logs go to standard error, as JSON lines with --json or where it is no terminal.
    """
    settings = _settings(as_json=as_json)
    from sealstream.sinks.notary.service import run

    raise typer.Exit(run(settings))


def witness(
    *,
    from_checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Begin to remember a log with this signed checkpoint, and with --recompute to recompute it from there."
            " Once: an error where it has begun."
        ),
    ] = None,
    trust_first_use: Annotated[
        bool, typer.Option("--trust-first-use", help="Begin with whatever a log shows first. Once, as above.")
    ] = False,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Cosign only what was recomputed from Kafka: the verifier's witness.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Cosign checkpoints over HTTP, and never two that contradict each other (C2SP tlog-witness).

    Runs until SIGTERM or Ctrl-C. Logs go to standard error, as JSON lines with --json or where it is no terminal.
    """
    settings = _settings(as_json=as_json)
    from sealstream.sinks.witness.beginning import Beginning
    from sealstream.sinks.witness.service import run

    raise typer.Exit(run(settings, Beginning(from_checkpoint, trust_first_use), recompute=recompute))


def _settings(*, as_json: bool) -> Settings:
    from sealstream.worker.settings import load_settings

    return load_settings(log_format="json" if as_json else None)
