"""Inclusion and consistency proofs: those of RFC 6962, accepted if they hold and refused in every other form."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.errors import ProofInvalid, TreeInvalid
from sealstream.schemas.merkle import EMPTY_ROOT, SIZE_MAX, Node, node_hash
from sealstream.schemas.proofs import (
    consistency_nodes,
    consistency_proof,
    inclusion_nodes,
    inclusion_proof,
    nodes_of,
    verify_consistency,
    verify_inclusion,
)
from support import rfc_trees

LEAVES = rfc_trees.leaves(70)
SIZES = 34  # beyond a power of two; every pair is tried
ROOTS = [rfc_trees.mth(LEAVES[:size]) for size in range(len(LEAVES) + 1)]

# Test vectors of Certificate Transparency's implementations, for the leaves that test_merkle.py has, too.
CT_INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
CT_LEAVES = [hashlib.sha256(b"\x00" + bytes.fromhex(text)).digest() for text in CT_INPUTS]
CT_INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CT_CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def verify_leaf(proof: list[bytes], index: int, size: int, *, leaf: bytes | None = None) -> None:
    """Verify the inclusion of one of the leaves, or of another hash in its place."""
    verify_inclusion(proof, leaf=leaf or LEAVES[index], index=index, size=size, root=ROOTS[size])


def verify_growth(proof: list[bytes], first: int, second: int) -> None:
    """Verify that the tree of some first leaves is the beginning of that of more of them."""
    verify_consistency(proof, first_size=first, first_root=ROOTS[first], second_size=second, second_root=ROOTS[second])


def accepted(check: Callable[[], None]) -> bool:
    """Return whether a verification ends well, or in the one way in which it may refuse."""
    try:
        check()
    except ProofInvalid:
        return False
    return True


def mutations(proof: list[bytes], *, every_byte: bool = True) -> Iterator[list[bytes]]:
    """Yield a proof with each of its bytes changed, cut at each length, longer, swapped, and with hashes of no size."""
    for number, value in enumerate(proof):
        for place in range(len(value)) if every_byte else (0, 31):
            changed = value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]
            yield [*proof[:number], changed, *proof[number + 1 :]]
        yield proof[:number]
        yield [*proof[:number], *proof[number + 1 :]]
        yield [*proof[:number], value, *proof[number:]]
        yield [*proof[:number], value[:-1], *proof[number + 1 :]]
        yield [*proof[:number], value + b"\x00", *proof[number + 1 :]]
        yield [*proof[:number], b"", *proof[number + 1 :]]
        if number and proof[number - 1] != value:
            yield [*proof[: number - 1], value, proof[number - 1], *proof[number + 1 :]]
    yield [*proof, LEAVES[0]]
    yield [LEAVES[0], *proof]
    yield [*proof, bytes(32)]
    yield [bytes(32)] * 64


class TestInclusion:
    """Proofs that a leaf is in the tree."""

    @pytest.mark.parametrize(("place", "wanted"), CT_INCLUSION.items())
    def test_certificate_transparency(self, place: tuple[int, int], wanted: list[str]) -> None:
        """Proofs are those of the reference implementations' test vectors, and are accepted."""
        index, size = place

        proof = inclusion_proof(index, size, nodes_of(CT_LEAVES))

        assert [value.hex() for value in proof] == wanted
        verify_inclusion(proof, leaf=CT_LEAVES[index], index=index, size=size, root=rfc_trees.mth(CT_LEAVES[:size]))

    @pytest.mark.parametrize("size", range(1, SIZES))
    def test_definition(self, size: int) -> None:
        """The proof for each leaf of a tree of any size is the one that the RFC's recursion gives, and is accepted."""
        for index in range(size):
            proof = inclusion_proof(index, size, nodes_of(LEAVES))
            assert proof == rfc_trees.path(index, LEAVES[:size])
            verify_leaf(proof, index, size)

    @pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8, 13])
    def test_every_change_is_refused(self, size: int) -> None:
        """A proof with any byte changed, cut, longer or in another order is refused."""
        for index in range(size):
            for changed in mutations(rfc_trees.path(index, LEAVES[:size])):
                with pytest.raises(ProofInvalid):
                    verify_leaf(changed, index, size)

    @pytest.mark.parametrize("size", range(1, 18))
    def test_holds_for_one_leaf_and_root(self, size: int) -> None:
        """A proof is refused for another leaf, in another place, and for another root."""
        for index in range(size):
            proof = rfc_trees.path(index, LEAVES[:size])
            for other in range(size):
                if other != index:
                    with pytest.raises(ProofInvalid):
                        verify_leaf(proof, other, size, leaf=LEAVES[index])
                    with pytest.raises(ProofInvalid):
                        verify_leaf(proof, index, size, leaf=LEAVES[other])
            for root in (ROOTS[size + 1], EMPTY_ROOT, bytes(32)):
                with pytest.raises(ProofInvalid, match="another root"):
                    verify_inclusion(proof, leaf=LEAVES[index], index=index, size=size, root=root)

    @pytest.mark.parametrize("size", range(1, 10))
    def test_the_root_must_be_at_its_height(self, size: int) -> None:
        """A proof that goes on beyond the root, or ends below it, is refused even where its hashes lead to the root."""
        for index in range(size):
            proof, other = rfc_trees.path(index, LEAVES[:size]), LEAVES[60]
            for beyond in (node_hash(other, ROOTS[size]), node_hash(ROOTS[size], other)):
                with pytest.raises(ProofInvalid, match="more hashes than"):
                    verify_inclusion([*proof, other], leaf=LEAVES[index], index=index, size=size, root=beyond)
            if size > 1:
                with pytest.raises(ProofInvalid, match="ends below"):
                    verify_inclusion([], leaf=LEAVES[index], index=index, size=size, root=LEAVES[index])

    @pytest.mark.parametrize(
        ("index", "size"), [(0, 0), (1, 1), (8, 8), (9, 8), (-1, 8), (0, -1), (0, SIZE_MAX + 1), (2**70, 2**71)]
    )
    def test_places_that_no_tree_has(self, index: int, size: int) -> None:
        """A place outside of the tree, and a size that no tree has, are refused on both sides."""
        for proof in ([], LEAVES[:3]):
            with pytest.raises(ProofInvalid, match="no inclusion"):
                verify_inclusion(proof, leaf=LEAVES[0], index=index, size=size, root=LEAVES[0])
        with pytest.raises(TreeInvalid):
            inclusion_proof(index, size, nodes_of(LEAVES))

    def test_hashes_that_are_none(self) -> None:
        """A leaf and a root of another size than a hash are refused."""
        for wrong in (b"", bytes(31), bytes(33)):
            with pytest.raises(ProofInvalid, match="instead of 32"):
                verify_inclusion([], leaf=wrong, index=0, size=1, root=wrong)
            with pytest.raises(ProofInvalid, match="instead of 32"):
                verify_inclusion([], leaf=LEAVES[0], index=0, size=1, root=wrong)

    def test_the_largest_tree(self) -> None:
        """In the largest tree a proof has 63 hashes, and one more is refused."""
        proof, root = [LEAVES[0]] * 63, LEAVES[1]
        for _ in proof:
            root = hashlib.sha256(b"\x01" + root + LEAVES[0]).digest()
        verify_inclusion(proof, leaf=LEAVES[1], index=0, size=SIZE_MAX, root=root)
        with pytest.raises(ProofInvalid, match="levels"):
            verify_inclusion([*proof, LEAVES[0]], leaf=LEAVES[1], index=0, size=SIZE_MAX, root=root)


class TestConsistency:
    """Proofs that a tree begins with an older one."""

    @pytest.mark.parametrize(("sizes", "wanted"), CT_CONSISTENCY.items())
    def test_certificate_transparency(self, sizes: tuple[int, int], wanted: list[str]) -> None:
        """Proofs are those of the reference implementations' test vectors, and are accepted."""
        first, second = sizes

        proof = consistency_proof(first, second, nodes_of(CT_LEAVES))

        assert [value.hex() for value in proof] == wanted
        verify_consistency(
            proof,
            first_size=first,
            first_root=rfc_trees.mth(CT_LEAVES[:first]),
            second_size=second,
            second_root=rfc_trees.mth(CT_LEAVES[:second]),
        )

    @pytest.mark.parametrize("second", range(1, SIZES))
    def test_definition(self, second: int) -> None:
        """The proof between trees of any two sizes is the one that the RFC's recursion gives, and is accepted."""
        for first in range(1, second):
            proof = consistency_proof(first, second, nodes_of(LEAVES))
            assert proof == rfc_trees.proof(first, LEAVES[:second])
            verify_growth(proof, first, second)

    @pytest.mark.parametrize("second", [2, 3, 6, 7, 8, 13])
    def test_every_change_is_refused(self, second: int) -> None:
        """A proof with any byte changed, cut, longer or in another order is refused."""
        for first in range(1, second):
            for changed in mutations(rfc_trees.proof(first, LEAVES[:second])):
                with pytest.raises(ProofInvalid):
                    verify_growth(changed, first, second)

    @pytest.mark.parametrize("second", range(1, 16))
    def test_holds_for_two_trees(self, second: int) -> None:
        """A proof is refused for another root of either tree, and for trees of other sizes."""
        for first in range(1, second):
            proof = rfc_trees.proof(first, LEAVES[:second])
            for roots in (
                (ROOTS[first], ROOTS[second + 1]),
                (ROOTS[first + 1], ROOTS[second]),
                (EMPTY_ROOT, bytes(32)),
            ):
                with pytest.raises(ProofInvalid):
                    verify_consistency(
                        proof, first_size=first, first_root=roots[0], second_size=second, second_root=roots[1]
                    )
            for other in range(1, second):
                if other != first:
                    with pytest.raises(ProofInvalid):
                        verify_growth(proof, other, second)

    @pytest.mark.parametrize("second", range(2, 10))
    def test_the_roots_must_be_at_their_height(self, second: int) -> None:
        """A proof that goes on beyond the roots, or ends below one, is refused even where its hashes lead to them."""
        for first in range(1, second):
            proof, other = rfc_trees.proof(first, LEAVES[:second]), LEAVES[60]
            # Where the older tree is perfect its root begins the path, and stays as it is given.
            older = ROOTS[first] if first & (first - 1) == 0 else node_hash(other, ROOTS[first])
            with pytest.raises(ProofInvalid, match="more hashes than"):
                verify_consistency(
                    [*proof, other],
                    first_size=first,
                    first_root=older,
                    second_size=second,
                    second_root=node_hash(other, ROOTS[second]),
                )
            if first & (first - 1) or len(proof) > 1:
                below = ROOTS[first] if first & (first - 1) == 0 else proof[0]
                short = [] if first & (first - 1) == 0 else proof[:1]
                with pytest.raises(ProofInvalid, match=r"ends below|is empty"):
                    verify_consistency(short, first_size=first, first_root=below, second_size=second, second_root=below)

    @pytest.mark.parametrize("second", range(8))
    def test_an_empty_tree_begins_every_tree(self, second: int) -> None:
        """An empty tree is consistent with every tree by the empty proof alone, and only under its own root."""
        verify_growth([], 0, second)
        assert consistency_proof(0, second, nodes_of(LEAVES)) == []
        for proof in ([LEAVES[0]], [ROOTS[second]], [EMPTY_ROOT]):
            with pytest.raises(ProofInvalid, match="must be empty"):
                verify_growth(proof, 0, second)
        with pytest.raises(ProofInvalid, match="not that of one"):
            verify_consistency([], first_size=0, first_root=LEAVES[0], second_size=second, second_root=ROOTS[second])

    @pytest.mark.parametrize("size", range(8))
    def test_a_tree_is_consistent_with_itself(self, size: int) -> None:
        """Trees of one size are consistent if they have one root, by the empty proof alone."""
        verify_growth([], size, size)
        assert consistency_proof(size, size, nodes_of(LEAVES)) == []
        with pytest.raises(ProofInvalid, match="must be empty"):
            verify_growth([ROOTS[size]], size, size)
        with pytest.raises(ProofInvalid):
            verify_consistency([], first_size=size, first_root=ROOTS[size], second_size=size, second_root=LEAVES[9])

    @pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 0), (-1, 3), (1, SIZE_MAX + 1), (-2, -1)])
    def test_sizes_that_no_trees_have(self, first: int, second: int) -> None:
        """A tree that shrinks, and sizes that no tree has, are refused on both sides."""
        for proof in ([], LEAVES[:2]):
            with pytest.raises(ProofInvalid, match="can continue"):
                verify_consistency(
                    proof, first_size=first, first_root=LEAVES[0], second_size=second, second_root=LEAVES[0]
                )
        with pytest.raises(TreeInvalid):
            consistency_proof(first, second, nodes_of(LEAVES))

    def test_hashes_that_are_none(self) -> None:
        """Roots of another size than a hash are refused, whichever they are."""
        for wrong in (b"", bytes(31), bytes(33)):
            for roots in ((wrong, ROOTS[2]), (ROOTS[1], wrong)):
                with pytest.raises(ProofInvalid, match="instead of 32"):
                    verify_consistency(
                        [LEAVES[1]], first_size=1, first_root=roots[0], second_size=2, second_root=roots[1]
                    )

    def test_growth_needs_a_proof(self) -> None:
        """Without a proof no tree is the beginning of a larger one."""
        with pytest.raises(ProofInvalid, match="is empty"):
            verify_growth([], 4, 8)


class TestAnyInput:
    """What an attacker may send."""

    @settings(max_examples=300)
    @given(
        st.lists(st.sampled_from([*LEAVES[:6], *ROOTS[:9], b"", bytes(31), bytes(64)]), max_size=66),
        st.integers(-2, 20) | st.integers(),
        st.integers(-2, 20) | st.integers(),
    )
    def test_nothing_but_a_refusal(self, proof: list[bytes], one: int, other: int) -> None:
        """Whatever the numbers and hashes are, verification ends with an answer or with the one typed error."""
        checks: list[Callable[[], None]] = [
            lambda: verify_inclusion(proof, leaf=LEAVES[1], index=one, size=other, root=ROOTS[8]),
            lambda: verify_consistency(
                proof, first_size=one, first_root=ROOTS[3], second_size=other, second_root=ROOTS[8]
            ),
        ]
        for check, truth in zip(checks, (rfc_trees.path(1, LEAVES[:8]), rfc_trees.proof(3, LEAVES[:8])), strict=True):
            assert not accepted(check) or proof == truth


class TestSources:
    """Where the hashes of a proof come from."""

    @settings(max_examples=60)
    @given(st.integers(1, 70), st.data())
    def test_asks_only_for_what_it_says(self, size: int, data: st.DataObject) -> None:
        """A proof reads the nodes that its list names, in that order, and no other."""
        index, first = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
        asked: list[Node] = []
        read = nodes_of(LEAVES[:size])

        def source(node: Node) -> bytes:
            asked.append(node)
            return read(node)

        inclusion_proof(index, size, source)
        consistency_proof(first, size, source)

        # Each hash is folded from its nodes, and these come from left to right.
        assert asked == [*inclusion_nodes(index, size), *consistency_nodes(first, size)]

    @pytest.mark.parametrize("place", [(0, 70), (1, 35), (0, -1), (6, 1), (7, 0), (-1, 0)])
    def test_a_list_has_no_other_nodes(self, place: tuple[int, int]) -> None:
        """A list of leaves refuses to name a node that its tree does not have."""
        with pytest.raises(TreeInvalid, match="no node"):
            nodes_of(LEAVES)(Node(*place))
