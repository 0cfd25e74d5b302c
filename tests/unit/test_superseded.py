"""Partial tiles that wider ones have replaced: erased when nobody needs them, and read out of wider ones then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.erased_tiles import read_place
from sealstream.schemas.errors import ObjectMissing, StoreError
from sealstream.schemas.log_layout import ROOT_PREFIX, chain_prefix
from sealstream.schemas.merkle import leaf_hash, root
from sealstream.schemas.note import sign_note
from sealstream.schemas.tile_tree import TileEdge, verify_tiles
from sealstream.schemas.tiles import Bundle, Tile, pack_entries
from sealstream.sinks.notary.round_files import RoundFiles
from sealstream.sinks.notary.steps import ChainHead
from sealstream.sinks.notary.superseded import edge_places
from sealstream.sinks.verifier.trusted_tiles import TrustedTiles
from sealstream.sinks.witness.recomputing.published import PublishedRounds
from sealstream.worker.objects import Objects, open_objects
from support.made_rounds import GrowingLogs
from support.notes import signer

# By how much a chain grows: by one, not at all, over the edge of a tile, and by several tiles.
GROWTHS = (1, 0, 1, 3, 251, 1, 0, 700, 1, 1, 1)
PREFIX = chain_prefix("acme")
ORIGIN = "test.example/erased"
KEY = signer(ORIGIN)


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    """A directory to publish in."""
    directory = tmp_path / "log"
    directory.mkdir()
    return open_objects(str(directory))


def below(objects: Objects, prefix: str) -> Callable[[str], bytes]:
    """Return what reads a log's files by their paths below its prefix."""
    return lambda path: objects.get(prefix + path)


def partial(objects: Objects) -> set[str]:
    """Return the paths of all partial files."""
    return {path for path in objects.list("") if ".p/" in path}


def places(prefix: str, size: int) -> set[str]:
    """Return the paths of the partial files that a log of a size has."""
    return {prefix + place.path() for place in edge_places(size)}


def verify(objects: Objects, prefix: str, size: int, hashes: list[bytes]) -> None:
    """Verify that a log is there as it was at a size."""
    read = below(objects, prefix)
    verify_tiles(size, root(hashes[:size]), lambda tile: read(tile.path()), lambda bundle: read(bundle.path()))


def published(objects: Objects, size: int) -> None:
    """Publish a chain's checkpoint, as far as its size goes."""
    note = sign_note(Checkpoint(ORIGIN, size, bytes(32)).pack(), [KEY])
    objects.put(f"{PREFIX}checkpoint", note)


def erase(files: RoundFiles) -> None:
    """Erase what is due, to the end."""
    files.erase()
    files.wait_erased(timeout_seconds=60)


def grown(objects: Objects) -> GrowingLogs:
    """Publish and erase round by round, and return what was published."""
    logs, files = GrowingLogs(), RoundFiles(objects)
    for count in GROWTHS:
        files.write(logs.grow({"acme": count} if count else {}))
        erase(files)
    published(objects, len(logs.entries["acme"]))
    return logs


def test_only_the_last_two_public_sizes_stay(objects: Objects) -> None:
    """After each round the log of this checkpoint and of the one before is whole, and nothing else partial is left."""
    logs, files = GrowingLogs(), RoundFiles(objects)
    sizes = [0]
    for number, count in enumerate(GROWTHS, 1):
        files.write(logs.grow({"acme": count} if count else {}))
        erase(files)
        sizes.append(sizes[-1] + count)
        hashes = [leaf_hash(entry) for entry in logs.entries["acme"]]
        for size in sizes[-2:]:
            verify(objects, PREFIX, size, hashes)
        rounds = [leaf_hash(leaf) for leaf in logs.leaves]
        for size in (number - 1, number):
            verify(objects, ROOT_PREFIX, size, rounds)
        kept = places(PREFIX, sizes[-1]) | places(ROOT_PREFIX, number)
        assert kept <= partial(objects) <= kept | places(PREFIX, sizes[-2]) | places(ROOT_PREFIX, number - 1)


def test_nothing_goes_while_no_round_is_public(objects: Objects) -> None:
    """While rounds wait for their quorum, the files of the last public checkpoint stay, and for a public round more."""
    logs, files = GrowingLogs(), RoundFiles(objects)
    for _ in range(2):
        files.write(logs.grow({"acme": 1}))
        erase(files)
    for _ in range(4):
        files.write(logs.grow({"acme": 1}))
    assert places(PREFIX, 2) <= partial(objects)
    erase(files)
    assert places(PREFIX, 2) | places(PREFIX, 6) <= partial(objects)
    files.write(logs.grow({"acme": 1}))
    erase(files)
    assert partial(objects) & {path for size in range(7) for path in places(PREFIX, size)} == places(PREFIX, 6)


def test_the_next_notary_goes_on_erasing(objects: Objects) -> None:
    """What a notary that died had left is erased by the next one, as far as the chains' heads tell."""
    logs, files = GrowingLogs(), RoundFiles(objects)
    for _ in range(3):
        files.write(logs.grow({"acme": 1}))
        erase(files)
    head = ChainHead("acme", 0, 3, logs.root("acme"), bytes(32), b"", 2, 2)
    files = RoundFiles(objects)
    files.begin([head], last=2, published=2)
    files.write(logs.grow({"acme": 1}))
    erase(files)
    assert partial(objects) == {
        path for size in (3, 4) for prefix in (PREFIX, ROOT_PREFIX) for path in places(prefix, size)
    }


def test_what_was_forgotten_goes_with_its_tile(objects: Objects, tmp_path: Path) -> None:
    """Files that nobody knows of any more go when the log has full ones in their place, and no empty folder is left."""
    logs = GrowingLogs()
    for _ in range(3):
        RoundFiles(objects).write(logs.grow({"acme": 1}))  # each by a notary that dies behind it
    files = RoundFiles(objects)
    for count in (253, 5, 1):
        files.write(logs.grow({"acme": count}))
        erase(files)
    assert {path for path in partial(objects) if path.startswith(PREFIX)} == places(PREFIX, 261) | places(PREFIX, 262)
    assert not (tmp_path / "log" / PREFIX / "tile/entries/000.p").exists()


def test_a_storage_that_lets_nothing_be_deleted(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where deleting is refused, rounds go on: the files take space, and that is all."""

    def refuse(_paths: object) -> None:
        raise StoreError("not allowed")

    monkeypatch.setattr(objects, "delete_many", refuse)
    logs = grown(objects)
    verify(objects, PREFIX, len(logs.entries["acme"]), [leaf_hash(entry) for entry in logs.entries["acme"]])


def test_erased_places_are_read_out_of_wider_ones(objects: Objects) -> None:
    """Each tile and bundle of each older size is read with the bytes that it had; one that never was is missing."""
    entries = grown(objects).entries["acme"]
    read = below(objects, PREFIX)
    for size in range(1, len(entries)):
        edge = TileEdge()
        edge.extend([leaf_hash(entry) for entry in entries[:size]])
        for tile, data in edge.partial():
            assert data == read_place(read, tile)[: len(data)]
        if size % 256:
            bundle = Bundle(size // 256, size % 256)
            assert bundle.entries(read_place(read, bundle)) == entries[bundle.start : size]
    index, width = divmod(len(entries), 256)
    assert read_place(read, Bundle(index, width - 1)) == pack_entries(entries[index * 256 : -1])
    for place in (Tile(0, index, width + 1), Bundle(index, width + 1), Tile(0, index + 1), Tile(3, 0, 1)):
        with pytest.raises(ObjectMissing):
            read_place(read, place)


def test_a_checkpoint_that_lies_about_the_size(objects: Objects) -> None:
    """Whoever may write to the storage can hide a tile by it, and that is all: it is missing then."""
    entries = grown(objects).entries["acme"]
    read = below(objects, PREFIX)
    erased = Tile(0, len(entries) // 256, 1)
    for size in (0, 1, 2**40):
        published(objects, size)
        with pytest.raises(ObjectMissing):
            read_place(read, erased)
    objects.put(f"{PREFIX}checkpoint", b"nothing")
    with pytest.raises(ObjectMissing):
        read_place(read, erased)


def test_a_verifier_with_an_older_checkpoint(objects: Objects) -> None:
    """Who goes by an older checkpoint takes from the newer tiles what its own had, and verifies it against its root."""
    entries = grown(objects).entries["acme"]
    hashes = [leaf_hash(entry) for entry in entries]
    for size in (1, 2, 5, 255, 257, len(entries) - 3, len(entries)):
        tiles = TrustedTiles(size, root(hashes[:size]), below(objects, PREFIX))
        assert tiles.leaf(size - 1) == hashes[size - 1]
        assert tiles.entry(size - 1) == entries[size - 1]


def test_a_witness_that_is_behind(objects: Objects) -> None:
    """A witness that recomputes an older checkpoint finds its rounds, and the hashes of chains to name a difference."""
    logs = grown(objects)
    objects.put(f"{ROOT_PREFIX}checkpoint", sign_note(Checkpoint(ORIGIN, len(GROWTHS), bytes(32)).pack(), [KEY]))
    rounds = PublishedRounds(objects)
    for size in range(1, len(GROWTHS)):
        assert rounds.leaves(0, size) == logs.leaves[:size]
    hashes = [leaf_hash(entry) for entry in logs.entries["acme"]]
    for size in (1, 5, 260, len(hashes) - 2):
        assert rounds.chain_hashes("acme", 0, size) == hashes[:size]
