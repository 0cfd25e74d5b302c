"""A note that was verified is remembered by its bytes and the keys: nothing else passes in its place."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import QuorumMissing, SealstreamError, SignatureInvalid, SignatureMissing
from sealstream.schemas.key_history import KeyHistory, sign_rotation
from sealstream.schemas.note import NoteVerifier, VerifiedNote, sign_note, verify_note
from sealstream.schemas.note_key import KeyType, VerifierKey
from sealstream.schemas.trust import Reader, verify_checkpoint
from sealstream.sinks.proofs import seen_notes
from sealstream.sinks.proofs.seen_notes import SeenNotes
from support.memory_notary import LOG_KEY, NOW_SECONDS, WITNESS_KEYS, policy
from support.notes import cosignature_line, signer

KEYS = [key.verifier for key in (LOG_KEY, *WITNESS_KEYS)]
COSIGNED_SECONDS = NOW_SECONDS - 1_000


def _note() -> bytes:
    checkpoint = Checkpoint(LOG_KEY.verifier.name, 7, bytes(range(32)))
    lines = [cosignature_line(checkpoint, key, COSIGNED_SECONDS) for key in WITNESS_KEYS]
    return sign_note(checkpoint.pack(), [LOG_KEY]) + b"".join(lines)


def test_answers_are_those_of_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second answer is the first one, and the signatures were verified once."""
    asked: list[bytes] = []

    def counted(data: bytes, keys: Iterable[VerifierKey]) -> VerifiedNote:
        asked.append(data)
        return verify_note(data, keys)

    monkeypatch.setattr(seen_notes, "verify_note", counted)
    seen, note = SeenNotes(), _note()
    assert seen.verify(note, KEYS) == seen.verify(bytes(bytearray(note)), iter(KEYS)) == verify_note(note, KEYS)
    assert asked == [note]


def test_no_changed_note_passes_for_one_that_was_seen() -> None:
    """Each byte of a remembered note that is changed is found as if nothing were remembered."""
    seen, note = SeenNotes(), _note()
    seen.verify(note, KEYS)
    for place in range(len(note)):
        changed = note[:place] + bytes((note[place] ^ 1,)) + note[place + 1 :]
        assert _outcome(seen.verify, changed) == _outcome(verify_note, changed) != verify_note(note, KEYS)


def _outcome(verify: NoteVerifier, note: bytes) -> VerifiedNote | str:
    try:
        return verify(note, KEYS)
    except SealstreamError as error:
        return f"{type(error).__name__}: {error}"


def test_what_did_not_hold_is_asked_again() -> None:
    """A forged signature is refused each time, and so is a note that other keys are asked about."""
    seen, note = SeenNotes(), _note()
    forged = note.replace(b"\n7\n", b"\n8\n")
    for _ in range(2):
        with pytest.raises(SignatureInvalid):
            seen.verify(forged, KEYS)
    seen.verify(note, KEYS)
    with pytest.raises(SignatureMissing):
        seen.verify(note, [signer("other.test").verifier])


def test_time_is_judged_anew_for_a_note_that_was_seen() -> None:
    """A key that goes out of use, and a clock that steps back, count for a remembered note as for any other."""
    seen, note = SeenNotes(), _note()

    def judge(now_seconds: int, history: KeyHistory) -> int:
        reader = Reader(policy(), now_seconds, history, verify_note=seen.verify)
        return verify_checkpoint(note, reader).checkpoint.size

    new_witness = signer(WITNESS_KEYS[0].verifier.name, KeyType.COSIGNATURE, number=1)
    rotation, _ = sign_rotation(
        WITNESS_KEYS[0], new_witness, old_not_after_seconds=NOW_SECONDS, new_not_before_seconds=0
    )
    history = KeyHistory([rotation])
    assert judge(NOW_SECONDS, history) == 7
    with pytest.raises(QuorumMissing, match="no longer in use"):
        judge(NOW_SECONDS + 1, history)
    with pytest.raises(QuorumMissing, match="in the future"):
        judge(COSIGNED_SECONDS - 1_000, history)
    assert judge(NOW_SECONDS, history) == 7
