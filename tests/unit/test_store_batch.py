"""Batches: what the Kafka client gives, from the positions on and nothing before them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sealstream.schemas.errors import SealInvalid
from sealstream.sinks.store.batch import batch_of
from support.chained import INSTANCE, Chains
from support.stores import Consumed


def _consumed(count: int) -> list[Consumed]:
    places: dict[int, int] = {}
    found: list[Consumed] = []
    for sealed in Chains().events(8, count):
        place = places.get(sealed.partition, 10)
        found.append(Consumed(sealed, place))
        places[sealed.partition] = place + 3  # what lies between are ends of transactions
    return found


def test_a_batch_begins_at_the_positions_and_ends_behind_its_last_records() -> None:
    """Each partition's records come in their order; the next position lies right behind the last one."""
    messages = _consumed(40)
    positions = dict.fromkeys(range(4), 10)
    batch = batch_of(messages, positions, topic="c", instance=INSTANCE)

    assert len(batch) == len(messages) == len(batch.all())
    assert batch.starts == positions
    for partition, records in batch.records.items():
        assert [record.offset for record in records] == [m.at for m in messages if m.partition() == partition]
        assert batch.ends[partition] == records[-1].offset + 1


def test_what_lies_before_a_position_or_comes_twice_is_dropped() -> None:
    """What is stored already is not stored again, not even if the client gives it once more."""
    messages = _consumed(40)
    cut = dict.fromkeys(range(4), 16)
    batch = batch_of([*messages, *messages], cut, topic="c", instance=INSTANCE)

    assert all(record.offset >= 16 for record in batch.all())
    assert len(batch) == sum(1 for message in messages if message.at >= 16)
    nothing = batch_of(messages, dict.fromkeys(range(4), 1000), topic="c", instance=INSTANCE)
    assert (len(nothing), nothing.ends) == (0, {})


def test_one_bad_seal_refuses_the_batch() -> None:
    """Nothing of a batch with a record that is not what its seal says gets further."""
    messages = _consumed(4)
    sealed = messages[-1].sealed
    messages[-1] = replace(messages[-1], sealed=replace(sealed, value=sealed.value + b"x"))
    with pytest.raises(SealInvalid):
        batch_of(messages, dict.fromkeys(range(4), 10), topic="c", instance=INSTANCE)
