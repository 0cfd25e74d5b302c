"""The proof files of SPEC.md, made from bytes joined by hand and from the RFC's recursion.

Nothing of the product is used here: what it makes and takes is compared with these.
"""

from __future__ import annotations

import base64
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from support import spec
from support.rfc_trees import mth, path, proof
from support.tree_vectors import leaf, leaves, nonce, sha256, u

INSTANCE: Final = "demo.example/audit"
TENANT: Final = "acme"
SIZES: Final = (((TENANT, 2), ("!partition-0", 3)), ((TENANT, 5), ("!partition-0", 3), ("!partition-2", 2)))
"""How far the chains were in the two rounds: the first is that of section 11.5, the others have the leaves of 12.3."""

COVERAGE: Final = b"sealstream/coverage1\n" + u(4, 0)
WITNESSES: Final = (("w1.example/witness", 3), ("w2.example/witness", 4))
SIGNED_SECONDS: Final = ((1_700_000_040, 1_700_000_041), (1_700_000_100, 1_700_000_160))


def entries() -> list[bytes]:
    """Return the entries of the chain."""
    return [one.data for one in spec.entries()[:5]]


def map_leaves(number: int) -> list[tuple[bytes, bytes]]:
    """Return name and leaf of the chains of a round, in the order of their keys."""
    found: list[tuple[bytes, bytes, bytes]] = []
    for name, size in SIZES[number]:
        root = mth([leaf(data) for data in entries()[:size]] if name == TENANT else leaves(size))
        key = sha256(nonce(name) + name.encode())
        found.append((key, name.encode(), b"sealstream/map1\n" + key + u(8, size) + root))
    return [(name, data) for _, name, data in sorted(found)]


def previous(number: int) -> bytes:
    """Return the hash of the round before."""
    return leaf(round_leaf(number - 1)) if number else bytes(32)


def round_leaf(number: int) -> bytes:
    """Return the leaf of a round."""
    map_root = mth([leaf(data) for _, data in map_leaves(number)])
    coverage = u(4, len(COVERAGE)) + sha256(COVERAGE)
    return b"sealstream/round1\n" + u(8, number) + previous(number) + coverage + u(8, len(SIZES[number])) + map_root


def root(size: int) -> bytes:
    """Return the root of the root log at a size."""
    return mth([leaf(round_leaf(number)) for number in range(size)])


def signatures(size: int) -> list[tuple[str, bytes]]:
    """Return the signatures of the root checkpoint of a size, by the log and two witnesses: key's name, id and rest."""
    text = b"%b\n%d\n%b\n" % (INSTANCE.encode(), size, base64.b64encode(root(size)))
    found = [(INSTANCE, _signature(INSTANCE, 1, 1, b"", text))]
    for (name, seed), at in zip(WITNESSES, SIGNED_SECONDS[size - 1], strict=True):
        found.append((name, _signature(name, 4, seed, u(8, at), b"cosignature/v1\ntime %d\n" % at + text)))
    return found


def _signature(name: str, number: int, seed: int, before: bytes, message: bytes) -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(bytes((seed,)) * 32)
    key_id = sha256(name.encode() + b"\n" + bytes((number,)) + key.public_key().public_bytes_raw())[:4]
    return key_id + before + key.sign(message)


def note(size: int) -> bytes:
    """Return the root checkpoint of a size as it was signed."""
    lines = [b"%b\n%d\n%b\n\n" % (INSTANCE.encode(), size, base64.b64encode(root(size)))]
    lines += [b"\xe2\x80\x94 %b %b\n" % (name.encode(), base64.b64encode(data)) for name, data in signatures(size)]
    return b"".join(lines)


def leb(number: int) -> bytes:
    """Return a number as unsigned LEB128."""
    return bytes((number,)) if number < 128 else bytes((number % 128 + 128,)) + leb(number // 128)


def sized(data: bytes) -> bytes:
    """Return bytes with their size in front."""
    return leb(len(data)) + data


def carried(size: int) -> bytes:
    """Return what a file has of the root checkpoint of a size."""
    signed = signatures(size)
    names = (b"" if name == INSTANCE else name.encode() for name, _ in signed)
    parts = [sized(name) + sized(data) for name, (_, data) in zip(names, signed, strict=True)]
    return sized(INSTANCE.encode()) + leb(size) + root(size) + leb(len(parts)) + b"".join(parts)


def hashes(found: list[bytes], before: bytes = b"") -> bytes:
    """Return a path with its number in front, and without its first hash if that is the one before the leaf."""
    if found and found[0] == before:
        return leb(len(found) + 64) + b"".join(found[1:])
    return leb(len(found)) + b"".join(found)


def way(number: int) -> bytes:
    """Return the way from the chain up to the checkpoint of its round's size."""
    names = [name for name, _ in map_leaves(number)]
    index = names.index(TENANT.encode())
    map_path = path(index, [leaf(data) for _, data in map_leaves(number)])
    root_path = path(number, [leaf(round_leaf(one)) for one in range(number + 1)])
    return b"".join(
        (
            leb(index),
            leb(number),
            hashes(map_path),
            previous(number),
            leb(len(COVERAGE)),
            sha256(COVERAGE),
            leb(len(SIZES[number])),
            hashes(root_path, previous(number)),
            carried(number + 1),
            leb(0),
        )
    )


def proof_file(seq: int, number: int, payload: bytes, *, earlier: bool) -> bytes:
    """Return the proof of an entry in a round; with the first round's state before it, or not."""
    size = SIZES[number][0][1]
    chain = [leaf(data) for data in entries()]
    data = entries()[seq]
    parts = [
        b"sealproof1\n",
        sized(data),
        sized(payload),
        leb(0),
        nonce(TENANT),
        leb(size),
        hashes(path(seq, chain[:size]), chain[seq - 1] if seq else b""),
        way(number),
        leb(earlier),
    ]
    if earlier:
        rounds = [leaf(round_leaf(one)) for one in range(2)]
        parts += [leb(SIZES[0][0][1]), mth(chain[: SIZES[0][0][1]]), way(0), hashes(proof(1, rounds))]
    body = b"".join(parts)
    return body + sha256(body)[:8]


def vectors() -> list[bytes]:
    """Return the proofs: of the genesis with its payload, and of an event without it and with an earlier state."""
    return [proof_file(0, 0, spec.entries()[0].value, earlier=False), proof_file(2, 1, b"", earlier=True)]


def block() -> str:
    """Return the block of the page: hex in lines of 96 digits, and an empty line between the files."""
    found: list[str] = []
    for data in vectors():
        text = data.hex()
        found.append("".join(f"{text[place : place + 96]}\n" for place in range(0, len(text), 96)))
    return "\n".join(found)
