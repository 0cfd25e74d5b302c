"""Trees and proofs as pymerkle makes and verifies them."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import pytest

from sealstream.schemas import proofs
from sealstream.schemas.errors import ProofInvalid
from sealstream.schemas.memory_tree import MemoryTree
from sealstream.schemas.merkle import leaf_hash

PYMERKLE: Final[Any] = import_module("pymerkle")  # it has no types
ENTRIES = [b"entry %d" % number for number in range(70)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]


@pytest.fixture(scope="module")
def theirs() -> Any:
    """The tree over all entries."""
    made = PYMERKLE.InmemoryTree(algorithm="sha256")
    for entry in ENTRIES:
        made.append_entry(entry)
    return made


def test_roots(theirs: Any) -> None:
    """For any number of entries both come to one root."""
    for size in range(1, len(ENTRIES) + 1):
        assert theirs.get_root(size) == MemoryTree(LEAVES[:size]).root()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 31, 32, 33, 70])
def test_inclusion(theirs: Any, size: int) -> None:
    """Both make one proof for each entry, and each accepts the other's."""
    root = MemoryTree(LEAVES[:size]).root()
    for index in range(size):
        ours = MemoryTree(LEAVES[:size]).inclusion_proof(index)
        proof = theirs.prove_inclusion(index + 1, size)  # counted from 1, with the leaf itself in front
        assert proof.path == [LEAVES[index], *ours]
        proofs.verify_inclusion(proof.path[1:], leaf=LEAVES[index], index=index, size=size, root=root)
        made = PYMERKLE.InclusionProof("sha256", True, size, index + 1, proof.rule, [LEAVES[index], *ours])
        PYMERKLE.verify_inclusion(LEAVES[index], root, made)


@pytest.mark.parametrize("size", [2, 3, 7, 8, 9, 33, 70])
def test_consistency(theirs: Any, size: int) -> None:
    """Between the roots of two sizes both find a proof, and neither takes its own for another root."""
    tree = MemoryTree(LEAVES[:size])
    for first in range(1, size):
        older = MemoryTree(LEAVES[:first]).root()
        PYMERKLE.verify_consistency(older, tree.root(), theirs.prove_consistency(first, size))
        ours = tree.consistency_proof(first)
        proofs.verify_consistency(ours, first_size=first, first_root=older, second_size=size, second_root=tree.root())
        with pytest.raises(PYMERKLE.InvalidProof):
            PYMERKLE.verify_consistency(older, LEAVES[0], theirs.prove_consistency(first, size))
        with pytest.raises(ProofInvalid):
            proofs.verify_consistency(ours, first_size=first, first_root=older, second_size=size, second_root=LEAVES[0])
