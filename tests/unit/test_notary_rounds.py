"""Rounds without a database: however a source is cut into them, they come to what its entries come to."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.coverage import OffsetRange, parse_coverage
from sealstream.schemas.entry import Kind
from sealstream.schemas.errors import InstanceDiffers, StoreDamaged, StoreError, TreeDiffers
from sealstream.schemas.merkle import EMPTY_ROOT
from sealstream.sinks.notary.coverage_of import PART_BYTES, RANGE_BYTES, cover
from sealstream.sinks.notary.rounds import Rounds
from sealstream.sinks.notary.steps import LogHead, Memory, RoundStep
from sealstream.sinks.notary.stored import Snapshot
from sealstream.sinks.notary.stored_rows import Link, RowReader
from support.memory_snapshot import INSTANCE, RECEIVED, MemorySnapshot, Source
from support.notarised import SECRET, check_rounds

TOPIC_ID = bytes(16)


def _rounds(steps: list[RoundStep]) -> Rounds:
    head = LogHead(0, EMPTY_ROOT, CompactRange().state())
    return Rounds(Memory(INSTANCE, "key", head, None), SECRET, steps.append)


def _make(rounds: Rounds, rows: list[tuple[bytes, bytes]], entries_max: int) -> bool:
    snapshot = cast("Snapshot", MemorySnapshot([row for _, row in rows]))
    return rounds.make(snapshot, entries_max=entries_max)[1].more


def _make_all(rounds: Rounds, rows: list[tuple[bytes, bytes]]) -> None:
    while _make(rounds, rows, 1000):
        pass


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    records=st.integers(0, 25),
    cuts=st.lists(st.tuples(st.integers(0, 120), st.integers(1, 30)), max_size=6),
)
def test_any_cut_comes_to_the_same(seed: int, records: int, cuts: list[tuple[int, int]]) -> None:
    """Gaps, holes, epochs and partitions' own chains, read in any portions while the store grows by any."""
    source, steps = Source(), list[RoundStep]()
    source.fill(seed, records)
    rounds = _rounds(steps)
    for visible, entries_max in sorted(cuts):
        _make(rounds, source.rows[:visible], entries_max)
    while _make(rounds, source.rows, 7):
        assert len(steps) < len(source.rows) + 20, "it does not come to an end"

    plain = check_rounds([(step.leaf, step.coverage) for step in steps], [entry for entry, _ in source.rows])
    assert sum(plain.sizes.values()) == len(source.rows)
    assert plain.roots == tuple(step.after.root for step in steps)


@pytest.mark.parametrize("entries_max", [3, 1000])
def test_a_round_ends_where_an_epoch_does(entries_max: int) -> None:
    """No round covers new offsets of two source topics, and the topics come one after the other."""
    source, steps = Source(), list[RoundStep]()
    source.fill(5, 20, topics=3)
    rounds = _rounds(steps)
    while _make(rounds, source.rows, entries_max):
        assert len(steps) < len(source.rows) + 20, "it does not come to an end"

    topics = [sorted({part.topic_id for part in parse_coverage(step.coverage)}) for step in steps]
    assert all(len(found) == 1 for found in topics)
    assert list(dict.fromkeys(topic_id for (topic_id,) in topics)) == [bytes([255 - n]) * 16 for n in range(3)]
    check_rounds([(step.leaf, step.coverage) for step in steps], [entry for entry, _ in source.rows])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_a_missing_entry_is_noticed(seed: int, data: st.DataObject) -> None:
    """Whichever entry is missing before others of its chain: no round is made of the rest."""
    source = Source()
    source.fill(seed, 12)
    seqs = {link.tenant: link.seq for link in _links(source)}
    inner = [n for n, link in enumerate(_links(source)) if link.seq < seqs[link.tenant]]
    gone = data.draw(st.sampled_from(inner))
    rows = [row for n, row in enumerate(source.rows) if n != gone]
    with pytest.raises(StoreDamaged) as caught:
        _make_all(_rounds([]), rows)
    assert caught.value.tenant == _links(source)[gone].tenant


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_an_exchanged_entry_is_noticed(seed: int, data: st.DataObject) -> None:
    """An entry that is whole by itself, and another one than its neighbours know, is in no round."""
    source, other = Source(), Source(clock=RECEIVED + 1)
    source.fill(seed, 12)
    other.fill(seed, 12)
    seqs = {link.tenant: link.seq for link in _links(source)}
    place = data.draw(st.sampled_from([n for n, link in enumerate(_links(source)) if seqs[link.tenant] > 0]))
    rows = [*source.rows[:place], other.rows[place], *source.rows[place + 1 :]]
    with pytest.raises(StoreDamaged, match="does not continue") as caught:
        _make_all(_rounds([]), rows)
    assert caught.value.tenant == _links(source)[place].tenant


def test_a_store_that_lost_its_end_is_noticed() -> None:
    """Entries that were covered by a round and are gone end the notary with its next round."""
    source = Source()
    source.fill(3, 30, topics=1)
    rounds = _rounds([])
    _make(rounds, source.rows, 1000)
    with pytest.raises(TreeDiffers, match="ends at source offset"):
        _make(rounds, source.rows[:20], 1000)


@settings(max_examples=100, deadline=None)
@given(place=st.integers(2, 400), bit=st.integers(0, 7))
def test_every_bit_of_a_row_counts(place: int, bit: int) -> None:
    """A row of which any bit behind the number of its columns is another one is refused."""
    source = Source()
    source.fill(1, 6, topics=1)
    row = source.rows[-1][1]
    changed = bytearray(row)
    changed[place % (len(row) - 2) + 2] ^= 1 << bit
    with pytest.raises((StoreError, InstanceDiffers)):
        RowReader(INSTANCE).read(bytes(changed))


def _links(source: Source) -> list[Link]:
    reader = RowReader(INSTANCE)
    return [reader.read(row) for _, row in source.rows]


def _link(offset: int, kind: Kind = Kind.EVENT, last: int = -1) -> Link:
    return Link("t", offset, kind, b"", b"", b"", TOPIC_ID, 0, offset, 0, last)


def test_holes_are_invisible_and_gaps_are_lost() -> None:
    """What lies between two entries is invisible; what an entry of kind 7 says is lost; nothing is both."""
    links = [_link(2), _link(3), _link(6, Kind.GAP, 8), _link(9)]
    part = cover(TOPIC_ID, 0, 0, links).part
    assert part is not None
    part.check()
    assert (part.begin, part.end) == (0, 10)
    assert part.invisible == (OffsetRange(0, 1), OffsetRange(4, 5))
    assert part.lost == (OffsetRange(6, 8),)


def test_a_coverage_that_is_full_ends_earlier() -> None:
    """With room for one range, the round ends before the second one, and the rest comes with the next."""
    links = [_link(2), _link(3), _link(6), _link(7)]
    covered = cover(TOPIC_ID, 0, 0, links, bytes_max=PART_BYTES + RANGE_BYTES)
    assert covered.part is not None
    assert (covered.part.end, covered.whole, covered.bytes) == (4, False, PART_BYTES + RANGE_BYTES)
    rest = cover(TOPIC_ID, 0, 4, links[2:])
    assert rest.part is not None
    assert (rest.part.begin, rest.part.end, rest.whole) == (4, 8, True)


@pytest.mark.parametrize("links", [[_link(2), _link(2)], [_link(4, Kind.GAP, 6), _link(5)]])
def test_an_offset_is_accounted_for_once(links: list[Link]) -> None:
    """Two entries for one offset, or one within a range that is declared lost, are refused."""
    with pytest.raises(StoreDamaged, match="is accounted for"):
        cover(TOPIC_ID, 0, 0, links)
