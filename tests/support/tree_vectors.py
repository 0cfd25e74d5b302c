"""The test vectors of SPEC.md about trees, made from the RFC's recursion and from bytes joined by hand.

Nothing of the product is used here: what it computes is compared with these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from support.rfc_trees import mth, path, proof

SIZES: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 70)
INCLUSIONS: Final = ((0, 1), (0, 2), (1, 2), (2, 3), (5, 7), (69, 70))
CONSISTENCIES: Final = ((1, 2), (3, 7), (4, 8), (6, 7), (64, 70))
TILE_TREE_SIZE: Final = 600
WIDTH: Final = 256
CHAINS: Final = (("acme", 36), ("!partition-0", 3), ("!partition-2", 2))
TOPIC_ID: Final = bytes(range(16))
# partition, begin, end, counts by kind, invisible ranges, lost ranges
COVERED: Final = (
    (0, 0, 40, (2, 29, 1, 3, 2, 1, 0, 1, 0), ((7, 7), (30, 30)), ((31, 32),)),
    (1, 0, 0, (0,) * 9, (), ()),
    (2, 0, 1, (1, 0, 0, 0, 1, 0, 0, 0, 0), (), ()),
)


def sha256(data: bytes) -> bytes:
    """Return the digest of bytes."""
    return hashlib.sha256(data).digest()


def u(size: int, number: int) -> bytes:
    """Return a number in so many bytes, big-endian."""
    return number.to_bytes(size, "big")


def leaf(data: bytes) -> bytes:
    """Return a leaf's hash."""
    return sha256(b"\x00" + data)


def leaves(count: int) -> list[bytes]:
    """Return the hashes of the leaves whose data is their index in decimal."""
    return [leaf(b"%d" % index) for index in range(count)]


def roots_block() -> str:
    """Size, root."""
    return "".join(f"{size:<3} {mth(leaves(size)).hex()}\n" for size in SIZES)


def inclusions_block() -> str:
    """Index, size, and the proof's hashes."""
    return _proofs((index, size, path(index, leaves(size))) for index, size in INCLUSIONS)


def consistencies_block() -> str:
    """Both sizes, and the proof's hashes."""
    return _proofs((first, second, proof(first, leaves(second))) for first, second in CONSISTENCIES)


def tile_hashes() -> dict[str, list[bytes]]:
    """Return the hashes of each tile of the tree of 600 leaves, by the end of its path."""
    hashes = leaves(TILE_TREE_SIZE)
    full = [hashes[:WIDTH], hashes[WIDTH : 2 * WIDTH]]
    return {
        "0/000": full[0],
        "0/001": full[1],
        "0/002.p/88": hashes[2 * WIDTH :],
        "1/000.p/2": [mth(one) for one in full],
    }


def tiles_block() -> str:
    """Path, SHA-256 of the file."""
    files = {f"tile/{name}": b"".join(hashes) for name, hashes in tile_hashes().items()}
    entries = [u(2, len(b"%d" % index)) + b"%d" % index for index in range(TILE_TREE_SIZE)]
    files |= {
        "tile/entries/000": b"".join(entries[:WIDTH]),
        "tile/entries/001": b"".join(entries[WIDTH : 2 * WIDTH]),
        "tile/entries/002.p/88": b"".join(entries[2 * WIDTH :]),
    }
    return "".join(f"{name:<22} {sha256(data).hex()}\n" for name, data in files.items())


def map_leaves() -> list[tuple[bytes, str, bytes]]:
    """Return key, name and leaf of the map's chains, in the order of the keys."""
    found: list[tuple[bytes, str, bytes]] = []
    for name, size in CHAINS:
        key = sha256(nonce(name) + name.encode())
        found.append((key, name, b"sealstream/map1\n" + key + u(8, size) + mth(leaves(size))))
    return sorted(found)


def nonce(name: str) -> bytes:
    """Return the nonce of a chain, which is a random one outside of test vectors."""
    return sha256(b"nonce " + name.encode())


def map_block() -> str:
    """Name, nonce, leaf and hash of each chain, then the root."""
    lines: list[str] = []
    for _, name, data in map_leaves():
        lines += [f"chain {name}", f"nonce {nonce(name).hex()}", *_long("leaf  ", data), f"hash  {leaf(data).hex()}"]
    return "\n".join([*lines, f"root  {map_root().hex()}", ""])


def map_root() -> bytes:
    """Return the root of the map."""
    return mth([leaf(data) for _, _, data in map_leaves()])


def coverage() -> bytes:
    """Return the coverage of round 1."""
    parts = [b"sealstream/coverage1\n", u(4, len(COVERED))]
    for partition, begin, end, counts, *both in COVERED:
        parts += [TOPIC_ID, u(4, partition), u(8, begin), u(8, end), *(u(8, count) for count in counts)]
        for ranges in both:
            parts += [u(4, len(ranges)), *(u(8, offset) for one in ranges for offset in one)]
    return b"".join(parts)


def rounds() -> list[tuple[bytes, bytes]]:
    """Return leaf and coverage of round 0, in which there was nothing, and of round 1."""
    empty = b"sealstream/coverage1\n" + u(4, 0)
    first = _round(0, bytes(32), empty, 0, mth([]))
    second = _round(1, leaf(first), coverage(), len(CHAINS), map_root())
    return [(first, empty), (second, coverage())]


def rounds_block() -> str:
    """Coverage, leaf and hash of each round, then the root of the log."""
    lines: list[str] = []
    for data, covered in rounds():
        lines += [*_long("coverage ", covered), *_long("leaf     ", data), f"hash     {leaf(data).hex()}"]
    root = mth([leaf(data) for data, _ in rounds()])
    return "\n".join([*lines, f"root     {root.hex()}", ""])


def _round(number: int, previous: bytes, covered: bytes, chains: int, root: bytes) -> bytes:
    return b"sealstream/round1\n" + u(8, number) + previous + u(4, len(covered)) + sha256(covered) + u(8, chains) + root


def _proofs(found: Iterable[tuple[int, int, list[bytes]]]) -> str:
    lines: list[str] = []
    for one, other, hashes in found:
        lines += [f"{one} {other}", *(f"  {value.hex()}" for value in hashes)]
    return "\n".join([*lines, ""])


def _long(name: str, data: bytes) -> list[str]:
    """Return hex in lines of 96 digits behind a name."""
    text = data.hex()
    rows = [text[place : place + 96] for place in range(0, len(text), 96)]
    return [name + rows[0], *(" " * len(name) + row for row in rows[1:])]
