"""The tenant map: one RFC 6962 tree over the heads of all chains of an instance, sorted by keys that hide the names.

A chain's key is SHA-256(nonce || name), with a random nonce of 32 bytes for each chain, which only its tenant learns.
So a leaf shown to one tenant says nothing to him about the others, and the root of the map nothing about anyone.
The layout of a leaf is fixed and big-endian; ``SPEC.md`` gives it with test vectors.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sealstream.schemas.errors import LeafInvalid, NameInvalid, TreeDiffers, TreeInvalid
from sealstream.schemas.memory_tree import MemoryTree
from sealstream.schemas.merkle import HASH_BYTES, SIZE_MAX, leaf_hash
from sealstream.schemas.tenant_name import is_chain
from sealstream.schemas.tiles import Tile

MAP_LABEL: Final = b"sealstream/map1\n"
NONCE_BYTES: Final = 32
MAP_SECRET_BYTES: Final = 32
_NONCE_LABEL: Final = b"sealstream/nonce1\n"

_LEAF: Final = struct.Struct(">16s32sQ32s")  # label, key, size, root
MAP_LEAF_BYTES: Final = _LEAF.size


def derive_nonce(secret: bytes, chain: str) -> bytes:
    """Return the nonce of a chain: the HMAC-SHA256 of a label and its name, under a secret of the instance.

    Whoever does not know the secret cannot tell it from random bytes, so nothing has to be remembered for each chain.

    Arguments:
        secret: 32 random bytes, which only those learn who make or recompute the whole map.
        chain: The chain's name: a tenant, or ``!partition-<n>``.

    Raises:
        LeafInvalid: The secret has another size.
    """
    if len(secret) != MAP_SECRET_BYTES:
        raise LeafInvalid(f"the map's secret has {len(secret)} bytes instead of {MAP_SECRET_BYTES}")
    return hmac.digest(secret, _NONCE_LABEL + chain.encode("ascii"), "sha256")


def map_key(nonce: bytes, chain: str) -> bytes:
    """Return the key under which a chain stands in the map: ``SHA-256(nonce || name)``.

    Arguments:
        nonce: The chain's own random nonce, 32 bytes; it stays the same for ever.
        chain: The chain's name: a tenant, or ``!partition-<n>``.

    Raises:
        LeafInvalid: The nonce has another size.
        NameInvalid: The name is none of a chain.
    """
    if len(nonce) != NONCE_BYTES:
        raise LeafInvalid(f"a chain's nonce has {len(nonce)} bytes instead of {NONCE_BYTES}")
    if not is_chain(chain):
        raise NameInvalid(f"{chain[:80]!r} is neither a tenant nor !partition-<n>")
    return hashlib.sha256(nonce + chain.encode("ascii")).digest()


@dataclass(frozen=True, slots=True)
class MapLeaf:
    """What the map says of one chain.

    Arguments:
        key: Its key (:func:`map_key`), 32 bytes.
        size: The number of its entries; at least 1, its genesis.
        root: The root of its tree, 32 bytes.
    """

    key: bytes
    size: int
    root: bytes

    def pack(self) -> bytes:
        """Return the leaf's bytes.

        Raises:
            LeafInvalid: A field is out of range.
        """
        for name, value in (("key", self.key), ("root", self.root)):
            if len(value) != HASH_BYTES:
                raise LeafInvalid(f"a leaf of the tenant map has a {name} of {len(value)} bytes, not {HASH_BYTES}")
        if not 0 < self.size <= SIZE_MAX:
            raise LeafInvalid(f"a leaf of the tenant map has the size {self.size}, outside 1 to {SIZE_MAX}")
        return _LEAF.pack(MAP_LABEL, self.key, self.size, self.root)

    @classmethod
    def parse(cls, data: bytes) -> MapLeaf:
        """Return the leaf that the bytes are, the inverse of :meth:`pack`.

        Raises:
            LeafInvalid: They are not exactly a leaf.
        """
        if len(data) != MAP_LEAF_BYTES:
            raise LeafInvalid(f"a leaf of the tenant map has {len(data)} bytes instead of {MAP_LEAF_BYTES}")
        label, key, size, root = _LEAF.unpack(data)
        if label != MAP_LABEL:
            raise LeafInvalid(
                "a leaf of the tenant map does not begin with its label", hint="it is none, or of a newer format"
            )
        leaf = cls(key, size, root)
        leaf.pack()  # the range of the size
        return leaf

    def hash(self) -> bytes:
        """Return the leaf's hash in the map's tree.

        Raises:
            LeafInvalid: A field is out of range.
        """
        return leaf_hash(self.pack())


@dataclass(frozen=True, slots=True)
class MapProof:
    """That a leaf stands in the map: to be verified with :func:`~sealstream.schemas.proofs.verify_inclusion`.

    Arguments:
        leaf: The leaf.
        index: Its place in the map.
        size: The number of chains in the map.
        path: The inclusion proof.
    """

    leaf: MapLeaf
    index: int
    size: int
    path: tuple[bytes, ...]


class TenantMap:
    """The map, kept in memory and updated by what has changed: some 14 hashes a changed chain of 10,000.

    It takes about 0.5 KB a chain. A new chain costs a hash for each chain behind it, all new ones together once.

    Arguments:
        leaves: The chains that it has at first, in any order.

    Raises:
        LeafInvalid: A leaf cannot be packed, or two have the same key.
    """

    def __init__(self, leaves: Iterable[MapLeaf] = ()) -> None:
        self._keys: list[bytes] = []
        self._leaves: dict[bytes, MapLeaf] = {}
        self._tree = MemoryTree()
        self.update(leaves)

    @property
    def size(self) -> int:
        """The number of chains."""
        return len(self._keys)

    def root(self) -> bytes:
        """Return the root of the map's tree."""
        return self._tree.root()

    def update(self, leaves: Iterable[MapLeaf]) -> None:
        """Take in chains that are new or have grown; all of them, or none if one is refused.

        Raises:
            LeafInvalid: A leaf cannot be packed, or two of them have the same key.
            TreeDiffers: A chain would shrink, or have another root at the same size.
        """
        hashes: dict[bytes, bytes] = {}
        changed: dict[bytes, MapLeaf] = {}
        for leaf in leaves:
            if leaf.key in changed:
                raise LeafInvalid(f"two leaves of the tenant map have the key {leaf.key.hex()}")
            hashes[leaf.key] = leaf.hash()
            changed[leaf.key] = leaf
            self._check_growth(leaf)
        known = {key: value for key, value in hashes.items() if key in self._leaves}
        self._tree.replace({bisect_left(self._keys, key): value for key, value in known.items()})
        self._leaves |= changed
        if new := sorted(hashes.keys() - known.keys()):
            self._insert(new)

    def proof(self, key: bytes) -> MapProof:
        """Return the proof that the chain with a key stands in the map as it is now.

        Raises:
            TreeInvalid: There is no such chain in it.
        """
        leaf = self._leaves.get(key)
        if leaf is None:
            raise TreeInvalid(f"the tenant map has no chain with the key {key.hex()}")
        index = bisect_left(self._keys, key)
        return MapProof(leaf, index, self.size, tuple(self._tree.inclusion_proof(index)))

    def tiles(self) -> Iterator[tuple[Tile, bytes]]:
        """Yield all tiles of the map's tree with their bytes: with the leaves, all that proofs are made from."""
        return self._tree.tiles()

    def __iter__(self) -> Iterator[MapLeaf]:
        return (self._leaves[key] for key in self._keys)

    def _check_growth(self, leaf: MapLeaf) -> None:
        before = self._leaves.get(leaf.key)
        if before is None or leaf.size > before.size or leaf == before:
            return
        what = f"shrink from {before.size} to {leaf.size} entries" if leaf.size < before.size else "change its root"
        raise TreeDiffers(
            f"the chain with the map key {leaf.key.hex()} would {what}",
            hint="the store was rolled back or rewritten: verify it",
        )

    def _insert(self, new: list[bytes]) -> None:
        """Put keys in their places, and hash anew what lies behind the first of them."""
        begin = bisect_left(self._keys, new[0])
        self._keys[begin:] = sorted([*self._keys[begin:], *new])
        self._tree.rewrite(begin, [self._leaves[key].hash() for key in self._keys[begin:]])
