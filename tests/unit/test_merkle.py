"""The Merkle tree: the roots are those of RFC 6962, for every size."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.merkle import EMPTY_ROOT, leaf_hash, node_hash, root

LEAVES = [hashlib.sha256(b"\x00" + bytes([number])).digest() for number in range(71)]
# The test vectors of Certificate Transparency's reference implementation (google/certificate-transparency,
# merkletree tests): the inputs of eight leaves, and the roots of the trees over the first one to eight of them.
CT_INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive_root(leaves: list[bytes]) -> bytes:
    """Return the root as RFC 6962 section 2.1 defines it, by recursion: split at the largest power of two below n."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = naive_root(leaves[:split]), naive_root(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


@pytest.mark.parametrize("size", range(71))
def test_definition(size: int) -> None:
    """The root of any number of leaves is the one that the RFC's recursion gives."""
    assert root(LEAVES[:size]) == naive_root(LEAVES[:size])


@pytest.mark.parametrize("size", range(1, 9))
def test_certificate_transparency(size: int) -> None:
    """The roots are those of the reference implementation's test vectors."""
    leaves = [leaf_hash(bytes.fromhex(text)) for text in CT_INPUTS[:size]]
    assert root(leaves).hex() == CT_ROOTS[size - 1]


def test_empty() -> None:
    """The tree without leaves has the hash of nothing as its root."""
    assert root([]) == EMPTY_ROOT == hashlib.sha256().digest()


def test_node() -> None:
    """An inner node hashes its children behind a 01, so that it is never taken for a leaf."""
    assert node_hash(LEAVES[0], LEAVES[1]) == hashlib.sha256(b"\x01" + LEAVES[0] + LEAVES[1]).digest()


def test_takes_a_stream() -> None:
    """Leaves may come from an iterator: a tree of any size costs no memory but its height."""
    assert root(iter(LEAVES)) == root(LEAVES)


@settings(max_examples=60)
@given(st.integers(1, 70), st.data())
def test_every_leaf_counts(size: int, data: st.DataObject) -> None:
    """Another leaf, or the same leaves in another order, give another root."""
    place = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size - 1).filter(lambda index: index != place)) if size > 1 else 0
    changed, swapped = LEAVES[:size], LEAVES[:size]
    changed[place] = hashlib.sha256(changed[place]).digest()
    swapped[place], swapped[other] = swapped[other], swapped[place]
    assert root(changed) != root(LEAVES[:size])
    assert (root(swapped) == root(LEAVES[:size])) == (place == other)
