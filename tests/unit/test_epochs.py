"""What an epoch's start carries over, and the marks that keep workers of the wrong epoch from chaining."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.kafka.partition import partition_of
from sealstream.processors.chaining import Link, PartitionState, Rules, chain
from sealstream.processors.epoch_end import EpochEnd, end_key
from sealstream.processors.epochs import distribute
from sealstream.processors.heads import (
    HeadsReader,
    PackedHeads,
    PartitionHead,
    chain_key,
    pack_link,
    parse_link,
    partition_key,
)
from sealstream.schemas.entry import Genesis, Kind, parse
from sealstream.schemas.errors import FormatError, HeadsDiffer
from sealstream.worker.settings import load_settings
from support.model import SourceRecord
from support.records import MessageLike

TOPIC_ID, NEXT_TOPIC = bytes(range(16)), bytes(range(16, 32))
TENANTS = [f"t-{n}".encode() for n in range(40)]
HASHES = st.binary(min_size=32, max_size=32)
UUIDS = st.binary(min_size=16, max_size=16)


@given(st.integers(1, 2**62), HASHES, UUIDS | st.just(b""))
def test_the_end_of_a_chain_comes_back_as_it_was(seq: int, digest: bytes, previous: bytes) -> None:
    """What audit.heads holds of a chain, carried over or not, is what was written."""
    link = Link(b"acme", seq, digest, previous)

    assert parse_link(b"acme", pack_link(link)) == link


def heads_of(*names: bytes, seq: int = 5) -> PackedHeads:
    """Return heads with these chains."""
    heads = PackedHeads()
    for name in names:
        heads.put(Link(name, seq, name.ljust(32, b"x")))
    return heads


def old_heads() -> dict[int, tuple[bytes, PackedHeads]]:
    """Return four partitions with their tenants and their own chains."""
    placed = {n: [t for t in TENANTS if partition_of(t, 4) == n] for n in range(4)}
    return {n: (TOPIC_ID, heads_of(*names, b"!partition-%d" % n)) for n, names in placed.items()}


@pytest.mark.parametrize("partitions", [1, 3, 4, 8])
def test_each_chain_goes_to_the_partition_of_its_name(partitions: int) -> None:
    """Tenants go where their key belongs, a partition's chain to its number, and each says where it comes from."""
    carried, left = distribute(old_heads(), partitions=partitions)

    places = {name: n for n, heads in carried.items() for name in heads.packed}
    own = {b"!partition-%d" % n: n for n in range(min(4, partitions))}
    assert places == {tenant: partition_of(tenant, partitions) for tenant in TENANTS} | own
    assert left == tuple(f"!partition-{n}" for n in range(partitions, 4))
    assert all(
        parse_link(name, value) == Link(name, 5, name.ljust(32, b"x"), TOPIC_ID)
        for heads in carried.values()
        for name, value in heads.packed.items()
    )


def test_a_chain_that_was_silent_keeps_the_topic_that_it_comes_from() -> None:
    """Over two epochs, the older topic counts."""
    heads = PackedHeads()
    heads.put(Link(b"acme", 5, bytes(32), b"o" * 16))
    carried, _ = distribute({0: (TOPIC_ID, heads)}, partitions=1)
    link = carried[0].get(b"acme")

    assert link is not None
    assert link.previous_topic == b"o" * 16


def test_a_chain_in_two_partitions_is_refused() -> None:
    """Heads that contradict each other carry nothing over."""
    with pytest.raises(HeadsDiffer, match="two partitions"):
        distribute({0: (TOPIC_ID, heads_of(b"acme")), 1: (TOPIC_ID, heads_of(b"acme"))}, partitions=8)


def test_what_is_written_is_what_a_restore_reads() -> None:
    """Carried heads pass the proof that none is missing, before and behind the first entry."""
    rules = Rules(Genesis("test.example/audit", 1), NEXT_TOPIC)
    carried, _ = distribute(old_heads(), partitions=1)
    state = PartitionState(0, carried[0], rules.window())
    reader = HeadsReader(0)
    for name, value in carried[0].packed.items():
        reader.feed(chain_key(0, name), value)
    reader.feed(partition_key(0), PartitionHead.of(state, rules).pack())
    assert reader.head is not None
    assert reader.head.covers(reader.heads)
    state.heads = reader.heads
    records = [MessageLike(SourceRecord(0, n, TENANTS[0], b"x", 1_700_000_000_000)) for n in range(2)]
    made = chain(rules, state, records)

    assert [parse(entry).kind for _, _, entry, _ in made.sealed] == [Kind.EPOCH, Kind.QUARANTINED, Kind.QUARANTINED]
    assert parse(made.sealed[0][2]).seq == 5
    assert PartitionHead.of(state, rules).covers(reader.heads)
    link = reader.heads.get(TENANTS[0])
    assert link is not None
    assert (link.seq, link.previous_topic) == (8, b"")


def test_the_mark_of_an_end_comes_back_and_can_be_taken_back() -> None:
    """A reader of heads knows that its epoch has ended until the mark is withdrawn."""
    end = EpochEnd(next=2, by="ada", why="growth", ended_at="2026-01-02T03:04:05+00:00")
    reader = HeadsReader(3)
    reader.feed(end_key(3), end.pack())
    assert reader.end == end
    reader.feed(end_key(3), None)
    assert reader.end is None
    assert replace(end, next=3) != end


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": True},
        {"next": 1},
        {"next": "2"},
        {"next": True},
        {"by": None},
        {"why": 7},
        {"ended_at": ["2026"]},
    ],
)
def test_what_is_no_mark_of_an_end_is_refused(change: dict[str, object]) -> None:
    """A record that no command writes is an error, never half a mark."""
    end = EpochEnd(next=2, by="ada", why="growth", ended_at="2026-01-02T03:04:05+00:00")
    with pytest.raises(FormatError):
        EpochEnd.parse(json.dumps(json.loads(end.pack()) | change).encode())
    for value in (b"", b"[]", b"{}", b"\xff", b"1"):
        with pytest.raises(FormatError):
            EpochEnd.parse(value)


def test_a_worker_has_another_name_to_the_brokers_in_each_epoch() -> None:
    """A static member that comes back is given its old assignment, so a new epoch's worker must not come back."""
    settings = load_settings({"SEALSTREAM_WORKER_ID": "w"})

    assert (settings.member(), settings.model_copy(update={"epoch": 2}).member()) == ("w", "w.e2")
