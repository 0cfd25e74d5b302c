"""Names the chains that a halt is about: what was compared may stand for many, and whoever is told looks there.

Each chain is looked at once, on the way to the halt and never before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from sealstream.schemas.errors import (
    ChainPlace,
    FormatError,
    RolledBack,
    SealstreamError,
    StoreDamaged,
    StoreError,
    TreeDiffers,
    Unreachable,
)
from sealstream.schemas.tenant_map import MAP_LEAF_BYTES, MapLeaf, derive_nonce, map_key
from sealstream.sinks.notary.database import NotaryDatabase
from sealstream.sinks.notary.steps import ChainHead, Memory
from sealstream.sinks.notary.stored import Snapshot, Store

CHAINS_NAMED_MAX: Final = 10
"""So many chains stand in a message; all of them in the error."""


def with_chains(
    error: TreeDiffers | RolledBack, database: NotaryDatabase, store: Store, *, secret: bytes
) -> TreeDiffers | RolledBack:
    """Return a halt with all chains that it is about.

    Arguments:
        error: The halt.
        database: The notary's database: its heads are held against the map of the last round.
        store: They are held against the store as well.
        secret: What the map's nonces are made from, 32 bytes.
    """
    message, places = error.message, dict(error.places)
    try:
        memory = database.load()
        if memory is not None:
            places |= dict(_other_in_map(memory, database, secret))
            with store.snapshot() as snapshot:
                places |= dict(ended_early(memory.chains, snapshot))
    except (FormatError, StoreError, Unreachable) as failed:
        message += f"; which chains that is about could not be looked up: {failed.message}"
    found = [ChainPlace(tenant, places[tenant]) for tenant in sorted(places)]
    if found:
        message += f"; concerned: {_words(found)}"
    return type(error)(message, places=found, hint=error.hint)


def ended_early(heads: Iterable[ChainHead], snapshot: Snapshot) -> Iterator[ChainPlace]:
    """Yield the chains of which the store has not the last entry, with the first seq that is missing at their end.

    Arguments:
        heads: The heads.
        snapshot: The store, at a moment behind that of the heads.

    Raises:
        StoreError: The store refuses.
        Unreachable: It does not answer.
    """
    sizes = {head.chain: head.size for head in heads}
    for chain, end in snapshot.ends(sizes.items()):
        if end < sizes[chain]:
            yield ChainPlace(chain, end)


def places_of(error: SealstreamError) -> tuple[ChainPlace, ...]:
    """Return the chains that an error is about, as far as it names any."""
    if isinstance(error, StoreDamaged):
        return (ChainPlace(error.tenant, error.seq),)
    return error.places if isinstance(error, TreeDiffers | RolledBack) else ()


def log_fields(error: SealstreamError) -> dict[str, object]:
    """Return what a log line says of the chains that an error is about: the first one, and all if there are more."""
    places = places_of(error)
    if not places:
        return {}
    fields: dict[str, object] = {"tenant": places[0].tenant, "seq": places[0].seq}
    if len(places) > 1:
        fields["places"] = [_word(one) for one in places[:CHAINS_NAMED_MAX]]
        fields["chains"] = len(places)
    return fields


def _other_in_map(memory: Memory, database: NotaryDatabase, secret: bytes) -> Iterator[ChainPlace]:
    """Yield the chains whose heads are not those of the last round's map, with the first seq that only one of both has.

    A chain that has a place in the map and no head has no name here.
    """
    if memory.last is None:
        return
    heads = {map_key(derive_nonce(secret, head.chain), head.chain): head for head in memory.chains}
    for piece in database.map_leaves(memory.last.round):
        for at in range(0, len(piece), MAP_LEAF_BYTES):
            leaf = MapLeaf.parse(piece[at : at + MAP_LEAF_BYTES])
            head = heads.get(leaf.key)
            if head is not None and (head.size, head.root) != (leaf.size, leaf.root):
                yield ChainPlace(head.chain, None if head.size == leaf.size else min(head.size, leaf.size))


def _words(places: list[ChainPlace]) -> str:
    named = [_word(one) for one in places[:CHAINS_NAMED_MAX]]
    more = len(places) - len(named)
    return ", ".join(named) + (f", and {more} more" if more else "")


def _word(place: ChainPlace) -> str:
    return place.tenant if place.seq is None else f"{place.tenant} from seq {place.seq} on"
