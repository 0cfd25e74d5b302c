"""A witness's work on one request: admitted, judged, remembered, cosigned. Called from threads, without HTTP."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import SealstreamError, Unreachable, UnsafeState, Untrusted
from sealstream.schemas.note import Note, Signature
from sealstream.schemas.note_key import SignerKey
from sealstream.schemas.trust import CLOCK_SKEW_SECONDS
from sealstream.sinks.witness.judging import Behind, Judge
from sealstream.sinks.witness.memory import Began, LogState, Memory, Turn
from sealstream.sinks.witness.protocol import (
    AddCheckpoint,
    KnownLogs,
    Reason,
    Refusal,
    Remembered,
    check_consistent,
    check_sizes,
    is_fork,
)
from sealstream.worker import metrics
from sealstream.worker.failpoints import OFF, Failpoints
from sealstream.worker.logs import logger

PERSISTED: Final = "persisted"
FAILPOINTS: Final = (PERSISTED,)
"""Between the commit that makes the witness remember a checkpoint, and the answer with its cosignature."""

_RETRY_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A cosigned checkpoint.

    Arguments:
        checkpoint: The checkpoint.
        lines: The signature lines of this witness.
    """

    checkpoint: Checkpoint
    lines: bytes


class Cosigner:
    """Says yes or no to checkpoints.

    Arguments:
        memory: What is remembered.
        logs: Whose checkpoints are taken.
        key: The key to cosign with, of type 04 or 06.
        judge: Who is asked, once a checkpoint holds by the protocol.
        trust_first_use: Whether a log of which nothing is remembered may begin with whatever it shows.
        clock: Returns the time in seconds since the Unix epoch.
        failpoints: What the tests have armed.
    """

    def __init__(
        self,
        memory: Memory,
        logs: KnownLogs,
        key: SignerKey,
        judge: Judge,
        *,
        trust_first_use: bool = False,
        clock: Callable[[], float] = time.time,
        failpoints: Failpoints = OFF,
    ) -> None:
        self.key = key
        self._memory = memory
        self._logs = logs
        self._judge = judge
        self._trust_first_use = trust_first_use
        self._clock = clock
        self._is_clock_behind = False
        self._pass_persisted = failpoints.at(PERSISTED)
        self._digests = {hashlib.sha256(origin.encode()).hexdigest(): origin for origin in logs.origins}
        for origin in logs.origins:
            self._show(memory.log(origin))

    def admit(self, body: bytes) -> AddCheckpoint:
        """Return the request that a body is, if it holds by the protocol and by what is remembered now.

        Raises:
            Refusal: It does not.
            StoreError: The memory cannot be used.
        """
        request = AddCheckpoint.parse(body)
        now_seconds = int(self._clock())
        request = self._logs.check_signed(request, now_seconds=now_seconds)
        # From here on the log itself has said it.
        check_sizes(request)
        state = self._memory.log(request.checkpoint.origin)
        if state is not None and is_fork(request.checkpoint, state.remembered):
            self._keep_fork(request, state.remembered, now_seconds)
        self._check(request, state)
        return request

    def judge(self, request: AddCheckpoint) -> None:
        """Ask the judge about an admitted request.

        Raises:
            Refusal: He has not come so far, or to something else.
        """
        self._judged(request.checkpoint, lambda: self._judge.judge(request.checkpoint))

    def cosign(self, request: AddCheckpoint) -> Cosigned:
        """Remember an admitted and judged checkpoint, and return it cosigned.

        Raises:
            Refusal: Another checkpoint came first, the judge has changed his mind, or the clock has stepped back.
            StoreError: The memory cannot be written; the witness has to be started again.
            UnsafeState: The memory refuses to go back, though nothing before did: a defect.
        """
        checkpoint, now_seconds = request.checkpoint, int(self._clock())
        try:
            with self._memory.turn() as turn:
                state = turn.log(checkpoint.origin)
                self._check(request, state)
                time_seconds = self._time_seconds(turn, now_seconds)
                signature = self._sign(request, time_seconds)
                self._remember(turn, request, state, signature, time_seconds, now_seconds)
                self._judged(checkpoint, lambda: self._judge.witnessed(checkpoint, turn.connection))
        except Unreachable as error:
            raise Refusal(Reason.BUSY, error.message, retry_after_seconds=1) from error
        self._pass_persisted()
        if state is None:
            logger().warning("began to witness a log on its own word", origin=checkpoint.origin, size=checkpoint.size)
        logger().info("cosigned", origin=checkpoint.origin, size=checkpoint.size, root=checkpoint.root.hex())
        metrics.WITNESS_COSIGNED.labels(checkpoint.origin).inc()
        self._show(self._memory.log(checkpoint.origin))
        return Cosigned(checkpoint, signature.pack())

    def latest(self, digest: str) -> bytes | None:
        """Return the latest checkpoint of a log that this witness cosigned, with that signature and the log's.

        Arguments:
            digest: SHA-256 of the log's origin, in hex.

        Raises:
            StoreError: The memory cannot be read.
        """
        origin = self._digests.get(digest)
        state = None if origin is None else self._memory.log(origin)
        return None if state is None or not state.time_seconds else state.note

    def ready(self) -> tuple[bool, str]:
        """Return whether checkpoints can be cosigned, and in words what is waited for."""
        if self._is_clock_behind:
            return False, "the clock is behind the time that was cosigned last"
        return self._judge.ready()

    def _check(self, request: AddCheckpoint, state: LogState | None) -> None:
        remembered = None if state is None else state.remembered
        check_consistent(request, remembered, may_begin=self._trust_first_use)

    def _time_seconds(self, turn: Turn, now_seconds: int) -> int:
        """Return the time to state: never one before what was stated last, whatever the clock says.

        A clock that was set back a little is waited for by stating the last time again, which no reader can tell from
        two cosignatures of one second. One that is further behind was wrong before, or is now: a person has to look.

        Raises:
            Refusal: It is further behind than a reader's clock may be.
        """
        latest_seconds = turn.latest_seconds()
        behind_seconds = latest_seconds - now_seconds
        self._is_clock_behind = behind_seconds > CLOCK_SKEW_SECONDS
        if self._is_clock_behind:
            logger().error("clock is behind what was cosigned last", behind_seconds=behind_seconds)
            raise Refusal(
                Reason.CLOCK,
                f"this witness's clock is {behind_seconds} s behind the time that it cosigned last",
                retry_after_seconds=_RETRY_SECONDS,
            )
        return max(now_seconds, latest_seconds)

    def _sign(self, request: AddCheckpoint, time_seconds: int) -> Signature:
        verifier = self.key.verifier
        made = self.key.sign(Note.parse(request.note).text, time_seconds=time_seconds)
        return Signature(verifier.name, verifier.key_id, made)

    @staticmethod
    def _remember(
        turn: Turn,
        request: AddCheckpoint,
        state: LogState | None,
        signature: Signature,
        time_seconds: int,
        now_seconds: int,
    ) -> None:
        unsigned = Note.parse(request.note)
        note = Note(unsigned.text, (*unsigned.signatures, signature)).pack()
        if state is not None:
            turn.advance(request.checkpoint, note, time_seconds=time_seconds)
            return
        how = Began.FIRST_USE if request.checkpoint.size else Began.BEGINNING
        turn.begin(request.checkpoint, note, how, time_seconds=time_seconds, now_seconds=now_seconds)

    @staticmethod
    def _judged(checkpoint: Checkpoint, call: Callable[[], None]) -> None:
        """Make what a judge raises a refusal."""
        place = {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex()}
        try:
            call()
        except Behind as error:
            raise Refusal(Reason.BEHIND, error.reason, retry_after_seconds=error.retry_after_seconds) from error
        except (Untrusted, UnsafeState) as error:
            logger().error("refused by the judge", reason=error.message, error=type(error).__name__, **place)
            raise Refusal(Reason.JUDGE, error.message) from error
        except Unreachable as error:
            raise Refusal(Reason.BEHIND, error.message, retry_after_seconds=_RETRY_SECONDS) from error
        except SealstreamError as error:
            logger().error("judge failed", reason=error.message, error=type(error).__name__, **place)
            raise Refusal(Reason.FAILED, "the judge of this witness failed") from error

    def _keep_fork(self, request: AddCheckpoint, remembered: Remembered, now_seconds: int) -> None:
        try:
            with self._memory.turn() as turn:
                kept = turn.keep_fork(request.checkpoint, remembered, request.note, now_seconds=now_seconds)
        except Unreachable as error:
            raise Refusal(Reason.BUSY, error.message, retry_after_seconds=1) from error
        if kept:
            logger().error(
                "the log has signed two histories",
                origin=request.checkpoint.origin,
                size=remembered.size,
                root=request.checkpoint.root.hex(),
                cosigned_root=remembered.root.hex(),
            )

    @staticmethod
    def _show(state: LogState | None) -> None:
        if state is not None:
            metrics.WITNESS_SIZE.labels(state.origin).set(state.remembered.size)
            metrics.WITNESS_LAST_COSIGNED.labels(state.origin).set(state.time_seconds)
