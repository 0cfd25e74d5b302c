"""The files of a round: what others read as C2SP tlog-tiles, made again and again, and anew where they are lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sealstream.schemas.errors import TilesDamaged, TreeDiffers
from sealstream.schemas.log_layout import ROOT_PREFIX, chain_prefix, coverage_path
from sealstream.schemas.tile_tree import verify_tiles
from sealstream.schemas.tiles import Bundle, Tile
from sealstream.sinks.notary.round_files import ROOT_LOG, RoundFiles
from sealstream.worker.objects import Objects, open_objects
from support.made_rounds import GrowingLogs

ROUNDS: tuple[dict[str, int], ...] = (
    {"acme": 1},
    {"acme": 255, "Beta": 3},
    {},
    {"acme": 10, "Beta": 700, "!partition-0": 1},
    {"Beta": 65},
    {"acme": 246, "Beta": 1, "!partition-0": 255},
)


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    """A directory to publish in."""
    directory = tmp_path / "log"
    directory.mkdir()
    return open_objects(str(directory))


def read_tile(objects: Objects, prefix: str) -> Callable[[Tile | Bundle], bytes]:
    """Return what reads a log's files."""
    return lambda place: objects.get(f"{prefix}{place.path()}")


def contents(objects: Objects) -> dict[str, bytes]:
    """Return all files."""
    return {path: objects.get(path) for path in objects.list("")}


def published(objects: Objects) -> GrowingLogs:
    """Publish all rounds."""
    logs, files = GrowingLogs(), RoundFiles(objects)
    for growth in ROUNDS:
        files.write(logs.grow(growth))
    return logs


def test_each_round_is_a_log_that_others_can_read(objects: Objects) -> None:
    """After each round the files of every chain and of the root log come to their roots, entries included."""
    logs, files = GrowingLogs(), RoundFiles(objects)
    for number, growth in enumerate(ROUNDS):
        made = logs.grow(growth)
        files.write(made)
        for chain, entries in logs.entries.items():
            read = read_tile(objects, chain_prefix(chain))
            verify_tiles(len(entries), logs.root(chain), read, read)
        read = read_tile(objects, ROOT_PREFIX)
        verify_tiles(made.size, made.root, read, read)
        assert objects.get(coverage_path(number)) == made.coverage


def test_a_round_can_be_written_again(objects: Objects) -> None:
    """Whatever was written of a round, by whom and how often: it comes to the same bytes."""
    logs, files = GrowingLogs(), RoundFiles(objects)
    for growth in ROUNDS:
        made = logs.grow(growth)
        files.write(made)
        before = contents(objects)
        files.write(made)
        RoundFiles(objects).write(made)  # as after a restart
        assert contents(objects) == before


def test_a_full_tile_stands_in_for_a_partial_one(objects: Objects, tmp_path: Path) -> None:
    """Partial tiles and bundles may be erased once the full ones are there, and the round before be written again."""
    logs, files = GrowingLogs(), RoundFiles(objects)
    files.write(logs.grow({"acme": 200}))
    first = logs.grow({"acme": 10})
    files.write(first)
    files.write(logs.grow({"acme": 100}))
    for width in (200, 210):
        for kind in ("0", "entries"):
            (tmp_path / "log" / f"chains/acme/tile/{kind}/000.p/{width}").unlink()
    RoundFiles(objects).write(first)
    assert objects.get("chains/acme/tile/0/000.p/210") == objects.get("chains/acme/tile/0/000")[: 210 * 32]


@pytest.mark.parametrize("damage", ["missing", "cut", "changed", "emptied"])
@pytest.mark.parametrize("path", ["tile/0/000.p/200", "tile/entries/000.p/200"])
def test_damaged_tiles_are_named_and_made_anew(damage: str, path: str, objects: Objects, tmp_path: Path) -> None:
    """Where a log's old edge is lost or changed, the round says whose it is, and everything of the others is there."""
    logs = GrowingLogs()
    RoundFiles(objects).write(logs.grow({"acme": 200, "Beta": 200}))
    place = tmp_path / "log" / chain_prefix("acme") / path
    data = place.read_bytes()
    changed = {"cut": data[:-1], "changed": data[:-1] + bytes([data[-1] ^ 1]), "emptied": b""}
    if damage == "missing":
        place.unlink()
    else:
        place.write_bytes(changed[damage])
    made = logs.grow({"acme": 1, "Beta": 1})
    files = RoundFiles(objects)
    with pytest.raises(TilesDamaged) as caught:
        files.write(made)
    assert caught.value.logs == ("acme",)
    read = read_tile(objects, chain_prefix("Beta"))
    verify_tiles(201, logs.root("Beta"), read, read)

    files.rewrite("acme", 201, logs.root("acme"), logs.entries["acme"])
    read = read_tile(objects, chain_prefix("acme"))
    verify_tiles(201, logs.root("acme"), read, read)
    files.write(logs.grow({"acme": 1}))
    verify_tiles(202, logs.root("acme"), read, read)


def test_another_tree_is_not_grown(objects: Objects) -> None:
    """Tiles and entries that fit each other and are those of another log do not come to the head, and are refused."""
    logs = GrowingLogs()
    RoundFiles(objects).write(logs.grow({"acme": 200, "Beta": 200}))
    for path in ("tile/0/000.p/200", "tile/entries/000.p/200"):
        objects.put(f"{chain_prefix('acme')}{path}", objects.get(f"{chain_prefix('Beta')}{path}"))
    with pytest.raises(TilesDamaged) as caught:
        RoundFiles(objects).write(logs.grow({"acme": 1, "Beta": 1}))
    assert caught.value.logs == ("acme",)


def test_a_lost_root_log_is_made_anew(objects: Objects, tmp_path: Path) -> None:
    """The root log's files are made anew from its leaves."""
    logs = published(objects)
    for path in objects.list("root/tile"):
        (tmp_path / "log" / path).unlink()
    made = logs.grow({})
    files = RoundFiles(objects)
    with pytest.raises(TilesDamaged) as caught:
        files.write(made)
    assert caught.value.logs == (ROOT_LOG,)
    files.rewrite(ROOT_LOG, made.size, made.root, logs.leaves)
    files.write(made)
    read = read_tile(objects, ROOT_PREFIX)
    verify_tiles(made.size, made.root, read, read)


def test_made_anew_in_blocks(objects: Objects) -> None:
    """A log of more entries than are held in memory is made anew with the bytes that it had."""
    logs = GrowingLogs()
    RoundFiles(objects).write(logs.grow({"acme": 9_000}))
    before = contents(objects)
    RoundFiles(objects).rewrite("acme", 9_000, logs.root("acme"), iter(logs.entries["acme"]))
    assert contents(objects) == before


def test_other_entries_are_not_taken_for_the_log(objects: Objects) -> None:
    """A log is not made anew from entries that do not come to its head: the worker must not go on."""
    logs = published(objects)
    for entries in (logs.entries["acme"][:-1], [*logs.entries["acme"][:-1], b"another"]):
        with pytest.raises(TreeDiffers, match="acme"):
            RoundFiles(objects).rewrite("acme", len(logs.entries["acme"]), logs.root("acme"), entries)
