"""Makes checkpoints public: in the storage, and on the topic audit.checkpoints. Never a smaller one than before.

All that is done here can be done again: a notary that died anywhere in between begins with the last round of its
database, makes the same files, and publishes the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint, chain_origin
from sealstream.schemas.errors import (
    ChainPlace,
    CheckpointInvalid,
    FormatError,
    NoteInvalid,
    ObjectMissing,
    OriginDiffers,
    RolledBack,
    TreeDiffers,
    Untrusted,
)
from sealstream.schemas.log_layout import ROOT_CHECKPOINT, ROOT_UNWITNESSED, chain_prefix, root_checkpoint_path
from sealstream.schemas.note import NOTE_BYTES_MAX, Note, verify_note
from sealstream.schemas.note_key import VerifierKey
from sealstream.schemas.violation import ROOT_LOG
from sealstream.sinks.notary.checkpoint_topic import CheckpointTopic
from sealstream.sinks.notary.signing import LogSigner
from sealstream.worker.failpoints import OFF, Failpoints
from sealstream.worker.logs import logger
from sealstream.worker.objects import Objects

_REMEMBERED_MAX: Final = 1_000_000
"""Chains whose published size is remembered: some 150 bytes each."""


POINTS: Final = ("after-offer", "after-numbered", "after-chains", "after-root-checkpoint")
"""What a notary passes on its way from a signed checkpoint to a public one."""


@dataclass(frozen=True, slots=True)
class ChainState:
    """How far a chain has come, to be signed and published.

    Arguments:
        chain: Its name.
        size: The number of its entries.
        root: The root of its tree.
    """

    chain: str
    size: int
    root: bytes


class Publisher:
    """Publishes below one place and on one topic.

    Arguments:
        objects: The place.
        topic: The topic.
        signer: Signs the chains' checkpoints.
        instance: The instance.
        points: Where tests make it fail; :data:`POINTS` are passed here.
    """

    def __init__(
        self, objects: Objects, topic: CheckpointTopic, signer: LogSigner, *, instance: str, points: Failpoints = OFF
    ) -> None:
        self._objects = objects
        self._topic = topic
        self._signer = signer
        self._instance = instance
        self._root_size = 0
        self._sizes: dict[str, int] = {}
        self._after_offer, self._after_numbered, self._after_chains, self._after_root = (
            points.at(name) for name in POINTS
        )

    def published(self, keys: Iterable[VerifierKey]) -> Checkpoint | None:
        """Return the largest root checkpoint of this log that is known outside its database; ``None`` for none.

        It looks where witnesses and readers look: in the storage and on the topic. Whoever finds a larger one here than
        his head must not go on. Nothing smaller is published from here on.

        Arguments:
            keys: The keys that have ever signed this log.

        Raises:
            Untrusted: A checkpoint in the storage is another log's, or none of the keys has signed it.
            StoreError: The storage refuses.
            Unreachable: The storage or Kafka does not answer.
        """
        known = tuple(keys)
        found = [self._readable(path, known) for path in (ROOT_CHECKPOINT, ROOT_UNWITNESSED)]
        found.append(self._topic.last(self._signer.origin, known))
        largest = max((one for one in found if one is not None), key=lambda one: one.size, default=None)
        if largest is not None:
            self._root_size = max(self._root_size, largest.size)
        return largest

    def offer(self, note: bytes) -> None:
        """Write the root checkpoint that witnesses are asked about: signed by the log, and no evidence by itself.

        Raises:
            RolledBack: A larger one was published.
            StoreError: The storage refuses.
            Unreachable: It does not answer.
        """
        self._check_root(Checkpoint.parse(_text(note)))
        self._objects.put(ROOT_UNWITNESSED, note)
        self._objects.sync()
        # A crash here leaves a checkpoint that nobody has to believe. The same one is offered again.
        self._after_offer()

    def publish(self, note: bytes, chains: Sequence[ChainState], *, time_seconds: int) -> None:
        """Make a root checkpoint public that counts, and the checkpoints of the chains that it covers.

        Arguments:
            note: The root checkpoint with the log's signature and its quorum's; keep it before, so that what is
                published again is the same. A timestamp may be one over these bytes.
            chains: The chains that have grown since a root checkpoint was published last, as they are in this one.
            time_seconds: What time it is, in seconds since the Unix epoch.

        Raises:
            RolledBack: A larger checkpoint of one of these logs was published.
            TreeDiffers: Another root of the same size was published.
            StoreError: The storage refuses. All of it can be done again.
            Unreachable: The storage or Kafka does not answer. The same.
        """
        checkpoint = Checkpoint.parse(_text(note))
        self._check_root(checkpoint)
        for one in chains:
            self._check_chain(one)
        self._put_numbered(checkpoint, note)
        # A crash here leaves a checkpoint that counts, and that nobody looks for yet.
        self._after_numbered()
        signed: list[tuple[str, bytes]] = []
        self._objects.put_many(self._chain_files(chains, time_seconds, signed))
        self._objects.sync()
        # A crash here leaves chains' checkpoints that are ahead of the root's. All they say was swapped.
        self._after_chains()
        self._objects.put(ROOT_CHECKPOINT, note)
        self._objects.sync()
        self._root_size = checkpoint.size
        # A crash here leaves readers of the topic behind those of the storage, until it is published again.
        self._after_root()
        self._topic.send(signed, (self._signer.origin, note))
        # A crash here repeats the records, with the same bytes.
        self._remember(chains)

    def _chain_files(
        self, chains: Sequence[ChainState], time_seconds: int, signed: list[tuple[str, bytes]]
    ) -> Iterator[tuple[str, bytes]]:
        for one in chains:
            note = self._signer.chain(one.chain, one.size, one.root, time_seconds=time_seconds)
            signed.append((chain_origin(self._instance, one.chain), note))
            yield f"{chain_prefix(one.chain)}checkpoint", note

    def _put_numbered(self, checkpoint: Checkpoint, note: bytes) -> None:
        path = root_checkpoint_path(checkpoint.size)
        try:
            before = self._stored(path, self._signer.verifiers)
        except (FormatError, Untrusted):
            before = None  # what a power cut left, or somebody else has put there: it is no checkpoint of ours
        if before is not None and before.root != checkpoint.root:
            raise TreeDiffers(
                f"root log {checkpoint.origin}: another root was published at size {checkpoint.size}",
                places=[ChainPlace(ROOT_LOG, None)],
                hint="two notaries have signed two histories with one key: find out which database is the right one",
            )
        self._objects.put(path, note)

    def _readable(self, path: str, keys: Sequence[VerifierKey]) -> Checkpoint | None:
        """Return the checkpoint at a path; ``None`` if there is none, or nothing but what a power cut left of one."""
        try:
            return self._stored(path, keys)
        except (NoteInvalid, CheckpointInvalid) as error:
            logger().warning("what stands in the place of a checkpoint is none", path=path, error=str(error))
            return None

    def _stored(self, path: str, keys: Sequence[VerifierKey]) -> Checkpoint | None:
        """Return the checkpoint at a path; ``None`` if there is none.

        Raises:
            Untrusted: Something else is there.
            FormatError: The same.
        """
        try:
            data = self._objects.get(path, bytes_max=NOTE_BYTES_MAX)
        except ObjectMissing:
            return None
        checkpoint = Checkpoint.parse(verify_note(data, keys).text)
        if checkpoint.origin != self._signer.origin:
            raise OriginDiffers(f"{path} is a checkpoint of {checkpoint.origin[:200]!r}", hint="it is another log's")
        return checkpoint

    def _check_root(self, checkpoint: Checkpoint) -> None:
        if checkpoint.origin != self._signer.origin:
            raise OriginDiffers(f"a checkpoint of {checkpoint.origin[:200]!r} is not one of {self._signer.origin}")
        if checkpoint.size < self._root_size:
            raise _smaller("the root log", ROOT_LOG, checkpoint.size, self._root_size)

    def _check_chain(self, one: ChainState) -> None:
        before = self._sizes.get(one.chain, 0)
        if one.size < before:
            raise _smaller(f"chain {one.chain}", one.chain, one.size, before)

    def _remember(self, chains: Iterable[ChainState]) -> None:
        if len(self._sizes) > _REMEMBERED_MAX:
            self._sizes.clear()  # the root log's size covers the chains' as well
        self._sizes.update((one.chain, one.size) for one in chains)


def _text(note: bytes) -> bytes:
    return Note.parse(note).text


def _smaller(what: str, chain: str, size: int, published: int) -> RolledBack:
    return RolledBack(
        f"{what} has the size {size}, and {published} was published",
        places=[ChainPlace(chain, size)],
        hint="the notary's database was set back: restore its latest state, and sign nothing before",
    )
