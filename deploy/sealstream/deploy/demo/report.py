"""The end of the demonstration, for a person."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from sealstream.deploy.cli.output import fields_grid, printable
from sealstream.deploy.demo.display import summary_table
from sealstream.deploy.demo.result import DemoResult


def print_report(console: Console, result: DemoResult) -> None:
    """Print what went through the stages, one event's record, and how to look closer."""
    console.print(summary_table(result.counts, result.publishing_at))
    console.print(_verdict(result))
    console.print("\nOne event's record, as `sealstream show` gives it:\n")
    if console.is_terminal:
        console.print(fields_grid(result.record_words, indent=4))
    else:
        for name, value in result.record_words:
            console.print(Text(f"    {name:<10}  {printable(value, keep_newlines=False)}"), soft_wrap=True)
    console.print()
    for line in _next_steps(result):
        console.print(Text(line), soft_wrap=True)


def _verdict(result: DemoResult) -> Text:
    counted = result.to_dict()
    words = f"{counted['verified']:,} events are verified"
    if result.options.duplicates or result.options.bad:
        words += f", {counted['duplicates']:,} marked as duplicates, {counted['quarantined']:,} quarantined"
    words += f"; {counted['violations']} violations. The tampering was "
    words += "found" if result.tampering.detected else "NOT found"
    words += f". {result.seconds:.0f} s in all."
    if result.is_good:
        return Text(words, style="bold")
    return Text(f"{words}\nThis is not what had to come out.", style="bold red")


def _next_steps(result: DemoResult) -> Iterator[str]:
    run = "uv run sealstream" if "UV_RUN_RECURSION_DEPTH" in os.environ else "sealstream"
    show = f"    {run} show {result.record['event_id']} --tenant {result.tampering.tenant}"
    if result.kept is None:
        yield "To look closer, keep the data, and ask it from a second shell:\n"
        yield f"    {run} demo --keep --dir ~/sealstream-demo"
        yield f"    {run} up --dir ~/sealstream-demo\n"
        yield f"    . ~/sealstream-demo/environment && {run} search --tenant {result.tampering.tenant}"
        return
    if result.embedded:
        yield "To look closer, start the servers again, and ask from a second shell:\n"
        yield f"    {run} up --dir {shlex.quote(str(result.kept))}\n"
    else:
        yield "To look closer:\n"
    yield f"    . {shlex.quote(str(result.kept))}/environment"
    yield show
