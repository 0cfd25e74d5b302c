"""Remakes the last round from the notary's database and the store: what a crash behind the commit has left to do."""

from __future__ import annotations

from collections import defaultdict

from sealstream.schemas.entry import ZERO_HASH
from sealstream.schemas.errors import StoreDamaged
from sealstream.sinks.notary.chain_check import HINT, check_entries
from sealstream.sinks.notary.chains import Chains
from sealstream.sinks.notary.made import ChainGrowth, MadeRound
from sealstream.sinks.notary.steps import ChainHead, RoundRow
from sealstream.sinks.notary.stored import ChainRange, Snapshot, StoredEntry


def remake(last: RoundRow, chains: Chains, snapshot: Snapshot) -> MadeRound:
    """Return the last round, byte for byte as it was made.

    Arguments:
        last: The last round as the database has it.
        chains: All chains as they are after it.
        snapshot: The store.

    Raises:
        StoreDamaged: The store has other entries than those that were committed to.
        TreeDiffers: It has fewer.
        StoreError: It refuses.
        Unreachable: It does not answer.
    """
    grown = sorted((head for head in chains if head.grown_in == last.round), key=lambda head: head.chain)
    stored: dict[str, list[StoredEntry]] = defaultdict(list)
    # No more than one round's entries, which were in memory when it was made.
    for one in snapshot.entries(ChainRange(head.chain, head.size_before, head.size) for head in grown):
        stored[one.chain].append(one)
    growths = tuple(_growth(head, stored[head.chain]) for head in grown)
    return MadeRound(last.round, last.leaf, last.coverage, last.root, growths)


def _growth(head: ChainHead, stored: list[StoredEntry]) -> ChainGrowth:
    """Return what a chain has grown by: the hash of its last entry, which is known, commits to all before it."""
    prev = None if head.size_before else ZERO_HASH
    entries, hashes = check_entries(head.chain, head.size_before, head.size, prev, stored)
    if hashes[-1] != head.last_hash:
        raise StoreDamaged(head.chain, head.size - 1, "it is another entry than the one committed to", hint=HINT)
    return ChainGrowth(head.chain, head.size_before, head.size, head.root, tuple(entries), tuple(hashes))
