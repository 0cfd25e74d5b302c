"""The notary without its loop: opens what it knows, makes rounds, and brings each of them before the public."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sealstream.schemas.errors import RolledBack, TreeDiffers
from sealstream.schemas.note_key import VerifierKey
from sealstream.sinks.notary.finishing import Finishing, Parts, grown_since
from sealstream.sinks.notary.halts import check_ends, check_memory, check_published
from sealstream.sinks.notary.naming import with_chains
from sealstream.sinks.notary.reading import ROUND_ENTRIES_MAX
from sealstream.sinks.notary.rounds import Rounds, moment
from sealstream.sinks.notary.scrub import SHARE_ENTRIES, START_ENTRIES_MAX, Scrub
from sealstream.sinks.notary.steps import Memory
from sealstream.worker.logs import logger

MAPS_PRUNED_ROUNDS: Final = 10
"""How many rounds lie between two looks for maps that are not needed any more."""


@dataclass(frozen=True, slots=True)
class Turned:
    """What a round was.

    Arguments:
        round: Its number.
        chains: How many chains have grown.
        entries: By how many entries.
        more: Whether the store has more that is new.
        scrubbed: How many entries were read again.
    """

    round: int
    chains: int
    entries: int
    more: bool
    scrubbed: int


class Notary:
    """Makes the rounds of one instance. Use it from one thread.

    After any error but :class:`Unreachable` it must not be used again. After that one call :meth:`open`.

    Arguments:
        instance: The instance.
        secret: What the nonces of the tenant map are made from, 32 bytes.
        keys: All keys that have ever signed the instance's log; the first one is that of a new log.
        parts: What rounds are finished with.
        entries_max: The most entries of one round.
    """

    def __init__(
        self,
        instance: str,
        secret: bytes,
        keys: Sequence[VerifierKey],
        parts: Parts,
        *,
        entries_max: int = ROUND_ENTRIES_MAX,
    ) -> None:
        self._instance = instance
        self._secret = secret
        self._keys = tuple(keys)
        self._parts = parts
        self._entries_max = entries_max
        self._rounds: Rounds | None = None
        self._scrub: Scrub | None = None
        self._finishing: Finishing | None = None
        self._published = -1
        self._oldest_made: datetime | None = None
        self._oldest_left: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether it knows where it is."""
        return self._rounds is not None

    @property
    def finishing(self) -> Finishing | None:
        """The last round, as far as it has come."""
        return self._finishing

    @property
    def chains(self) -> int:
        """The number of chains."""
        return 0 if self._rounds is None else len(self._rounds.chains)

    @property
    def size(self) -> int:
        """The size of the root log."""
        return 0 if self._rounds is None else self._rounds.head.size

    @property
    def oldest(self) -> datetime | None:
        """When the broker took the oldest stored entry that no witnessed checkpoint covers; ``None`` if all are."""
        return min((one for one in (self._oldest_made, self._oldest_left) if one is not None), default=None)

    def forget(self) -> None:
        """Forget all but what the database has: whether the last commit went through is not known any more."""
        self._rounds = self._scrub = self._finishing = None
        self._parts.database.close()
        self._parts.store.close()

    def open(self) -> None:
        """Find out where the log is, and refuse to go on if anything speaks against it.

        Raises:
            UnsafeState: Something does; see :mod:`sealstream.sinks.notary.halts`.
            StoreError: A database or the storage refuses, or the store is damaged.
            Unreachable: One of them, or Kafka, does not answer.
        """
        with self._naming_chains():
            self._open()

    def _open(self) -> None:
        parts = self._parts
        # In this order: what another notary publishes meanwhile, it has committed to before. That is no rollback.
        published = parts.publisher.published(self._keys)
        memory = parts.database.load()
        check_published(published, memory, parts.database)
        if memory is None:
            memory = self._begin()
        check_memory(memory, instance=self._instance, keys=self._keys)
        rounds = Rounds(memory, self._secret, parts.database.advance)
        scrub = Scrub(rounds.chains)
        with parts.store.snapshot() as snapshot:
            check_ends(rounds.chains, snapshot)
            if sum(head.size for head in rounds.chains) <= START_ENTRIES_MAX:
                scrub.run(snapshot, entries_max=START_ENTRIES_MAX)
            last = rounds.last
            made = None if last is None or last.published_at is not None else rounds.remake_last(snapshot)
        self._published = parts.database.last_published()
        parts.files.begin(rounds.chains, last=rounds.head.size - 1, published=self._published)
        self._oldest_made, self._oldest_left = parts.database.oldest_unwitnessed(), None
        self._finishing = None
        if last is not None and made is not None:
            self._finishing = Finishing(parts, made, note=last.note, is_witnessed=last.witnessed_at is not None)
            logger().info("remade the last round", round=made.round, chains=len(made.chains))
        self._rounds, self._scrub = rounds, scrub

    def turn(self) -> Turned:
        """Make a round; the one before it must have been signed.

        Raises:
            UnsafeState, StoreError, Unreachable: As :meth:`open`.
        """
        rounds, scrub = self._rounds, self._scrub
        assert rounds is not None
        assert scrub is not None
        with self._naming_chains(), self._parts.store.snapshot() as snapshot:
            scrubbed = scrub.run(snapshot, entries_max=SHARE_ENTRIES)
            made, reading = rounds.make(snapshot, entries_max=self._entries_max)
        self._parts.points.at("after-commit")()
        self._finishing = Finishing(self._parts, made)
        links = [link.received for found in reading.gathered.links.values() for link in found if link.received]
        if links:
            self._oldest_made = min(moment(min(links)), self._oldest_made or moment(min(links)))
        self._oldest_left = None if reading.oldest_left is None else moment(reading.oldest_left)
        if made.round % MAPS_PRUNED_ROUNDS == 0:
            self._parts.database.prune_maps()
        return Turned(made.round, len(made.chains), reading.gathered.entries, reading.more, scrubbed)

    def finish(self, *, patience_seconds: float, stopping: Callable[[], bool] = lambda: False) -> bool:
        """Bring the last round as far as it can come, and return whether it is public.

        Raises:
            UnsafeState, StoreError, Unreachable: As :meth:`open`.
        """
        finishing, rounds = self._finishing, self._rounds
        if finishing is None or rounds is None:
            return True
        with self._naming_chains():
            finishing.sign(rounds.chains)
            if not finishing.witness(patience_seconds=patience_seconds, stopping=stopping):
                return False
            self._oldest_made = None
            if not finishing.is_published:
                finishing.publish(grown_since(rounds.chains, self._published))
                self._published = finishing.made.round
        return True

    @contextmanager
    def _naming_chains(self) -> Generator[None]:
        """Let a halt name all chains that it is about."""
        try:
            yield
        except (TreeDiffers, RolledBack) as error:
            raise with_chains(error, self._parts.database, self._parts.store, secret=self._secret) from error

    def _begin(self) -> Memory:
        """Begin the log: nobody knows one of this origin."""
        self._parts.database.begin_log(self._instance, str(self._keys[0]))
        # A crash here leaves an empty log, of which nothing was signed. Whoever starts next goes on with round 0.
        memory = self._parts.database.load()
        assert memory is not None
        logger().info("a new log begins", instance=self._instance)
        return memory
