"""``sealstream violations list | explain | resolve``: what the verifier and the sink have found."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Annotated

import typer

from sealstream.deploy.cli.output import (
    ExitCode,
    JsonOption,
    print_fields,
    print_items,
    print_json,
    print_line,
    print_table,
)
from sealstream.deploy.cli.settings import kafka_settings

if TYPE_CHECKING:
    from sealstream.sinks.verifier.violations import Recorded

_PANEL = "Look and check"
_ID_SHOWN = 12
_group = typer.Typer(help="What was found not to hold: list, explain, resolve.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_group, name="violations", rich_help_panel=_PANEL)


@_group.command("list")
def list_(
    *,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    unresolved: Annotated[bool, typer.Option("--open", help="Only those that nobody has resolved.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List violations in the order in which they were found. Exit code 1 if one is open."""
    settings = kafka_settings("violations")
    from sealstream.sinks.verifier.violations import list_violations

    recorded = [item for item in list_violations(settings, tenant=tenant) if item.is_open or not unresolved]
    if as_json:
        print_json([item.to_dict() for item in recorded])
    elif recorded:
        columns = ("id", "found (UTC)", "type", "state", "tenant", "seq", "what")
        print_table(columns, [_row(item) for item in recorded])
    else:
        print_line("no violations")
    if any(item.is_open for item in recorded):
        raise typer.Exit(ExitCode.FOUND)


@_group.command()
def explain(
    what: Annotated[str, typer.Argument(metavar="ID|TYPE", help="A violation's id, its first characters, or a type.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Explain a violation: what it means, what can have caused it, what to do."""
    from sealstream.schemas.violation import ViolationType
    from sealstream.sinks.verifier.violations import explain as explanation_of
    from sealstream.sinks.verifier.violations import find_violation

    recorded = None if what in set(ViolationType) else find_violation(kafka_settings("violations"), what)
    explanation = explanation_of(ViolationType(what) if recorded is None else recorded.violation.type)
    if as_json:
        found = {} if recorded is None else {"violation": recorded.to_dict()}
        print_json(found | {"explanation": explanation.to_dict()})
        return
    if recorded is not None:
        print_fields(_fields(recorded))
        print_line()
    print_line(f"{explanation.type.value}: {explanation.meaning}")
    print_line("\nIt can have been caused by")
    print_items(explanation.causes)
    print_line("\nWhat to do")
    print_items(explanation.what_to_do, numbered=True)


@_group.command()
def resolve(
    violation_id: Annotated[str, typer.Argument(metavar="ID", help="The violation's id, or its first characters.")],
    *,
    why: Annotated[str, typer.Option(help="What was found out and done; never an event's content.")],
    by: Annotated[str, typer.Option(help="Who resolves it.")],
    as_json: JsonOption = False,
) -> None:
    """Record that a violation was looked into, which lets the tenant's verified feed go on.

    Nothing is deleted: violation and resolution both stay on record.
    """
    settings = kafka_settings("violations")
    from sealstream.sinks.verifier.violations import find_violation
    from sealstream.sinks.verifier.violations import resolve as record_resolution

    full_id = find_violation(settings, violation_id).violation.id
    resolution = record_resolution(settings, full_id, by=by, why=why)
    if as_json:
        print_json(resolution.to_dict())
    else:
        print_line(f"resolved {full_id} of tenant {resolution.tenant}, by {resolution.by}")


def _row(item: Recorded) -> tuple[object, ...]:
    found = item.violation
    detected = found.detected_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return found.id[:_ID_SHOWN], detected, found.type.value, _state(item), found.tenant, found.seq, found.message


def _fields(item: Recorded) -> list[tuple[str, str]]:
    found, resolution = item.violation, item.resolution
    rows = [
        ("violation", found.id),
        ("type", found.type.value),
        ("state", _state(item)),
        ("tenant", found.tenant),
        ("seq", "" if found.seq is None else str(found.seq)),
        ("partition", str(found.partition)),
        ("offset", "" if found.offset is None else str(found.offset)),
        ("what", found.message),
        ("expected", found.expected),
        ("found", found.found),
        ("detected", found.detected_at.isoformat()),
    ]
    if resolution is not None:
        rows.append(("resolved", f"{resolution.resolved_at.isoformat()} by {resolution.by}: {resolution.why}"))
    return [(name, text) for name, text in rows if text]


def _state(item: Recorded) -> str:
    if item.resolution is not None:
        return "resolved"
    return "open" if item.is_open else item.violation.severity.value
