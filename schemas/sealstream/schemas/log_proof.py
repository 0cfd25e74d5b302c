"""Proof files of a log (C2SP tlog-proof): an entry's index, its way up the tree, and a checkpoint of the tree.

Whether the checkpoint is to be believed is another question, asked of its reader's policy
(:mod:`sealstream.schemas.trust`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import CheckpointInvalid, LogProofInvalid, NoteInvalid
from sealstream.schemas.merkle import HASH_BYTES
from sealstream.schemas.notation import (
    NUMBER_MAX,
    decode_base64,
    decode_decimal,
    decode_hash,
    encode_base64,
)
from sealstream.schemas.note import NOTE_BYTES_MAX, Note

HASHES_MAX: Final = 63
"""The longest way from a leaf to the root: a tree has fewer than 2^63 leaves."""

EXTRA_BYTES_MAX: Final = 65_536

_HEADER: Final = b"c2sp.org/tlog-proof@v1"
_EXTRA: Final = b"extra "
_INDEX: Final = b"index "
_PROOF_BYTES_MAX: Final = NOTE_BYTES_MAX + 2 * EXTRA_BYTES_MAX


@dataclass(frozen=True, slots=True)
class LogProof:
    """A proof that a leaf stands in a log, with the checkpoint that the log signed.

    Arguments:
        index: The leaf's index.
        hashes: The inclusion proof, from the leaf's sibling on upwards, each 32 bytes.
        checkpoint: The signed note, as it was signed.
        extra: Data of the application's own, which nothing vouches for; ``None`` for none. We write none.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def pack(self) -> bytes:
        """Return the file's bytes.

        Raises:
            LogProofInvalid: A field is out of range, or the checkpoint is none.
        """
        _check(self)
        lines = [_HEADER]
        if self.extra is not None:
            lines.append(_EXTRA + encode_base64(self.extra))
        lines.append(b"%b%d" % (_INDEX, self.index))
        lines.extend(encode_base64(one) for one in self.hashes)
        return b"".join((*(line + b"\n" for line in lines), b"\n", self.checkpoint))

    @classmethod
    def parse(cls, data: bytes) -> LogProof:
        """Return the proof that a file's bytes are, the inverse of :meth:`pack`; nothing is verified.

        Raises:
            LogProofInvalid: The bytes are no proof, or not in their one form.
        """
        if len(data) > _PROOF_BYTES_MAX:
            raise LogProofInvalid(f"proof has {len(data)} bytes; at most {_PROOF_BYTES_MAX} are read")
        head, found, checkpoint = data.partition(b"\n\n")
        lines = head.split(b"\n")
        if lines.pop(0) != _HEADER:
            raise LogProofInvalid(f"proof does not begin with {_HEADER.decode()}", hint="is it a file of another kind?")
        if not found:
            raise LogProofInvalid("proof has no empty line before its checkpoint", hint="it is cut: fetch it again")
        extra = _base64(lines.pop(0)[len(_EXTRA) :], "extra data") if lines and lines[0].startswith(_EXTRA) else None
        if not lines or not lines[0].startswith(_INDEX):
            raise LogProofInvalid("proof has no index line")
        try:
            index = decode_decimal(lines.pop(0)[len(_INDEX) :])
        except ValueError as error:
            raise LogProofInvalid(f"proof index {error}") from error
        if len(lines) > HASHES_MAX:
            raise LogProofInvalid(f"proof has {len(lines)} hashes; no tree is so high")
        proof = cls(index, tuple(_hash(line, number) for number, line in enumerate(lines, 1)), checkpoint, extra)
        _check(proof)
        return proof


def _check(proof: LogProof) -> None:
    if not 0 <= proof.index <= NUMBER_MAX:
        raise LogProofInvalid(f"proof has index {proof.index}, outside 0 to {NUMBER_MAX}")
    if len(proof.hashes) > HASHES_MAX or any(len(one) != HASH_BYTES for one in proof.hashes):
        raise LogProofInvalid(f"proof has more than {HASHES_MAX} hashes, or one of another size than {HASH_BYTES}")
    if proof.extra is not None and not 0 < len(proof.extra) <= EXTRA_BYTES_MAX:
        raise LogProofInvalid(f"proof has {len(proof.extra)} bytes of extra data, outside 1 to {EXTRA_BYTES_MAX}")
    try:
        checkpoint = Checkpoint.parse(Note.parse(proof.checkpoint).text)
    except (NoteInvalid, CheckpointInvalid) as error:
        raise LogProofInvalid(f"proof has no checkpoint: {error.message}", hint=error.hint) from error
    if proof.index >= checkpoint.size:
        raise LogProofInvalid(f"proof is of leaf {proof.index} in a tree of {checkpoint.size} leaves")


def _base64(text: bytes, what: str) -> bytes:
    try:
        return decode_base64(text)
    except ValueError as error:
        raise LogProofInvalid(f"proof has {what} that {error}") from error


def _hash(line: bytes, number: int) -> bytes:
    try:
        return decode_hash(line)
    except ValueError as error:
        raise LogProofInvalid(f"proof hash {number} {error}") from error
