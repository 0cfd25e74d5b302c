"""One witness: what it is sent, what is taken of its answers, and what it is known to have seen."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.cosignature import parse_timestamped
from sealstream.schemas.errors import FormatError, NoteInvalid, Unreachable, Untrusted
from sealstream.schemas.key_history import DatedKey
from sealstream.schemas.notation import decode_decimal, encode_base64
from sealstream.schemas.note import NOTE_BYTES_MAX, Note, Signature, verify_note
from sealstream.schemas.note_key import VerifierKey
from sealstream.schemas.trust import CLOCK_SKEW_SECONDS
from sealstream.worker.http_client import Answer, HttpClient

ANSWER_BYTES_MAX: Final = 65_536
"""The largest answer: some cosignatures of the largest kind, 3.3 kB each."""

ASKED_AGAIN_MAX: Final = 100
"""The most questions to one witness in one round, whatever it says of coming back."""

_REQUEST_SECONDS: Final = 10.0
_PAUSE_SECONDS_MIN: Final = 0.2
_PAUSE_SECONDS: Final = 1.0  # where a witness that is busy does not say when to come back
_LATER: Final = frozenset({429, 503})
_DELAY: Final = re.compile(r"[0-9]{1,6}")
_NOT_SHOWN: Final = re.compile(rb"[^\x20-\x7e]+")
_WORDS_BYTES_MAX: Final = 120

MakeProof = Callable[[int], Sequence[bytes]]
"""Returns the consistency proof from an older size on."""


@dataclass(frozen=True, slots=True)
class Called:
    """What a witness was brought to.

    Arguments:
        signatures: Its cosignatures of the checkpoint, verified; empty if there are none.
        reason: Why there are none.
        size: The size that it says to have seen, where that is the reason.
        is_shown: Whether it has shown a checkpoint of that log that is larger than ours, signed by the log.
        again_seconds: When to ask again, where that is a question of time.
    """

    signatures: tuple[Signature, ...] = ()
    reason: str = ""
    size: int | None = None
    is_shown: bool = False
    again_seconds: float | None = None


class WitnessCall:
    """A witness of the policy.

    Arguments:
        name: The policy's name of it.
        url: Where it takes checkpoints; empty if nobody says.
        keys: Its keys.
        client: Asks it.
        clock: The time in seconds since the Unix epoch.
    """

    def __init__(
        self, name: str, url: str, keys: Sequence[DatedKey], client: HttpClient, clock: Callable[[], float]
    ) -> None:
        self.name = name
        self.url = url
        self.keys = tuple(keys)
        self._client = client
        self._clock = clock
        self._size = 0  # what it has seen, as far as we know: it says when that is wrong

    def until_cosigned(
        self,
        note: bytes,
        text: bytes,
        size: int,
        proof: MakeProof,
        deadline: float,
        over: threading.Event,
    ) -> Called:
        """Ask until it cosigns or refuses, or the time is up; it may say that it needs some more.

        Arguments:
            note: The checkpoint as the log signed it.
            text: The checkpoint's text.
            size: The checkpoint's size.
            proof: Makes consistency proofs.
            deadline: Until when to ask, on the monotonic clock.
            over: Set when nobody waits for the answer any more.

        Raises:
            SealstreamError: No proof can be made: the log's tiles are missing or damaged.
        """
        was_told = False
        for _ in range(ASKED_AGAIN_MAX):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            called = self._ask(note, text, size, proof, min(left, _REQUEST_SECONDS))
            if called.size is not None and called.size <= size and not was_told:
                was_told = True  # it remembers another size than we thought, and has said which
                self._size = called.size
                continue
            if called.again_seconds is None:
                return called
            pause = max(called.again_seconds, _PAUSE_SECONDS_MIN)
            if time.monotonic() + pause >= deadline or over.wait(pause):
                return called
        return Called(reason="its time is up")

    def shows_larger(self, origin: str, keys: Sequence[VerifierKey], size: int, *, timeout_seconds: float) -> bool:
        """Return whether it shows a checkpoint of a log that is larger than a size, and that the log has signed.

        What it says of sizes is anybody's word; what the log has signed nobody else can make. tlog-witness has no
        request for it: ours, and those that answer as ours do, have ``GET /<digest of the origin>/checkpoint``.

        Arguments:
            origin: The log.
            keys: The keys that have ever signed it.
            size: The size.
            timeout_seconds: How long its answer may take.
        """
        digest = hashlib.sha256(origin.encode()).hexdigest()
        try:
            answer = self._client.ask(
                "GET", f"{self.url}/{digest}/checkpoint", timeout_seconds=timeout_seconds, bytes_max=NOTE_BYTES_MAX
            )
            if answer.status != HTTPStatus.OK or answer.body is None:
                return False
            checkpoint = Checkpoint.parse(verify_note(answer.body, keys).text)
        except (Unreachable, FormatError, Untrusted):
            return False
        return checkpoint.origin == origin and checkpoint.size > size

    def verified(self, text: bytes, signatures: Iterable[Signature]) -> tuple[Signature, ...]:
        """Return those signatures that are its cosignatures of a checkpoint, by keys that are in use."""
        now = int(self._clock())
        found: dict[tuple[str, bytes], Signature] = {}
        for one in signatures:
            for dated in self.keys:
                if (one.name, one.key_id) != (dated.key.name, dated.key.key_id) or (one.name, one.key_id) in found:
                    continue
                if dated.key.verify(text, one.signature) and _is_timely(one, dated, now):
                    found[one.name, one.key_id] = one
        return tuple(found.values())

    def _ask(self, note: bytes, text: bytes, size: int, proof: MakeProof, timeout_seconds: float) -> Called:
        old_size = min(self._size, size)
        hashes = proof(old_size) if 0 < old_size < size else ()
        lines = b"".join(encode_base64(one) + b"\n" for one in hashes)
        try:
            answer = self._client.ask(
                "POST",
                f"{self.url}/add-checkpoint",
                timeout_seconds=timeout_seconds,
                bytes_max=ANSWER_BYTES_MAX,
                body=b"old %d\n%b\n%b" % (old_size, lines, note),
                content_type="text/plain; charset=utf-8",
            )
        except Unreachable as error:
            return Called(reason=error.message, again_seconds=_PAUSE_SECONDS)
        return self._taken(answer, text, size)

    def _taken(self, answer: Answer, text: bytes, size: int) -> Called:
        """Return what an answer comes to."""
        if answer.body is None:
            return Called(reason=f"its answer has more than {ANSWER_BYTES_MAX} bytes")
        if answer.status == HTTPStatus.OK:
            return self._cosigned(answer.body, text, size)
        words = f"HTTP status {answer.status}: {_shown(answer.body)}"
        if answer.status == 409:
            return _remembers(answer.body, words)
        if answer.status in _LATER:
            return Called(reason=f"it is not ready, {words}", again_seconds=self._pause(answer))
        return Called(reason=f"it refuses, {words}")

    def _cosigned(self, body: bytes, text: bytes, size: int) -> Called:
        try:
            answered = Note.parse(text + b"\n" + body)
        except NoteInvalid as error:
            return Called(reason=f"its answer has no signature lines: {error.message}")
        if answered.text != text:
            return Called(reason="its answer has more than signature lines")
        found = self.verified(text, answered.signatures)
        if not found:
            return Called(reason="its answer has no cosignature of this checkpoint by its key, in use and timely")
        self._size = size
        return Called(found)

    def _pause(self, answer: Answer) -> float:
        """Return when it wants to be asked again, in seconds from now."""
        word = answer.headers.get("retry-after", "").strip()
        if _DELAY.fullmatch(word):
            return float(word)
        try:
            return parsedate_to_datetime(word).timestamp() - self._clock()
        except (ValueError, TypeError, OverflowError):
            return _PAUSE_SECONDS


def _remembers(body: bytes, words: str) -> Called:
    """Return what a witness with another size says."""
    try:
        size = decode_decimal(body.removesuffix(b"\n"))
    except ValueError:
        return Called(reason=f"it remembers another size and does not say which, {words}")
    return Called(reason=f"it remembers the size {size}", size=size)


def _is_timely(signature: Signature, dated: DatedKey, now: int) -> bool:
    """Return whether a verified cosignature's time is one at which the key was in use, and has come."""
    time_seconds, _ = parse_timestamped(signature.signature)
    return 0 < time_seconds <= now + CLOCK_SKEW_SECONDS and dated.in_use(time_seconds) and dated.in_use(now)


def _shown(body: bytes) -> str:
    """Return a stranger's words, fit for a log."""
    return _NOT_SHOWN.sub(b" ", body[:_WORDS_BYTES_MAX]).decode().strip()
