"""What the recomputing witness's judge writes into the witness's file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.errors import InstanceDiffers, StoreError
from sealstream.sinks.witness.recomputing.memory import JudgeMemory
from sealstream.sinks.witness.recomputing.strands import Packed
from sealstream.sinks.witness.recomputing.stretch import Place
from sealstream.sinks.witness.recomputing.trees import Changes, Log
from support.rounds import SECRET

INSTANCE = "test.example/audit"
PLACE = Place(b"t" * 16, 1, 7, 5)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[JudgeMemory]:
    """An empty memory."""
    made = JudgeMemory(tmp_path / "witness.db", instance=INSTANCE, secret=SECRET)
    yield made
    made.close()


def _chain(size: int) -> Packed:
    tree = CompactRange()
    tree.extend(number.to_bytes(32, "big") for number in range(size))
    return Packed(b"p" * 32, tree.state())


def _changes(size: int, **chains: int) -> Changes:
    log = Log(places={(PLACE.topic_id, PLACE.partition): PLACE})
    for number in range(size):
        log.append(b"leaf %d" % number)
    changes = Changes(log, {name.encode(): _chain(entries) for name, entries in chains.items()})
    changes.roots[size] = log.tree.root()
    return changes


def _write(path: Path, memory: JudgeMemory, changes: Changes, *, end: str = "COMMIT") -> None:
    with closing(sqlite3.connect(path / "witness.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        memory.write(connection, changes)
        connection.execute(end)


def test_what_is_written_is_there_again(memory: JudgeMemory, tmp_path: Path) -> None:
    """Log, positions, chains and roots are what was written, also through a later change of some of them."""
    assert (memory.size, memory.log()) == (0, Log())
    _write(tmp_path, memory, _changes(1, acme=3, beta=1))
    later = _changes(2, acme=5)
    _write(tmp_path, memory, later)

    assert memory.log() == later.log
    assert memory.chain(b"acme") == _chain(5)
    assert memory.chain(b"beta") == _chain(1)
    assert memory.chain(b"none") is None
    assert {(name, size) for name, size, _ in memory.chains()} == {(b"acme", 5), (b"beta", 1)}
    assert memory.root(2) == later.roots[2]
    assert memory.root(3) is None


def test_what_is_rolled_back_never_was(memory: JudgeMemory, tmp_path: Path) -> None:
    """A transaction of the witness that fails leaves the memory as it was, and the same can be written again."""
    _write(tmp_path, memory, _changes(1, acme=3))
    _write(tmp_path, memory, _changes(2, acme=5), end="ROLLBACK")

    assert memory.size == 1
    assert memory.chain(b"acme") == _chain(3)
    _write(tmp_path, memory, _changes(2, acme=5))
    assert memory.size == 2


def test_a_memory_is_that_of_one_instance_and_secret(memory: JudgeMemory, tmp_path: Path) -> None:
    """Another instance's file, or one made with another secret of the map, is refused when it is opened."""
    _write(tmp_path, memory, _changes(1))

    with pytest.raises(InstanceDiffers, match="instance"):
        JudgeMemory(tmp_path / "witness.db", instance="other.example", secret=SECRET)
    with pytest.raises(InstanceDiffers, match="secret"):
        JudgeMemory(tmp_path / "witness.db", instance=INSTANCE, secret=bytes(32))


def test_a_memory_never_goes_back(memory: JudgeMemory, tmp_path: Path) -> None:
    """A judge that is behind what another one has written is refused."""
    _write(tmp_path, memory, _changes(2))

    with pytest.raises(StoreError, match="another judge"):
        _write(tmp_path, memory, _changes(1))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """A file that SQLite cannot read is refused with its name."""
    (tmp_path / "witness.db").write_bytes(b"no database, though long enough to be looked at" * 40)

    with pytest.raises(StoreError, match=r"witness\.db"):
        JudgeMemory(tmp_path / "witness.db", instance=INSTANCE, secret=SECRET)
