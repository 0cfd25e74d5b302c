"""Notes whose signatures were verified, remembered: all proofs of a round stand under one or two root checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sealstream.schemas.note import VerifiedNote, verify_note
from sealstream.schemas.note_key import VerifierKey
from sealstream.sinks.proofs.cache import Recent

_NOTES_MAX: Final = 256
"""How many notes are remembered, of some 1 KB each with a few witnesses."""


class SeenNotes:
    """Verifies notes as :func:`~sealstream.schemas.note.verify_note` does, each once; for several threads.

    Whether a signature holds depends on the note's bytes and the keys alone, and by both of them, whole, a note is
    remembered. What does depend on the time is no part of it. What did not hold is not remembered.
    """

    def __init__(self) -> None:
        self._seen: Recent[tuple[bytes, tuple[VerifierKey, ...]], VerifiedNote] = Recent(_NOTES_MAX)

    def verify(self, data: bytes, keys: Iterable[VerifierKey]) -> VerifiedNote:
        """Return a note if at least one of the keys has signed it, and no signature in the name of one is wrong.

        Raises:
            SealstreamError: As :func:`~sealstream.schemas.note.verify_note`.
        """
        known = tuple(keys)
        return self._seen.get((data, known), lambda: verify_note(data, known))
