"""RFC 6962 section 2.1 word for word, by recursion over the leaves: what our trees are held against."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache


def leaves(count: int) -> list[bytes]:
    """Return the hashes of so many different leaves."""
    return [hashlib.sha256(b"\x00leaf %d" % number).digest() for number in range(count)]


def mth(hashes: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash over leaf hashes."""
    return _mth(tuple(hashes))


def path(index: int, hashes: Sequence[bytes]) -> list[bytes]:
    """Return PATH(m, D[n]) of section 2.1.1."""
    if len(hashes) == 1:
        return []
    k = _split(len(hashes))
    if index < k:
        return [*path(index, hashes[:k]), mth(hashes[k:])]
    return [*path(index - k, hashes[k:]), mth(hashes[:k])]


def proof(first: int, hashes: Sequence[bytes]) -> list[bytes]:
    """Return PROOF(m, D[n]) of section 2.1.2, for 0 < m < n."""
    return _subproof(first, hashes, whole=True)


def _subproof(first: int, hashes: Sequence[bytes], *, whole: bool) -> list[bytes]:
    if first == len(hashes):
        return [] if whole else [mth(hashes)]
    k = _split(len(hashes))
    if first <= k:
        return [*_subproof(first, hashes[:k], whole=whole), mth(hashes[k:])]
    return [*_subproof(first - k, hashes[k:], whole=False), mth(hashes[:k])]


@cache
def _mth(hashes: tuple[bytes, ...]) -> bytes:
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    k = _split(len(hashes))
    return hashlib.sha256(b"\x01" + _mth(hashes[:k]) + _mth(hashes[k:])).digest()


def _split(count: int) -> int:
    """Return the largest power of two below a count of more than one."""
    k = 1
    while 2 * k < count:
        k *= 2
    return k
