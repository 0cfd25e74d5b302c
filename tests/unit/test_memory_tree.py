"""The tree in memory: the RFC's root and proofs after any change to its leaves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.errors import TreeInvalid
from sealstream.schemas.memory_tree import MemoryTree
from sealstream.schemas.merkle import EMPTY_ROOT, Node
from sealstream.schemas.proofs import verify_consistency, verify_inclusion
from sealstream.schemas.tile_tree import TileEdge
from support import rfc_trees

LEAVES = rfc_trees.leaves(70)
OTHERS = rfc_trees.leaves(200)[100:]


def check_is(tree: MemoryTree, leaves: list[bytes]) -> None:
    """Check that a tree is the one over these leaves, in its root and in every proof."""
    root = rfc_trees.mth(leaves)
    assert (tree.size, tree.root()) == (len(leaves), root)
    for index, leaf in enumerate(leaves):
        proof = tree.inclusion_proof(index)
        assert proof == rfc_trees.path(index, leaves)
        verify_inclusion(proof, leaf=leaf, index=index, size=len(leaves), root=root)


def test_grows() -> None:
    """Leaf by leaf the tree is the RFC's, and each older one is the beginning of it."""
    tree = MemoryTree()
    assert tree.root() == EMPTY_ROOT
    for size in range(1, 34):
        tree.append(LEAVES[size - 1])
        check_is(tree, LEAVES[:size])
        for first in range(1, size):
            verify_consistency(
                tree.consistency_proof(first),
                first_size=first,
                first_root=rfc_trees.mth(LEAVES[:first]),
                second_size=size,
                second_root=tree.root(),
            )


@settings(max_examples=60)
@given(st.integers(1, 40), st.data())
def test_replace(size: int, data: st.DataObject) -> None:
    """After any set of leaves was changed, the tree is the one over the leaves as they are then."""
    tree, leaves = MemoryTree(LEAVES[:size]), LEAVES[:size]
    for _ in range(2):
        changes = data.draw(st.dictionaries(st.integers(0, size - 1), st.sampled_from(OTHERS)))
        tree.replace(changes)
        for index, leaf in changes.items():
            leaves[index] = leaf
        check_is(tree, leaves)


@settings(max_examples=60)
@given(st.integers(0, 40), st.data())
def test_rewrite(size: int, data: st.DataObject) -> None:
    """The leaves from any place on can be others, more or fewer of them."""
    begin = data.draw(st.integers(0, size))
    tree, new = MemoryTree(LEAVES[:size]), OTHERS[: data.draw(st.integers(0, 40))]
    tree.rewrite(begin, new)
    check_is(tree, LEAVES[:begin] + new)


@pytest.mark.parametrize(
    "changes", [{0: OTHERS[0], 5: OTHERS[1]}, {-1: OTHERS[0]}, {0: OTHERS[0], 1: b"short"}, {2: b""}]
)
def test_replaces_all_or_nothing(changes: dict[int, bytes]) -> None:
    """A change of a leaf that is not there, or to something that is no hash, changes nothing."""
    tree = MemoryTree(LEAVES[:5])
    with pytest.raises(TreeInvalid):
        tree.replace(changes)
    check_is(tree, LEAVES[:5])


@pytest.mark.parametrize(("begin", "leaves"), [(6, OTHERS), (-1, OTHERS), (0, [OTHERS[0], b"short"]), (5, [b""])])
def test_rewrites_all_or_nothing(begin: int, leaves: list[bytes]) -> None:
    """A beginning that the tree does not have, or leaves that are no hashes, change nothing."""
    tree = MemoryTree(LEAVES[:5])
    with pytest.raises(TreeInvalid):
        tree.rewrite(begin, leaves)
    check_is(tree, LEAVES[:5])


@pytest.mark.parametrize("place", [(0, 5), (0, -1), (1, 2), (2, 1), (3, 0), (-1, 0), (64, 0)])
def test_has_no_other_nodes(place: tuple[int, int]) -> None:
    """A node that is not perfect, or beyond the tree, is refused."""
    with pytest.raises(TreeInvalid, match="no node"):
        MemoryTree(LEAVES[:5]).node(Node(*place))
    with pytest.raises(TreeInvalid, match="no leaf"):
        MemoryTree(LEAVES[:5]).inclusion_proof(5)
    with pytest.raises(TreeInvalid, match="does not continue"):
        MemoryTree(LEAVES[:5]).consistency_proof(6)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 600, 65_537])
def test_tiles_are_those_of_the_log(size: int) -> None:
    """Its tiles are those that a log of the same leaves publishes."""
    leaves = [number.to_bytes(32, "big") for number in range(size)]
    edge = TileEdge()
    full = edge.extend(leaves)

    assert sorted(MemoryTree(leaves).tiles()) == sorted([*full, *edge.partial()])
