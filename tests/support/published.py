"""Logs as an instance publishes them: tiles, entry bundles and checkpoints in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint, chain_origin
from sealstream.schemas.coverage import COVERAGE_LABEL, coverage_digest
from sealstream.schemas.entry import ZERO_HASH, Entry, Genesis, Kind, entry_hash, pack, payload_digest
from sealstream.schemas.log_layout import ROOT_PREFIX, chain_prefix
from sealstream.schemas.merkle import EMPTY_ROOT
from sealstream.schemas.note import sign_note
from sealstream.schemas.note_key import SignerKey
from sealstream.schemas.round import Round
from sealstream.schemas.tile_tree import TileEdge
from sealstream.schemas.tiles import TILE_WIDTH, extend_bundles
from support.notes import ORIGIN, signer

TOPIC_ID: Final = bytes(range(16))
PARTITIONS: Final = 4
_COVERAGE: Final = COVERAGE_LABEL + bytes(4)


def chain_of(tenant: str, size: int) -> list[bytes]:
    """Return the entries of a chain: its genesis, and one event for each further place.

    Arguments:
        tenant: The chain's name.
        size: The number of entries.
    """
    genesis = Genesis(ORIGIN, PARTITIONS).payload()
    entries: list[bytes] = []
    prev = ZERO_HASH
    for seq in range(size):
        payload = b"payload %d" % seq if seq else genesis
        entry = Entry(
            kind=Kind.EVENT if seq else Kind.GENESIS,
            tenant=tenant,
            seq=seq,
            prev=prev,
            received=1_700_000_000_000_000 + 1_000 * seq,
            topic_id=TOPIC_ID,
            partition=0,
            offset=max(0, seq - 1),
            event_id=f"ev-{seq}" if seq else "",
            length=len(payload),
            payload=payload_digest(payload),
        )
        entries.append(pack(entry))
        prev = entry_hash(entries[-1])
    return entries


def rounds_of(count: int) -> list[bytes]:
    """Return the leaves of a root log: rounds in which nothing happened."""
    leaves: list[bytes] = []
    previous = ZERO_HASH
    for number in range(count):
        leaves.append(Round(number, previous, len(_COVERAGE), coverage_digest(_COVERAGE), 0, EMPTY_ROOT).pack())
        previous = entry_hash(leaves[-1])
    return leaves


class PublishedLog:
    """A log in a folder, which grows.

    Arguments:
        root: Where the instance publishes.
        prefix: Where the log is there.
        key: What signs its checkpoints; the name is the origin.
    """

    def __init__(self, root: Path, prefix: str, key: SignerKey) -> None:
        self.prefix = prefix
        self.folder = root / prefix
        self.key = key
        self.hashes: list[bytes] = []
        self._edge = TileEdge()
        self._tail = b""

    @property
    def size(self) -> int:
        """The number of entries that were published."""
        return len(self.hashes)

    def grow(self, entries: Sequence[bytes]) -> bytes:
        """Publish further entries, and return the checkpoint that is there then."""
        before = self.size
        bundles = extend_bundles(before, self._tail, entries)
        self._tail = bundles[-1][1] if bundles and bundles[-1][0].width < TILE_WIDTH else b""
        hashes = [entry_hash(entry) for entry in entries]
        tiles = self._edge.extend(hashes) + self._edge.partial(before)
        self.hashes += hashes
        self._write((bundle.path(), data) for bundle, data in bundles)
        self._write((tile.path(), data) for tile, data in tiles)
        checkpoint = self.checkpoint()
        self._write([("checkpoint", checkpoint)])
        return checkpoint

    def checkpoint(self) -> bytes:
        """Return the signed checkpoint of what was published."""
        text = Checkpoint(self.key.verifier.name, self.size, self._edge.root()).pack()
        return sign_note(text, [self.key])

    def digest(self) -> str:
        """Return the SHA-256 of the hashes of all entries, in hex."""
        return hashlib.sha256(b"".join(self.hashes)).hexdigest()

    def _write(self, files: Iterable[tuple[str, bytes]]) -> None:
        for path, data in files:
            place = self.folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)


def published_chain(root: Path, tenant: str) -> PublishedLog:
    """Return the log of a chain, which nothing was published of yet.

    Arguments:
        root: Where the instance publishes.
        tenant: The chain's name.
    """
    return PublishedLog(root, chain_prefix(tenant), signer(ORIGIN).renamed(chain_origin(ORIGIN, tenant)))


def published_root(root: Path) -> PublishedLog:
    """Return the root log, which nothing was published of yet.

    Arguments:
        root: Where the instance publishes.
    """
    return PublishedLog(root, ROOT_PREFIX, signer(ORIGIN))
