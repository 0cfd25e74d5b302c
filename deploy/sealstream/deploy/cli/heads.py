"""``sealstream heads show | check | rebuild | restore-offsets``: where chains end, and from where workers go on."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sealstream.deploy.cli.output import (
    ExitCode,
    JsonOption,
    print_fields,
    print_json,
    print_line,
    print_table,
)
from sealstream.deploy.cli.partitions import PartitionOption, chosen_partitions
from sealstream.deploy.cli.settings import kafka_settings
from sealstream.schemas.errors import ConfigError

if TYPE_CHECKING:
    from sealstream.processors.keeper import HeadsKeeper, HeadsView, PartitionCheck, PartitionRebuild
    from sealstream.worker.settings import Settings

_PANEL = "Mend"
_group = typer.Typer(help="Where chains end, and from where processors go on: show, check, mend.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_group, name="heads", rich_help_panel=_PANEL)


@_group.command()
def show(
    tenant: Annotated[str | None, typer.Argument(help="Only where this tenant's chain ends.")] = None,
    *,
    partition: PartitionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far each partition is chained and how many chains it has, or where one tenant's chain ends.

    A worker may run meanwhile.
    """
    settings = kafka_settings("heads")
    if tenant is not None:
        _show_tenant(settings, tenant, as_json=as_json)
        return
    with _keeper(settings) as keeper:
        views = list(keeper.show(chosen_partitions(settings, partition)))
    if as_json:
        print_json([_view_fields(view) for view in views])
        return
    columns = ("partition", "position", "committed", "last chained", "source end", "chains")
    print_table(
        columns,
        [(v.partition, v.position, v.committed, v.last_offset, v.source_end, f"{v.chains:,}") for v in views],
    )


@_group.command()
def check(*, partition: PartitionOption = None, as_json: JsonOption = False) -> None:
    """Compute the heads anew from audit.chained, and compare them with audit.heads and the committed offsets.

    Each chain is verified on the way. Nothing is changed, and workers may run meanwhile. Exit code 1 if anything
    differs.
    """
    settings = kafka_settings("heads")
    with _keeper(settings) as keeper:
        checks = list(keeper.check(chosen_partitions(settings, partition)))
    total = sum(found.differences_total for found in checks)
    if as_json:
        print_json({"ok": not total, "partitions": checks})
    else:
        _print_checks(checks)
        if total:
            print_line(f"error: {total:,} differences", error=True)
            print_line("hint: sealstream heads rebuild, while no processor runs", error=True)
    if total:
        raise typer.Exit(ExitCode.FOUND)


@_group.command()
def rebuild(*, partition: PartitionOption = None, as_json: JsonOption = False) -> None:
    """Write the heads anew from audit.chained, with the committed offsets, and prove them equal by a restore.

    No processor may run: it waits for the sessions of those that were stopped, and puts out one that comes meanwhile.
    Heads of tenants that have no entry left in audit.chained are kept, if they can be proven. Each partition is one
    transaction; after an interruption run it again.
    """
    settings = kafka_settings("heads")
    with _keeper(settings) as keeper:
        rebuilt = list(keeper.rebuild(chosen_partitions(settings, partition)))
    remaining = [item for item in rebuilt if item.remaining]
    if as_json:
        print_json({"ok": not remaining, "partitions": rebuilt})
    else:
        _print_rebuilt(rebuilt)
        for item in remaining:
            print_line(f"error: partition {item.partition} is mended, but not ready: {item.remaining}", error=True)
    if remaining:
        raise typer.Exit(ExitCode.FOUND)


@_group.command("restore-offsets")
def restore_offsets(*, partition: PartitionOption = None, as_json: JsonOption = False) -> None:
    """Commit the processors' offsets anew from the heads, once audit.chained has confirmed these.

    Offsets of a group expire when no worker ran for long (offsets.retention.minutes, 7 days by default). No processor
    may run. Exit code 1, and nothing is committed, if the heads are not those of audit.chained.
    """
    settings = kafka_settings("heads")
    with _keeper(settings) as keeper:
        positions = keeper.restore_offsets(chosen_partitions(settings, partition))
    if as_json:
        print_json({"committed": positions})
    elif positions:
        print_table(("partition", "committed"), sorted(positions.items()))
    else:
        print_line("nothing was ever chained: there is nothing to commit")


def _show_tenant(settings: Settings, tenant: str, *, as_json: bool) -> None:
    from sealstream.kafka.partition import partition_of
    from sealstream.schemas.entry import is_tenant, partition_chain

    apart = {partition_chain(n): n for n in range(settings.partitions)}
    if tenant not in apart and not is_tenant(tenant):
        raise ConfigError(f"{tenant!r} is no tenant", hint="1 to 64 of A-Za-z0-9_.-, beginning with a letter or digit")
    partition = apart.get(tenant, partition_of(tenant.encode(), settings.partitions))
    with _keeper(settings) as keeper:
        [view] = keeper.show([partition], chain=tenant.encode())
    if view.chain is None:
        raise ConfigError(
            f"tenant {tenant} has no chain in partition {partition}",
            hint="nothing of it was chained yet; sealstream heads show tells how far the partition is",
        )
    fields = _view_fields(view)
    if as_json:
        print_json(fields)
    else:
        print_fields([(name.replace("_", " "), str(value)) for name, value in fields.items() if value is not None])


def _view_fields(view: HeadsView) -> dict[str, object]:
    fields: dict[str, object] = asdict(view)
    del fields["chain"]
    link = view.chain
    if link is None:
        return fields
    return {"tenant": link.name.decode(), "last_seq": link.seq - 1, "last_hash": link.hash.hex()} | fields


def _print_checks(checks: list[PartitionCheck]) -> None:
    rows = [
        (item.partition, item.type.value, item.chain, item.message, item.expected, item.found)
        for found in checks
        for item in found.differences
    ]
    if rows:
        print_table(("partition", "differs", "chain", "what", "expected", "found"), rows)
    for found in checks:
        told = len(found.differences)
        if found.differences_total > told:
            print_line(f"and {found.differences_total - told:,} more in partition {found.partition}", error=True)
    columns = ("partition", "position", "committed", "chains", "of them without an entry left", "entries verified")
    print_table(
        columns,
        [(c.partition, c.position, c.committed, f"{c.chains:,}", f"{c.kept:,}", f"{c.entries:,}") for c in checks],
    )


def _print_rebuilt(rebuilt: list[PartitionRebuild]) -> None:
    if not rebuilt:
        print_line("nothing was ever chained: there is nothing to rebuild")
        return
    columns = ("partition", "position", "chains", "written", "removed", "without an entry left")
    print_table(
        columns,
        [
            (item.partition, item.position, f"{item.chains:,}", f"{item.written:,}", item.removed, f"{item.kept:,}")
            for item in rebuilt
        ],
    )
    for item in rebuilt:
        if item.back_from is not None:
            print_line(
                f"partition {item.partition} goes back from source offset {item.back_from} to {item.position}:"
                " what lies between is chained anew, to the same bytes",
                error=True,
            )


@contextmanager
def _keeper(settings: Settings) -> Generator[HeadsKeeper]:
    """Open the heads, and show on standard error how far it is, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sealstream.processors.keeper import HeadsKeeper

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def tell(words: str, done: int, total: int) -> None:
            progress.update(task, description=words, completed=done, total=total or None)

        keeper = HeadsKeeper(settings, on_progress=tell)
        try:
            yield keeper
        finally:
            keeper.close()
