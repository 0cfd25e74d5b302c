"""The logs that we publish, read over HTTP by clients of C2SP tlog-tiles that others wrote.

The program in ``tests/oracles/tiles`` uses filippo.io/torchwood, golang.org/x/mod/sumdb and Tessera's client and fsck.
They take a log of ours as it is, and say so where somebody has changed a byte of it or shows an older state.
"""

from __future__ import annotations

import base64
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.note import sign_note
from support.file_server import served
from support.go import ORACLES, Oracle, go_program
from support.published import PublishedLog, chain_of, published_chain, published_root, rounds_of

TENANT: Final = "Acme_eu."  # its name in paths is another one
SIZE: Final = 70_000
OLDER: Final = 66_000  # both sizes have partial tiles on every level
SMALL: Final = 1_111
SMALL_OLDER: Final = 600


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Generator[Oracle]:
    """The program, running."""
    with Oracle(go_program(ORACLES / "tiles", tmp_path_factory.mktemp("oracle"))) as running:
        yield running


@dataclass(frozen=True)
class ServedLog:
    """A log and where it is served, with the checkpoint that it had when it was smaller."""

    log: PublishedLog
    url: str
    older: bytes

    def question(self, known: bytes | None = None, indices: Iterable[int] = ()) -> dict[str, Any]:
        """Return what the program asks for to read this log."""
        remembered = None if known is None else base64.b64encode(known).decode()
        return {"url": self.url, "key": str(self.log.key.verifier), "known": remembered, "indices": list(indices)}


@contextmanager
def serve(root: Path, older: int, size: int) -> Generator[ServedLog]:
    """Publish a chain in two steps, and serve it."""
    entries = chain_of(TENANT, size)
    chain = published_chain(root, TENANT)
    first = chain.grow(entries[:older])
    chain.grow(entries[older:])
    with served(root) as url:
        yield ServedLog(chain, url + chain.prefix, first)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Generator[ServedLog]:
    """A log of some tiles on two levels."""
    with serve(tmp_path_factory.mktemp("small"), SMALL_OLDER, SMALL) as one:
        yield one


@contextmanager
def flipped(path: Path, place: int) -> Generator[None]:
    """Change one bit of a file for a time."""
    data = path.read_bytes()
    place %= len(data)
    path.write_bytes(data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :])
    try:
        yield
    finally:
        path.write_bytes(data)


def test_a_large_chain(oracle: Oracle, tmp_path: Path) -> None:
    """Of a chain with 70,000 entries others read each, prove it, and see that it continues an older checkpoint."""
    with serve(tmp_path, OLDER, SIZE) as one:
        indices = sorted({0, 1, OLDER - 1, OLDER, SIZE - 1, *range(17, SIZE, 6_999)})
        read = oracle.ask("read", **one.question(one.older, indices))
        checked = oracle.ask("fsck", **one.question())
        tracked = oracle.ask("track", **one.question(one.older))

    assert (read["error"], checked["error"], tracked["error"]) == ("", "", "")
    assert (read["size"], read["entries"], read["proofs"]) == (SIZE, SIZE, len(indices))
    assert read["digest"] == one.log.digest()
    assert read["growth"] == tracked["growth"] > 0
    assert base64.b64decode(tracked["checkpoint"]) == one.log.checkpoint()


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 512, 65_536])
def test_sizes_at_edges(oracle: Oracle, tmp_path: Path, size: int) -> None:
    """Logs whose tiles are just full, or have one hash, are taken as well."""
    older = max(1, size // 2)
    with serve(tmp_path, older, size) as one:
        read = oracle.ask("read", **one.question(one.older, {0, size - 1}))
        checked = oracle.ask("fsck", **one.question())

    assert (read["error"], checked["error"]) == ("", "")
    assert (read["entries"], read["digest"]) == (size, one.log.digest())


def test_the_root_log(oracle: Oracle, tmp_path: Path) -> None:
    """The root log, whose entries are rounds, is read by others in the same way."""
    log, leaves = published_root(tmp_path), rounds_of(SMALL)
    older = log.grow(leaves[:SMALL_OLDER])
    log.grow(leaves[SMALL_OLDER:])
    with served(tmp_path) as url:
        question = ServedLog(log, url + log.prefix, older).question(older, {0, SMALL - 1})
        answers = [oracle.ask(do, **question) for do in ("read", "fsck", "track")]

    assert [answer["error"] for answer in answers] == [""] * 3
    assert (answers[0]["entries"], answers[0]["digest"]) == (SMALL, log.digest())


def test_erased_partial_tiles(oracle: Oracle, small: ServedLog) -> None:
    """A reader of an older checkpoint gets on where partial tiles were erased once the full ones were there."""
    current = small.log.folder / "checkpoint"
    latest = current.read_bytes()
    erased = [small.log.folder / f"tile/{name}/002.p/88" for name in ("0", "entries")]
    kept = [(path, path.read_bytes()) for path in erased]
    current.write_bytes(small.older)
    for path in erased:
        path.unlink()
    try:
        checked = oracle.ask("fsck", **small.question())
    finally:
        current.write_bytes(latest)
        for path, data in kept:
            path.write_bytes(data)

    assert checked["error"] == ""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("tile/0/000", 0),
        ("tile/0/003", 4_000),
        ("tile/0/004.p/87", -1),
        ("tile/1/000.p/4", 33),
    ],
)
def test_a_changed_tile(oracle: Oracle, small: ServedLog, path: str, place: int) -> None:
    """One bit of one tile, and every client refuses the log."""
    with flipped(small.log.folder / path, place):
        answers = [oracle.ask(do, **small.question(small.older)) for do in ("read", "fsck")]

    assert all(answer["error"] for answer in answers)
    assert oracle.ask("read", **small.question(small.older))["error"] == ""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("tile/entries/000", 1),  # a length
        ("tile/entries/000", 2),  # the first byte of an entry
        ("tile/entries/002", 20_000),
        ("tile/entries/004.p/87", -1),
    ],
)
def test_a_changed_entry(oracle: Oracle, small: ServedLog, path: str, place: int) -> None:
    """One bit of one entry, and every client refuses the log."""
    with flipped(small.log.folder / path, place):
        answers = [oracle.ask(do, **small.question()) for do in ("read", "fsck")]

    assert all(answer["error"] for answer in answers)


def test_a_changed_checkpoint(oracle: Oracle, small: ServedLog) -> None:
    """One bit of the checkpoint, wherever it stands, and nothing of the log is believed."""
    path = small.log.folder / "checkpoint"
    taken: list[int] = []
    for place in range(path.stat().st_size):
        with flipped(path, place):
            if not oracle.ask("read", **small.question())["error"]:
                taken.append(place)

    assert not taken


@contextmanager
def shown(one: ServedLog, checkpoint: bytes) -> Generator[None]:
    """Serve another checkpoint for a time."""
    path = one.log.folder / "checkpoint"
    latest = path.read_bytes()
    path.write_bytes(checkpoint)
    try:
        yield
    finally:
        path.write_bytes(latest)


def test_a_rolled_back_log(oracle: Oracle, small: ServedLog) -> None:
    """Who remembers a checkpoint does not take an older one for it, though it is signed and its tiles are right."""
    latest = small.log.checkpoint()
    with shown(small, small.older):
        fresh = oracle.ask("read", **small.question())
        remembering = oracle.ask("read", **small.question(latest))
        tracked = oracle.ask("track", **small.question(latest))

    assert (fresh["error"], fresh["size"]) == ("", SMALL_OLDER)
    assert "does not continue" in remembering["error"]
    assert base64.b64decode(tracked["checkpoint"]) == latest


def test_a_rewritten_log(oracle: Oracle, small: ServedLog, tmp_path: Path) -> None:
    """A log that is whole in itself, and signed by the right key, is refused by whoever has seen another one."""
    other = published_chain(tmp_path, TENANT)
    other.grow([b"a history of %d" % number for number in range(SMALL)])
    with served(tmp_path) as url:
        alone = oracle.ask("read", **small.question() | {"url": url + other.prefix})
        answers = [
            oracle.ask(do, **small.question(small.older) | {"url": url + other.prefix}) for do in ("read", "track")
        ]

    assert alone["error"] == ""
    assert all(answer["error"] for answer in answers)


def test_a_root_of_another_size(oracle: Oracle, small: ServedLog) -> None:
    """A signed checkpoint whose size is not that of its root is not believed."""
    honest = Checkpoint.parse(small.log.checkpoint().partition(b"\n\n")[0] + b"\n")
    text = Checkpoint(honest.origin, honest.size - 1, honest.root).pack()
    with shown(small, sign_note(text, [small.log.key])):
        answers = [oracle.ask(do, **small.question()) for do in ("read", "fsck")]

    assert all(answer["error"] for answer in answers)
