"""What a notary keeps in memory of the logs that it lets grow: bounded, read back in time, and never taken for more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from sealstream.schemas.errors import TilesDamaged, Unreachable
from sealstream.schemas.log_layout import chain_prefix
from sealstream.schemas.tile_tree import verify_tiles
from sealstream.schemas.tiles import Bundle, Tile
from sealstream.sinks.notary.known_edges import READ_EVERY, Edge, KnownEdges
from sealstream.sinks.notary.round_files import RoundFiles
from support.made_rounds import GrowingLogs
from support.memory_objects import MemoryObjects

CHAINS = tuple(f"chain-{number}" for number in range(32))
EDGE: Edge = {Tile(0, 0, 3): bytes(96), Bundle(0, 3): bytes(600)}


def verify(objects: MemoryObjects, logs: GrowingLogs) -> None:
    """Verify all files of a chain as it is."""

    def read(place: Tile | Bundle) -> bytes:
        return objects.get(f"{chain_prefix('acme')}{place.path()}")

    verify_tiles(len(logs.entries["acme"]), logs.root("acme"), read, read)


def test_few_files_are_read_again() -> None:
    """Of chains that grow in each round a sixteenth is read back in each, and none of a process's first round."""
    logs, objects = GrowingLogs(), MemoryObjects()
    files = RoundFiles(objects)
    files.write(logs.grow(dict.fromkeys(CHAINS, 3)))
    objects.gets = 0
    for _ in range(READ_EVERY):
        files.write(logs.grow(dict.fromkeys(CHAINS, 1)))
    of_root = 2 * READ_EVERY
    assert objects.gets == 2 * len(CHAINS) + of_root
    RoundFiles(objects).write(logs.grow(dict.fromkeys(CHAINS, 1)))
    assert objects.gets == 2 * (2 * len(CHAINS)) + of_root + 2


@pytest.mark.parametrize("path", ["tile/0/000.p", "tile/entries/000.p"])
def test_damage_is_reported_in_time(path: str) -> None:
    """Whoever changes the newest files of a log again and again is reported before it has grown seventeen times.

    Until then each round's files are right, whatever was done to those before.
    """
    logs, objects = GrowingLogs(), MemoryObjects()
    files = RoundFiles(objects)
    files.write(logs.grow({"acme": 3}))
    reported = list[tuple[str, ...]]()
    for _ in range(READ_EVERY):
        size = len(logs.entries["acme"])
        changed = f"{chain_prefix('acme')}{path}/{size}"
        objects.put(changed, objects.get(changed)[:-1] + b"?")
        made = logs.grow({"acme": 1})
        try:
            files.write(made)
        except TilesDamaged as error:
            reported.append(error.logs)
            files.rewrite("acme", size + 1, logs.root("acme"), logs.entries["acme"])
        verify(objects, logs)
    assert set(reported) == {("acme",)}


@pytest.mark.parametrize("count", [1, 50, 300])
@pytest.mark.parametrize("entries", [200, 255, 300, 510])
def test_files_that_are_all_lost_are_made_again_in_time(entries: int, count: int) -> None:
    """Whoever takes all files of a log away is noticed as well, before it has grown seventeen times, and all are made.

    Of a log without a full tile the next round makes all there are.
    """
    logs, objects = GrowingLogs(), MemoryObjects()
    files = RoundFiles(objects)
    files.write(logs.grow({"acme": entries}))
    objects.delete_below(f"{chain_prefix('acme')}tile")
    for _ in range(READ_EVERY + 1):
        made = logs.grow({"acme": count})
        try:
            files.write(made)
        except TilesDamaged:
            files.rewrite("acme", len(logs.entries["acme"]), logs.root("acme"), logs.entries["acme"])
    verify(objects, logs)


class _Failing(MemoryObjects):
    """Takes so many files, and then none until it is told."""

    takes: int | None = None

    def put_many(self, files: Iterable[tuple[str, bytes]], *, write_once: bool = False) -> None:
        """Write some of the objects."""
        for number, (path, data) in enumerate(files):
            if number == self.takes:
                raise Unreachable("no space left")
            super().put_many([(path, data)], write_once=write_once)


@pytest.mark.parametrize("takes", [0, 5, 40])
def test_a_round_that_was_written_in_part(takes: int) -> None:
    """After a failure the same notary writes the round again from what is there, and comes to the same bytes."""
    contents = list[dict[str, bytes]]()
    for fails in (False, True):
        logs, objects = GrowingLogs(), _Failing()
        files = RoundFiles(objects)
        files.write(logs.grow(dict.fromkeys(CHAINS, 250)))
        for count in (1, 10):
            made = logs.grow(dict.fromkeys(CHAINS, count))
            if fails:
                objects.takes = takes
                with pytest.raises(Unreachable):
                    files.write(made)
                objects.takes = None
            files.write(made)
        contents.append(objects.files)
    assert contents[0] == contents[1]


def test_another_head_is_not_grown_from_memory() -> None:
    """What is in memory has to come to the head's root as well: where it does not, the log is named, and read next."""
    logs, objects = GrowingLogs(), MemoryObjects()
    files = RoundFiles(objects)
    files.write(logs.grow({"acme": 3}))
    made = logs.grow({"acme": 1})
    other = replace(made, chains=(replace(made.chains[0], root=bytes(32)),))
    with pytest.raises(TilesDamaged) as caught:
        files.write(other)
    assert caught.value.logs == ("acme",)
    objects.gets = 0
    files.write(made)
    assert objects.gets == 2 + 2  # and the root log's


def test_memory_is_bounded() -> None:
    """Edges that do not fit are not kept, and those that are kept stay: they are the next ones to be used."""
    edges = KnownEdges(bytes_max=10_000)
    for number in range(100):
        edges.keep(f"chain-{number}", 3, EDGE)
    assert sum(edges.get(f"chain-{number}", 3) is not None for number in range(100)) <= 5
    kept = [number for number in range(100) if edges.forget(f"chain-{number}")]
    assert kept == [0, 1, 2, 3, 4]
    edges.keep("other", 3, EDGE)
    assert edges.forget("other")


def test_what_is_not_used_is_forgotten() -> None:
    """Logs that do not grow any more make room for those that do."""
    edges = KnownEdges(bytes_max=2_000)
    edges.keep("idle", 3, EDGE)
    for number in range(200):
        edges.begin_round()
        edges.keep("growing", number, EDGE)
    assert edges.forget("growing")
    assert not edges.forget("idle")


def test_only_of_the_size_that_is_known() -> None:
    """An edge is that of one size: a round that is made again does not grow from the one behind it."""
    edges = KnownEdges()
    for size in range(3 * READ_EVERY):
        edges.keep("acme", size, EDGE)
        assert edges.get("acme", size + 1) is None
        assert edges.get("acme", size - 1) is None
    read = 0
    for _ in range(READ_EVERY):
        edges.keep("acme", 3, EDGE)
        read += edges.get("acme", 3) is None
    assert read == 1
