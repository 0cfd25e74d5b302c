"""What a broken or bought processor can write, and how the verifier and its witness name it.

The chainer goes on from its lies, so every chain holds by itself, and ``sealstream verify`` alone would find nothing:
only who reads the source as well can tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sealstream.schemas.entry import GapReason, Kind, Quarantine, parse, payload_digest
from support.attacks.attack import Attack, Report
from support.attacks.audited_log import (
    ACME,
    NEIGHBOUR,
    REFUSED,
    SEQ,
    STRANGER,
    UNSOUND,
    AuditedLog,
    Forge,
)
from support.forging import Log, abort_events, with_entry
from support.model import ExpectedRecord, LostRange
from support.publish import event_value

Lie = Callable[[AuditedLog], Forge]
_YEAR_MICROSECONDS: Final = 365 * 86_400 * 1_000_000
_NEWCOMER: Final = "wayne"
"""A tenant who has no chain yet."""


def _replace(log: Log, at: int, *records: ExpectedRecord) -> Log:
    return [*log[:at], *records, *log[at + 1 :]]


def _drop(log: Log, at: int) -> Log:
    return _replace(log, at)


def _alter(log: Log, at: int) -> Log:
    value = event_value(ACME, "e-8", note="nothing happened")
    altered = with_entry(log[at], payload=payload_digest(value), length=len(value))
    return _replace(log, at, replace(altered, value=value))


def _twice(log: Log, at: int) -> Log:
    return _replace(log, at, log[at], log[at])


def _swap(log: Log, at: int) -> Log:
    other = _next_of(log, at)
    log = list(log)
    log[at], log[other] = log[other], log[at]
    return log


def _next_of(log: Log, at: int) -> int:
    """Return where the next record of the same chain stands."""
    return next(index for index in range(at + 1, len(log)) if log[index].key == log[at].key)


def _to(tenant: str) -> Forge:
    def move(log: Log, at: int) -> Log:
        return _replace(log, at, replace(with_entry(log[at], tenant=tenant), key=tenant.encode()))

    return move


def _copy_to(tenant: str) -> Forge:
    def copy(log: Log, at: int) -> Log:
        return _replace(log, at, log[at], replace(with_entry(log[at], tenant=tenant), key=tenant.encode()))

    return copy


def _duplicate(log: Log, at: int) -> Log:
    return _replace(log, at, replace(with_entry(log[at], kind=Kind.DUPLICATE, ref=2), value=b""))


def _quarantine(log: Log, at: int) -> Log:
    reason = Quarantine.MALFORMED
    return _replace(log, at, replace(with_entry(log[at], kind=Kind.QUARANTINED, reason=reason, event_id=""), value=b""))


def _later(log: Log, at: int) -> Log:
    return _replace(log, at, with_entry(log[at], received=time.time_ns() // 1_000 + _YEAR_MICROSECONDS))


def _earlier(log: Log, at: int) -> Log:
    return _replace(log, at, with_entry(log[at], received=parse(log[at].entry).received - _YEAR_MICROSECONDS))


def _invent(log: Log, at: int) -> Log:
    """Chain an event that nobody published, at an offset that another one has."""
    value = event_value(ACME, "invented")
    invented = with_entry(log[at], payload=payload_digest(value), length=len(value), event_id="invented")
    return _replace(log, at, log[at], replace(invented, value=value))


def _skip(log: Log, at: int) -> Log:
    """Leave one seq out, and go on behind it; the caller links nothing anew."""
    skipped, before = list(log), None
    for index in range(at, len(log)):
        if log[index].key == log[at].key:
            seq = parse(log[index].entry).seq + 1
            one = with_entry(log[index], seq=seq) if before is None else with_entry(log[index], seq=seq, prev=before)
            skipped[index], before = one, one.hash
    return skipped


def forging(forge: Forge, *, attacked: tuple[str, ...] = (ACME,)) -> Callable[[AuditedLog], list[Report]]:
    """Return a row in which a processor writes a lie and goes on from it."""

    def perform(log: AuditedLog) -> list[Report]:
        log.begin()
        log.chain_forged(forge)
        return log.look(attacked=attacked)

    return perform


def _swap_two(log: AuditedLog) -> list[Report]:
    log.begin()
    log.chain_forged(_swap, of=(ACME,))
    return log.look()


def _same_twice(log: AuditedLog) -> list[Report]:
    log.begin()
    log.chain_forged(_twice, relinked=False, followed=False)
    return log.look()


def _skip_seq(log: AuditedLog) -> list[Report]:
    log.begin()
    log.chain_forged(_skip, relinked=False)
    return log.look()


def _declare_lost(log: AuditedLog) -> list[Report]:
    """Declare an event lost that the source has, and do not chain it."""
    log.begin()

    def declare(records: Log, at: int) -> Log:
        first = parse(records[at].entry).offset
        return _replace(records, at, *log.chainer.expect_lost(LostRange(0, first, first, 0, GapReason.EXPIRED)))

    log.chain_forged(declare)
    return log.look()


def _keep_from(log: AuditedLog) -> list[Report]:
    """Chain nothing of a tenant's from its first event on."""
    log.begin()
    log.chainer.publish((_NEWCOMER, "e-0"), (_NEWCOMER, "e-1"))
    logs = log.chainer.expected()
    log.chainer.write([[one for one in records if one.key != _NEWCOMER.encode()] for records in logs])
    return log.look(attacked=(_NEWCOMER,))


def _uncommitted(log: AuditedLog) -> list[Report]:
    """Chain an event whose transaction the application aborted."""
    log.begin()
    abort_events(log.pipeline, 1)  # in the partition of the attacked tenant

    def chain(records: Log, at: int) -> Log:
        offset = min(parse(one.entry).offset for one in records) - 2  # then comes the marker
        value = event_value(ACME, "never-0")
        aborted = with_entry(
            records[at], offset=offset, event_id="never-0", payload=payload_digest(value), length=len(value)
        )
        return _replace(records, at, replace(aborted, value=value), records[at])

    log.chain_forged(chain)
    return log.look()


def _genesis(**pins: object) -> Callable[[AuditedLog], list[Report]]:
    def perform(log: AuditedLog) -> list[Report]:
        log.begin()
        log.chainer.publish((_NEWCOMER, "e-0"))

        def pin(records: Log, at: int) -> Log:
            payload = replace(log.pipeline.genesis, **pins).payload()  # type: ignore[arg-type]  # the row's
            pinned = with_entry(records[at], payload=payload_digest(payload), length=len(payload))
            return _replace(records, at, replace(pinned, value=payload))

        log.chain_forged(pin, 0, tenant=_NEWCOMER)
        return log.look(attacked=(_NEWCOMER,))

    return perform


def _first_genesis(log: AuditedLog) -> list[Report]:
    """Pin another window in the first genesis that there is, before the verifier has seen any."""
    log.publish(count=2)

    def pin(records: Log, at: int) -> Log:
        payload = replace(log.pipeline.genesis, window_offsets=5).payload()
        pinned = with_entry(records[at], payload=payload_digest(payload), length=len(payload))
        return _replace(records, at, replace(pinned, value=payload))

    log.chain_forged(pin, 0)
    return [log.watch().wait_refused(), *log.findings()]


def _withhold(log: AuditedLog) -> list[Report]:
    """Chain nothing of the newest events of a partition: as if they were still to come."""
    log.begin()
    log.publish()
    return log.verdicts()


def _row(
    name: str, perform: Callable[[AuditedLog], list[Report]], *reports: tuple[str, str, int | None]
) -> Attack[AuditedLog]:
    """Return a row: what the verifier reports; the witness refuses a round for the first of it."""
    verifier = [Report("verifier", *one) for one in reports]
    _, tenant, seq = reports[0]
    return Attack(name, "broken processor", perform, (*verifier, Report("witness", REFUSED, tenant, seq)))


def _unsound(
    name: str, perform: Callable[[AuditedLog], list[Report]], *reports: tuple[str, str, int | None]
) -> Attack[AuditedLog]:
    """Return a row in which the source's records cannot be accounted for once each and in their order."""
    verifier = [Report("verifier", *one) for one in reports]
    return Attack(name, "broken processor", perform, (*verifier, Report("witness", UNSOUND)))


ROWS: Final = (
    _row("leaves an event out", forging(_drop), ("gap", ACME, SEQ)),
    _row("alters a payload before it is hashed", forging(_alter), ("edited", ACME, SEQ)),
    _row("writes one entry twice", _same_twice, ("fork", ACME, SEQ)),
    _unsound("chains one event twice", forging(_twice), ("edited", ACME, SEQ + 1)),
    _unsound("swaps two events", _swap_two, ("reordered", ACME, SEQ)),
    _row(
        "chains an event for a neighbour",
        forging(_to(NEIGHBOUR), attacked=(ACME, NEIGHBOUR)),
        ("foreign", ACME, SEQ),
        ("foreign", NEIGHBOUR, SEQ),
    ),
    _row("chains an event for a tenant of another partition", forging(_to(STRANGER)), ("foreign", ACME, SEQ)),
    _unsound(
        "chains an event for a neighbour as well",
        forging(_copy_to(NEIGHBOUR), attacked=(NEIGHBOUR,)),
        ("edited", NEIGHBOUR, SEQ),
    ),
    _row("marks a genuine event as a repeat", forging(_duplicate), ("edited", ACME, SEQ)),
    _row("quarantines a genuine event", forging(_quarantine), ("edited", ACME, SEQ)),
    _row(
        "declares an event lost",
        _declare_lost,
        ("gap", ACME, SEQ),
        ("edited", "!partition-0", 0),
        ("gap", "!partition-0", 1),
    ),
    _row("states a time in the future", forging(_later), ("edited", ACME, SEQ)),
    _row("states a time in the past", forging(_earlier), ("edited", ACME, SEQ)),
    _row("begins a chain as another instance's", _genesis(instance="other.example/audit"), ("foreign", _NEWCOMER, 0)),
    _row("begins a chain with another window", _genesis(window_offsets=5), ("edited", _NEWCOMER, 0)),
    Attack(
        "begins the first chain with another window",
        "broken processor",
        _first_genesis,
        (Report("verifier", "InstanceDiffers"),),
    ),
    _row("skips a seq", _skip_seq, ("edited", ACME, SEQ)),
    _unsound("invents an event", forging(_invent), ("edited", ACME, SEQ + 1)),
    _unsound("chains an event that was aborted", _uncommitted, ("edited", ACME, SEQ)),
    _row("chains nothing of a tenant", _keep_from, ("gap", _NEWCOMER, 0)),
    Attack(
        "withholds the newest events",
        "broken processor",
        _withhold,
        (),
        "nothing tells events that are withheld from those still to be chained, until a later one of their partition is"
        " chained; the verifier's lag, and a producer that waits for its event's proof",
    ),
)
