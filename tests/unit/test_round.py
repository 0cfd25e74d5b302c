"""Rounds of the root log and their coverage: each in one form, each offset accounted for once."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas import coverage as coverage_module
from sealstream.schemas.coverage import (
    COVERAGE_BYTES_MAX,
    COVERAGE_BYTES_MIN,
    OFFSET_MAX,
    OffsetRange,
    PartitionCoverage,
    coverage_digest,
    pack_coverage,
    parse_coverage,
)
from sealstream.schemas.entry import ZERO_HASH, Kind
from sealstream.schemas.errors import LeafInvalid
from sealstream.schemas.merkle import EMPTY_ROOT, SIZE_MAX
from sealstream.schemas.round import ROUND_BYTES, Round, RoundFollower
from sealstream.schemas.tiles import ENTRY_BYTES_MAX

TOPIC_ID = bytes(range(16))
ROOT = bytes(range(32))
SOME = PartitionCoverage(
    TOPIC_ID,
    2,
    10,
    30,
    (1, 7, 0, 2, 1, 0, 0, 1, 0),
    invisible=(OffsetRange(12, 12), OffsetRange(14, 16)),
    lost=(OffsetRange(20, 25),),
)
FIRST = Round(0, ZERO_HASH, COVERAGE_BYTES_MIN, coverage_digest(pack_coverage([])), 0, EMPTY_ROOT)


def counts(**kinds: int) -> tuple[int, ...]:
    """Return counts by kind, zero where none is given."""
    return tuple(kinds.get(kind.name.lower(), 0) for kind in Kind)


def parsed_or_none(data: bytes) -> tuple[PartitionCoverage, ...] | None:
    """Return what a coverage says, or nothing if it is refused with the typed error."""
    try:
        return parse_coverage(data)
    except LeafInvalid:
        return None


@st.composite
def parts(draw: st.DrawFn) -> PartitionCoverage:
    """Draw what became of a partition's offsets: each one a record's, invisible or lost."""
    begin = draw(st.integers(0, OFFSET_MAX - 100))
    fates = draw(st.lists(st.sampled_from(["event", "duplicate", "invisible", "lost"]), max_size=20))
    ranges: dict[str, list[OffsetRange]] = {"invisible": [], "lost": []}
    for place, fate in enumerate(fates):
        if fate in ranges:
            known = ranges[fate]
            if known and known[-1].last == begin + place - 1 and (fate == "invisible" or draw(st.booleans())):
                known[-1] = OffsetRange(known[-1].first, begin + place)
            else:
                known.append(OffsetRange(begin + place, begin + place))
    events, duplicates, lost = fates.count("event"), fates.count("duplicate"), len(ranges["lost"])
    genesis = draw(st.integers(0, events + duplicates + lost))
    return PartitionCoverage(
        draw(st.sampled_from([TOPIC_ID, bytes(16), bytes(15) + b"\x01"])),
        draw(st.integers(0, 20)),
        begin,
        begin + len(fates),
        counts(genesis=genesis, event=events, duplicate=duplicates, gap=lost),
        tuple(ranges["invisible"]),
        tuple(ranges["lost"]),
    )


def coverages() -> st.SearchStrategy[list[PartitionCoverage]]:
    """Draw the parts of a coverage, each partition once."""
    return st.lists(parts(), max_size=4, unique_by=lambda part: part.place)


class TestCoverage:
    """What became of the offsets."""

    @settings(max_examples=60)
    @given(coverages())
    def test_one_form(self, drawn: list[PartitionCoverage]) -> None:
        """Parts come back in their order, whatever order they were given in."""
        data = pack_coverage(drawn)
        assert parse_coverage(data) == tuple(sorted(drawn, key=lambda part: part.place))
        assert pack_coverage(reversed(drawn)) == data

    def test_every_byte_counts(self) -> None:
        """Bytes that were changed in any place are another coverage, or none; cut or longer ones are none."""
        data = pack_coverage([SOME, replace(SOME, partition=3)])
        parsed = parse_coverage(data)
        for place, byte in enumerate(data):
            for bit in (0, 7):
                changed = data[:place] + bytes([byte ^ 1 << bit]) + data[place + 1 :]
                assert parsed_or_none(changed) != parsed
        for length in range(len(data)):
            with pytest.raises(LeafInvalid):
                parse_coverage(data[:length])
        for more in (b"\x00", data[-16:], data):
            with pytest.raises(LeafInvalid, match="behind its end"):
                parse_coverage(data + more)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"topic_id": bytes(15)}, "topic UUID"),
            ({"partition": -1}, "no partition"),
            ({"partition": 2**31}, "no partition"),
            ({"begin": -1}, "has the offsets"),
            ({"begin": 31}, "has the offsets"),
            ({"end": 2**63}, "has the offsets"),
            ({"counts": SOME.counts[:-1]}, "kinds"),
            ({"counts": (*SOME.counts, 0)}, "kinds"),
            ({"counts": (1, 11, 0, 2, -3, 0, 0, 1, 0)}, "kinds"),
            ({"end": 31}, "accounts for 20 of its 21"),
            ({"end": 26}, "accounts for 20 of its 16"),
            ({"begin": 9}, "accounts for"),
            ({"counts": (1, 8, 0, 2, 1, 0, 0, 1, 0)}, "accounts for 21 of its 20"),
            ({"counts": (1, 7, 0, 2, 1, 0, 0, 2, 0)}, "entries of kind 7"),
            ({"counts": (1, 7, 0, 2, 1, 0, 0, 0, 0)}, "entries of kind 7"),
            ({"counts": (8, 7, 0, 2, 1, 0, 0, 1, 4)}, "begins more chains"),
            ({"invisible": (OffsetRange(9, 12),)}, "outside its offsets"),
            ({"invisible": (OffsetRange(28, 30),)}, "outside its offsets"),
            ({"invisible": (OffsetRange(14, 13),)}, "outside its offsets"),
            ({"lost": (OffsetRange(25, 30),)}, "outside its offsets"),
            ({"invisible": (OffsetRange(14, 16), OffsetRange(12, 12))}, "not in order"),
            ({"invisible": (OffsetRange(12, 14), OffsetRange(14, 15))}, "not in order"),
            ({"invisible": (OffsetRange(12, 13), OffsetRange(14, 15))}, "touch"),
            ({"lost": (OffsetRange(20, 22), OffsetRange(22, 25))}, "not in order"),
            ({"lost": (OffsetRange(16, 21),)}, "both invisible and lost"),
            ({"lost": (OffsetRange(11, 16),)}, "both invisible and lost"),
        ],
    )
    def test_contradictions(self, changes: dict[str, Any], words: str) -> None:
        """A part that contradicts itself has no bytes."""
        with pytest.raises(LeafInvalid, match=words):
            pack_coverage([replace(SOME, **changes)])

    def test_lost_ranges_may_touch(self) -> None:
        """One gap may be declared right behind another one; it is an entry of its own."""
        part = PartitionCoverage(
            TOPIC_ID, 0, 0, 4, counts(genesis=1, gap=2), lost=(OffsetRange(0, 1), OffsetRange(2, 3))
        )
        assert parse_coverage(pack_coverage([part])) == (part,)

    def test_silence(self) -> None:
        """A partition in which nothing happened has a part that says so, and that nothing can be hidden in."""
        part = PartitionCoverage(TOPIC_ID, 0, 7, 7, counts())
        assert parse_coverage(pack_coverage([part])) == (part,)
        for kind in Kind:
            with pytest.raises(LeafInvalid):
                pack_coverage([replace(part, counts=counts(**{kind.name.lower(): 1}))])

    def test_a_partition_comes_once(self) -> None:
        """A partition that comes twice, or not in its order, is refused."""
        with pytest.raises(LeafInvalid, match="twice"):
            pack_coverage([SOME, replace(SOME, begin=10)])
        data = pack_coverage([SOME, replace(SOME, partition=3)])
        head, size = COVERAGE_BYTES_MIN, (len(data) - COVERAGE_BYTES_MIN) // 2
        for first, second in ((1, 0), (0, 0)):
            pieces = [data[head + number * size : head + (number + 1) * size] for number in (first, second)]
            with pytest.raises(LeafInvalid, match="not in its order"):
                parse_coverage(data[:head] + b"".join(pieces))

    def test_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A coverage that is too large is neither made nor read; numbers in it reserve nothing."""
        with pytest.raises(LeafInvalid, match="larger than"):
            parse_coverage(bytes(COVERAGE_BYTES_MAX + 1))
        head = pack_coverage([])[:-4]
        with pytest.raises(LeafInvalid, match="cut short"):
            parse_coverage(head + b"\xff\xff\xff\xff")
        one = pack_coverage([PartitionCoverage(TOPIC_ID, 0, 7, 7, counts())])
        with pytest.raises(LeafInvalid, match="cut short"):
            parse_coverage(one[:-4] + b"\xff\xff\xff\xff")
        monkeypatch.setattr(coverage_module, "COVERAGE_BYTES_MAX", len(pack_coverage([SOME])) - 1)
        with pytest.raises(LeafInvalid, match="larger than"):
            pack_coverage([SOME])

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        """Bytes that are no coverage are refused with the typed error."""
        with pytest.raises(LeafInvalid):
            parse_coverage(data)
        with pytest.raises(LeafInvalid):
            parse_coverage(pack_coverage([])[:-4] + b"\x00\x00\x00\x01" + data[:95])


class TestRound:
    """The leaf of the root log."""

    @given(
        st.integers(1, SIZE_MAX - 1),
        st.binary(min_size=32, max_size=32).filter(any),
        st.integers(COVERAGE_BYTES_MIN, COVERAGE_BYTES_MAX),
        st.integers(1, SIZE_MAX),
    )
    def test_one_form(self, number: int, previous: bytes, length: int, chains: int) -> None:
        """Every leaf has bytes of one length, which are read back as the same leaf, and fit into a bundle."""
        leaf = Round(number, previous, length, hashlib.sha256(previous).digest(), chains, ROOT)
        data = leaf.pack()
        assert Round.parse(data) == leaf
        assert len(data) == ROUND_BYTES < ENTRY_BYTES_MAX
        assert leaf.hash() == hashlib.sha256(b"\x00" + data).digest()

    def test_every_byte_counts(self) -> None:
        """Bytes that were changed in any place are another leaf, or none; cut or longer ones are none."""
        leaf = Round(5, ROOT, 200, ROOT[::-1], 3, ROOT)
        data = leaf.pack()
        for place, byte in enumerate(data):
            changed = data[:place] + bytes([byte ^ 0x80]) + data[place + 1 :]
            try:
                assert Round.parse(changed) != leaf
            except LeafInvalid:
                assert place < 27 or 58 <= place < 62 or place == 94  # label, numbers
        for length in range(len(data)):
            with pytest.raises(LeafInvalid, match="instead of"):
                Round.parse(data[:length])
        with pytest.raises(LeafInvalid, match="instead of"):
            Round.parse(data + b"\x00")

    @pytest.mark.parametrize(
        "changes",
        [
            {"round": -1},
            {"round": SIZE_MAX, "previous": ROOT},
            {"round": 1},
            {"previous": ROOT},
            {"previous": bytes(31)},
            {"coverage": bytes(33)},
            {"map_root": bytes(31)},
            {"map_root": ROOT},
            {"chains": 1},
            {"chains": -1},
            {"chains": SIZE_MAX + 1, "map_root": ROOT},
            {"length": COVERAGE_BYTES_MIN - 1},
            {"length": COVERAGE_BYTES_MAX + 1},
        ],
    )
    def test_contradictions(self, changes: dict[str, Any]) -> None:
        """A leaf with a field out of range, or with fields that contradict each other, has no bytes and no hash."""
        leaf = replace(FIRST, **changes)
        for refuses in (leaf.pack, leaf.hash):
            with pytest.raises(LeafInvalid):
                refuses()


class TestSuccession:
    """What must hold from round to round."""

    def part(self, begin: int, end: int, genesis: int = 0, partition: int = 0) -> PartitionCoverage:
        """Return a part in which every offset became an event."""
        return PartitionCoverage(TOPIC_ID, partition, begin, end, counts(genesis=genesis, event=end - begin))

    def next_round(
        self, follower: RoundFollower, parts: list[PartitionCoverage], **changes: object
    ) -> tuple[bytes, bytes]:
        """Return the leaf and the coverage of the round that may follow, with some of its fields changed."""
        data = pack_coverage(parts)
        chains = follower.chains + sum(part.counts[0] for part in parts)
        leaf = Round(
            follower.next_round,
            follower.previous,
            len(data),
            coverage_digest(data),
            chains,
            ROOT if chains else EMPTY_ROOT,
        )
        fields: dict[str, Any] = changes
        return replace(leaf, **fields).pack(), data

    def started(self) -> RoundFollower:
        """Return a follower of two rounds: two chains in partition 0 up to offset 5, nothing in partition 1."""
        follower = RoundFollower()
        follower.follow(*self.next_round(follower, []))
        follower.follow(*self.next_round(follower, [self.part(0, 5, 2), self.part(0, 0, 0, 1)]))
        return follower

    def test_follows(self) -> None:
        """Rounds that continue one another are taken, with what they say, also by a follower that goes on later."""
        follower = self.started()
        leaf, data = self.next_round(follower, [self.part(5, 9, 1), self.part(0, 0, 0, 1)])
        later = RoundFollower(follower.next_round, follower.previous, follower.chains, follower.ends)

        found, parts = follower.follow(leaf, data)

        assert (found.round, found.chains, parts[0].end) == (2, 3, 9)
        assert (follower.next_round, follower.previous) == (3, hashlib.sha256(b"\x00" + leaf).digest())
        assert follower.ends == {(TOPIC_ID, 0): 9, (TOPIC_ID, 1): 0}
        later.follow(leaf, data)
        assert vars(later) == vars(follower)

    @pytest.mark.parametrize(
        ("parts", "changes", "words"),
        [
            ([(5, 6)], {"round": 3}, "does not follow"),
            ([(5, 6)], {"round": 1}, "does not follow"),
            ([(5, 6)], {"previous": ROOT}, "does not follow"),
            ([(6, 7)], {}, "covers partition 0 from 6, and 5 was to come"),
            ([(4, 6)], {}, "covers partition 0 from 4, and 5 was to come"),
            ([(5, 6)], {"chains": 1}, "has 1 chains, and there were 2"),
            ([(5, 6)], {"chains": 3}, "1 new chains, and 0 were begun"),
            ([(5, 6, 1)], {"chains": 2}, "0 new chains, and 1 were begun"),
            ([(5, 6)], {"coverage": ROOT}, "another coverage"),
            ([(5, 6)], {"length": 200}, "another coverage"),
            ([(1, 2, 0, 7)], {}, "covers partition 7 from 1, and 0 was to come"),
        ],
    )
    def test_refuses(self, parts: list[tuple[int, ...]], changes: dict[str, object], words: str) -> None:
        """A round that is missing or repeated, offsets left out or accounted for twice, and lost chains are refused."""
        follower = self.started()
        before = dict(vars(follower))
        with pytest.raises(LeafInvalid, match=words):
            follower.follow(*self.next_round(follower, [self.part(*part) for part in parts], **changes))
        assert vars(follower) == before
