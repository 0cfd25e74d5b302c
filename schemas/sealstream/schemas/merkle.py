"""The Merkle tree over a chain's entry hashes, as RFC 6962 section 2.1 defines it (RFC 9162 section 2.1: the same).

What the modules about trees share: the hash of a node, the nodes of a tree and how a range of leaves falls into them,
and the root of a list of leaf hashes as the plain way to say what all of them must come to.

A tree's size is below 2^63, so that a proof has at most 63 hashes (C2SP tlog-witness asks for no more).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from sealstream.schemas.errors import TreeInvalid

HASH_BYTES: Final = 32
SIZE_MAX: Final = 2**63 - 1
"""The most leaves of a tree: sizes are signed in PostgreSQL, and no tree of a chain comes near it."""

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class Node:
    """A node whose subtree is perfect; its hash never changes however the tree grows.

    Arguments:
        level: The height of its subtree: 0 for a leaf.
        index: Its place among the nodes of the level, from 0. Its leaves are ``index << level`` and on.
    """

    level: int
    index: int


NodeSource: TypeAlias = Callable[[Node], bytes]
"""Returns the hash of a node; raises what its own source raises if it has none."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf: ``SHA-256(0x00 || data)``."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node: ``SHA-256(0x01 || left || right)``."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def node_hashes(children: list[bytes]) -> list[bytes]:
    """Return the hashes of the nodes above so many pairs of children: :func:`node_hash` in bulk; a last odd one stays.

    One call for a row costs two thirds of a call for each node.
    """
    sha256 = hashlib.sha256
    return [sha256(b"\x01" + left + right).digest() for left, right in zip(children[::2], children[1::2], strict=False)]


def root(leaves: Iterable[bytes]) -> bytes:
    """Return the root of the tree over the given leaf hashes, in constant memory but for the tree's depth."""
    peaks: list[tuple[int, bytes]] = []  # (height, hash) of the perfect subtrees so far, highest first
    for leaf in leaves:
        height, top = 0, leaf
        while peaks and peaks[-1][0] == height:
            top = node_hash(peaks.pop()[1], top)
            height += 1
        peaks.append((height, top))
    return fold([peak for _, peak in peaks])


def fold(peaks: list[bytes]) -> bytes:
    """Return the root over perfect subtrees, the highest first, that together are the leaves from 0 on."""
    if not peaks:
        return EMPTY_ROOT
    *rest, result = peaks
    for peak in reversed(rest):
        result = node_hash(peak, result)
    return result


def decompose(begin: int, end: int) -> Iterator[Node]:
    """Yield the fewest perfect nodes that together have the leaves from ``begin`` up to, but not with, ``end``.

    From left to right: their levels rise strictly from ``begin`` on, and fall strictly towards ``end``.
    """
    while begin < end:
        level = (end - begin).bit_length() - 1
        if begin:
            level = min(level, (begin & -begin).bit_length() - 1)
        yield Node(level, begin >> level)
        begin += 1 << level


def subtree_hash(begin: int, end: int, nodes: NodeSource) -> bytes:
    """Return MTH(D[begin:end]) of RFC 6962, for a range that such a tree is cut into: the left ones perfect."""
    return fold([nodes(node) for node in decompose(begin, end)])


def check_hash(data: bytes, what: str) -> None:
    """Refuse what has not the size of a hash.

    Raises:
        TreeInvalid: It has not.
    """
    if len(data) != HASH_BYTES:
        raise TreeInvalid(f"{what} has {len(data)} bytes instead of {HASH_BYTES}")


def check_size(size: int, what: str = "tree") -> None:
    """Refuse a number that is no size of a tree.

    Raises:
        TreeInvalid: It is below 0, or above ``SIZE_MAX``.
    """
    if not 0 <= size <= SIZE_MAX:
        raise TreeInvalid(f"{what} has the size {size}, outside 0 to {SIZE_MAX}")
