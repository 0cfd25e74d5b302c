"""The tenant map: one leaf a chain, in the order of hidden keys, updated by what has changed."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas import memory_tree
from sealstream.schemas.errors import LeafInvalid, NameInvalid, TreeDiffers, TreeInvalid
from sealstream.schemas.merkle import EMPTY_ROOT, SIZE_MAX, node_hash, node_hashes
from sealstream.schemas.proofs import verify_inclusion
from sealstream.schemas.tenant_map import MAP_LEAF_BYTES, MapLeaf, TenantMap, derive_nonce, map_key
from support import rfc_trees

ROOTS = rfc_trees.leaves(64)


def nonce_of(chain: str) -> bytes:
    """Return a chain's nonce; a random one outside of tests."""
    return hashlib.sha256(b"nonce of " + chain.encode()).digest()


def leaf_of(number: int, size: int = 1) -> MapLeaf:
    """Return the leaf of a tenant at a size."""
    chain = f"tenant-{number}"
    return MapLeaf(map_key(nonce_of(chain), chain), size, ROOTS[size % len(ROOTS)])


def check_is(made: TenantMap, leaves: dict[bytes, MapLeaf]) -> None:
    """Check that a map is the tree over the leaves in the order of their keys, in its root and in every proof."""
    ordered = [leaves[key] for key in sorted(leaves)]
    hashes = [hashlib.sha256(b"\x00" + leaf.pack()).digest() for leaf in ordered]
    assert list(made) == ordered
    assert (made.size, made.root()) == (len(ordered), rfc_trees.mth(hashes))
    for index, leaf in enumerate(ordered):
        proof = made.proof(leaf.key)
        assert (proof.leaf, proof.index, proof.size) == (leaf, index, len(ordered))
        verify_inclusion(proof.path, leaf=leaf.hash(), index=proof.index, size=proof.size, root=made.root())


class TestLeaf:
    """The bytes that the map commits to."""

    @given(st.binary(min_size=32, max_size=32), st.integers(1, SIZE_MAX), st.binary(min_size=32, max_size=32))
    def test_one_form(self, key: bytes, size: int, root: bytes) -> None:
        """Every leaf has bytes of one length, which are read back as the same leaf."""
        leaf = MapLeaf(key, size, root)
        assert MapLeaf.parse(leaf.pack()) == leaf
        assert len(leaf.pack()) == MAP_LEAF_BYTES
        assert leaf.hash() == hashlib.sha256(b"\x00" + leaf.pack()).digest()

    def test_every_byte_counts(self) -> None:
        """Other bytes are another leaf, or none; cut or longer ones are none."""
        leaf = leaf_of(1)
        data = leaf.pack()
        for place, byte in enumerate(data):
            changed = data[:place] + bytes([byte ^ 0x80]) + data[place + 1 :]
            try:
                assert MapLeaf.parse(changed) != leaf
            except LeafInvalid:
                assert place < 16 or place == 48  # the label, and the highest bit of the size
        for length in range(len(data)):
            with pytest.raises(LeafInvalid, match="instead of"):
                MapLeaf.parse(data[:length])
        with pytest.raises(LeafInvalid, match="instead of"):
            MapLeaf.parse(data + b"\x00")

    @pytest.mark.parametrize(
        "leaf",
        [
            MapLeaf(bytes(31), 1, bytes(32)),
            MapLeaf(bytes(32), 1, bytes(33)),
            MapLeaf(bytes(32), 0, bytes(32)),
            MapLeaf(bytes(32), -1, bytes(32)),
            MapLeaf(bytes(32), SIZE_MAX + 1, bytes(32)),
        ],
    )
    def test_fields_out_of_range(self, leaf: MapLeaf) -> None:
        """A leaf with a field out of range has no bytes and no hash, and no map takes it."""
        made = TenantMap([leaf_of(1)])
        for refuses in (leaf.pack, leaf.hash, lambda: made.update([leaf_of(2), leaf])):
            with pytest.raises(LeafInvalid):
                refuses()
        check_is(made, {leaf_of(1).key: leaf_of(1)})

    def test_key(self) -> None:
        """A key is the digest of nonce and name; another nonce, or another name, gives another one."""
        nonce = nonce_of("acme")
        assert map_key(nonce, "acme") == hashlib.sha256(nonce + b"acme").digest()
        assert len({map_key(one, name) for one in (nonce, bytes(32)) for name in ("acme", "Acme", "!partition-0")}) == 6

    def test_key_of_nothing(self) -> None:
        """A nonce of another size could be another one with another name, and is refused; so are names of no chain."""
        for nonce in (b"", bytes(31), bytes(33)):
            with pytest.raises(LeafInvalid, match="nonce"):
                map_key(nonce, "acme")
        for name in ("", "!partition-00", "!partition-x", "a b", "tenant\n"):
            with pytest.raises(NameInvalid):
                map_key(bytes(32), name)


class TestMap:
    """The map as rounds update it."""

    def test_empty(self) -> None:
        """A map without chains has the root of an empty tree, and proves nothing."""
        made = TenantMap()
        assert (made.size, made.root(), list(made)) == (0, EMPTY_ROOT, [])
        with pytest.raises(TreeInvalid, match="no chain"):
            made.proof(bytes(32))

    @settings(max_examples=40)
    @given(st.lists(st.dictionaries(st.integers(0, 30), st.integers(1, 5)), max_size=5))
    def test_updates(self, rounds: list[dict[int, int]]) -> None:
        """However chains come and grow, the map is the one made at once from what they are in the end."""
        made, sizes = TenantMap(), dict[int, int]()
        for more in rounds:
            sizes |= {number: sizes.get(number, 0) + growth for number, growth in more.items()}
            made.update(leaf_of(number, sizes[number]) for number in more)
            check_is(made, {leaf.key: leaf for leaf in (leaf_of(number, size) for number, size in sizes.items())})

    def test_the_same_again(self) -> None:
        """A chain that has not changed may be given again."""
        made = TenantMap([leaf_of(1), leaf_of(2)])
        made.update([leaf_of(2)])
        check_is(made, {leaf.key: leaf for leaf in (leaf_of(1), leaf_of(2))})

    @pytest.mark.parametrize(
        ("leaf", "words"),
        [
            (leaf_of(1, 4), "shrink from 5 to 4 entries"),
            (MapLeaf(leaf_of(1).key, 5, ROOTS[9]), "change its root"),
        ],
    )
    def test_refuses_a_chain_that_goes_back(self, leaf: MapLeaf, words: str) -> None:
        """A chain that would shrink, or be another one at the same size, is refused, and with it the whole update."""
        before = {one.key: one for one in (leaf_of(1, 5), leaf_of(2))}
        made = TenantMap(before.values())
        with pytest.raises(TreeDiffers, match=words):
            made.update([leaf_of(2, 2), leaf_of(3), leaf])
        check_is(made, before)

    def test_refuses_a_key_twice(self) -> None:
        """Two leaves of one chain in one update are refused."""
        with pytest.raises(LeafInvalid, match="two leaves"):
            TenantMap([leaf_of(1), leaf_of(1, 2)])

    def test_cost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of 10,000 chains, one that grows costs 14 hashes of nodes at most, and one that is new at most 10,020."""
        made = TenantMap(leaf_of(number) for number in range(10_000))
        hashed = 0

        def counted(left: bytes, right: bytes) -> bytes:
            nonlocal hashed
            hashed += 1
            return node_hash(left, right)

        def counted_row(children: list[bytes]) -> list[bytes]:
            nonlocal hashed
            hashed += len(children) // 2
            return node_hashes(children)

        monkeypatch.setattr(memory_tree, "node_hash", counted)
        monkeypatch.setattr(memory_tree, "node_hashes", counted_row)
        made.update([leaf_of(77, 2)])
        assert 0 < hashed <= 14
        hashed = 0
        made.update([leaf_of(10_000)])
        assert 0 < hashed <= 10_020


def test_nonce_of_a_secret_is_the_same_for_ever() -> None:
    """Who has the instance's secret finds every chain in the map, years later and with other software."""
    secret = bytes(range(32))
    assert derive_nonce(secret, "acme").hex() == hmac.new(secret, b"sealstream/nonce1\nacme", "sha256").hexdigest()
    assert derive_nonce(secret, "acme") != derive_nonce(secret, "acme2")
    with pytest.raises(LeafInvalid, match="31 bytes"):
        derive_nonce(secret[1:], "acme")
