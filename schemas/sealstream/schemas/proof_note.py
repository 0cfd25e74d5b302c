"""A signed root checkpoint as it stands in a proof file: its fields, from which the note comes back byte for byte.

A note has one form, so its text and base64 need not be carried: that is a tenth of a usual file. ``SPEC.md`` section
22.1 gives the layout.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import CheckpointInvalid, NoteInvalid, ProofFileInvalid
from sealstream.schemas.note import SIGNATURES_MAX, Note, Signature
from sealstream.schemas.proof_bytes import ProofBytes, pack_number, pack_sized

PROOF_NOTE_BYTES_MAX: Final = 400_000
"""The largest note; one with a hundred signatures of the largest kind has less."""

_KEY_ID_BYTES: Final = 4
_REMEMBERED_MAX: Final = 128  # a proof's note is needed in a dozen places, and by all proofs under its checkpoint


@lru_cache(_REMEMBERED_MAX)
def parse_note(data: bytes) -> tuple[Checkpoint, tuple[Signature, ...]]:
    """Return what a note says, and who claims to have signed it; nothing of it is verified.

    Raises:
        NoteInvalid: The bytes are no note.
        CheckpointInvalid: The note is none of a checkpoint.
    """
    note = Note.parse(data)
    return Checkpoint.parse(note.text), note.signatures


@lru_cache(_REMEMBERED_MAX)
def pack_note(data: bytes) -> bytes:
    """Return the fields of a root checkpoint's note.

    Raises:
        ProofFileInvalid: The bytes are no note of a checkpoint, it is too large, or it has extension lines: those of
            our root logs have none.
    """
    if len(data) > PROOF_NOTE_BYTES_MAX:
        raise ProofFileInvalid(f"proof file has a note of {len(data)} bytes")
    try:
        checkpoint, signatures = parse_note(data)
    except (NoteInvalid, CheckpointInvalid) as error:
        raise ProofFileInvalid(f"proof file has no checkpoint: {error.message}", hint=error.hint) from error
    if checkpoint.extensions:
        raise ProofFileInvalid("proof file has a checkpoint with extension lines, which it cannot carry")
    fields = (
        pack_sized(checkpoint.origin.encode()),
        pack_number(checkpoint.size),
        checkpoint.root,
        pack_number(len(signatures)),
        *(_pack_signature(signature, checkpoint.origin) for signature in signatures),
    )
    if _rebuilt(checkpoint, signatures) != data:  # a form that the parsers take and this one would lose
        raise ProofFileInvalid("proof file has a note that does not come back from its fields")
    return b"".join(fields)


def read_note(reading: ProofBytes) -> bytes:
    """Return the note whose fields come next.

    Raises:
        ProofFileInvalid: They are none of a note, or not in their one form.
    """
    origin = _text(reading.sized("origin", PROOF_NOTE_BYTES_MAX))
    checkpoint = Checkpoint(origin, reading.number(), reading.hash())
    count = reading.count("signatures", SIGNATURES_MAX)
    data = _rebuilt(checkpoint, tuple(_read_signature(reading, origin) for _ in range(count)))
    if len(data) > PROOF_NOTE_BYTES_MAX:
        raise ProofFileInvalid(f"proof file has a note of {len(data)} bytes; at most {PROOF_NOTE_BYTES_MAX} are read")
    return data


def _pack_signature(signature: Signature, origin: str) -> bytes:
    """Return a signature's fields; the name of a key that has the log's stands there already."""
    name = "" if signature.name == origin else signature.name
    return pack_sized(name.encode()) + pack_sized(signature.key_id + signature.signature)


def _read_signature(reading: ProofBytes, origin: str) -> Signature:
    name = _text(reading.sized("name", PROOF_NOTE_BYTES_MAX))
    if name and name == origin:
        raise ProofFileInvalid("proof file has a signature that repeats the origin", hint="it is in another form")
    content = reading.sized("signature", PROOF_NOTE_BYTES_MAX)
    return Signature(name or origin, content[:_KEY_ID_BYTES], content[_KEY_ID_BYTES:])


def _rebuilt(checkpoint: Checkpoint, signatures: tuple[Signature, ...]) -> bytes:
    try:
        return Note(checkpoint.pack(), signatures).pack()
    except (NoteInvalid, CheckpointInvalid) as error:
        raise ProofFileInvalid(f"proof file has no checkpoint: {error.message}", hint=error.hint) from error


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ProofFileInvalid("proof file has a name that is no UTF-8") from error
