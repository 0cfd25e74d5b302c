"""``sealstream verify BUNDLE``: what an exported bundle shows, judged with nothing but files."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from sealstream.deploy.cli.output import print_error, print_fields, print_items, print_json, print_line, print_table
from sealstream.deploy.cli.progress import progress_bar
from sealstream.deploy.cli.reading import read_file, reader_of
from sealstream.schemas.errors import ConfigError

if TYPE_CHECKING:
    from sealstream.schemas.bundle_check import BundleResult

BundleArgument: TypeAlias = Annotated[
    Path | None,
    typer.Argument(metavar="BUNDLE", help="A file of `sealstream export`, instead of the store.", show_default=False),
]

InstanceOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Refuse a BUNDLE of another instance.", show_default="any")
]


def refuse_without_bundle(instance: str | None) -> None:
    """Refuse an option that is about a bundle: a store is that of the instance in the settings.

    Raises:
        ConfigError: It is given.
    """
    if instance is not None:
        raise ConfigError(
            "--instance says which instance a bundle must be of, and no bundle is given",
            hint="a store is judged by the settings: set SEALSTREAM_INSTANCE",
        )


def refuse_beside_bundle(*others: object) -> None:
    """Refuse options that are about a store.

    Raises:
        ConfigError: One of them is given.
    """
    if any(one is not None for one in others):
        raise ConfigError(
            "a bundle is checked as a whole, and with nothing but files",
            hint="with BUNDLE: --tenant, --instance, --policy, --rotations, --timestamp-roots, --at, --require, --json",
        )


def verify_bundle_file(
    bundle: Path,
    policy: Path | None,
    rotations: Path | None,
    timestamp_roots: Path | None,
    at: datetime | None,
    instance: str | None,
    tenant: str | None,
    *,
    require: str,
    as_json: bool,
) -> int:
    """Check a bundle with nothing but files, print what it shows, and return the exit code.

    Arguments:
        bundle: The bundle.
        policy: Whom its reader believes.
        rotations: Records by which keys followed one another.
        timestamp_roots: The certificates of the timestamp authorities that he believes.
        at: The time to judge as of; ``None`` for now.
        instance: The instance that was asked for; ``None`` for any.
        tenant: The tenant that was asked for; ``None`` for any.
        require: The name of the level that is needed.
        as_json: Print JSON.

    Raises:
        ConfigError: A file cannot be read, or it is not said whom to believe.
        PolicyInvalid: The policy does not parse.
        RotationInvalid: The records of keys do not parse.
    """
    from sealstream.schemas.bundle_check import verify_bundle
    from sealstream.schemas.evidence import ProofLevel
    from sealstream.worker.settings import load_settings

    settings = load_settings()
    reader = reader_of(policy, rotations, at, settings=settings)
    roots = settings.timestamp_roots.encode() if timestamp_roots is None else read_file(timestamp_roots)
    needed = ProofLevel.CHECKPOINT if require == "chain" else ProofLevel[require.upper()]
    try:
        with bundle.open("rb") as file, progress_bar("verifying") as on_progress:
            result = verify_bundle(
                file.readline,
                reader,
                timestamp_roots=roots or None,
                origin=instance,
                tenant=tenant,
                require=needed,
                on_progress=on_progress,
            )
    except OSError as error:
        raise ConfigError(f"{bundle} cannot be read: {error.strerror or error}") from error
    if as_json:
        print_json(result.to_dict())
    else:
        _print(result)
    return result.exit_code


def _print(result: BundleResult) -> None:
    if result.violations:
        rows = [(found.type.value, found.tenant, found.seq, found.message) for found in result.violations]
        print_table(("violation", "tenant", "seq", "what"), rows)
        if result.violations_total > len(result.violations):
            print_line(f"and {result.violations_total - len(result.violations):,} more", error=True)
        print_line(f"the bundle does not hold ({result.entries:,} entries checked)")
    if result.is_valid:
        what = f"complete from seq {result.first} to {result.last}"
        print_line(f"clean: {result.tenant} is {what}: {result.entries:,} entries hold")
    if result.shown is not None:
        print_fields(_rows(result))
        print_line("not excluded:")
        print_items(result.not_excluded)
    if result.failure is not None:
        print_error(result.failure, as_json=False)


def _rows(result: BundleResult) -> list[tuple[str, str]]:
    shown = result.shown
    assert shown is not None
    checkpoint = shown.trusted.checkpoint
    return [
        ("level", shown.level.word),
        ("instance", checkpoint.origin),
        *(("in the log by", f"{_time(one.time_seconds)} ({one.by})") for one in shown.existed_by),
        ("checkpoint", f"size {checkpoint.size}, root {checkpoint.root.hex()}"),
        ("signed by", f"{shown.trusted.log_key.name}+{shown.trusted.log_key.key_id.hex()}"),
        *(("cosigned by", f"{one.witness} at {_time(one.time_seconds)}") for one in shown.trusted.cosignatures),
    ]


def _time(time_seconds: int) -> str:
    try:
        return datetime.fromtimestamp(time_seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{time_seconds} s since 1970"  # beyond the calendar
