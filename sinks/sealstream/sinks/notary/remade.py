"""Remakes the last round from the notary's database and the store: what a crash behind the commit has left to do."""

from __future__ import annotations

from sealstream.schemas.entry import ZERO_HASH, entry_hash, parse
from sealstream.schemas.errors import EntryInvalid, StoreDamaged, TreeDiffers
from sealstream.sinks.notary.chains import Chains
from sealstream.sinks.notary.made import ChainGrowth, MadeRound
from sealstream.sinks.notary.steps import ChainHead, RoundRow
from sealstream.sinks.notary.stored import Snapshot

_HINT = "the store was changed since the notary committed to it: run sealstream verify"


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
    growths = tuple(_growth(head, snapshot) for head in grown)
    return MadeRound(last.round, last.leaf, last.coverage, last.root, growths)


def _growth(head: ChainHead, snapshot: Snapshot) -> ChainGrowth:
    """Return what a chain has grown by: the hash of its last entry, which is known, commits to all before it."""
    entries: list[bytes] = []
    hashes: list[bytes] = []
    for stored in snapshot.entries(head.chain, head.size_before, head.size):
        seq = head.size_before + len(entries)
        digest = entry_hash(stored.entry)
        if stored.seq != seq or stored.hash != digest:
            raise StoreDamaged(head.chain, seq, "it is missing, or is not what its hash says", hint=_HINT)
        if (entries or not seq) and _previous(head.chain, seq, stored.entry) != (hashes[-1] if hashes else ZERO_HASH):
            raise StoreDamaged(head.chain, seq, "it does not continue the entry before it", hint=_HINT)
        entries.append(stored.entry)
        hashes.append(digest)
    if head.size_before + len(entries) != head.size:
        raise TreeDiffers(
            f"the store has {head.size_before + len(entries)} entries of chain {head.chain}, and the notary committed"
            f" to {head.size}",
            hint=_HINT,
        )
    if hashes[-1] != head.last_hash:
        raise StoreDamaged(head.chain, head.size - 1, "it is another entry than the one committed to", hint=_HINT)
    return ChainGrowth(head.chain, head.size_before, head.size, head.root, tuple(entries), tuple(hashes))


def _previous(chain: str, seq: int, entry: bytes) -> bytes:
    try:
        return parse(entry).prev
    except EntryInvalid as error:
        raise StoreDamaged(chain, seq, f"what is stored is no entry: {error.message}", hint=_HINT) from error
