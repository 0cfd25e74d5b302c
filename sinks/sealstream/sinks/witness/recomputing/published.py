"""The rounds as the log's owner has published them: a hint of where each one ends, and what is compared with ours."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NamedTuple

from sealstream.schemas.coverage import COVERAGE_BYTES_MAX, PartitionCoverage, coverage_digest, parse_coverage
from sealstream.schemas.erased_tiles import ReadFile, read_place
from sealstream.schemas.errors import CheckpointRefused, LeafInvalid, NameInvalid, StoreError, TileInvalid
from sealstream.schemas.log_layout import CHAINS_PREFIX, ROOT_PREFIX, chain_prefix, coverage_path
from sealstream.schemas.note import NOTE_BYTES_MAX
from sealstream.schemas.round import ROUND_BYTES, Round
from sealstream.schemas.tenant_name import decode_tenant
from sealstream.schemas.tiles import TILE_WIDTH, Bundle, Tile
from sealstream.worker.objects import Objects

_FILE_BYTES_MAX: Final = max(NOTE_BYTES_MAX, TILE_WIDTH * (2 + ROUND_BYTES))


class PublishedRound(NamedTuple):
    """A round as it was published.

    Arguments:
        leaf: Its leaf, as it says of itself.
        data: The leaf's bytes.
        parts: Its coverage.
    """

    leaf: Round
    data: bytes
    parts: tuple[PartitionCoverage, ...]


class PublishedRounds:
    """Reads rounds from the storage.

    Arguments:
        objects: The storage.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def leaves(self, begin: int, size: int) -> list[bytes]:
        """Return the leaves of a log of a size, from a place on.

        Raises:
            ObjectMissing: They are not published yet.
            CheckpointRefused: What is published is no bundle of leaves.
            StoreError, Unreachable: The storage cannot be read.
        """
        found: list[bytes] = []
        for index in range(begin // TILE_WIDTH, -(-size // TILE_WIDTH)):
            bundle = Bundle(index, min(TILE_WIDTH, size - index * TILE_WIDTH))
            try:
                entries = bundle.entries(read_place(self._reader(ROOT_PREFIX), bundle))
            except TileInvalid as error:
                raise CheckpointRefused(f"the published rounds cannot be read: {error.message}") from error
            found.extend(entries[max(0, begin - bundle.start) :])
        return found

    def round(self, number: int, data: bytes) -> PublishedRound:
        """Return a round by the bytes of its leaf, with the coverage that the leaf commits to.

        Raises:
            ObjectMissing: Its coverage is not published yet.
            CheckpointRefused: Leaf or coverage is malformed, or the one is not that of the other.
            StoreError, Unreachable: The storage cannot be read.
        """
        coverage = self._objects.get(coverage_path(number), bytes_max=COVERAGE_BYTES_MAX)
        try:
            leaf, parts = Round.parse(data), parse_coverage(coverage)
        except LeafInvalid as error:
            raise CheckpointRefused(f"round {number} is malformed: {error.message}") from error
        if (leaf.length, leaf.coverage) != (len(coverage), coverage_digest(coverage)):
            raise CheckpointRefused(f"round {number} commits to another coverage than the one that is published")
        return PublishedRound(leaf, data, parts)

    def chain_hashes(self, chain: str, begin: int, size: int) -> list[bytes] | None:
        """Return the published hashes of a chain's entries from a place on; ``None`` if they cannot be had.

        It is for naming what differs, so that they are missing is no error.
        """
        found: list[bytes] = []
        for index in range(begin // TILE_WIDTH, -(-size // TILE_WIDTH)):
            tile = Tile(0, index, min(TILE_WIDTH, size - index * TILE_WIDTH))
            try:
                data = read_place(self._reader(chain_prefix(chain)), tile)
                found.extend(tile.hashes(data)[max(0, begin - tile.start) :])
            except (StoreError, TileInvalid):
                return None
        return found

    def root_tile(self, tile: Tile) -> bytes:
        """Return the bytes of a tile of the root log.

        Raises:
            ObjectMissing: It is not there.
            StoreError, Unreachable: The storage cannot be read.
        """
        return read_place(self._reader(ROOT_PREFIX), tile)

    def chain_reader(self, chain: str) -> ReadFile:
        """Return what reads the files of a chain's log, by their paths below its prefix.

        Raises:
            NameInvalid: The name is none of a chain.
        """
        return self._reader(chain_prefix(chain))

    def chain_names(self) -> set[str]:
        """Return the names of all chains of which anything is published.

        Raises:
            ConfigError: The storage cannot be listed.
            StoreError, Unreachable: It refuses, or does not answer.
        """
        names: set[str] = set()
        for path in self._objects.list(CHAINS_PREFIX.removesuffix("/")):
            with suppress(NameInvalid):  # no file of a log
                names.add(decode_tenant(path.removeprefix(CHAINS_PREFIX).partition("/")[0]))
        return names

    def _reader(self, prefix: str) -> ReadFile:
        return lambda path: self._objects.get(prefix + path, bytes_max=_FILE_BYTES_MAX)
