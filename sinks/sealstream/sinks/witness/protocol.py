"""What a witness decides about a checkpoint, by the rules of C2SP tlog-witness: pure, without HTTP, files or clocks.

Where an answer depends on what the witness remembers, the decision is made twice: before the judge is asked, and again
within the transaction that writes the new checkpoint down. The second one counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import (
    CheckpointInvalid,
    FormatError,
    NoteInvalid,
    PolicyInvalid,
    ProofInvalid,
    Untrusted,
)
from sealstream.schemas.key_history import KeyHistory
from sealstream.schemas.merkle import EMPTY_ROOT
from sealstream.schemas.notation import decode_decimal, decode_hash
from sealstream.schemas.note import Note
from sealstream.schemas.policy import NO_QUORUM, Policy
from sealstream.schemas.proofs import verify_consistency
from sealstream.schemas.trust import Reader, verify_checkpoint

BODY_BYTES_MAX: Final = 131_072
"""The largest request: a proof of 63 hashes, and a checkpoint with forty signatures of the largest kind."""

PROOF_LINES_MAX: Final = 63

_OLD: Final = b"old "


class Reason(StrEnum):
    """Why a witness does not cosign; the label of its metric."""

    MALFORMED = "malformed"
    OLD_LARGER = "old-larger"
    UNKNOWN_LOG = "unknown-log"
    NOT_BEGUN = "not-begun"
    UNSIGNED = "unsigned"
    OLD_SIZE = "old-size"
    EMPTY_ROOT = "empty-root"
    PROOF = "proof"
    FORK = "fork"
    JUDGE = "judge"
    BEHIND = "behind"
    CLOCK = "clock"
    BUSY = "busy"
    TOO_LARGE = "too-large"
    TOO_SLOW = "too-slow"
    FAILED = "failed"


STATUS: Final[dict[Reason, int]] = {
    Reason.MALFORMED: 400,
    Reason.OLD_LARGER: 400,
    Reason.UNSIGNED: 403,
    Reason.JUDGE: 403,
    Reason.UNKNOWN_LOG: 404,
    Reason.NOT_BEGUN: 404,
    Reason.TOO_SLOW: 408,
    Reason.OLD_SIZE: 409,
    Reason.TOO_LARGE: 413,
    Reason.EMPTY_ROOT: 422,
    Reason.PROOF: 422,
    Reason.FORK: 422,
    Reason.FAILED: 500,
    Reason.BEHIND: 503,
    Reason.CLOCK: 503,
    Reason.BUSY: 503,
}
"""The HTTP status of each refusal: those of tlog-witness, and where it has none, HTTP's own."""


class Refusal(Exception):
    """A witness does not cosign.

    Arguments:
        reason: Why, as a word.
        words: Why, for whoever asked.
        size: The size that the witness remembers, for :attr:`Reason.OLD_SIZE`.
        retry_after_seconds: When asking again may help; ``None`` if that is not a question of time.
    """

    def __init__(
        self, reason: Reason, words: str, *, size: int | None = None, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(words)
        self.reason = reason
        self.words = words
        self.size = size
        self.retry_after_seconds = retry_after_seconds

    @property
    def status(self) -> int:
        """The HTTP status that says so."""
        return STATUS[self.reason]


@dataclass(frozen=True, slots=True)
class Remembered:
    """The latest checkpoint of a log that a witness cosigned, or began with.

    Arguments:
        size: Its number of leaves.
        root: Its root, 32 bytes.
    """

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request to cosign a checkpoint, as it was read: nothing of it is verified.

    Arguments:
        old_size: The size that the log believes the witness to remember.
        proof: The consistency proof from that size on.
        note: The checkpoint with its signatures.
        checkpoint: What its text says.
    """

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes
    checkpoint: Checkpoint

    @classmethod
    def parse(cls, body: bytes) -> AddCheckpoint:
        """Return the request that a body is.

        Raises:
            Refusal: The body is too large, or malformed.
        """
        if len(body) > BODY_BYTES_MAX:
            raise Refusal(Reason.TOO_LARGE, f"request has more than {BODY_BYTES_MAX} bytes")
        head, found, note = body.partition(b"\n\n")
        if not found:
            raise Refusal(Reason.MALFORMED, "request has no empty line before its checkpoint")
        old, *lines = head.split(b"\n")
        if len(lines) > PROOF_LINES_MAX:
            raise Refusal(Reason.MALFORMED, f"request has {len(lines)} proof lines; at most {PROOF_LINES_MAX} are read")
        if not old.startswith(_OLD):
            raise Refusal(Reason.MALFORMED, "request does not begin with `old <size>`")
        try:
            old_size = decode_decimal(old[len(_OLD) :])
        except ValueError as error:
            raise Refusal(Reason.MALFORMED, f"old size {error}") from error
        proof = tuple(_hash(line, number) for number, line in enumerate(lines, 1))
        try:
            checkpoint = Checkpoint.parse(Note.parse(note).text)
        except (NoteInvalid, CheckpointInvalid) as error:
            raise Refusal(Reason.MALFORMED, error.message) from error
        return cls(old_size, proof, note, checkpoint)


class KnownLogs:
    """The logs that a witness takes checkpoints of: those of its policy, with the keys that follow theirs.

    Arguments:
        policy: Its ``log`` lines count, its witnesses and quorum do not.
        history: Which of the logs' keys followed which.

    Raises:
        PolicyInvalid: The policy has no log.
        HistoryForked: The records contradict each other on one of the logs' keys.
    """

    def __init__(self, policy: Policy, history: KeyHistory) -> None:
        if not policy.logs:
            raise PolicyInvalid("policy has no log", hint="a witness takes checkpoints of its `log` lines alone")
        self._history = history
        self._policies = {
            origin: Policy(tuple(log for log in policy.logs if log.key.name == origin), (), (), NO_QUORUM)
            for origin in {log.key.name for log in policy.logs}
        }
        for log in policy.logs:
            history.lineage(log.key)

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins of the logs, sorted."""
        return tuple(sorted(self._policies))

    def check_signed(self, request: AddCheckpoint, *, now_seconds: int) -> AddCheckpoint:
        """Return the request with the log's signature alone, if the log has signed, by a key that is in use.

        Signatures by other keys are not looked at, those in the name of a witness included: whoever puts a wrong one
        there changes nothing, and it goes no further.

        Arguments:
            request: The request.
            now_seconds: What time it is, in seconds since the Unix epoch.

        Raises:
            Refusal: The log is unknown, or has not signed.
        """
        origin = request.checkpoint.origin
        policy = self._policies.get(origin)
        if policy is None:
            raise Refusal(Reason.UNKNOWN_LOG, "this witness knows no log of this origin")
        try:
            key = verify_checkpoint(request.note, Reader(policy, now_seconds, self._history), origin=origin).log_key
        except (Untrusted, FormatError) as error:
            raise Refusal(Reason.UNSIGNED, error.message) from error
        note = Note.parse(request.note)
        signature = next(one for one in note.signatures if (one.name, one.key_id) == (key.name, key.key_id))
        return replace(request, note=Note(note.text, (signature,)).pack())


def check_sizes(request: AddCheckpoint) -> None:
    """Return if the checkpoint is not smaller than what it is said to continue.

    Raises:
        Refusal: It is smaller.
    """
    if request.old_size > request.checkpoint.size:
        raise Refusal(
            Reason.OLD_LARGER, f"old size {request.old_size} is larger than the checkpoint's {request.checkpoint.size}"
        )


def check_consistent(request: AddCheckpoint, remembered: Remembered | None, *, may_begin: bool) -> None:
    """Return if a checkpoint, which its log has signed, grows out of what the witness remembers.

    Arguments:
        request: The request; its sizes were checked.
        remembered: What the witness remembers of the log; ``None`` for nothing.
        may_begin: Whether the witness may begin with whatever the log says first.

    Raises:
        Refusal: It does not, or the witness may not begin, or the old size is another one.
    """
    checkpoint = request.checkpoint
    if remembered is None and not may_begin:
        raise Refusal(
            Reason.NOT_BEGUN,
            "this witness knows the log, and has not been told where to begin: its operator starts it once with "
            "--from-checkpoint or --trust-first-use",
        )
    size = 0 if remembered is None else remembered.size
    if request.old_size != size:
        raise Refusal(Reason.OLD_SIZE, f"this witness remembers the size {size}", size=size)
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise Refusal(Reason.EMPTY_ROOT, "checkpoint of size 0 has another root than that of the empty tree")
    if is_fork(checkpoint, remembered):
        raise Refusal(Reason.FORK, f"this witness cosigned another root for the size {size}")
    if remembered is None or size == 0:  # the empty tree is consistent with every tree
        if request.proof:
            raise Refusal(Reason.PROOF, "consistency proof from size 0 is not empty")
        return
    try:
        verify_consistency(
            request.proof,
            first_size=size,
            second_size=checkpoint.size,
            first_root=remembered.root,
            second_root=checkpoint.root,
        )
    except ProofInvalid as error:
        raise Refusal(Reason.PROOF, error.message) from error


def is_fork(checkpoint: Checkpoint, remembered: Remembered | None) -> bool:
    """Return whether a checkpoint, signed by its log, is by itself the proof that the log tells two histories."""
    return remembered is not None and remembered.size == checkpoint.size and remembered.root != checkpoint.root


def _hash(line: bytes, number: int) -> bytes:
    try:
        return decode_hash(line)
    except ValueError as error:
        raise Refusal(Reason.MALFORMED, f"proof line {number} {error}") from error
