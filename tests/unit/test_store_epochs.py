"""Where a chain goes on in another epoch, the store waits for what it lacks of the one before."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sealstream.kafka.topics import SEAL_ENTRY_HEADER
from sealstream.schemas.entry import Genesis, Kind
from sealstream.schemas.errors import InstanceDiffers, Unreachable
from sealstream.schemas.violation import ViolationType
from sealstream.sinks.store.continuity import NO_HEAD, Head, discontinuity, follow
from sealstream.sinks.store.records import ChainedRecord, read_record
from support.model import ExpectedRecord, Model, SourceRecord, next_epoch
from support.publish import event_value

GENESIS = Genesis("test.example/audit", 1)
TENANT = "acme"


def records_of(partition: int, *names: str) -> list[SourceRecord]:
    """Return events of one tenant."""
    values = [event_value(TENANT, name) for name in names]
    return [SourceRecord(partition, n, TENANT.encode(), value, 1_700_000_000_000) for n, value in enumerate(values)]


def stored(records: Sequence[ExpectedRecord], instance: str = GENESIS.instance) -> list[ChainedRecord]:
    """Return records as the sink reads them."""
    return [
        read_record("t", 0, n, r.key, r.value, [(SEAL_ENTRY_HEADER, r.entry)], instance=instance)
        for n, r in enumerate(records)
    ]


def epochs() -> tuple[list[ExpectedRecord], list[ExpectedRecord]]:
    """Return what two epochs made of one tenant."""
    model = Model(GENESIS, bytes(16), 0)
    old = model.expect(records_of(0, "a", "b"))
    [following] = next_epoch([model], GENESIS, b"n" * 16)
    return old, following.expect(records_of(0, "c"))


def test_an_epoch_goes_on_where_the_one_before_ended() -> None:
    """With all of the old epoch stored, the new one's records are the next ones of their chain."""
    old, new = (stored(records) for records in epochs())
    heads, unbroken = follow({}, old)
    assert unbroken
    assert discontinuity(heads[TENANT], new[0], instance=GENESIS.instance) is None
    assert new[0].kind == Kind.EPOCH
    assert follow(heads, new)[1]


def test_what_is_still_to_come_from_the_epoch_before_is_no_gap() -> None:
    """The old epoch's sink may be behind: that is waited for, and nothing is reported."""
    old, new = (stored(records) for records in epochs())
    for head in (NO_HEAD, Head(old[1].seq, old[1].hash)):
        with pytest.raises(Unreachable, match="goes on with entry 3"):
            discontinuity(head, new[0], instance=GENESIS.instance)
    other = discontinuity(Head(old[-1].seq, bytes(32)), new[0], instance=GENESIS.instance)
    gap = discontinuity(Head(old[-1].seq, old[-1].hash), new[1], instance=GENESIS.instance)

    assert other is not None
    assert other.type is ViolationType.EDITED
    assert gap is not None
    assert gap.type is ViolationType.GAP


def test_an_epoch_of_another_instance_is_not_stored() -> None:
    """As with a genesis, a store holds one instance."""
    _, new = epochs()
    with pytest.raises(InstanceDiffers):
        stored(new, instance="else.example/audit")
