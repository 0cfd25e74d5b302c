"""What audit.heads holds, and what a restore makes of it and of the tail of audit.chained."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.processors.chaining import Link, PartitionState, Rules, chain
from sealstream.processors.heads import (
    MALFORMED_MAX,
    HeadsReader,
    PackedHeads,
    PartitionHead,
    chain_key,
    pack_link,
    parse_link,
    partition_key,
)
from sealstream.processors.tail import TailReader
from sealstream.schemas.entry import Genesis
from sealstream.schemas.errors import FormatError, HeadsDiffer
from support.model import SourceRecord
from support.publish import event_value
from support.records import MessageLike

TOPIC_ID = bytes(range(16))
RULES = Rules(Genesis("test.example/audit", 1, window_offsets=10), TOPIC_ID)
HEAD = PartitionHead(7, 5, 1_700_000_000_000_000, TOPIC_ID, 1, 2**319, RULES.genesis.payload())


@given(seq=st.integers(0, 2**63 - 1), digest=st.binary(min_size=32, max_size=32))
def test_a_chains_head_is_41_bytes_and_reads_back(seq: int, digest: bytes) -> None:
    """A head is small, whatever it says, and nothing of it is lost."""
    packed = pack_link(Link(b"acme", seq, digest))

    assert len(packed) == 41
    assert parse_link(b"acme", packed) == Link(b"acme", seq, digest)


@given(position=st.integers(0, 2**63 - 1), last=st.integers(-1, 2**63 - 1), received=st.integers(0, 2**63 - 1))
def test_a_partitions_head_reads_back(position: int, last: int, received: int) -> None:
    """Position, last chained record, topic and what genesis pins survive the log."""
    head = PartitionHead(position, last, received, TOPIC_ID, 0, 0, RULES.genesis.payload())

    assert PartitionHead.parse(head.pack()) == head


@pytest.mark.parametrize(
    "value", [b"", HEAD.pack()[:-1], HEAD.pack()[:30], b"\x02" + HEAD.pack()[1:], pack_link(Link(b"acme"))]
)
def test_a_malformed_partitions_head_is_refused(value: bytes) -> None:
    """A cut, altered or newer record is an error, never a guess."""
    with pytest.raises(FormatError):
        PartitionHead.parse(value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, HEAD.pack()),
        (b"4", HEAD.pack()),
        (b"33/acme", pack_link(Link(b"acme"))),
        (b"3/acme", pack_link(Link(b"acme"))[:-1]),
        (b"3/acme", b"\x02" + pack_link(Link(b"acme"))[1:]),
        (b"3", b"\x01short"),
    ],
)
def test_a_foreign_record_in_the_heads_stops_the_worker(key: bytes | None, value: bytes) -> None:
    """What no processor writes there is not passed over: the worker stops and names the way out."""
    reader = HeadsReader(3)
    reader.feed(key, value)
    with pytest.raises(HeadsDiffer) as caught:
        reader.require_sound()

    assert "partition 3" in caught.value.message
    assert "heads rebuild" in caught.value.hint
    reader.feed(key, None)
    reader.require_sound()


def test_a_malformed_head_is_worth_nothing_until_it_is_written_anew() -> None:
    """What stood there before counts no more, and neither does the malformed record once a sound one came."""
    reader = HeadsReader(3)
    for value in (pack_link(Link(b"acme", 1)), b"\x01short"):
        reader.feed(chain_key(3, b"acme"), value)
    assert (reader.heads.get(b"acme"), reader.heads.folded, len(reader.malformed)) == (None, 0, 1)
    reader.feed(chain_key(3, b"acme"), pack_link(Link(b"acme", 2)))

    reader.require_sound()
    assert reader.heads.get(b"acme") == Link(b"acme", 2)


def test_heads_full_of_malformed_records_are_not_read_to_their_end() -> None:
    """Somebody who writes anything there cannot fill the worker's memory with it."""
    reader = HeadsReader(3)
    for number in range(MALFORMED_MAX):
        reader.feed(b"nonsense-%d" % number, b"x")
    with pytest.raises(HeadsDiffer):
        reader.feed(b"nonsense", b"x")


def test_the_latest_record_of_a_key_counts() -> None:
    """Compacted or not, the heads are those of the last transaction; a tombstone removes."""
    reader = HeadsReader(3)
    for seq in (1, 2):
        reader.feed(chain_key(3, b"acme"), pack_link(Link(b"acme", seq)))
        reader.feed(chain_key(3, b"gone"), pack_link(Link(b"gone", seq)))
    reader.feed(chain_key(3, b"gone"), None)
    reader.feed(partition_key(3), HEAD.pack())
    reader.feed(partition_key(3), replace(HEAD, position=9).pack())

    assert reader.heads.get(b"acme") == Link(b"acme", 2)
    assert reader.heads.get(b"gone") is None
    assert reader.head == replace(HEAD, position=9)


@pytest.mark.parametrize("damage", ["lost", "changed", "foreign", "none"])
def test_a_partitions_head_tells_whether_the_chains_heads_are_all_there(damage: str) -> None:
    """A head that got lost or changed is noticed, also of a tenant of whom nothing else is left."""
    state, _, head = _chained(5)
    assert isinstance(state.heads, PackedHeads)
    heads = state.heads.copy()
    assert head.covers(heads)
    if damage == "lost":
        heads.remove(b"acme")
        heads.remove(b"never-there")
    elif damage == "changed":
        heads.put(Link(b"acme", 6, bytes(32)))
    elif damage == "foreign":
        heads.put(Link(b"globex", 6, bytes(32)))

    assert head.covers(heads) is (damage == "none")
    assert head.covers(state.heads), "a copy moves on by itself"


def _chained(count: int) -> tuple[PartitionState, list[bytes], PartitionHead]:
    """Return a partition with so many events of one chain, its seals and its head."""
    state = PartitionState(0, PackedHeads(), RULES.window())
    records = [
        MessageLike(SourceRecord(0, n, b"acme", event_value("acme", f"e{n}"), 1_700_000_000_000)) for n in range(count)
    ]
    seals = [entry for _, _, entry, _ in chain(RULES, state, records).sealed]
    return state, seals, PartitionHead.of(state, RULES)


@pytest.mark.parametrize(("repeated", "start"), [("e25", 15), ("e20", 21), ("e19", 0)])
def test_a_restored_window_knows_the_repeats(repeated: str, start: int) -> None:
    """After a restore from the tail, a repeat is judged as if there had been none, also at the window's very edge."""
    before, seals, head = _chained(30)
    tail = TailReader(0, RULES, head)
    assert start == 0 or tail.reaches_back(tail.parse(seals[start]))
    for seal in seals[start:]:
        tail.feed(seal)
    assert isinstance(before.heads, PackedHeads)
    restored = tail.finish(before.heads.copy(), earlier_gone=False)
    again = [MessageLike(SourceRecord(0, 30, b"acme", event_value("acme", repeated), 1_700_000_000_000))]

    assert chain(RULES, restored, again).sealed == chain(RULES, before, again).sealed


def test_a_head_that_differs_from_its_chains_last_entry_stops_the_worker() -> None:
    """Heads that were written by somebody else, or belong to another log, are found before anything is chained."""
    state, seals, head = _chained(5)
    tail = TailReader(0, RULES, head)
    for seal in seals:
        tail.feed(seal)
    heads = PackedHeads()
    heads.put(Link(b"acme", 6, bytes(32)))
    with pytest.raises(HeadsDiffer, match="acme"):
        tail.finish(heads, earlier_gone=False)
    assert isinstance(state.heads, PackedHeads)
    assert tail.finish(state.heads, earlier_gone=False).position == 5


def test_a_chained_log_out_of_order_stops_the_worker() -> None:
    """A chained log that goes backwards was written by two; it is never read as if all were well."""
    _, seals, head = _chained(5)
    tail = TailReader(0, RULES, head)
    tail.feed(seals[3])
    with pytest.raises(HeadsDiffer, match="behind"):
        tail.feed(seals[2])


@pytest.mark.parametrize("other", [Rules(RULES.genesis, bytes(16)), None])
def test_a_foreign_seal_stops_the_worker(other: Rules | None) -> None:
    """A seal of another topic, or bytes that are none, are found when the window is rebuilt."""
    _, seals, head = _chained(2)
    tail = TailReader(0, other or RULES, head)
    with pytest.raises(HeadsDiffer):
        tail.feed(seals[1] if other else seals[1][:-1])


@given(st.lists(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 2**63 - 1), st.booleans()))))
def test_many_ends_are_remembered_as_one_by_one(batches: list[list[tuple[bytes, int, bool]]]) -> None:
    """Put all at once, the ends of chains leave the same heads, and the same fold, as put one after the other."""
    at_once, one_by_one = PackedHeads(), PackedHeads()
    for batch in batches:
        links = [Link(name, seq, bytes(32), bytes(16) if carried else b"") for name, seq, carried in batch]
        at_once.put_all(links)
        for link in links:
            one_by_one.put(link)

        assert at_once == one_by_one
