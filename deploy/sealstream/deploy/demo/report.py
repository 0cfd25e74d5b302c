"""The end of the demonstration, for a person."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from sealstream.deploy.cli.output import printable
from sealstream.deploy.demo.display import summary_table
from sealstream.deploy.demo.result import DemoResult


def print_report(console: Console, result: DemoResult) -> None:
    """Print what went through the stages, one event's record, and how to look closer."""
    console.print(summary_table(result.counts, result.publishing_at))
    extra = result.to_dict()
    if result.options.duplicates or result.options.bad:
        console.print(
            f"{extra['duplicates']:,} were marked as duplicates and {extra['quarantined']:,} quarantined, "
            "and neither went on to audit.verified."
        )
    console.print("\nOne event's record, as `sealstream show` gives it:")
    for name, value in result.record_words:
        console.print(Text.assemble((f"    {name:<12} ", "dim"), printable(value, keep_newlines=False)))
    console.print("\nLook closer:")
    for command in _commands(result):
        console.print(Text(f"    {command}"), soft_wrap=True)
    if not result.is_good:
        console.print(Text("\nThis is not what had to come out: the numbers above do not agree.", style="bold red"))


def _commands(result: DemoResult) -> list[str]:
    show = f"sealstream show {result.record['event_id']} --tenant {result.tampering.tenant}"
    if result.kept is None:
        return ["sealstream demo --keep --dir ./demo", "sealstream up --dir ./demo"]
    return [f"sealstream up --dir {result.kept}", f". {result.kept}/environment && {show}"]
