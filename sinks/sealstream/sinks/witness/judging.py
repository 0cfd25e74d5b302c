"""Whom a witness asks before it cosigns: the plain one nobody, the verifier's one a judge that recomputes the log.

What the protocol asks for (a known log's signature, consistency with what was cosigned before) is decided elsewhere and
first. A judge sees only checkpoints that hold by all of it. The recomputing one is opened where ``--recompute`` asks
for it, by ``open_judge(settings, path)`` of :mod:`sealstream.sinks.witness.recomputing.judge`, with the memory's file.
"""

from __future__ import annotations

import sqlite3
from typing import Final, Protocol

from sealstream.schemas.checkpoint import Checkpoint

RETRY_AFTER_SECONDS_MAX: Final = 600


class Behind(Exception):
    """The judge has not come as far as the checkpoint yet: the log may ask again.

    Arguments:
        reason: How far it has come, in words; it is told to whoever asked, so it names no tenant.
        retry_after_seconds: When asking again may help, from 1 to 600; what is outside is taken to the nearer end.
    """

    def __init__(self, reason: str, *, retry_after_seconds: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = min(max(retry_after_seconds, 1), RETRY_AFTER_SECONDS_MAX)


class Judge(Protocol):
    """Says whether a checkpoint is what it would be had the judge made it himself.

    The witness calls :meth:`judge` from several threads at once, and for one checkpoint as often as it is asked about
    it; :meth:`witnessed` from one thread at a time.
    """

    def begin(self, checkpoint: Checkpoint) -> None:
        """Come to a checkpoint that the operator trusts, from nothing. May take its time; :meth:`witnessed` writes it.

        Raises:
            ConfigError: The judge has begun already.
            Untrusted: What he would have to know does not come to the checkpoint.
            UnsafeState: What he would recompute from there on is gone.
            Unreachable, StoreError: He cannot read it.
        """
        ...

    def judge(self, checkpoint: Checkpoint) -> None:
        """Return if the judge has come to the same size and root by himself. May take its time: it blocks nobody.

        Raises:
            Behind: It has not come so far. The log is told when to ask again (503).
            Untrusted: It has come so far, and to another root: :class:`CheckpointRefused`. The log is refused (403).
            UnsafeState: What it recomputes from is not what it was. The log is refused (403).
            Unreachable: What it recomputes from does not answer. The log is told to ask again (503).
        """
        ...

    def witnessed(self, checkpoint: Checkpoint, connection: sqlite3.Connection) -> None:
        """Write down what the judge must know about a checkpoint that is being cosigned.

        Called within the transaction that makes the witness remember it, of the same SQLite file: both are written, or
        neither. It must not commit, must be quick, and comes again for the same checkpoint when it is cosigned again.

        Arguments:
            checkpoint: What is being cosigned; it was judged before.
            connection: The witness's, in its transaction. The judge's tables have names beginning with ``judge_``.

        Raises:
            Behind, Untrusted, UnsafeState: As :meth:`judge`, if something changed since. Nothing is written.
        """
        ...

    def ready(self) -> tuple[bool, str]:
        """Return whether the judge follows the log, and in words what it waits for."""
        ...

    def close(self) -> None:
        """Let go of everything, within a few seconds."""
        ...


class PlainJudge:
    """The judge of a witness that has no copy of what the log is made from: consistency is all that it says."""

    def begin(self, checkpoint: Checkpoint) -> None:
        """Return: the checkpoint is all there is to know."""

    def judge(self, checkpoint: Checkpoint) -> None:
        """Return: nothing beyond the protocol is asked for."""

    def witnessed(self, checkpoint: Checkpoint, connection: sqlite3.Connection) -> None:
        """Write down nothing."""

    def ready(self) -> tuple[bool, str]:
        """Return that it is ready."""
        return True, "ready"

    def close(self) -> None:
        """Let go of nothing."""
