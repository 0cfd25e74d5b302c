"""Whether a batch goes on where the chains ended, and what is said if it does not."""

from __future__ import annotations

import pytest

from sealstream.schemas.violation import ViolationType
from sealstream.sinks.store.continuity import NO_HEAD, Head, Run, discontinuity, extend, follow, goes_on
from sealstream.sinks.store.records import ChainedRecord, read_record
from support.chained import INSTANCE, Chains, Sealed


def _records(sealed: list[Sealed]) -> list[ChainedRecord]:
    return [
        read_record("c", one.partition, 0, one.key, one.value, [("seal-entry", one.entry)], instance=INSTANCE)
        for one in sealed
    ]


def test_a_log_is_followed_whatever_the_batches() -> None:
    """Heads after a log are the same for every split into batches, and nothing in it counts as broken."""
    records = _records(Chains().events(3, 20))
    whole, unbroken = follow({}, records)
    assert unbroken

    for cut in range(len(records)):
        first, sound = follow({}, records[:cut])
        second, also_sound = follow(first, records[cut:])
        assert sound
        assert also_sound
        assert first | second == whole


def test_any_record_left_out_is_noticed() -> None:
    """Without one of its records a chain does not pass as unbroken, unless it was the last one."""
    chains = Chains()
    records = _records([record for n in range(5) for record in chains.event("acme", f"ev-{n}")])
    for missing in range(len(records) - 1):
        assert not follow({}, records[:missing] + records[missing + 1 :])[1]


def test_an_entry_of_another_history_is_noticed() -> None:
    """An entry in the right place that was chained to another one does not pass as the next one."""
    chains = Chains()
    chain = _records([record for n in range(2) for record in chains.event("acme", f"ev-{n}")])
    other = _records(Chains().event("acme", "ev-other"))

    assert other[0].hash == chain[0].hash
    assert follow({}, [*other, chain[2]])[1] is False
    assert follow({}, [*other[:1], *chain[1:]])[1] is True


def test_each_break_has_its_own_name() -> None:
    """What is missing is a gap, what comes late is reordered, what does not follow is edited."""
    chains = Chains()
    records = _records([record for n in range(4) for record in chains.event("acme", f"ev-{n}")])
    heads = [NO_HEAD, *(Head(record.entry.seq, record.hash) for record in records)]

    for head, record in zip(heads, records, strict=False):
        assert discontinuity(head, record, instance=INSTANCE) is None
    gap = discontinuity(heads[1], records[3], instance=INSTANCE)
    late = discontinuity(heads[4], records[2], instance=INSTANCE)
    other = discontinuity(Head(1, bytes(32)), records[2], instance=INSTANCE)
    assert gap is not None
    assert late is not None
    assert other is not None
    assert (gap.type, gap.seq) == (ViolationType.GAP, 1)
    assert (late.type, late.seq) == (ViolationType.REORDERED, 2)
    assert (other.type, other.seq) == (ViolationType.EDITED, 2)
    assert all(found.tenant == "acme" and found.offset is not None for found in (gap, late, other))


@pytest.mark.parametrize("distance", [1, 2])
def test_a_head_follows_the_log_back(distance: int) -> None:
    """Where records come again, the head is that of the last one that came: it belongs to the position."""
    chains = Chains()
    records = _records([record for n in range(4) for record in chains.event("acme", f"ev-{n}")])
    moved, _ = follow({}, [*records, *records[:-distance]])

    last = records[-distance - 1]
    assert moved["acme"] == Head(last.entry.seq, last.hash)


def test_runs_say_what_following_says() -> None:
    """What is found before the heads are known is what is found with them, for every part of a log, broken or not."""
    log = _records(Chains().events(3, 12))
    for first in range(len(log)):
        heads = follow({}, log[:first])[0]
        for part in (log[first:], log[first + 1 :], log[first : first + 3] + log[first + 4 :], log[first:][::-1]):
            runs: dict[str, Run] = {}
            unbroken = extend(runs, part[:2])
            unbroken = extend(runs, part[2:]) and unbroken
            moved, expected = follow(heads, part)
            assert (unbroken and goes_on(heads, runs)) == expected
            assert {tenant: run.head for tenant, run in runs.items()} == moved
