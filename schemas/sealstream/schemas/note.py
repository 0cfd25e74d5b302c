"""Signed notes (C2SP signed-note): a text, and signatures by any number of keys below it.

They are read as ``golang.org/x/mod/sumdb/note`` reads them, with two exceptions that ``SPEC.md`` names: base64 has one
form only, and a note has a largest size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sealstream.schemas import cosignature
from sealstream.schemas.errors import KeyInvalid, NoteInvalid, SignatureInvalid, SignatureMissing
from sealstream.schemas.notation import decode_base64, encode_base64
from sealstream.schemas.note_key import COSIGNATURE_TYPES, SignerKey, VerifierKey, is_key_name

NOTE_BYTES_MAX: Final = 1_000_000
"""The largest note: a hundred signatures of the largest kind have a third of it."""

SIGNATURES_MAX: Final = 100
"""The most signature lines of a note, repeated ones included; as in Go's package."""

_SIGNATURE_PREFIX: Final = "— ".encode()  # em dash, space
_KEY_ID_BYTES: Final = 4
_CONTROLS: Final = re.compile(rb"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line.

    Arguments:
        name: The name of the key.
        key_id: The key's id, 4 bytes.
        signature: What the key's type makes of the text, without the id.
    """

    name: str
    key_id: bytes
    signature: bytes

    def pack(self) -> bytes:
        """Return the line with its newline.

        Raises:
            NoteInvalid: The name is none, the id has another size, or the signature is empty.
        """
        if not is_key_name(self.name) or len(self.key_id) != _KEY_ID_BYTES or not self.signature:
            raise NoteInvalid(f"signature in the name of {self.name[:80]!r} has an invalid name, id or signature")
        return b"%b%b %b\n" % (_SIGNATURE_PREFIX, self.name.encode(), encode_base64(self.key_id + self.signature))


@dataclass(frozen=True, slots=True)
class Note:
    """A note as it was read, with signatures that nobody has verified.

    Arguments:
        text: The text with its final newline.
        signatures: All signature lines in their order, repeated ones included.
    """

    text: bytes
    signatures: tuple[Signature, ...]

    def pack(self) -> bytes:
        """Return the note's bytes.

        Raises:
            NoteInvalid: The text has no final newline or a control character, a signature line cannot be made, there
                is none, or there are too many, or the note is too large.
        """
        _check_text(self.text)
        if not 0 < len(self.signatures) <= SIGNATURES_MAX:
            raise NoteInvalid(f"note has {len(self.signatures)} signatures, outside 1 to {SIGNATURES_MAX}")
        data = b"".join((self.text, b"\n", *(signature.pack() for signature in self.signatures)))
        _check_size(data)
        return data

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """Return the note that bytes are, the inverse of :meth:`pack`; nothing is verified.

        Raises:
            NoteInvalid: The bytes are no note.
        """
        _check_size(data)
        _check_characters(data)
        split = data.rfind(b"\n\n")
        if split < 0:
            raise NoteInvalid("note has no empty line between text and signatures", hint="is it cut, or no note?")
        lines = data[split + 2 :].split(b"\n")
        if lines.pop():
            raise NoteInvalid("note does not end with a newline", hint="it is cut: fetch it again")
        if not lines:
            raise NoteInvalid("note has no signature")
        if len(lines) > SIGNATURES_MAX:
            raise NoteInvalid(f"note has {len(lines)} signatures; at most {SIGNATURES_MAX} are read")
        return cls(data[: split + 1], tuple(_parse_line(line, number) for number, line in enumerate(lines, 1)))


@dataclass(frozen=True, slots=True)
class VerifiedSignature:
    """A signature that was verified.

    Arguments:
        key: The key that made it.
        signature: The line.
        time_seconds: The time that a cosignature states, in seconds since the Unix epoch; ``None`` for one that states
            none (Ed25519 over the text, or the time 0 of ML-DSA-44). It is the signer's word.
    """

    key: VerifierKey
    signature: Signature
    time_seconds: int | None


@dataclass(frozen=True, slots=True)
class VerifiedNote:
    """A note that at least one known key has signed, and none wrongly.

    Arguments:
        text: The text with its final newline.
        verified: The signatures of known keys, each key once, in their order.
        unverified: The signatures of unknown keys, repeated lines once. They prove nothing.
    """

    text: bytes
    verified: tuple[VerifiedSignature, ...]
    unverified: tuple[Signature, ...]


NoteVerifier: TypeAlias = Callable[[bytes, Iterable[VerifierKey]], VerifiedNote]
"""Does what :func:`verify_note` does."""


def verify_note(data: bytes, keys: Iterable[VerifierKey]) -> VerifiedNote:
    """Return a note if at least one of the keys has signed it, and no signature in the name of one is wrong.

    Signatures of other keys are ignored. Of several signatures by one key the first one counts, and the others are not
    looked at.

    Raises:
        NoteInvalid: The bytes are no note.
        KeyInvalid: Two different keys have the same name and id.
        SignatureInvalid: A signature in the name of a known key does not verify.
        SignatureMissing: None of the keys has signed.
        ConfigError: A signature is by ML-DSA-44, and the installed ``cryptography`` has none.
    """
    known = _by_identity(keys)
    note = Note.parse(data)
    verified: dict[tuple[str, bytes], VerifiedSignature] = {}
    unverified: dict[Signature, None] = {}
    for signature in note.signatures:
        identity = (signature.name, signature.key_id)
        key = known.get(identity)
        if key is None:
            unverified[signature] = None
        elif identity not in verified:
            if not key.verify(note.text, signature.signature):
                raise SignatureInvalid(
                    f"signature in the name of {key.name}+{key.key_id.hex()} does not verify",
                    hint="the note was changed after it was signed, or the signature is forged",
                )
            verified[identity] = VerifiedSignature(key, signature, _time(key, signature))
    if not verified:
        signers = ", ".join(sorted({f"{one.name}+{one.key_id.hex()}"[:100] for one in note.signatures})[:5])
        raise SignatureMissing(
            f"no known key has signed the note; it has signatures by {signers}",
            hint="check which keys you trust, and whether the signer has another one by now",
        )
    return VerifiedNote(note.text, tuple(verified.values()), tuple(unverified))


def sign_note(
    text: bytes,
    signers: Sequence[SignerKey],
    *,
    existing: Iterable[Signature] = (),
    time_seconds: int | None = None,
) -> bytes:
    """Return a note: a text with signatures by the given keys below those that it has already.

    Arguments:
        text: The text with its final newline.
        signers: The keys that sign, in this order. An existing signature by one of them is replaced.
        existing: Signatures that the note has already; they are not verified.
        time_seconds: When it is signed, in seconds since the Unix epoch; needed if one of the keys cosigns.

    Raises:
        NoteInvalid: The text is none of a note, there is no signature or too many, or a cosignature has no time.
        CheckpointInvalid: A key that cosigns is given something else than a checkpoint.
    """
    _check_text(text)
    made = [
        Signature(signer.verifier.name, signer.verifier.key_id, signer.sign(text, time_seconds=time_seconds))
        for signer in signers
    ]
    replaced = {(signature.name, signature.key_id) for signature in made}
    kept = (one for one in existing if (one.name, one.key_id) not in replaced)
    return Note(text, (*kept, *made)).pack()


def _by_identity(keys: Iterable[VerifierKey]) -> dict[tuple[str, bytes], VerifierKey]:
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.key_id), key) != key:
            raise KeyInvalid(
                f"two different keys are known as {key.name}+{key.key_id.hex()}",
                hint="this does not happen by chance: find out who put the second one there",
            )
    return known


def _time(key: VerifierKey, signature: Signature) -> int | None:
    if key.type not in COSIGNATURE_TYPES:
        return None
    return cosignature.parse_timestamped(signature.signature)[0] or None


def _parse_line(line: bytes, number: int) -> Signature:
    if not line.startswith(_SIGNATURE_PREFIX):
        raise NoteInvalid(f"signature line {number} does not begin with an em dash and a space")
    name, _, encoded = line[len(_SIGNATURE_PREFIX) :].partition(b" ")
    if not is_key_name(name.decode()):
        raise NoteInvalid(f"signature line {number} has no valid key name")
    try:
        content = decode_base64(encoded)
    except ValueError as error:
        raise NoteInvalid(f"signature line {number} {error}") from error
    if len(content) <= _KEY_ID_BYTES:
        raise NoteInvalid(f"signature line {number} has {len(content)} bytes, too few for a key id and a signature")
    return Signature(name.decode(), content[:_KEY_ID_BYTES], content[_KEY_ID_BYTES:])


def _check_text(text: bytes) -> None:
    if not text.endswith(b"\n"):
        raise NoteInvalid("note text does not end with a newline")
    _check_characters(text)


def _check_characters(data: bytes) -> None:
    if (found := _CONTROLS.search(data)) is not None:
        raise NoteInvalid(f"note has the control character {found[0][0]:#04x} at byte {found.start()}")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise NoteInvalid(f"note is no UTF-8 at byte {error.start}") from error


def _check_size(data: bytes) -> None:
    if len(data) > NOTE_BYTES_MAX:
        raise NoteInvalid(f"note has {len(data)} bytes; at most {NOTE_BYTES_MAX} are read")
