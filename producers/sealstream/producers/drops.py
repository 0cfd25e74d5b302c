"""Events that found no room: counted per tenant, and told in the tenant's own trail as soon as there is room again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sealstream.schemas.event import Actor, AuditEvent, Outcome

ACTION: Final = "sealstream.events.dropped"
ACTOR: Final = Actor("service", "sealstream-producer")
QUIET: Final = timedelta(seconds=1)
LONGEST: Final = timedelta(seconds=60)
TENANTS_MAX: Final = 10_000
"""Of how many tenants drops are counted apart; those of others stand in the statistics and at ``on_error`` only."""


@dataclass(slots=True)
class Dropped:
    """What one tenant lost.

    Arguments:
        count: How many events.
        since: When the first was let go.
        until: When the last was.
    """

    count: int
    since: datetime
    until: datetime


class Drops:
    """The counts that stand in no trail yet."""

    def __init__(self) -> None:
        self._of_tenant: dict[str, Dropped] = {}

    def __bool__(self) -> bool:
        """Return whether there is anything to tell."""
        return bool(self._of_tenant)

    def are_due(self, moment: datetime) -> bool:
        """Return whether it is time to tell: none was let go for a moment, or the first one long ago."""
        return any(
            moment - dropped.until >= QUIET or moment - dropped.since >= LONGEST for dropped in self._of_tenant.values()
        )

    def add(self, tenant: str, moment: datetime) -> None:
        """Count one event of a tenant."""
        dropped = self._of_tenant.get(tenant)
        if dropped is not None:
            dropped.count += 1
            dropped.until = moment
        elif len(self._of_tenant) < TENANTS_MAX:
            self._of_tenant[tenant] = Dropped(1, moment, moment)

    def restore(self, tenant: str, dropped: Dropped) -> None:
        """Take up a count that an earlier process kept."""
        self._of_tenant[tenant] = dropped

    def items(self) -> list[tuple[str, Dropped]]:
        """Return the counts as they stand."""
        return list(self._of_tenant.items())

    def first(self) -> tuple[str, Dropped] | None:
        """Return the count that has waited longest."""
        return next(iter(self._of_tenant.items()), None)

    def told(self, tenant: str) -> None:
        """Forget a count that was logged."""
        self._of_tenant.pop(tenant, None)


def event_of(tenant: str, dropped: Dropped) -> AuditEvent:
    """Return the event that tells a tenant's trail what is missing from it."""
    return AuditEvent(
        tenant=tenant,
        actor=ACTOR,
        action=ACTION,
        outcome=Outcome.FAILURE,
        metadata={
            "count": str(dropped.count),
            "since": dropped.since.astimezone(UTC).isoformat(),
            "until": dropped.until.astimezone(UTC).isoformat(),
        },
    )
