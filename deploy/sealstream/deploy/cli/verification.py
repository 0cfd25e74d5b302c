"""``sealstream verify``: the store, recomputed."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from sealstream.deploy.cli.bundles import (
    BundleArgument,
    InstanceOption,
    refuse_beside_bundle,
    refuse_without_bundle,
    verify_bundle_file,
)
from sealstream.deploy.cli.comparison import (
    AgeOption,
    AtOption,
    CheckpointOption,
    LogOption,
    PolicyOption,
    RootsOption,
    RotationsOption,
    against_of,
)
from sealstream.deploy.cli.output import JsonOption, print_error, print_items, print_json, print_line, print_table
from sealstream.deploy.cli.progress import progress_bar

if TYPE_CHECKING:
    from sealstream.sinks.verifier.audit import VerifyResult

_PANEL = "Look and check"
_LevelName: TypeAlias = Literal["chain", "checkpoint", "witnessed", "anchored"]

_StateOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False, metavar="FILE", help="Remembers how far all was verified; the next run goes on from there."
    ),
]

_TenantOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Only this tenant's chain; refuse a BUNDLE of another.", show_default="all, or any"),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=_PANEL)(verify)


def verify(
    bundle: BundleArgument = None,
    *,
    tenant: _TenantOption = None,
    instance: InstanceOption = None,
    first_seq: Annotated[int | None, typer.Option("--from", min=0, metavar="SEQ", help="From this entry on.")] = None,
    last_seq: Annotated[int | None, typer.Option("--to", min=0, metavar="SEQ", help="Up to this entry.")] = None,
    state: _StateOption = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, metavar="N", help="Processes that share the work.", show_default="one a core"),
    ] = None,
    require: Annotated[_LevelName, typer.Option(metavar="LEVEL", help="The level that is needed.")] = "chain",
    policy: PolicyOption = None,
    rotations: RotationsOption = None,
    timestamp_roots: RootsOption = None,
    log: LogOption = None,
    checkpoint: CheckpointOption = None,
    at: AtOption = None,
    not_older_than: AgeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute the store, or an exported bundle, from its own bytes: every entry, every link, every payload; and hold
    it against what was published of it, where a policy says whom to believe about that.

    Exit code 0 if all of it holds, 1 if not, 2 if it could not be checked. What even a clean result cannot exclude is
    said with it. At the level "chain" nothing outside the store takes part. Levels above are those of the checkpoint
    that it was held against: "checkpoint" (the log has signed), "witnessed" (so has the policy's quorum), "anchored"
    (and a timestamp authority says by when). A bundle is checked with nothing but files: it, and a policy;
    one that is not of the tenant or instance that you ask for could not be checked.
    """
    if bundle is not None:
        refuse_beside_bundle(first_seq, last_seq, state, workers, log, checkpoint, not_older_than)
        judge = (policy, rotations, timestamp_roots, at)
        asked = (instance, tenant)
        raise typer.Exit(verify_bundle_file(bundle, *judge, *asked, require=require, as_json=as_json))
    refuse_without_bundle(instance)
    from sealstream.worker.settings import load_settings

    settings = load_settings()
    url = settings.database_url()
    against = against_of(
        settings,
        policy=policy,
        rotations=rotations,
        timestamp_roots=timestamp_roots,
        log=log,
        checkpoint=checkpoint,
        at=at,
        age_seconds_max=not_older_than,
    )
    from sealstream.sinks.verifier.audit import verify_store
    from sealstream.sinks.verifier.levels import Level

    with progress_bar("verifying") as on_progress:
        result = verify_store(
            url,
            tenant=tenant,
            first_seq=first_seq,
            last_seq=last_seq,
            require=Level[require.upper()],
            against=against,
            state_path=state,
            on_progress=on_progress,
            workers=workers or _cores(),
        )
    _print_result(result, as_json=as_json)
    raise typer.Exit(result.exit_code)


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _print_result(result: VerifyResult, *, as_json: bool) -> None:
    from sealstream.deploy.wording import verification_headline

    if as_json:
        print_json(result.to_dict())
        return
    if result.violations:
        rows = [(found.type.value, found.tenant, found.seq, found.message) for found in result.violations]
        print_table(("violation", "tenant", "seq", "what"), rows)
        if result.violations_total > len(result.violations):
            print_line(f"and {result.violations_total - len(result.violations):,} more", error=True)
    if result.entries or result.violations:
        print_line(verification_headline(result))
        print_line(f"level {result.level.word}, as of {result.as_of.isoformat(timespec='seconds')}")
        if result.growth:
            print_line(f"{result.growth:,} entries stand behind the checkpoint: they hold at the level chain")
        for name, seq in result.checked_through.items() if result.chains == 1 else ():
            print_line(f"{name} holds through seq {seq}")
        print_line("not excluded at this level:")
        print_items(result.not_excluded)
    if result.failure is not None:
        print_error(result.failure, as_json=False)
