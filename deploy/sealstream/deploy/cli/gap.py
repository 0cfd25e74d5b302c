"""``sealstream gap list | accept``: what was lost before it was chained, and the way out."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sealstream.deploy.cli.output import (
    ExitCode,
    JsonOption,
    confirmed,
    print_fields,
    print_json,
    print_line,
    print_table,
)
from sealstream.deploy.cli.partitions import PartitionOption, chosen_partitions
from sealstream.deploy.cli.settings import kafka_settings
from sealstream.schemas.errors import ConfigError

if TYPE_CHECKING:
    from sealstream.processors.accepting import Acceptance
    from sealstream.processors.gap_listing import ListedGap
    from sealstream.processors.gaps import Gap

_PANEL = "Mend"
_group = typer.Typer(help="Source records that were lost before they were chained.", no_args_is_help=True)


class Reason(StrEnum):
    """Why a range is lost."""

    EXPIRED = "expired"
    DELETED = "deleted"
    TRUNCATED = "truncated"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_group, name="gap", rich_help_panel=_PANEL)


@_group.callback()
def _gap() -> None:
    """Source records that were lost before they were chained."""


@_group.command("list")
def list_(*, partition: PartitionOption = None, as_json: JsonOption = False) -> None:
    """List what is lost and not accepted, and what was accepted before. Exit code 1 if a range is open.

    A worker may run meanwhile. Where a range is open, none goes on until it is accepted.
    """
    settings = kafka_settings("gap")
    from sealstream.processors.gap_listing import GapState, list_gaps

    gaps = list_gaps(settings, chosen_partitions(settings, partition))
    open_ = [gap for gap in gaps if gap.state is GapState.OPEN]
    if as_json:
        print_json([_listed(gap) for gap in gaps])
    elif gaps:
        print_table(("partition", "from", "to", "state", "reason", "accepted at", "by", "why"), map(_row, gaps))
        for gap in open_:
            print_line(
                f"hint: sealstream gap accept --partition {gap.partition} --from {gap.first} --to {gap.last}"
                " --by WHO --why WHY",
                error=True,
            )
    else:
        print_line("nothing is lost, and nothing was accepted as lost")
    if open_:
        raise typer.Exit(ExitCode.FOUND)


@_group.command()
def accept(
    *,
    partition: Annotated[int, typer.Option(help="The source partition.")],
    first: Annotated[int, typer.Option("--from", help="The first lost offset.")],
    last: Annotated[int, typer.Option("--to", help="The last lost offset.")],
    by: Annotated[str, typer.Option(help="Who accepts it.")],
    why: Annotated[str, typer.Option(help="Why it may be accepted.")],
    reason: Annotated[
        Reason, typer.Option(help="Why it is lost: retention, somebody's deletion, or a log that was cut back.")
    ] = Reason.EXPIRED,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Accept that source records are lost for ever, so that chaining goes on behind them.

    The range must be exactly what is lost; the worker that stopped has named it. The loss becomes an entry of kind 7 in
    the chain of the partition, for ever. Workers take it in when they start again.
    """
    if as_json and not yes:
        raise ConfigError("--json does not ask", hint="give --yes as well")
    from sealstream.processors.accepting import prepare, record
    from sealstream.schemas.entry import GapReason

    settings = kafka_settings("gap")
    acceptance = prepare(
        settings, partition=partition, first=first, last=last, reason=GapReason[reason.name], by=by, why=why
    )
    if not as_json:
        print_fields(_fields(acceptance))
    if not yes and not confirmed("Record that these records are lost, and go on without them?"):
        print_line("nothing was recorded", error=True)
        raise typer.Exit(ExitCode.FAILED)
    record(settings, acceptance)
    if as_json:
        print_json({"accepted": True, "again": acceptance.recorded} | _document(acceptance))
    else:
        print_line("accepted. Start the processor again: it writes the entry and goes on.")


def _document(acceptance: Acceptance) -> dict[str, object]:
    gap = acceptance.gap
    place = {"partition": acceptance.partition, "topic": acceptance.topic, "from": gap.first, "to": gap.last}
    return place | _accepted(gap)


def _listed(gap: ListedGap) -> dict[str, object]:
    place = {"partition": gap.partition, "from": gap.first, "to": gap.last, "state": gap.state.value}
    return place | ({} if gap.acceptance is None else _accepted(gap.acceptance))


def _accepted(gap: Gap) -> dict[str, object]:
    return {
        "topic_id": gap.topic_id.hex(),
        "reason": gap.reason.name.lower(),
        "by": gap.by,
        "why": gap.why,
        "accepted_at": gap.accepted_at,
    }


def _row(gap: ListedGap) -> tuple[object, ...]:
    place, acceptance = (gap.partition, gap.first, gap.last, gap.state.value), gap.acceptance
    if acceptance is None:
        return (*place, None, None, None, None)
    return (*place, acceptance.reason.name.lower(), acceptance.accepted_at, acceptance.by, acceptance.why)


def _fields(acceptance: Acceptance) -> list[tuple[str, str]]:
    gap = acceptance.gap
    count = gap.last - gap.first + 1
    holds = f"{acceptance.start} to {acceptance.end - 1}" if acceptance.end > acceptance.start else "nothing"
    fields = [
        ("source", f"{acceptance.topic} partition {acceptance.partition}"),
        ("chained up to offset", str(acceptance.position)),
        ("the source holds", holds),
        ("lost", f"{gap.first} to {gap.last}: {count} offsets, at most as many records"),
        ("reason", gap.reason.name.lower()),
        ("by", gap.by),
        ("why", gap.why),
        ("entry", f"kind 7 in the chain !partition-{acceptance.partition}"),
    ]
    if acceptance.recorded:
        fields.append(("again", "this range was accepted before; this acceptance replaces that one"))
    return fields
