"""A notary over a real store, a real database of its own and a real directory, in the test's own process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, cast

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.key_history import KeyHistory
from sealstream.schemas.log_layout import ROOT_CHECKPOINT, ROOT_PREFIX, chain_prefix, coverage_path
from sealstream.schemas.note import verify_note
from sealstream.schemas.note_key import VerifierKey
from sealstream.schemas.policy import Policy
from sealstream.schemas.tile_tree import verify_tiles
from sealstream.schemas.tiles import Bundle, Tile
from sealstream.sinks.notary.asking import WitnessAsker
from sealstream.sinks.notary.checkpoint_topic import CheckpointTopic
from sealstream.sinks.notary.database import NotaryDatabase
from sealstream.sinks.notary.finishing import Parts
from sealstream.sinks.notary.migrate import migrate
from sealstream.sinks.notary.notary import Notary
from sealstream.sinks.notary.publishing import Publisher
from sealstream.sinks.notary.reading import ROUND_ENTRIES_MAX
from sealstream.sinks.notary.round_files import RoundFiles
from sealstream.sinks.notary.signing import LogSigner
from sealstream.sinks.notary.stored import Store
from sealstream.worker.failpoints import OFF, Failpoints
from sealstream.worker.objects import Objects, open_objects
from support.chained import INSTANCE, Chains, Sealed
from support.notarised import SECRET, PlainRounds, check_rounds
from support.notes import signer
from support.stores import Feeder, TestStore, migrated, open_feeder

KEY: Final = signer(INSTANCE)
POLICY: Final = f"log {KEY.verifier}\nquorum none\n"
SECONDS: Final = 20.0


@dataclass
class MemoryTopic:
    """The topic audit.checkpoints, in memory: it outlives the notaries that write to it."""

    records: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])

    def send(self, chains: Iterable[tuple[str, bytes]], root: tuple[str, bytes]) -> None:
        """Append checkpoints."""
        self.records += [*chains, root]

    def last(self, origin: str, keys: Sequence[VerifierKey]) -> Checkpoint | None:
        """Return the last checkpoint of a log."""
        notes = [note for name, note in self.records if name == origin]
        return Checkpoint.parse(verify_note(notes[-1], keys).text) if notes else None


@dataclass
class Log:
    """A store that grows, and the notaries of it.

    Arguments:
        test_store: The store.
        feeder: Fills it.
        reader_url: The store as the notary reads it.
        notary_url: The notary's own database.
        directory: Where it publishes.
    """

    test_store: TestStore
    feeder: Feeder
    reader_url: str
    notary_url: str
    directory: Path
    chains: Chains = field(default_factory=Chains)
    entries: list[bytes] = field(default_factory=list[bytes])
    topic: MemoryTopic | CheckpointTopic = field(default_factory=MemoryTopic)
    opened: list[Parts] = field(default_factory=list[Parts])

    def feed(self, records: Sequence[Sealed]) -> None:
        """Store records."""
        self.feeder.feed(records)
        self.entries += [record.entry for record in records]

    def parts(self, *, points: Failpoints = OFF, objects: Objects | None = None, topic: object = None) -> Parts:
        """Return what a notary works with."""
        place = objects or open_objects(str(self.directory))
        log_signer = LogSigner(INSTANCE, [KEY])
        used = cast("CheckpointTopic", topic or self.topic)
        parts = Parts(
            database=NotaryDatabase(self.notary_url, timeout_seconds=SECONDS),
            store=Store(self.reader_url, instance=INSTANCE, timeout_seconds=SECONDS),
            files=RoundFiles(place),
            signer=log_signer,
            publisher=Publisher(place, used, log_signer, instance=INSTANCE, points=points),
            asker=WitnessAsker(Policy.parse(POLICY.encode()), KeyHistory(), place, origin=INSTANCE),
            points=points,
        )
        self.opened.append(parts)
        return parts

    def notary(self, parts: Parts | None = None, *, entries_max: int = ROUND_ENTRIES_MAX) -> Notary:
        """Return a notary that knows nothing yet."""
        return Notary(INSTANCE, SECRET, [KEY.verifier], parts or self.parts(), entries_max=entries_max)

    def round(self, notary: Notary) -> bool:
        """Let a notary make a round and publish it; return whether it is public."""
        if not notary.is_open:
            notary.open()
        notary.finish(patience_seconds=1.0)
        notary.turn()
        return notary.finish(patience_seconds=1.0)

    def check(self) -> PlainRounds:
        """Check all that is published against the entries: every tile, round and root."""
        objects = open_objects(str(self.directory))
        root = _checkpoint(objects, ROOT_CHECKPOINT, INSTANCE)
        verify_tiles(root.size, root.root, *_readers(objects, ROOT_PREFIX))
        leaves = _entries(objects, ROOT_PREFIX, root.size)
        rounds = [(leaf, objects.get(coverage_path(number))) for number, leaf in enumerate(leaves)]
        plain = check_rounds(rounds, self.entries)
        assert plain.roots[-1] == root.root
        for chain, size in plain.sizes.items():
            prefix = chain_prefix(chain)
            found = _checkpoint(objects, f"{prefix}checkpoint", f"{INSTANCE}/{chain}")
            assert found.size == size, chain
            verify_tiles(size, found.root, *_readers(objects, prefix))
        database = NotaryDatabase(self.notary_url, timeout_seconds=SECONDS)
        memory = database.load()
        database.close()
        assert memory is not None
        assert {head.chain: head.size for head in memory.chains} == plain.sizes
        assert (memory.head.size, memory.head.root) == (root.size, root.root)
        assert self.topic.last(INSTANCE, [KEY.verifier]) == root
        return plain

    def close(self) -> None:
        """Close all connections."""
        for parts in self.opened:
            parts.database.close()
            parts.store.close()


@contextmanager
def open_log(store_url: str, directory: Path) -> Generator[Log]:
    """Make an empty store and an empty database of the notary's, with logins as their operators would make them."""
    with migrated(store_url) as test_store, open_feeder(test_store) as feeder:
        feeder.claim()
        migrate(store_url)
        published = directory / "published"
        published.mkdir()
        log = Log(test_store, feeder, test_store.reader("*"), test_store.login("sealstream_notary"), published)
        try:
            yield log
        finally:
            log.close()


def _checkpoint(objects: Objects, path: str, origin: str) -> Checkpoint:
    key = replace(KEY.verifier, name=origin)
    found = Checkpoint.parse(verify_note(objects.get(path), [key]).text)
    assert found.origin == origin
    return found


def _readers(objects: Objects, prefix: str) -> tuple[Callable[[Tile], bytes], Callable[[Bundle], bytes]]:
    return (
        lambda tile: objects.get(f"{prefix}{tile.path()}"),
        lambda bundle: objects.get(f"{prefix}{bundle.path()}"),
    )


def _entries(objects: Objects, prefix: str, size: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < size:
        bundle = Bundle(len(found) // 256, min(256, size - len(found)))
        found += bundle.entries(objects.get(f"{prefix}{bundle.path()}"))
    return found
