"""The order of failures: whatever fails at whatever step, done all the same or not, one history comes out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Final, TypeVar

import psycopg
import pytest

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import (
    RolledBack,
    SealstreamError,
    StoreDamaged,
    TreeDiffers,
    Unreachable,
    UnsafeState,
    WriterConflict,
)
from sealstream.schemas.note_key import VerifierKey
from sealstream.sinks.notary.asking import Asked
from sealstream.sinks.notary.finishing import Asker
from sealstream.sinks.notary.naming import places_of
from sealstream.sinks.notary.notary import Notary
from sealstream.worker.objects import Objects, open_objects
from support.notarising import Log, open_log

T = TypeVar("T")
TENANTS: Final = 3


@pytest.fixture
def log(database_url: str, tmp_path: Path) -> Iterator[Log]:
    """A store in which something is stored, and a log of one round."""
    with open_log(database_url, tmp_path) as found:
        found.feed(found.chains.events(TENANTS, 9))
        assert found.round(found.notary())
        found.feed(found.chains.events(TENANTS + 1, 9))
        yield found


@dataclass
class Once:
    """Fails one call, before or after it was done."""

    is_persisted: bool
    left: int = 1

    def around(self, call: Callable[[], T]) -> T:
        """Make a call, or fail."""
        if not self.left:
            return call()
        self.left -= 1
        if self.is_persisted:
            call()
        raise Unreachable("failed on purpose")


@dataclass
class FailingObjects:
    """A directory in which writing of certain files fails once."""

    objects: Objects
    word: str
    once: Once

    def get(self, path: str, *, bytes_max: int = 2**24) -> bytes:
        """Read."""
        return self.objects.get(path, bytes_max=bytes_max)

    def get_many(self, paths: Iterable[str], *, bytes_max: int = 2**24) -> Iterator[bytes | None]:
        """Read many."""
        return self.objects.get_many(paths, bytes_max=bytes_max)

    def put(self, path: str, data: bytes) -> None:
        """Write, or fail."""
        if self.word in path:
            self.once.around(lambda: self.objects.put(path, data))
        else:
            self.objects.put(path, data)

    def put_many(self, files: Iterable[tuple[str, bytes]], *, write_once: bool = False) -> None:
        """Write many, or fail."""
        found = list(files)
        if any(self.word in path for path, _ in found):
            self.once.around(lambda: self.objects.put_many(found, write_once=write_once))
        else:
            self.objects.put_many(found, write_once=write_once)

    def delete_many(self, paths: Iterable[str]) -> None:
        """Delete."""
        self.objects.delete_many(paths)

    def delete_below(self, prefix: str) -> None:
        """Delete."""
        self.objects.delete_below(prefix)

    def sync(self) -> None:
        """Make it durable."""
        self.objects.sync()

    def list(self, prefix: str) -> list[str]:
        """List."""
        return self.objects.list(prefix)


@dataclass
class FailingTopic:
    """A topic on which writing fails once."""

    log: Log
    once: Once

    def __getattr__(self, name: str) -> object:
        return getattr(self.log.topic, name)

    def send(self, chains: object, root: object) -> None:
        """Write, or fail."""
        self.once.around(lambda: self.log.topic.send(chains, root))  # type: ignore[arg-type]


def _failing(log: Log, step: str, once: Once) -> Notary:
    """Return a notary of which a step fails once."""
    if step.startswith("write "):
        objects = FailingObjects(open_objects(str(log.directory)), step.removeprefix("write "), once)
        return log.notary(log.parts(objects=objects))
    if step == "send":
        return log.notary(log.parts(topic=FailingTopic(log, once)))
    parts = log.parts()
    if step == "sign":

        class Signer:
            """A signer that fails once, as one elsewhere can."""

            verifiers = parts.signer.verifiers

            def root(self, size: int, root: bytes, *, time_seconds: int) -> bytes:
                """Sign, or fail."""
                return once.around(lambda: parts.signer.root(size, root, time_seconds=time_seconds))

        return log.notary(replace(parts, signer=Signer()))  # type: ignore[arg-type]
    method = getattr(parts.database, step)

    def failing(*values: object) -> object:
        return once.around(lambda: method(*values))

    setattr(parts.database, step, failing)
    return log.notary(parts)


def _again(log: Log, notary: Notary) -> None:
    """Go on as the worker does behind an error that passes."""
    if notary.finishing is None or not notary.is_open:
        notary.forget()
        notary.open()
    assert notary.finish(patience_seconds=1.0)
    assert log.round(notary)


STEPS: Final = (
    "advance",
    "write root/tile/",
    "write chains/",
    "write root/coverage/",
    "sign",
    "keep_note",
    "write root/unwitnessed",
    "keep_witnessed",
    "write root/checkpoints/",
    "write root/checkpoint",
    "send",
    "keep_published",
)


@pytest.mark.parametrize("step", STEPS)
def test_each_step_may_fail(log: Log, step: str) -> None:
    """A step that fails, done or not, is made up for by the same notary and by the next one; none of them halts."""
    for is_persisted, is_restarted in product((False, True), (False, True)):
        log.feed(log.chains.events(TENANTS, 4))
        notary = _failing(log, step, Once(is_persisted))
        with pytest.raises(Unreachable, match="on purpose"):
            log.round(notary)
        if step == "advance":  # whether it was done is not known to the one that failed
            notary.forget()
        log.feed(log.chains.events(TENANTS, 4))

        _again(log, log.notary() if is_restarted else notary)
        plain = log.check()
        assert sum(plain.sizes.values()) == len(log.entries)


def _overtaken(log: Log) -> None:
    """Let another notary make a round in between."""
    assert log.round(log.notary())


def _heads_lost(log: Log) -> None:
    """Lose the notary's database."""
    with psycopg.connect(log.test_store.url, autocommit=True) as connection:
        connection.execute(
            "TRUNCATE sealstream_notary.log, sealstream_notary.root_log, sealstream_notary.chains,"
            " sealstream_notary.positions, sealstream_notary.rounds"
        )


def _set_back(log: Log, change: Callable[[Log], None]) -> None:
    """Set the notary's database back to before a change."""
    tables = ("log", "root_log", "chains", "positions", "rounds", "map_tiles", "map_leaves")
    with psycopg.connect(log.test_store.url, autocommit=True) as connection:
        for table in tables:
            connection.execute(f"CREATE TABLE old_{table} AS TABLE sealstream_notary.{table}".encode())
        change(log)
        for table in tables:
            connection.execute(f"TRUNCATE sealstream_notary.{table}".encode())
            connection.execute(f"INSERT INTO sealstream_notary.{table} TABLE old_{table}".encode())


def _store_set_back(log: Log) -> None:
    """Take the last entry of every chain out of the store."""
    log.test_store.tamper(
        "DELETE FROM sealstream.entries AS e WHERE seq = (SELECT size - 1 FROM sealstream_notary.chains AS c"
        " WHERE c.chain = e.tenant)"
    )


def _store_rewritten(log: Log) -> None:
    """Exchange an entry that was signed, and its hash with it."""
    log.test_store.tamper(
        "UPDATE sealstream.entries SET entry = set_byte(entry, 60, 7), hash = sha256('\\x00'::bytea ||"
        " set_byte(entry, 60, 7)) WHERE tenant = 'tenant-1' AND seq = 1"
    )


def _head_changed(log: Log) -> None:
    """Set one chain's head back in the notary's database, and let nothing else tell."""
    with psycopg.connect(log.test_store.url, autocommit=True) as connection:
        connection.execute("UPDATE sealstream_notary.chains SET size = size - 1 WHERE chain = 'tenant-1'")


HALTS: Final[dict[str, tuple[Callable[[Log], None], type[SealstreamError]]]] = {
    "heads-lost": (_heads_lost, RolledBack),
    "heads-set-back": (lambda log: _set_back(log, _overtaken), RolledBack),
    "one-head-changed": (_head_changed, TreeDiffers),
    "store-set-back": (_store_set_back, TreeDiffers),
    "store-rewritten": (_store_rewritten, StoreDamaged),
}


def _concerned(log: Log, what: str) -> tuple[tuple[str, int], ...]:
    """Return the chains that a halt is about, each with the place from which on it is not what was committed to."""
    rows = log.test_store.query("SELECT chain, size FROM sealstream_notary.chains ORDER BY chain")
    sizes = {str(chain): int(str(size)) for chain, size in rows}
    if what == "store-set-back":
        return tuple((chain, size - 1) for chain, size in sizes.items())
    places = {
        "heads-lost": ("!root", 0),
        "heads-set-back": ("!root", 1),
        "one-head-changed": ("tenant-1", sizes.get("tenant-1", 0)),
        "store-rewritten": ("tenant-1", 1),
    }
    return (places[what],)


@pytest.mark.parametrize("what", HALTS)
def test_what_differs_halts_at_the_start(log: Log, what: str) -> None:
    """Where heads, store and what is published contradict each other, nothing further is signed."""
    happens, error = HALTS[what]
    happens(log)
    before = sorted(path for path in log.directory.rglob("*") if path.is_file())

    with pytest.raises(error) as caught:
        log.notary().open()
    assert places_of(caught.value) == _concerned(log, what)
    assert all(tenant in caught.value.message for tenant, _ in _concerned(log, what))
    assert sorted(path for path in log.directory.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize("what", ["store-set-back", "store-rewritten"])
def test_what_differs_halts_a_running_notary(log: Log, what: str) -> None:
    """A store that changes under a running notary stops it with one of its next rounds, before it signs."""
    notary = log.notary()
    assert log.round(notary)
    happens, error = HALTS[what]
    happens(log)
    size = notary.size

    with pytest.raises(error) as caught:
        log.round(notary)
    assert places_of(caught.value) == _concerned(log, what)
    assert notary.size == size


def test_of_two_notaries_the_second_halts(log: Log) -> None:
    """Who was overtaken commits to nothing, and signs nothing of what the other one has gone beyond."""
    slow, fast = log.notary(), log.notary()
    slow.open()
    assert log.round(fast)
    with pytest.raises(WriterConflict):
        slow.turn()
    log.check()


def test_an_overtaken_notary_does_not_sign(log: Log) -> None:
    """A notary that stood still between its commit and its signature finds that another one has gone on."""
    slow = log.notary()
    slow.open()
    slow.turn()
    assert log.round(log.notary())
    with pytest.raises(UnsafeState):
        slow.finish(patience_seconds=1.0)
    log.check()


def test_a_notary_that_stood_still_while_witnesses_were_asked_was_overtaken(log: Log) -> None:
    """What a witness knows of the successor is no rollback: the one that stood still says that there is another one."""
    parts = log.parts()
    slow = log.notary(replace(parts, asker=_Overtaking(log, parts.asker)))
    slow.open()
    slow.turn()
    with pytest.raises(WriterConflict):
        slow.finish(patience_seconds=1.0)
    log.check()


def test_an_overtaken_notary_publishes_nothing(log: Log) -> None:
    """A checkpoint whose cosignatures came late does not take the place of the successor's, which is newer."""
    parts = log.parts()
    slow = log.notary(replace(parts, asker=_Overtaking(log, parts.asker, sees=False)))
    slow.open()
    slow.turn()
    with pytest.raises(WriterConflict):
        slow.finish(patience_seconds=1.0)
    log.check()


def test_a_witness_that_knows_a_log_whose_heads_are_missing(database_url: str, tmp_path: Path) -> None:
    """While nothing was ever published from a database, the word of one witness that it knows the log is enough to
    halt: the heads may be lost. Later it takes more than a word.
    """
    with open_log(database_url, tmp_path) as log:
        log.feed(log.chains.events(TENANTS, 9))
        parts = log.parts()
        claiming = replace(parts, asker=_Claiming(parts.asker))
        new = log.notary(claiming)
        new.open()
        new.turn()
        with pytest.raises(RolledBack, match="witnesses know its log: W at size 4096"):
            new.finish(patience_seconds=1.0)

        assert log.round(log.notary())
        known = log.notary(claiming)
        known.open()
        known.turn()
        assert known.finish(patience_seconds=1.0)
        log.check()


@dataclass
class _Claiming:
    """Witnesses of whom one says that it has seen a larger checkpoint, and nobody says so with him."""

    asker: Asker

    def ask(self, note: bytes, *, patience_seconds: float, stopping: Callable[[], bool] = lambda: False) -> Asked:
        """Answer, and let him say it."""
        return replace(self.asker.ask(note, patience_seconds=patience_seconds, stopping=stopping), larger={"W": 4096})


@dataclass
class _Overtaking:
    """Witnesses that take so long that another notary makes rounds meanwhile, and that may have seen those."""

    log: Log
    asker: Asker
    sees: bool = True

    def ask(self, note: bytes, *, patience_seconds: float, stopping: Callable[[], bool] = lambda: False) -> Asked:
        """Answer late."""
        assert self.log.round(self.log.notary())
        if self.sees:
            raise RolledBack("a witness has seen a larger checkpoint")
        return self.asker.ask(note, patience_seconds=patience_seconds, stopping=stopping)


def test_a_round_that_another_notary_makes_during_the_start_is_no_rollback(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two notaries that overlap for a moment, as in a rolling restart, the new one does not raise an alarm."""
    parts, other = log.parts(), log.notary()
    look = parts.publisher.published

    def published(keys: Iterable[VerifierKey]) -> Checkpoint | None:
        assert log.round(other)
        return look(keys)

    monkeypatch.setattr(parts.publisher, "published", published)
    starting = log.notary(parts)
    starting.open()
    assert log.round(starting)
    log.check()


def test_lost_tiles_are_made_anew(log: Log) -> None:
    """Tiles that somebody has taken away or changed are made anew from what was committed to, and never believed."""
    notary = log.notary()
    assert log.round(notary)
    shutil.rmtree(log.directory / "chains" / "tenant-1" / "tile")
    for path in (log.directory / "root" / "tile").rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(len(path.read_bytes())))
    log.feed(log.chains.events(TENANTS + 1, 12))

    assert log.round(notary)
    log.check()


def test_another_key_is_refused(log: Log) -> None:
    """A database that began with another key than the one given is not gone on with."""
    log.test_store.tamper("UPDATE sealstream_notary.log SET key = 'other+00000000+x'")
    with pytest.raises(UnsafeState, match="does not follow"):
        log.notary().open()
