"""Audit events that look like those of real products, from a seed: the same seed gives the same story."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from sealstream.schemas.event import Actor, AuditEvent, Context, Outcome, Target

_COMPANIES: Final = (
    "acme", "globex", "initech", "umbrella", "hooli", "stark", "wayne", "wonka", "tyrell", "cyberdyne", "soylent",
)  # fmt: skip
_PEOPLE: Final = (
    "Ada Byron", "Alan Mathison", "Barbara Liskov", "Edsger Wybe", "Grace Murray", "Hedy Lamarr", "Katherine Coleman",
    "Leslie Barry", "Margaret Hamilton", "Radia Joy", "Shafi Goldwasser", "Whitfield Diffie",
)  # fmt: skip
_AGENTS: Final = (
    "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) Safari/605.1.15",
    "acme-cli/3.2.1",
    "python-httpx2/2.16.2",
)
_PLACES: Final = ("Berlin, DE", "Lisbon, PT", "Nairobi, KE", "Osaka, JP", "Toronto, CA", "Montevideo, UY")
# RFC 5737: addresses for documentation, which belong to nobody.
_NETWORKS: Final = ("192.0.2.", "198.51.100.", "203.0.113.")
# A few tenants are busy and many are quiet, as in any product; every tenant has at least one event.
_BUSY_SHARE: Final = 0.5
_BUSY_TENANTS: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Deed:
    """One thing that happens in products.

    Arguments:
        action: The event's action.
        target: The kind of thing that it is done to, and the prefix of its id.
        weight: How often it happens.
        outcome: How it ends.
        metadata: Keys with values to choose from.
    """

    action: str
    target: tuple[str, str]
    weight: int
    outcome: Outcome = Outcome.SUCCESS
    metadata: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


_DEEDS: Final = (
    _Deed("session.created", ("session", "s"), 20, metadata={"method": ("password", "passkey", "sso")}),
    _Deed("session.created", ("session", "s"), 3, Outcome.DENIED, {"reason": ("wrong password", "account locked")}),
    _Deed("document.viewed", ("document", "d"), 30),
    _Deed("document.updated", ("document", "d"), 16, metadata={"field": ("title", "body", "owner")}),
    _Deed("document.exported", ("document", "d"), 4, metadata={"format": ("pdf", "csv")}),
    _Deed("document.deleted", ("document", "d"), 2),
    _Deed("invoice.approved", ("invoice", "i"), 6, metadata={"amount": ("120.00 EUR", "4300.00 EUR", "75.50 USD")}),
    _Deed("invoice.approved", ("invoice", "i"), 1, Outcome.DENIED, {"reason": ("limit exceeded",)}),
    _Deed("role.granted", ("user", "u"), 3, metadata={"role": ("admin", "editor", "billing")}),
    _Deed("role.revoked", ("user", "u"), 2, metadata={"role": ("admin", "editor", "billing")}),
    _Deed("api_key.rotated", ("api_key", "k"), 2),
    _Deed("export.started", ("report", "r"), 2, Outcome.FAILURE, {"error": ("storage unavailable",)}),
)
_WEIGHTS: Final = tuple(deed.weight for deed in _DEEDS)


def tenant_names(count: int) -> tuple[str, ...]:
    """Return so many tenants' names."""
    return tuple(_COMPANIES[n] if n < len(_COMPANIES) else f"tenant-{n + 1:04}" for n in range(count))


def events(count: int, tenants: tuple[str, ...], *, seed: int = 1) -> Iterator[AuditEvent]:
    """Yield events, one by one; every tenant has its first before any has many.

    Arguments:
        count: How many.
        tenants: Whose they are.
        seed: Decides who does what; ids, salts and times are new in every run.
    """
    chance = random.Random(seed)  # noqa: S311  # a story, not a secret
    busy = tenants[: max(1, int(len(tenants) * _BUSY_TENANTS))]
    for number in range(count):
        if number < len(tenants):
            tenant = tenants[number]
        else:
            tenant = chance.choice(busy if chance.random() < _BUSY_SHARE else tenants)
        yield _event(chance, tenant, number)


def _event(chance: random.Random, tenant: str, number: int) -> AuditEvent:
    deed = chance.choices(_DEEDS, _WEIGHTS)[0]
    kind, prefix = deed.target
    person = chance.randrange(len(_PEOPLE))
    return AuditEvent(
        tenant=tenant,
        actor=Actor("user", f"u-{1000 + person}", _PEOPLE[person]),
        action=deed.action,
        targets=(Target(kind, f"{prefix}-{chance.randrange(10_000, 100_000)}"),),
        outcome=deed.outcome,
        context=Context(
            ip=f"{chance.choice(_NETWORKS)}{chance.randrange(1, 255)}",
            user_agent=chance.choice(_AGENTS),
            location=chance.choice(_PLACES),
            request_id=f"req-{number:08x}",
        ),
        metadata={name: chance.choice(values) for name, values in deed.metadata.items()},
    )
