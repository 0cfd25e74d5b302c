"""What the demonstration is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sealstream.schemas.errors import ConfigError

EVENTS_MAX: Final = 10_000_000
TENANTS_MAX: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """The options of ``sealstream demo``.

    Arguments:
        events: Events to publish, all different.
        tenants: Tenants that they belong to.
        rate: Events a second; None for as fast as it goes.
        duplicates: How many of the events are sent once more, byte for byte, as a client without care would.
        bad: Records to send that are no events at all.
        directory: Where data and logs go; None for a temporary directory.
        keep: Leave the data where it is.

    Raises:
        ConfigError: The numbers contradict each other.
    """

    events: int = 2_000
    tenants: int = 5
    rate: float | None = None
    duplicates: int = 0
    bad: int = 0
    directory: Path | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be shown."""
        if self.tenants > self.events:
            raise ConfigError(
                f"{self.events} events are too few for {self.tenants} tenants", hint="each tenant has at least one"
            )
        if self.duplicates > self.events:
            raise ConfigError(f"{self.duplicates} of {self.events} events cannot be sent again")

    @property
    def records(self) -> int:
        """How many records the source has in the end."""
        return self.events + self.duplicates + self.bad
