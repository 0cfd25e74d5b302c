"""Checks entries as they stand in the store, one behind the other, against what is known of their chain. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from operator import attrgetter
from typing import Final

from sealstream.schemas.entry import LABEL, entry_hash
from sealstream.schemas.errors import ChainPlace, StoreDamaged, TreeDiffers
from sealstream.sinks.notary.stored import StoredEntry

ANOTHER_END: Final = "it is another entry than the one that a root was committed over"
REWRITTEN_HINT: Final = "the store was rewritten: run sealstream verify; nothing else is signed at this size"
HINT: Final = "the store was changed since the notary committed to it: run sealstream verify"

_TENANT_SIZE_AT: Final = len(LABEL) + 3
_PREV: Final = struct.Struct(">Q32s")  # seq and prev, right behind the tenant
_SEQ: Final = attrgetter("seq")


def check_entries(
    chain: str, begin: int, end: int, prev: bytes | None, stored: Iterable[StoredEntry]
) -> tuple[list[bytes], list[bytes]]:
    """Return the bytes of a chain's entries and their hashes, if they are whole and continue each other.

    Arguments:
        chain: The chain.
        begin: The seq of the first.
        end: The seq behind the last.
        prev: The hash of the entry before them; ``None`` if it is not known.
        stored: What the store has of them, in any order.

    Raises:
        StoreDamaged: One is missing between others, comes twice, or is not what its hash or its successor says.
        TreeDiffers: The last ones are missing.
    """
    entries: list[bytes] = []
    hashes: list[bytes] = []
    for one in sorted(stored, key=_SEQ):
        seq = begin + len(entries)
        if one.seq != seq:
            word = "comes twice" if one.seq < seq else "is missing"
            raise StoreDamaged(chain, min(seq, one.seq), f"it {word}, and a root over it was committed to", hint=HINT)
        digest = entry_hash(one.entry)
        if digest != one.hash:
            raise StoreDamaged(chain, seq, "its hash is not the one that stands with it", hint=HINT)
        said_seq, said_prev = _links(one.entry)
        if said_seq != seq or (prev is not None and said_prev != prev):
            raise StoreDamaged(chain, seq, "it does not continue the entry before it", hint=HINT)
        entries.append(one.entry)
        hashes.append(digest)
        prev = digest
    if begin + len(entries) != end:
        raise TreeDiffers(
            f"the store has chain {chain} up to seq {begin + len(entries) - 1}, and its head is at {end - 1}",
            places=[ChainPlace(chain, begin + len(entries))],
            hint="the store was rolled back or lost its end; nothing smaller is ever signed",
        )
    return entries, hashes


def _links(entry: bytes) -> tuple[int, bytes]:
    """Return the seq and the predecessor's hash that an entry says; what matches no entry if it is none."""
    if len(entry) <= _TENANT_SIZE_AT:
        return -1, b""
    at = _TENANT_SIZE_AT + 1 + entry[_TENANT_SIZE_AT]
    return _PREV.unpack_from(entry, at) if len(entry) >= at + _PREV.size else (-1, b"")
