"""The published files of chains, as the notary writes them: entries, tiles, and a signed checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sealstream.schemas.checkpoint import Checkpoint, chain_origin
from sealstream.schemas.log_layout import chain_prefix
from sealstream.schemas.merkle import leaf_hash
from sealstream.schemas.note import sign_note
from sealstream.schemas.note_key import SignerKey
from sealstream.schemas.tile_tree import TileEdge
from sealstream.schemas.tiles import extend_bundles
from sealstream.worker.objects import Objects
from support.rounds import Entries


def entries_by_chain(*logs: Entries) -> dict[str, list[bytes]]:
    """Return the entries of each chain, in their order, out of the logs of one epoch after the other."""
    chains: dict[str, list[bytes]] = {}
    for log in logs:
        for records in log.values():
            for one in records:
                chains.setdefault(one.parsed.tenant, []).append(one.entry)
    return chains


def publish_chain_files(objects: Objects, key: SignerKey, chains: Mapping[str, Sequence[bytes]]) -> None:
    """Write all files of chains.

    Arguments:
        objects: Where to.
        key: The instance's key.
        chains: The entries of each.
    """
    for chain, entries in chains.items():
        objects.put_many(chain_files(key, chain, entries))


def chain_files(key: SignerKey, chain: str, entries: Sequence[bytes]) -> Iterable[tuple[str, bytes]]:
    """Return the paths and bytes of a chain's files."""
    prefix, edge = chain_prefix(chain), TileEdge()
    tiles = edge.extend([leaf_hash(entry) for entry in entries])
    files = [(prefix + tile.path(), data) for tile, data in (*tiles, *edge.partial())]
    files += [(prefix + bundle.path(), data) for bundle, data in extend_bundles(0, b"", entries)]
    origin = chain_origin(key.verifier.name, chain)
    note = sign_note(Checkpoint(origin, edge.size, edge.root()).pack(), [key.renamed(origin)])
    return [*files, (f"{prefix}checkpoint", note)]
