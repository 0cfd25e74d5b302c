"""Chains that go on in another source topic: what the verifier demands of them, and what it carries over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sealstream.kafka.partition import partition_of
from sealstream.schemas.entry import Kind, epoch_payload, pack, parse, payload_digest
from sealstream.schemas.errors import HeadsDiffer
from sealstream.sinks.verifier.chains import Chains
from sealstream.sinks.verifier.epochs import distribute
from sealstream.sinks.verifier.partition import PartitionVerifier
from sealstream.sinks.verifier.records import Chain, ChainedRecord, Outcome
from sealstream.sinks.verifier.rules import Rules, SourceRecord
from sealstream.sinks.verifier.state import Position, StateReader, pack_chain, parse_chain
from support.model import ExpectedRecord, LostRange, Model, next_epoch
from support.model import SourceRecord as ModelRecord
from support.publish import event_value
from support.verifying import (
    GENESIS,
    LATEST,
    PARTITION,
    START_MS,
    TOPIC_ID,
    ChainedMessage,
    MemorySource,
    chained,
    source_record,
)

NEXT_TOPIC = bytes(range(16, 32))
NEXT_GENESIS = replace(GENESIS, partitions=8, window_offsets=60)
TENANTS = [f"t-{n}".encode() for n in range(200) if partition_of(f"t-{n}".encode(), 4) == PARTITION]
PLACE = partition_of(TENANTS[0], 8)
HERE = [tenant for tenant in TENANTS if partition_of(tenant, 8) == PLACE][:2]
NEW = next(name for n in range(200) if partition_of(name := f"n-{n}".encode(), 8) == PLACE)


def event(offset: int, tenant: bytes, name: str = "") -> SourceRecord:
    """Return an event at an offset."""
    return source_record(offset, tenant, event_value(tenant.decode(), name or f"e-{offset}"), START_MS + offset)


def modelled(partition: int, records: Sequence[SourceRecord | LostRange]) -> list[ModelRecord | LostRange]:
    """Return source records as the model takes them."""
    return [
        r if isinstance(r, LostRange) else ModelRecord(partition, r.offset, r.key, r.value, (r.received or 0) // 1000)
        for r in records
    ]


OLD = [*(event(n, HERE[n % 2]) for n in range(6)), source_record(6, None, b"x", START_MS + 6)]
FRESH = [event(0, HERE[0]), event(1, NEW), event(2, HERE[1]), event(3, HERE[0], "e-4")]


def epochs(fresh: Sequence[SourceRecord | LostRange]) -> tuple[dict[int, StateReader], list[ExpectedRecord]]:
    """Return what was verified of the old epoch, and what stands in the new one's partition."""
    model = Model(GENESIS, TOPIC_ID, PARTITION)
    model.expect(modelled(PARTITION, OLD))
    state = StateReader(PARTITION, POSITION)
    for name, known in model.chains.items():
        state.chains.put(Chain(name.encode(), known.seq, known.prev))
    following = next_epoch([model], NEXT_GENESIS, NEXT_TOPIC)[PLACE]
    return {PARTITION: state}, following.expect(modelled(PLACE, fresh))


POSITION = Position(
    chained=9,
    source=7,
    verified=7,
    chained_topic_id=bytes(16),
    source_topic_id=TOPIC_ID,
    genesis=GENESIS.payload(),
)


def verify(
    states: dict[int, StateReader],
    source: Sequence[SourceRecord],
    log: Sequence[ChainedRecord],
    *,
    batch: int = 1_000,
    begins_at: int = 0,
) -> tuple[PartitionVerifier, Outcome]:
    """Check the new epoch's log with what was carried over, as it comes back from its state."""
    chains = Chains()
    for chain in distribute(states, partitions=8)[PLACE]:
        chains.put(parse_chain(chain.name, pack_chain(chain)))
    chains.rest()
    rules = Rules(NEXT_GENESIS, NEXT_TOPIC, PLACE)
    verifier = PartitionVerifier(rules, MemorySource(source, begins_at=begins_at), chains=chains)
    whole, rest = Outcome(), [ChainedMessage(record) for record in log]
    while rest:
        messages, rest = rest[:batch], rest[batch:]
        outcome = verifier.check(messages, list, latest=LATEST)
        whole.published += outcome.published
        whole.violations += outcome.violations
        whole.kinds += outcome.kinds
    return verifier, whole


def found(outcome: Outcome) -> list[tuple[str, str, int | None]]:
    """Return type, chain and seq of what was reported."""
    return [(v.type.value, v.tenant, v.seq) for v in outcome.violations]


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_chains_go_on_with_an_epoch_entry_each(batch: int) -> None:
    """Known chains begin with kind 8, a new one with kind 0; an id from the old epoch is new here."""
    states, log = epochs(FRESH)

    verifier, outcome = verify(states, FRESH, chained(log), batch=batch)

    assert found(outcome) == []
    assert outcome.kinds == {Kind.EPOCH: 2, Kind.GENESIS: 1, Kind.EVENT: 4}
    assert len(outcome.published) == 4
    assert not any(chain.previous_topic for chain in verifier.chains.all() if chain.name in HERE)


def test_a_gap_may_be_the_first_entry_of_an_epoch() -> None:
    """The chain of a partition goes on with kind 8 before a gap, and is not opened a second time behind it."""
    behind = source_record(3, None, b"x", START_MS + 3)
    fresh = (LostRange(PARTITION, 0, 2, (START_MS + 3) * 1000), behind)
    model = Model(GENESIS, TOPIC_ID, PARTITION)
    model.expect(modelled(PARTITION, OLD))
    following = next_epoch([model], NEXT_GENESIS, NEXT_TOPIC)[PARTITION]
    log = chained(following.expect(modelled(PARTITION, fresh)))
    states, _ = epochs([])
    chains = Chains()
    for chain in distribute(states, partitions=8)[PARTITION]:
        chains.put(chain)
    source = MemorySource([behind], begins_at=3)
    verifier = PartitionVerifier(Rules(NEXT_GENESIS, NEXT_TOPIC, PARTITION), source, chains=chains)

    outcome = verifier.check([ChainedMessage(record) for record in log], list, latest=LATEST)

    assert found(outcome) == []
    assert outcome.kinds == {Kind.EPOCH: 1, Kind.GAP: 1, Kind.QUARANTINED: 1}


def forged(record: ChainedRecord, value: bytes | None = None, **fields: object) -> ChainedRecord:
    """Return a record whose entry says something else."""
    if value is not None:
        fields |= {"payload": payload_digest(value), "length": len(value)}
    entry = pack(replace(parse(record.entry or b""), **fields))  # type: ignore[arg-type]  # the fields are the test's
    return record._replace(entry=entry, value=record.value if value is None else value)


FORGERIES: dict[str, tuple[dict[str, object], bytes | None, str]] = {
    "another topic before": ({}, epoch_payload(NEXT_GENESIS, bytes(16)), "edited"),
    "other settings": ({}, epoch_payload(replace(NEXT_GENESIS, window_offsets=7), TOPIC_ID), "edited"),
    "another instance": ({}, epoch_payload(replace(NEXT_GENESIS, instance="else.example"), TOPIC_ID), "foreign"),
    "another end before": ({"prev": bytes(31) + b"x"}, None, "edited"),
    "a seq left out": ({"seq": 5}, None, "edited"),
    "another time": ({"received": 5}, None, "edited"),
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
def test_an_epoch_entry_is_checked_byte_for_byte(forgery: tuple[dict[str, object], bytes | None, str]) -> None:
    """It must go on where this verifier saw the chain end, and name the topic that it saw it in."""
    states, log = epochs(FRESH)
    records = chained(log)
    fields, value, kind = forgery

    _, outcome = verify(states, FRESH, [forged(records[0], value, **fields), *records[1:]])

    assert found(outcome)[0] == (kind, HERE[0].decode(), parse(log[0].entry).seq)
    assert {tenant for _, tenant, _ in found(outcome)} == {HERE[0].decode()}


def test_a_chain_that_begins_anew_in_the_new_epoch_is_noticed() -> None:
    """A genesis where a chain must go on would cut off all that stood before."""
    states, log = epochs(FRESH)
    begun = Model(NEXT_GENESIS, NEXT_TOPIC, PLACE).expect(modelled(PLACE, FRESH))

    _, outcome = verify(states, FRESH, chained(begun))

    assert {HERE[0].decode(), HERE[1].decode()} == {tenant for _, tenant, _ in found(outcome)}
    assert log


def test_a_missing_epoch_entry_is_a_gap() -> None:
    """Who goes on without it is found."""
    states, log = epochs(FRESH)

    _, outcome = verify(states, FRESH, chained(log[1:]))

    assert ("gap", HERE[0].decode(), parse(log[0].entry).seq) in found(outcome)


def test_what_is_known_of_a_chain_is_carried_over() -> None:
    """Open violations stay open, a chain that was silent keeps the topic it comes from, and none stands twice."""
    first, second = StateReader(0, POSITION), StateReader(1, POSITION)
    older = b"o" * 16
    first.chains.put(Chain(b"a", 3, bytes(32), open=["00" * 16]))
    first.chains.put(Chain(b"b", 4, bytes(32), previous_topic=older))
    first.chains.put(Chain(b"!partition-0", 5, bytes(32)))
    second.chains.put(Chain(b"!partition-1", 6, bytes(32)))
    placed = {chain.name: (n, chain) for n, several in distribute({0: first, 1: second}, partitions=1).items()
              for chain in several}  # fmt: skip

    assert placed.keys() == {b"a", b"b", b"!partition-0"}
    assert placed[b"a"][1].open
    assert placed[b"a"][1].previous_topic == TOPIC_ID
    assert placed[b"b"][1].previous_topic == older
    second.chains.put(Chain(b"a", 9, bytes(32)))
    with pytest.raises(HeadsDiffer, match="two partitions"):
        distribute({0: first, 1: second}, partitions=1)


def test_a_carried_chain_comes_back_as_it_was() -> None:
    """What is written of a carried chain is what is read, at rest and awake."""
    chain = Chain(b"a", 3, bytes(31) + b"x", previous_topic=TOPIC_ID)
    chains = Chains()
    chains.put(chain)
    chains.rest()

    assert parse_chain(b"a", pack_chain(chain)) == chain
    assert chains.get(b"a") == chain
    assert list(chains.all()) == [chain]
