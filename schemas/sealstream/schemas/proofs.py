"""Inclusion and consistency proofs of RFC 6962 section 2.1 / RFC 9162 section 2.1.3 and 2.1.4: made, and verified.

A proof is a list of hashes of 32 bytes, from the leaves towards the root. It is made from any source of node hashes
(a list of leaves, a tree in memory, tiles). What the source says is not checked: verify a proof before handing it on.

Beyond the RFC: an empty tree is consistent with every tree and a tree with itself, both with the empty proof, as in
C2SP tlog-witness.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sealstream.schemas.errors import ProofInvalid, TreeInvalid
from sealstream.schemas.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    SIZE_MAX,
    Node,
    NodeSource,
    check_size,
    decompose,
    node_hash,
    root,
    subtree_hash,
)


def nodes_of(leaves: Sequence[bytes]) -> NodeSource:
    """Return the nodes of the tree over a list of leaf hashes, each hashed anew: for small trees and for tests."""

    def node(place: Node) -> bytes:
        if place.level < 0 or not 0 <= place.index < len(leaves) >> place.level:
            raise TreeInvalid(f"a tree of {len(leaves)} leaves has no node {place.index} at level {place.level}")
        return root(leaves[place.index << place.level : (place.index + 1) << place.level])

    return node


def inclusion_proof(index: int, size: int, nodes: NodeSource) -> list[bytes]:
    """Return the proof that a leaf stands at a place in the tree of so many leaves.

    Arguments:
        index: The leaf's place, from 0.
        size: The number of leaves of the tree; the source may have more.
        nodes: The hashes of the tree's nodes.

    Raises:
        TreeInvalid: The tree has no such leaf.
    """
    return [subtree_hash(begin, end, nodes) for begin, end in _inclusion_ranges(index, size)]


def consistency_proof(first_size: int, second_size: int, nodes: NodeSource) -> list[bytes]:
    """Return the proof that the tree of ``second_size`` leaves begins with the leaves of that of ``first_size``.

    Arguments:
        first_size: The number of leaves of the older tree.
        second_size: That of the newer one; the source may have more.
        nodes: The hashes of the tree's nodes.

    Raises:
        TreeInvalid: The first tree is larger than the second.
    """
    return [subtree_hash(begin, end, nodes) for begin, end in _consistency_ranges(first_size, second_size)]


def inclusion_nodes(index: int, size: int) -> list[Node]:
    """Return which nodes :func:`inclusion_proof` asks its source for, in that order.

    Raises:
        TreeInvalid: The tree has no such leaf.
    """
    return [node for begin, end in _inclusion_ranges(index, size) for node in decompose(begin, end)]


def consistency_nodes(first_size: int, second_size: int) -> list[Node]:
    """Return which nodes :func:`consistency_proof` asks its source for, in that order.

    Raises:
        TreeInvalid: The first tree is larger than the second.
    """
    return [node for begin, end in _consistency_ranges(first_size, second_size) for node in decompose(begin, end)]


def verify_inclusion(proof: Sequence[bytes], *, leaf: bytes, index: int, size: int, root: bytes) -> None:
    """Verify that the tree with the given size and root has a leaf at a place (RFC 9162 section 2.1.3.2).

    Size and root go together: take both from one checkpoint. A root alone does not say how large its tree is, so for
    some other size the same proof holds, too.

    Arguments:
        proof: The hashes, from the leaf's sibling upwards.
        leaf: The leaf's hash.
        index: The leaf's place, from 0.
        size: The number of leaves of the tree.
        root: The root of the tree.

    Raises:
        ProofInvalid: It does not follow from the proof, or one of the arguments is malformed.
    """
    _check_hashes("inclusion proof", (root,), ())
    if root_from_inclusion(proof, leaf=leaf, index=index, size=size) != root:
        raise ProofInvalid(
            f"inclusion proof for leaf {index} of {size} leads to another root",
            hint="the leaf, its place, the proof or the root is not what was logged",
        )


def root_from_inclusion(proof: Sequence[bytes], *, leaf: bytes, index: int, size: int) -> bytes:
    """Return the root that an inclusion proof leads to: of the only tree of its size that the proof can hold for.

    It says nothing by itself. What commits to size and root has to be verified with it.

    Arguments:
        proof: The hashes, from the leaf's sibling upwards.
        leaf: The leaf's hash.
        index: The leaf's place, from 0.
        size: The number of leaves of the tree.

    Raises:
        ProofInvalid: The proof has not as many hashes as the way to the root, or one of the arguments is malformed.
    """
    _check_hashes("inclusion proof", (leaf,), proof)
    if not 0 <= index < size <= SIZE_MAX:
        raise ProofInvalid(f"no inclusion in a tree of {size} leaves can be proven for leaf {index}")
    place, last, value = index, size - 1, leaf
    for sibling in proof:
        if not last:
            raise ProofInvalid(f"inclusion proof for leaf {index} of {size} has more hashes than the path to the root")
        if place & 1 or place == last:
            value = node_hash(sibling, value)
            while place and not place & 1:  # levels at the right edge where the node has no sibling
                place, last = place >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        place, last = place >> 1, last >> 1
    if last:
        raise ProofInvalid(f"inclusion proof for leaf {index} of {size} ends below the root: {len(proof)} hashes")
    return value


def verify_consistency(
    proof: Sequence[bytes], *, first_size: int, first_root: bytes, second_size: int, second_root: bytes
) -> None:
    """Verify that one tree is the beginning of another one (RFC 9162 section 2.1.4.2).

    Arguments:
        proof: The hashes, from the lowest upwards.
        first_size: The number of leaves of the older tree.
        first_root: Its root.
        second_size: The number of leaves of the newer tree.
        second_root: Its root.

    Raises:
        ProofInvalid: It does not follow from the proof, or one of the arguments is malformed.
    """
    _check_hashes("consistency proof", (first_root, second_root), proof)
    if not 0 <= first_size <= second_size <= SIZE_MAX:
        raise ProofInvalid(f"no tree of {second_size} leaves can continue one of {first_size}")
    for size, value in ((first_size, first_root), (second_size, second_root)):
        if not size and value != EMPTY_ROOT:
            raise ProofInvalid("the root given for a tree without leaves is not that of one")
    if not first_size or first_size == second_size:
        if proof:
            raise ProofInvalid(f"consistency proof from {first_size} to {second_size} leaves must be empty")
        if first_size and first_root != second_root:
            raise ProofInvalid(
                f"two trees of {first_size} leaves have different roots", hint="one of the two is not the log's"
            )
        return
    _verify_growth(proof, first_size, first_root, second_size, second_root)


def _verify_growth(
    proof: Sequence[bytes], first_size: int, first_root: bytes, second_size: int, second_root: bytes
) -> None:
    """The RFC's algorithm, for 0 < first_size < second_size."""
    name = f"consistency proof from {first_size} to {second_size} leaves"
    if not proof:
        raise ProofInvalid(f"{name} is empty")
    # An older tree that is perfect is a node of the newer one, and its root begins the proof unsaid.
    path = proof if first_size & (first_size - 1) else (first_root, *proof)
    place, last = first_size - 1, second_size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if not last:
            raise ProofInvalid(f"{name} has more hashes than the path to the root")
        if place & 1 or place == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while place and not place & 1:  # as in an inclusion proof
                place, last = place >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        place, last = place >> 1, last >> 1
    if last:
        raise ProofInvalid(f"{name} ends below the root: {len(proof)} hashes")
    for what, value, wanted in (("older", first, first_root), ("newer", second, second_root)):
        if value != wanted:
            raise ProofInvalid(f"{name} leads to another root of the {what} tree", hint="the log shows two histories")


def _check_hashes(name: str, given: Iterable[bytes], proof: Sequence[bytes]) -> None:
    """Refuse hashes that are none, and more of them than any tree has levels."""
    if len(proof) > SIZE_MAX.bit_length():
        raise ProofInvalid(f"{name} has {len(proof)} hashes, more than any tree has levels")
    for value in (*given, *proof):
        if len(value) != HASH_BYTES:
            raise ProofInvalid(f"{name} is given with a hash of {len(value)} bytes instead of {HASH_BYTES}")


def _split(begin: int, end: int) -> int:
    """Return where RFC 6962 cuts a range of more than one leaf: behind the largest power of two below its length."""
    return begin + (1 << ((end - begin - 1).bit_length() - 1))


def _inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """Return the ranges of leaves whose subtrees' hashes are the inclusion proof: PATH of RFC 6962 section 2.1.1."""
    check_size(size)
    if not 0 <= index < size:
        raise TreeInvalid(f"a tree of {size} leaves has no leaf {index}")
    begin, end = 0, size
    ranges: list[tuple[int, int]] = []
    while end - begin > 1:
        middle = _split(begin, end)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    return ranges[::-1]


def _consistency_ranges(first_size: int, second_size: int) -> list[tuple[int, int]]:
    """Return the ranges of leaves whose hashes are the consistency proof: PROOF of RFC 6962 section 2.1.2."""
    check_size(second_size)
    if not 0 <= first_size <= second_size:
        raise TreeInvalid(f"a tree of {second_size} leaves does not continue one of {first_size}")
    if not first_size:
        return []
    begin, end = 0, second_size
    ranges: list[tuple[int, int]] = []
    while end != first_size:
        middle = _split(begin, end)
        if first_size <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    if begin:  # otherwise the older tree is one subtree of the newer one, whose hash the verifier has
        ranges.append((begin, end))
    return ranges[::-1]
