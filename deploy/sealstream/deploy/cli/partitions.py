"""The option ``--partition``, as every command has it that looks at partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from sealstream.schemas.errors import ConfigError

if TYPE_CHECKING:
    from sealstream.worker.settings import Settings

PartitionOption: TypeAlias = Annotated[
    int | None, typer.Option("--partition", min=0, metavar="N", help="Only this partition.", show_default="all")
]


def chosen_partitions(settings: Settings, partition: int | None) -> list[int]:
    """Return the partition that was asked for, or all of the instance's.

    Raises:
        ConfigError: There is no such partition.
    """
    if partition is None:
        return list(range(settings.partitions))
    if partition >= settings.partitions:
        raise ConfigError(
            f"there is no partition {partition}", hint=f"the instance has {settings.partitions}, numbered from 0"
        )
    return [partition]
