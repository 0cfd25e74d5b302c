"""Options of ``sealstream verify`` that say what the store is compared with, and whom to believe about it."""

# ruff: noqa: PLC0415 - what a command works with is imported when it runs, see the package's docstring
from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from sealstream.deploy.cli.reading import read_file
from sealstream.deploy.cli.times import time_option
from sealstream.schemas.errors import ConfigError

if TYPE_CHECKING:
    from sealstream.sinks.verifier.published import Against
    from sealstream.worker.settings import Settings

_FILE_BYTES_MAX: Final = 4_000_000

PolicyOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(dir_okay=False, metavar="FILE", help="Whom you believe.", show_default="SEALSTREAM_POLICY"),
]
RotationsOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(dir_okay=False, metavar="FILE", help="Records of rotated keys.", show_default="SEALSTREAM_ROTATIONS"),
]
RootsOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        metavar="FILE",
        help="Certificates (PEM) that a timestamp must lead to.",
        show_default="SEALSTREAM_TIMESTAMP_ROOTS",
    ),
]
LogOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Where the logs are published.", show_default="SEALSTREAM_LOG_STORAGE"),
]
CheckpointOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False, metavar="FILE", help="A root checkpoint that you kept: what is published must continue it."
    ),
]
AtOption: TypeAlias = Annotated[datetime | None, time_option("Judge keys and signatures as of then; by default, now.")]
AgeOption: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="SECONDS", help="How old the checkpoint may be.", show_default="any age")
]


def against_of(
    settings: Settings,
    *,
    policy: Path | None,
    rotations: Path | None,
    timestamp_roots: Path | None,
    log: str | None,
    checkpoint: Path | None,
    at: datetime | None,
    age_seconds_max: int | None,
) -> Against | None:
    """Return what the store is to be compared with; ``None`` if neither options nor settings say anything of it.

    Raises:
        ConfigError: A file cannot be read, a setting is malformed, or it is not said whom to believe.
    """
    from sealstream.sinks.verifier.published import Against
    from sealstream.worker.evidence_settings import map_secret_of

    storage = log or settings.log_storage
    is_asked = any(one is not None for one in (policy, log, checkpoint, age_seconds_max))
    believed = _set(settings.policy) if policy is None else read_file(policy)
    if not believed:
        if is_asked:
            raise ConfigError("it is not said whom to believe", hint="give --policy, or set SEALSTREAM_POLICY_FILE")
        return None
    if not storage and not is_asked:
        return None
    return Against(
        policy=believed,
        rotations=_set(settings.rotations) if rotations is None else read_file(rotations),
        storage=storage,
        checkpoint=None if checkpoint is None else read_file(checkpoint),
        instance=settings.instance if "instance" in settings.model_fields_set else "",
        notary_database=settings.notary_database.get_secret_value(),
        map_secret=map_secret_of(settings) if settings.map_secret.get_secret_value() else b"",
        timestamp_roots=settings.timestamp_roots if timestamp_roots is None else _text(timestamp_roots),
        now_seconds=None if at is None else int(at.timestamp()),
        age_seconds_max=age_seconds_max,
    )


def _set(document: str) -> bytes:
    from sealstream.worker.evidence_settings import whole

    return whole(document) if document else b""


def _text(path: Path) -> str:
    return read_file(path).decode("ascii", "replace")
