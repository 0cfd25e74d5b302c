"""``sealstream demo | up | down``: Sealstream on this machine, from packages alone."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from sealstream.deploy.cli.output import ExitCode, JsonOption, print_json, print_line

_PANEL = "Try it"

DirectoryOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--dir", metavar="DIR", help="Where data and logs lie.", file_okay=False, show_default="SEALSTREAM_HOME"
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (demo, up, down):
        app.command(rich_help_panel=_PANEL)(command)


def demo(
    *,
    events: Annotated[int, typer.Option(min=1, max=10_000_000, metavar="N", help="Events to publish.")] = 2_000,
    tenants: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="Tenants that they belong to.")] = 5,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="R", help="Events a second.", show_default="as fast as it goes"),
    ] = None,
    duplicates: Annotated[int, typer.Option(min=0, metavar="N", help="How many of the events are sent twice.")] = 0,
    bad: Annotated[int, typer.Option(min=0, metavar="N", help="Records besides that are no events at all.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the data for `sealstream up --dir DIR`.")] = False,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            file_okay=False,
            help="Where data and logs lie; must be empty or not there yet.",
            show_default="a temporary one",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the whole pipeline on a real Kafka and PostgreSQL, and a tampering that is found out.

    Nothing has to be installed. Servers named by SEALSTREAM_KAFKA and SEALSTREAM_DATABASE are used instead of our own;
    there the demo makes topics and a database of its own, and removes them. With --json the last line on standard
    output is one JSON object, and what a person may want to see goes to standard error.
    """
    from sealstream.deploy.demo.display import make_console, make_display
    from sealstream.deploy.demo.options import DemoOptions
    from sealstream.deploy.demo.report import print_report
    from sealstream.deploy.demo.run import run_demo
    from sealstream.deploy.interruption import Interruption

    options = DemoOptions(
        events=events,
        tenants=tenants,
        rate=rate,
        duplicates=duplicates,
        bad=bad,
        directory=directory,
        keep=keep,
    )
    console = make_console(stderr=as_json)
    with Interruption() as interruption:
        result = run_demo(options, make_display(console), interruption)
        interruption.check()  # a signal that came while everything was being ended already
    print_report(console, result)
    if as_json:
        print_json(result.to_dict())
    raise typer.Exit(ExitCode.OK if result.is_good else ExitCode.FOUND)


def up(
    *,
    directory: DirectoryOption = None,
    workers: Annotated[bool, typer.Option(help="Start processor, sink and verifier as well.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Start Kafka, PostgreSQL and the workers, and stay until Ctrl-C. The data stays for the next time."""
    from sealstream.deploy.interruption import Interrupted, Interruption
    from sealstream.deploy.running import LocalInstance
    from sealstream.deploy.stack import default_directory

    place = directory or default_directory()
    with (
        Interruption() as interruption,
        LocalInstance(
            place,
            workers=workers,
            interruption=interruption,
            on_progress=lambda text: print_line(f"{text} ...", error=True),
        ) as instance,
    ):
        addresses = instance.start()
        if as_json:
            print_json(addresses.to_dict())
        else:
            print_line(addresses.in_words())
        try:
            instance.stay()
        except Interrupted:
            print_line("ending workers and servers ...", error=True)
            raise


def down(*, directory: DirectoryOption = None, as_json: JsonOption = False) -> None:
    """End what `sealstream up` runs, or left running, in a directory."""
    from sealstream.deploy.running import end_local
    from sealstream.deploy.stack import default_directory

    place = directory or default_directory()
    ended = end_local(place)
    if as_json:
        print_json({"directory": str(place), "ended": ended})
    elif ended:
        print_line(f"ended in {place}: {', '.join(ended)}")
    else:
        print_line(f"nothing runs in {place}")
