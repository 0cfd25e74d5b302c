"""Asks witnesses to cosign a root checkpoint: the client's side of C2SP tlog-witness.

What a witness answers is a stranger's word. It is taken only if it is the cosignature of this checkpoint by that
witness's own key, in use now; everything else is left out with a reason. So no answer can keep the checkpoint from
being one, or stand in for another witness.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from typing import Final

from sealstream.kafka.patience import call_beside
from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import ChainPlace, QuorumMissing, RolledBack, SealstreamError
from sealstream.schemas.key_history import KeyHistory
from sealstream.schemas.log_layout import ROOT_PREFIX
from sealstream.schemas.note import Note, Signature
from sealstream.schemas.policy import NO_QUORUM, Policy
from sealstream.schemas.proofs import consistency_proof
from sealstream.schemas.tile_tree import TileNodes
from sealstream.schemas.tiles import Tile
from sealstream.schemas.trust import Reader, TrustedCheckpoint, verify_checkpoint
from sealstream.schemas.violation import ROOT_LOG
from sealstream.sinks.notary.witness_call import Called, WitnessCall
from sealstream.worker import metrics
from sealstream.worker.http_client import HttpClient, check_url
from sealstream.worker.logs import logger
from sealstream.worker.objects import Objects

REQUEST_SECONDS: Final = 10.0
"""How long one answer of a witness may take."""

GRACE_SECONDS: Final = 1.0
"""How long the others are waited for once there is a quorum: their cosignatures are worth having, not waiting for."""

SIGNATURES_MAX: Final = 96
"""The most signatures of a checkpoint, below what a note may have; witnesses beyond them are not asked."""

_LOOK_SECONDS: Final = 0.1
_NOT_SHOWN: Final = ", and shows no checkpoint of it that the log has signed"


@dataclass(frozen=True, slots=True)
class Asked:
    """What asking has come to.

    Arguments:
        note: The checkpoint with the log's signatures and all cosignatures that count so far: to be kept, published,
            or asked about again.
        trusted: What a reader with the policy finds; ``None`` as long as a quorum is missing.
        missing: Why each other witness has not cosigned, by the policy's names.
        larger: The sizes that some of them say to have seen, larger than this one's: the word of too few, without a
            signature of the log.
    """

    note: bytes
    trusted: TrustedCheckpoint | None
    missing: dict[str, str]
    larger: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(slots=True)
class _Round:
    """One round of asking, shared by its threads."""

    checkpoint: Checkpoint
    note: bytes  # with the log's signatures alone
    text: bytes
    deadline: float
    over: threading.Event = field(default_factory=threading.Event)


class WitnessAsker:
    """Asks the witnesses of a policy, side by side. Use it from one thread.

    Arguments:
        policy: Who they are, where they are, and how many make a quorum.
        history: Which of their keys followed which.
        objects: Where the root log's tiles are, out of which their consistency proofs are made.
        origin: The log.
        clock: The time in seconds since the Unix epoch.

    Raises:
        ConfigError: The URL of a witness is none.
        HistoryForked: The history gives one key to two witnesses.
    """

    def __init__(
        self,
        policy: Policy,
        history: KeyHistory,
        objects: Objects,
        *,
        origin: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._policy = policy
        self._history = history
        self._objects = objects
        self._origin = origin
        self._clock = clock
        self._busy: dict[str, Future[Called]] = {}
        logs = [log.key for log in policy.logs if log.key.name == origin]
        self._log_keys = tuple(dated.key for key in logs for dated in history.lineage(key))
        client = HttpClient()
        self._calls = {
            one.name: WitnessCall(
                one.name,
                check_url(one.url, f"the witness {one.name}") if one.url else "",
                history.lineage(one.key),
                client,
                clock,
            )
            for one in policy.witnesses
        }
        if policy.quorum == NO_QUORUM:
            logger().warning("the policy asks for no witness: nobody outside stands for what is published")

    def ask(self, note: bytes, *, patience_seconds: float, stopping: Callable[[], bool] = lambda: False) -> Asked:
        """Ask for the cosignatures that a checkpoint does not have yet.

        Arguments:
            note: The checkpoint as the log signed it, with the cosignatures that it has already.
            patience_seconds: How long to ask, ``Retry-After`` of those that are behind included.
            stopping: Whether to give up at once.

        Raises:
            RolledBack: A witness shows a larger checkpoint that this log has signed; or so many say to have seen one
                that they would be a quorum. One that only says so has no other effect than not to cosign.
            Untrusted: The policy's reader would not believe the log's own signature.
            FormatError: The note is no checkpoint.
        """
        parsed = Note.parse(note)
        witnesses = {(dated.key.name, dated.key.key_id) for call in self._calls.values() for dated in call.keys}
        own = tuple(one for one in parsed.signatures if (one.name, one.key_id) not in witnesses)
        shared = _Round(
            Checkpoint.parse(parsed.text),
            Note(parsed.text, own).pack(),
            parsed.text,
            time.monotonic() + patience_seconds,
        )
        taken: dict[str, tuple[Signature, ...]] = {}
        missing: dict[str, str] = {}
        larger: dict[str, int] = {}
        pending: dict[str, Future[Called]] = {}
        for name, call in self._calls.items():
            if kept := call.verified(shared.text, parsed.signatures):
                taken[name] = kept
            elif refused := self._not_asked(call, len(own) + len(taken) + len(pending)):
                missing[name] = refused
            else:
                pending[name] = self._busy[name] = call_beside(self._asking(call, shared), name=f"witness-{name}")
        try:
            self._gather(pending, shared, taken, missing, larger, stopping)
        finally:
            shared.over.set()
        return replace(self._asked(shared, own, taken, missing), larger=larger)

    def _not_asked(self, call: WitnessCall, signatures: int) -> str:
        """Say why a witness cannot be asked; nothing if it can."""
        if not call.url:
            return "the policy has no URL for it"
        busy = self._busy.get(call.name)
        if busy is not None and not busy.done():  # one thread for each, however long it keeps its connection busy
            return "it still keeps the connection of the question before"
        return "there are too many witnesses" if signatures >= SIGNATURES_MAX else ""

    def _asking(self, call: WitnessCall, shared: _Round) -> Callable[[], Called]:
        def proof(old_size: int) -> Sequence[bytes]:
            nodes = TileNodes(shared.checkpoint.size, self._read_tile)
            return consistency_proof(old_size, shared.checkpoint.size, nodes)

        def run() -> Called:
            size = shared.checkpoint.size
            try:
                called = call.until_cosigned(shared.note, shared.text, size, proof, shared.deadline, shared.over)
                if called.size is None or called.size <= size:
                    return called
                left = min(max(shared.deadline - time.monotonic(), GRACE_SECONDS), REQUEST_SECONDS)
                shown = call.shows_larger(self._origin, self._log_keys, size, timeout_seconds=left)
                return replace(called, is_shown=shown, reason=called.reason + ("" if shown else _NOT_SHOWN))
            except SealstreamError as error:
                return Called(reason=str(error))

        return run

    def _gather(
        self,
        pending: dict[str, Future[Called]],
        shared: _Round,
        taken: dict[str, tuple[Signature, ...]],
        missing: dict[str, str],
        larger: dict[str, int],
        stopping: Callable[[], bool],
    ) -> None:
        """Wait for the answers, up to a quorum and a little longer, and sort them.

        Raises:
            RolledBack: A witness shows a larger checkpoint, or a quorum says to have seen one.
        """
        deadline = shared.deadline
        has_quorum = self._policy.quorum != NO_QUORUM and self._policy.satisfied(taken)
        while pending and time.monotonic() < deadline and not stopping():
            if has_quorum:
                deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
            wait(pending.values(), timeout=_LOOK_SECONDS, return_when="FIRST_COMPLETED")
            for name in [name for name, future in pending.items() if future.done()]:
                called = pending.pop(name).result()
                if called.signatures:
                    taken[name] = called.signatures
                    continue
                missing[name] = called.reason
                metrics.NOTARY_WITNESS_REFUSALS.labels(name).inc()
                if called.size is not None and called.size > shared.checkpoint.size:
                    larger[name] = called.size
                    self._check_larger(name, called, larger, shared.checkpoint.size)
            if not has_quorum and self._policy.quorum != NO_QUORUM and self._policy.satisfied(taken):
                has_quorum = True
        for name in pending:
            missing[name] = "it did not answer in time"
            metrics.NOTARY_WITNESS_REFUSALS.labels(name).inc()

    def _check_larger(self, name: str, called: Called, larger: dict[str, int], size: int) -> None:
        """Halt for a larger checkpoint if the log has signed it, or if so many say so that a reader would believe them.

        Raises:
            RolledBack: So it is.
        """
        if not called.is_shown and (self._policy.quorum == NO_QUORUM or not self._policy.satisfied(larger)):
            logger().error(
                "a witness says to have seen a larger checkpoint, and shows none",
                witness=name,
                said=called.size,
                size=size,
                hint="it is wrong, or not able to show it: look at it, and see whether the notary's database was set"
                " back",
            )
            return
        shown = f"the witness {name} has" if called.is_shown else f"the witnesses {', '.join(sorted(larger))} have"
        raise RolledBack(
            f"{shown} seen {self._origin} at size {called.size}, and its head has {size}",
            places=[ChainPlace(ROOT_LOG, size)],
            hint="the notary's database was set back, or somebody else signs with its key; if it is the witness that is"
            " wrong, take it out of the policy",
        )

    def _asked(
        self,
        shared: _Round,
        own: tuple[Signature, ...],
        taken: dict[str, tuple[Signature, ...]],
        missing: dict[str, str],
    ) -> Asked:
        signatures = (*own, *(one for name in self._calls for one in taken.get(name, ())))
        note = Note(shared.text, signatures).pack()
        reader = Reader(self._policy, int(self._clock()), self._history)
        try:
            trusted = verify_checkpoint(note, reader, origin=self._origin)
        except QuorumMissing:
            trusted = None
        return Asked(note, trusted, missing)

    def _read_tile(self, tile: Tile) -> bytes:
        return self._objects.get(f"{ROOT_PREFIX}{tile.path()}")
