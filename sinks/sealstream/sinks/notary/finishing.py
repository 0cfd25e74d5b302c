"""Brings a round that is committed to before the public: its files, its signature, its witnesses, its checkpoints.

Each step can be done again, in this order, after whatever happened: a round is a function of what is committed to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sealstream.schemas.entry import ZERO_HASH
from sealstream.schemas.errors import ChainPlace, RolledBack, TilesDamaged, WriterConflict
from sealstream.schemas.violation import ROOT_LOG as ROOT_LOG_CHAIN
from sealstream.sinks.notary.asking import Asked
from sealstream.sinks.notary.chain_check import check_entries
from sealstream.sinks.notary.chains import Chains
from sealstream.sinks.notary.database import NotaryDatabase
from sealstream.sinks.notary.made import MadeRound
from sealstream.sinks.notary.publishing import POINTS as PUBLISHING_POINTS
from sealstream.sinks.notary.publishing import ChainState, Publisher
from sealstream.sinks.notary.round_files import ROOT_LOG, RoundFiles
from sealstream.sinks.notary.signing import LogSigner
from sealstream.sinks.notary.stored import ChainRange, Snapshot, Store
from sealstream.worker.failpoints import OFF, Failpoints
from sealstream.worker.logs import logger

POINTS: Final = ("after-commit", "after-files", "after-note", "after-witnessed", "after-publish", *PUBLISHING_POINTS)
"""The notary's failpoints, in the order in which a round passes them; the publisher's lie between two of these."""

_BLOCK_ENTRIES: Final = 20_000


class Asker(Protocol):
    """Asks witnesses."""

    def ask(self, note: bytes, *, patience_seconds: float, stopping: Callable[[], bool] = ...) -> Asked:
        """Return what asking for cosignatures of a checkpoint came to."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What a round is finished with.

    Arguments:
        database: Where each step is remembered.
        store: Where tiles that were lost are made anew from.
        files: Writes tiles and coverage.
        signer: Signs.
        publisher: Publishes.
        asker: Asks witnesses.
        clock: The time in seconds since the Unix epoch.
        points: Where tests make it fail.
    """

    database: NotaryDatabase
    store: Store
    files: RoundFiles
    signer: LogSigner
    publisher: Publisher
    asker: Asker
    clock: Callable[[], float] = time.time
    points: Failpoints = OFF


class Finishing:
    """One round on its way.

    Arguments:
        parts: What it is finished with.
        made: The round.
        note: Its root checkpoint, if that was signed before.
        is_witnessed: Whether that has its quorum already.
    """

    def __init__(self, parts: Parts, made: MadeRound, *, note: str = "", is_witnessed: bool = False) -> None:
        self._parts = parts
        self.made = made
        self._note = note.encode()
        self._offered = self._filed = False
        self.is_witnessed = is_witnessed
        self.is_published = False

    @property
    def is_signed(self) -> bool:
        """Whether the next round may be made: this one's files are durable, and its signature has been offered."""
        return self._offered

    @property
    def note(self) -> bytes:
        """The root checkpoint with all signatures so far."""
        return self._note

    def sign(self, chains: Chains) -> None:
        """Write the round's files, sign it, and offer that to witnesses; what is done already is left out.

        Raises:
            UnsafeState: Signing would be wrong.
            StoreError: A database or the storage refuses.
            Unreachable: One of them does not answer. Call it again.
        """
        parts = self._parts
        if not self._filed:
            self._write_files(chains)
            # A crash here leaves files that nobody has a signature for. They are written again, the same.
            parts.points.at("after-files")()
            self._filed = True
        if not self._note:
            note = parts.signer.root(self.made.size, self.made.root, time_seconds=int(parts.clock()))
            # A crash here, with a signature that has not left this process, is as if there had been none.
            parts.database.keep_note(self.made.round, note.decode())
            # A crash here leaves a note that nobody has seen; it is offered as it is.
            parts.points.at("after-note")()
            self._note = note
        if not self._offered:
            parts.publisher.offer(self._note)
            self._offered = True

    def witness(self, *, patience_seconds: float, stopping: Callable[[], bool]) -> bool:
        """Ask for cosignatures, and return whether the quorum is complete.

        Raises:
            RolledBack: A witness has seen a larger checkpoint of this log: shown by the log's signature, said by as
                many as make a quorum, or by anyone while nothing was ever published from this database.
            WriterConflict: It has, and another notary has made it, from the same database.
            StoreError: The notary's database refuses.
            Unreachable: It does not answer. Call it again.
        """
        if self.is_witnessed:
            return True
        try:
            asked = self._parts.asker.ask(self._note, patience_seconds=patience_seconds, stopping=stopping)
            self._check_known(asked)
        except RolledBack:
            self._require_last()  # a notary that stood still while its successor went on is no rollback
            raise
        self._note = asked.note
        if asked.trusted is None:
            logger().warning("quorum missing", round=self.made.round, witnesses=asked.missing)
            return False
        self._parts.database.keep_witnessed(self.made.round, asked.note.decode())
        # A crash here leaves a checkpoint that counts, and that only witnesses and this database know. It is published
        # when the notary starts again.
        self._parts.points.at("after-witnessed")()
        self.is_witnessed = True
        return True

    def _check_known(self, asked: Asked) -> None:
        """Halt if a witness knows a log that is new to this database: its head may be lost. Asking costs one start.

        Raises:
            RolledBack: One does.
        """
        if asked.larger and self._parts.database.last_published() < 0:
            known = ", ".join(f"{name} at size {size}" for name, size in sorted(asked.larger.items()))
            raise RolledBack(
                f"nothing was ever published from this database, and witnesses know its log: {known}",
                places=[ChainPlace(ROOT_LOG_CHAIN, self.made.size)],
                hint="the notary's database was lost or is another one: restore it; if it is the witness that is wrong,"
                " take it out of the policy",
            )

    def publish(self, grown: Iterable[ChainState]) -> None:
        """Publish the checkpoint that has its quorum, and those of the chains that have grown since the last one.

        Raises:
            UnsafeState: Something else was published.
            StoreError: A database or the storage refuses.
            Unreachable: One of them, or Kafka, does not answer. Call it again.
        """
        if self.is_published:
            return
        self._require_last()  # else an older checkpoint would take the place of a newer one
        self._parts.publisher.publish(self._note, list(grown), time_seconds=int(self._parts.clock()))
        # A crash here publishes the same once more.
        self._parts.points.at("after-publish")()
        self._parts.database.keep_published(self.made.round)
        self.is_published = True
        self._parts.files.erase()

    def _require_last(self) -> None:
        self._parts.database.require_head(self.made.size, self.made.root)

    def _write_files(self, chains: Chains) -> None:
        try:
            self._parts.files.write(self.made)
        except TilesDamaged as error:
            logger().error(error.message, error=type(error).__name__, hint=error.hint)
            for name in error.logs:
                self._rewrite(name, chains)

    def _rewrite(self, name: str, chains: Chains) -> None:
        """Make the tiles of a log anew, from what was committed to."""
        made, files = self.made, self._parts.files
        if name == ROOT_LOG:
            files.rewrite(ROOT_LOG, made.size, made.root, self._parts.database.leaves())
            return
        head = chains.head(name)
        if head is None:
            raise WriterConflict(f"chain {name} is not one of this notary's")
        with self._parts.store.snapshot() as snapshot:
            files.rewrite(name, head.size, head.root, _all_entries(snapshot, name, head.size))


def _all_entries(snapshot: Snapshot, chain: str, size: int) -> Iterator[bytes]:
    """Yield all entries of a chain, each checked against the one before it."""
    prev = ZERO_HASH
    for begin in range(0, size, _BLOCK_ENTRIES):
        end = min(size, begin + _BLOCK_ENTRIES)
        stored = snapshot.entries([ChainRange(chain, begin, end)])
        entries, hashes = check_entries(chain, begin, end, prev, stored)
        prev = hashes[-1]
        yield from entries


def grown_since(chains: Chains, round_number: int) -> Sequence[ChainState]:
    """Return the chains that have grown behind a round, as they are now."""
    return [ChainState(head.chain, head.size, head.root) for head in chains if head.grown_in > round_number]
