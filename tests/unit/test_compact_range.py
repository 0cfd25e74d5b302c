"""Compact ranges: a tree's root without its leaves, in any order of growing and merging."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.errors import TreeInvalid
from sealstream.schemas.merkle import EMPTY_ROOT, HASH_BYTES, SIZE_MAX, decompose, root
from support import rfc_trees

LEAVES = rfc_trees.leaves(70)
MANY = rfc_trees.leaves(5_000)


def range_of(begin: int, end: int) -> CompactRange:
    """Return the range over some of the leaves."""
    made = CompactRange(begin)
    made.extend(MANY[begin:end])
    return made


@pytest.mark.parametrize("size", range(71))
def test_root(size: int) -> None:
    """The root after any number of leaves is that of the RFC's recursion, and the hashes are one for each bit of it."""
    grown = CompactRange()
    for leaf in LEAVES[:size]:
        grown.append(leaf)

    assert grown.root() == rfc_trees.mth(LEAVES[:size])
    assert (len(grown), len(grown.hashes)) == (size, size.bit_count())


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 2047, 2048, 2049, 5000])
def test_many_at_once(size: int) -> None:
    """Leaves may come in blocks of any size, and the range is the same."""
    for begin in (0, 1, 700, 1024, 1500):
        one_by_one, at_once = CompactRange(), CompactRange()
        for leaf in MANY[:size]:
            one_by_one.append(leaf)
        at_once.extend(MANY[: min(begin, size)])
        at_once.extend(iter(MANY[min(begin, size) : size]))
        assert at_once == one_by_one
        assert at_once.root() == root(MANY[:size])


@settings(max_examples=100)
@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=6))
def test_merge(cuts: list[int]) -> None:
    """Parts of a tree that were hashed apart come together to its root, wherever it is cut."""
    bounds = sorted({0, *cuts})
    whole = CompactRange()
    for begin, end in pairwise(bounds):
        part = range_of(begin, end)
        assert len(part.hashes) == len(list(decompose(begin, end)))
        whole.merge(part)
    assert whole == range_of(0, bounds[-1])
    assert whole.root() == root(MANY[: bounds[-1]])


@settings(max_examples=60)
@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200))
def test_merging_is_associative(one: int, other: int, third: int) -> None:
    """Three ranges come to the same one, whichever two are merged first."""
    a, b, c = sorted((one, other, third))
    left, right = range_of(a, b), range_of(b, c)
    first = range_of(0, a)
    first.merge(left)
    first.merge(right)
    left.merge(right)
    second = range_of(0, a)
    second.merge(left)
    assert first == second == range_of(0, c)


def test_merge_leaves_the_other_one() -> None:
    """A range that was merged into another one, even into a copy of itself, stays as it is."""
    part = range_of(8, 16)
    copy = part.copy()
    whole = range_of(0, 8)
    whole.merge(part)
    whole.append(MANY[16])
    assert part == copy
    assert part != whole


@pytest.mark.parametrize(("begin", "end"), [(0, 0), (0, 1), (0, 5), (0, 4999), (3, 3), (3, 90), (1024, 4096)])
def test_state(begin: int, end: int) -> None:
    """A range can be kept as bytes, 48 to some 2,000 of them, and go on from there."""
    grown = range_of(begin, end)

    again = CompactRange.from_state(grown.state())

    assert again == grown
    again.append(MANY[4999])
    assert again != grown
    assert len(grown.state()) == 16 + HASH_BYTES * len(grown.hashes)
    assert (len(grown), len(again)) == (end - begin, end - begin + 1)


@pytest.mark.parametrize(("begin", "end"), [(0, 5), (3, 12)])
def test_state_of_another_length_is_refused(begin: int, end: int) -> None:
    """A state that is cut or longer anywhere is refused."""
    state = range_of(begin, end).state()
    for length in range(len(state)):
        with pytest.raises(TreeInvalid):
            CompactRange.from_state(state[:length])
    for more in (b"\x00", bytes(HASH_BYTES)):
        with pytest.raises(TreeInvalid):
            CompactRange.from_state(state + more)


def test_state_of_no_range_is_refused() -> None:
    """A state that ends before it begins, or beyond every tree, is refused."""
    for begin, end in ((2, 1), (0, 2**63), (2**64 - 1, 2**64 - 1)):
        with pytest.raises(TreeInvalid):
            CompactRange.from_state(begin.to_bytes(8, "big") + end.to_bytes(8, "big"))
    with pytest.raises(TreeInvalid, match="instead of 32"):
        CompactRange.from_hashes(0, 1, [b"short"])


def test_refuses_what_does_not_follow() -> None:
    """A range that begins elsewhere cannot be merged, and one that does not begin with leaf 0 has no root."""
    with pytest.raises(TreeInvalid, match="cannot follow"):
        range_of(0, 8).merge(range_of(9, 12))
    with pytest.raises(TreeInvalid, match="has no root"):
        range_of(8, 16).root()
    assert CompactRange().root() == EMPTY_ROOT


@pytest.mark.parametrize("wrong", [b"", bytes(31), bytes(33)])
def test_refuses_what_is_no_hash(wrong: bytes) -> None:
    """A leaf of another size than a hash is refused, alone and among others, and the range goes on without it."""
    grown = range_of(0, 3)
    with pytest.raises(TreeInvalid, match="leaf hash"):
        grown.append(wrong)
    with pytest.raises(TreeInvalid, match="leaf hash"):
        grown.extend([*LEAVES[:2], wrong])
    assert grown == range_of(0, 3)


def test_the_largest_tree() -> None:
    """A range ends with the largest tree there is, and refuses one leaf more."""
    grown = CompactRange.from_hashes(0, SIZE_MAX - 1, LEAVES[:62])
    grown.append(LEAVES[62])
    assert len(grown.hashes) == 63
    before = grown.copy()
    with pytest.raises(TreeInvalid, match="at most"):
        grown.append(LEAVES[63])
    assert grown == before
    for begin in (-1, SIZE_MAX + 1):
        with pytest.raises(TreeInvalid):
            CompactRange(begin)


def test_is_compared_by_what_it_holds() -> None:
    """A range equals one with the same leaves, and nothing else."""
    assert range_of(0, 4) == range_of(0, 4)
    assert range_of(0, 4) != "range"
