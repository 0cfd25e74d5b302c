"""An attack: who performs it, what he does, and what must be reported where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

Attacker: TypeAlias = Literal["database owner", "Kafka administrator", "broken processor", "thief", "lying server"]
Where: TypeAlias = Literal[
    "verifier",
    "verify",
    "verify, store alone",
    "notary",
    "witness",
    "verify-proof",
    "sink",
    "processor",
    "verify-bundle",
    "proof",
]

StageT = TypeVar("StageT")


@dataclass(frozen=True, slots=True, order=True)
class Report:
    """What somebody must say of an attack.

    Arguments:
        where: Who says it.
        type: The type: a violation's (``edited``), or an error's name (``QuorumMissing``).
        tenant: The chain that it names; empty where the attack is on none.
        seq: The place in it; ``None`` where it has none.
    """

    where: Where
    type: str
    tenant: str = ""
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class Attack(Generic[StageT]):
    """A row of the attack table.

    Arguments:
        name: What is done, in a few words; the test's name.
        attacker: Who can do it.
        perform: Does it, lets those look who must notice, and returns what they reported: all of it.
        reports: What must come of it: exactly this, and nothing of another type.
        not_shown: What this row shows not to be noticed by somebody, in words; empty if nothing.
    """

    name: str
    attacker: Attacker
    perform: Callable[[StageT], list[Report]]
    reports: tuple[Report, ...]
    not_shown: str = ""
