"""The keys of signed notes (C2SP signed-note, tlog-cosignature): verifier keys, signer keys, and what they sign.

A key is a name, a type and key material; the type says what is signed as well as by which algorithm. A private key
never shows: not in ``repr``, not in an error.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from enum import IntEnum
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sealstream.schemas import cosignature
from sealstream.schemas.errors import CheckpointInvalid, ConfigError, KeyInvalid, NoteInvalid
from sealstream.schemas.notation import decode_base64, encode_base64

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

PrivateKey: TypeAlias = "Ed25519PrivateKey | MLDSA44PrivateKey"

STATEMENT_LABEL: Final = b"sealstream/statement1\n"
"""What the message of a statement begins with, and the longer identifier behind the type byte 0xff."""

_SIGNER_PREFIX: Final = "PRIVATE+KEY+"
_NAME_BYTES_MAX: Final = cosignature.NAME_BYTES_MAX
_VKEY_CHARACTERS_MAX: Final = 4_096  # ML-DSA-44's has 1,800 and a name
# Unicode's White_Space and "+", as C2SP forbids them, and the controls that no note may have.
_NOT_IN_NAMES: Final = re.compile("[\\x00-\\x20+\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}")
_KEY_ID_BYTES: Final = 4
_SEED_BYTES: Final = 32


class KeyType(IntEnum):
    """What a key signs, and how; the byte that C2SP assigned to it."""

    ED25519 = 0x01
    """Ed25519 over the text of any note: a log's signature."""
    COSIGNATURE = 0x04
    """Ed25519 over a checkpoint and the time: a witness's cosignature."""
    COSIGNATURE_ML_DSA_44 = 0x06
    """ML-DSA-44 over a checkpoint and the time: a witness's or a log's cosignature, sound against quantum computers."""
    STATEMENT = 0xFF
    """A statement about keys in the name of a key of any other type: ours, and never the type of a key by itself."""


COSIGNATURE_TYPES: Final = frozenset({KeyType.COSIGNATURE, KeyType.COSIGNATURE_ML_DSA_44})
"""The types whose signatures carry a time, and can be made of checkpoints only."""

_PUBLIC_BYTES: Final = {KeyType.ED25519: 32, KeyType.COSIGNATURE: 32, KeyType.COSIGNATURE_ML_DSA_44: 1312}
_SIGNATURE_BYTES: Final = {KeyType.ED25519: 64, KeyType.COSIGNATURE: 64, KeyType.COSIGNATURE_ML_DSA_44: 2420}


def is_key_name(name: str) -> bool:
    """Return whether a name may stand in a signature line: no space of any kind, no ``+``, no control, no surrogate."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return bool(name) and _NOT_IN_NAMES.search(name) is None


def check_supported(key_type: KeyType) -> None:
    """Refuse a type whose algorithm the installed ``cryptography`` does not have.

    Raises:
        ConfigError: It is ML-DSA-44, and the library is too old for it.
    """
    if key_type is KeyType.COSIGNATURE_ML_DSA_44:
        _ml_dsa()


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key of a note, with the name it signs by.

    Arguments:
        name: The key's name; for a log its origin.
        type: What it signs, and how.
        public_key: 32 bytes of Ed25519 or 1,312 of ML-DSA-44.

    Raises:
        KeyInvalid: The name is none, or the key has another size.
    """

    name: str
    type: KeyType
    public_key: bytes

    def __post_init__(self) -> None:
        if not is_key_name(self.name) or len(self.name.encode()) > _NAME_BYTES_MAX:
            raise KeyInvalid(
                f"key name {self.name[:80]!r} is empty, too long, or has a space, a plus or a control character",
                hint="a name is a URL without a scheme, of at most 255 bytes, such as example.com/audit",
            )
        size = _PUBLIC_BYTES.get(self.type)
        if size is None:
            raise KeyInvalid(f"key of {self.name} has type {self.type:#04x}, which is none of a key by itself")
        if len(self.public_key) != size:
            raise KeyInvalid(f"key of {self.name} has {len(self.public_key)} bytes instead of {size}")

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that, with the name, say in a signature line which key has signed."""
        return _key_id(self.name, bytes((self.type,)) + self.public_key)

    @property
    def statement_id(self) -> bytes:
        """The key id of the statements that this key signs."""
        material = bytes((KeyType.STATEMENT,)) + STATEMENT_LABEL + bytes((self.type,)) + self.public_key
        return _key_id(self.name, material)

    def __str__(self) -> str:
        """Return the key as a line of text (C2SP's vkey)."""
        material = encode_base64(bytes((self.type,)) + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{material}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Return the key that a vkey is, the inverse of ``str``.

        Raises:
            KeyInvalid: The text is no vkey, its id is not that of its key, or its type is unknown.
        """
        name, key_id, material = _split(text, "verifier key")
        key = cls(name, _type(material[0], name), material[1:])
        if key.key_id != key_id:
            raise KeyInvalid(
                f"verifier key of {name} has the id {key_id.hex()}, and its own is {key.key_id.hex()}",
                hint="the text was changed: get the key from its owner again",
            )
        return key

    def renamed(self, name: str) -> VerifierKey:
        """Return the same key under another name: an instance signs the logs of all its tenants with one key.

        Raises:
            KeyInvalid: The name is none.
        """
        return VerifierKey(name, self.type, self.public_key)

    def verify(self, text: bytes, signature: bytes) -> bool:
        """Return whether a signature, as it stands in a note, is by this key and of this text.

        Raises:
            ConfigError: The key is one of ML-DSA-44, and the installed ``cryptography`` has none.
        """
        raw, message = signature, text
        if self.type in COSIGNATURE_TYPES:
            try:
                time_seconds, raw = cosignature.parse_timestamped(signature)
                message = _cosigned(self.type, self.name, text, time_seconds)
            except (NoteInvalid, CheckpointInvalid):
                return False
        return self._verify_raw(message, raw)

    def verify_statement(self, text: bytes, signature: bytes) -> bool:
        """Return whether a signature is by this key, of a statement.

        Raises:
            ConfigError: The key is one of ML-DSA-44, and the installed ``cryptography`` has none.
        """
        return self._verify_raw(STATEMENT_LABEL + text, signature)

    def _verify_raw(self, message: bytes, signature: bytes) -> bool:
        if len(signature) != _SIGNATURE_BYTES[self.type]:
            return False
        try:
            if self.type is KeyType.COSIGNATURE_ML_DSA_44:
                _ml_dsa().MLDSA44PublicKey.from_public_bytes(self.public_key).verify(signature, message)
            else:
                Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except (InvalidSignature, ValueError):  # ValueError: bytes that are no key
            return False
        except UnsupportedAlgorithm as error:
            raise _ml_dsa_missing() from error
        return True


class SignerKey:
    """A private key of a note. Whoever has it signs in its owner's name.

    Arguments:
        name: The key's name.
        type: What it signs, and how.
        private_key: The key of the ``cryptography`` library.

    Raises:
        KeyInvalid: The name is none, or the key is one of another algorithm than the type's.
    """

    __slots__ = ("_private", "verifier")

    def __init__(self, name: str, type: KeyType, private_key: PrivateKey) -> None:  # noqa: A002  # the field's word
        ml_dsa = type is KeyType.COSIGNATURE_ML_DSA_44
        if not isinstance(private_key, _ml_dsa().MLDSA44PrivateKey if ml_dsa else Ed25519PrivateKey):
            raise KeyInvalid(f"private key of {name[:80]!r} is one of another algorithm than that of type {type:#04x}")
        self._private = private_key
        self.verifier = VerifierKey(name, type, private_key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str, type: KeyType) -> SignerKey:  # noqa: A002  # as above
        """Return a new key, made of the operating system's randomness.

        Raises:
            KeyInvalid: The name is none, or the type is none of a key by itself.
            ConfigError: ML-DSA-44 is wanted, and the installed ``cryptography`` has none.
        """
        if type is not KeyType.COSIGNATURE_ML_DSA_44:
            return cls(name, type, Ed25519PrivateKey.generate())
        try:
            return cls(name, type, _ml_dsa().MLDSA44PrivateKey.generate())
        except UnsupportedAlgorithm as error:
            raise _ml_dsa_missing() from error

    @classmethod
    def parse(cls, text: str) -> SignerKey:
        """Return the key that a signer key is, the inverse of :meth:`secret`.

        Raises:
            KeyInvalid: The text is no signer key, or its id is not that of its key. The message does not quote it.
            ConfigError: The key is one of ML-DSA-44, and the installed ``cryptography`` has none.
        """
        if not text.startswith(_SIGNER_PREFIX):
            raise KeyInvalid(f"signer key does not begin with {_SIGNER_PREFIX}")
        name, key_id, material = _split(text.removeprefix(_SIGNER_PREFIX), "signer key")
        key_type = _type(material[0], name)
        if len(material) != 1 + _SEED_BYTES:
            raise KeyInvalid(f"signer key of {name} has {len(material) - 1} bytes instead of {_SEED_BYTES}")
        key = cls(name, key_type, _from_seed(key_type, material[1:]))
        if key.verifier.key_id != key_id:
            raise KeyInvalid(f"signer key of {name} has the id {key_id.hex()}, and its own is another one")
        return key

    def secret(self) -> str:
        """Return the private key as one line of text, as ``golang.org/x/mod/sumdb/note`` writes it.

        To be written into a secret store, and nowhere else.
        """
        seed = encode_base64(bytes((self.verifier.type,)) + self._private.private_bytes_raw()).decode()
        return f"{_SIGNER_PREFIX}{self.verifier.name}+{self.verifier.key_id.hex()}+{seed}"

    def secret_pem(self) -> bytes:
        """Return the private key alone, as PKCS8 in PEM without a password.

        To be written into a secret store, and nowhere else.
        """
        return self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def renamed(self, name: str) -> SignerKey:
        """Return the same key under another name: an instance signs the logs of all its tenants with one key.

        Raises:
            KeyInvalid: The name is none.
        """
        # Not by __init__: it derives the public key, which takes longer than to sign does, ten thousand times a round.
        other = SignerKey.__new__(SignerKey)
        other._private = self._private  # noqa: SLF001  # the same class
        other.verifier = self.verifier.renamed(name)
        return other

    def sign(self, text: bytes, *, time_seconds: int | None = None) -> bytes:
        """Return the signature of a text, as it stands in a note.

        Arguments:
            text: The note's text; for a cosignature a checkpoint.
            time_seconds: When it is signed, in seconds since the Unix epoch; cosignatures need it, and others do not
                carry it.

        Raises:
            NoteInvalid: A cosignature is to be made without a time, or the time is out of range.
            CheckpointInvalid: A cosignature is to be made of something else.
        """
        if self.verifier.type not in COSIGNATURE_TYPES:
            return self._private.sign(text)
        if not time_seconds:
            raise NoteInvalid(f"cosignature of {self.verifier.name} has no time", hint="give the time in seconds")
        message = _cosigned(self.verifier.type, self.verifier.name, text, time_seconds)
        return cosignature.pack_timestamped(time_seconds, self._private.sign(message))

    def sign_statement(self, text: bytes) -> bytes:
        """Return the signature of a statement, whatever the key's type."""
        return self._private.sign(STATEMENT_LABEL + text)

    def __repr__(self) -> str:
        return f"SignerKey({self.verifier.name}+{self.verifier.key_id.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled")


def _cosigned(key_type: KeyType, name: str, text: bytes, time_seconds: int) -> bytes:
    if key_type is KeyType.COSIGNATURE:
        return cosignature.ed25519_message(text, time_seconds)
    return cosignature.ml_dsa_message(text, time_seconds, name)


def _key_id(name: str, material: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + material).digest()[:_KEY_ID_BYTES]


def _split(text: str, what: str) -> tuple[str, bytes, bytes]:
    """Return name, key id and key material of an encoded key; nothing of the text enters a message but the name."""
    name, _, rest = text.partition("+")
    key_id, _, material = rest.partition("+")
    if len(text) > _VKEY_CHARACTERS_MAX or not is_key_name(name) or _KEY_ID.fullmatch(key_id) is None:
        raise KeyInvalid(f"{what} is not of the form <name>+<8 hex digits>+<base64>")
    try:
        decoded = decode_base64(material.encode("ascii"))
    except ValueError:  # not chained: its message may quote the material
        decoded = b""
    if not decoded:
        raise KeyInvalid(f"{what} of {name[:80]} has no base64 behind its id")
    return name, bytes.fromhex(key_id), decoded


def _type(number: int, name: str) -> KeyType:
    if number not in _PUBLIC_BYTES:
        raise KeyInvalid(
            f"key of {name[:80]} has the unknown type {number:#04x}",
            hint="known are 0x01 (Ed25519), 0x04 (Ed25519 cosignature) and 0x06 (ML-DSA-44 cosignature)",
        )
    return KeyType(number)


def _from_seed(key_type: KeyType, seed: bytes) -> PrivateKey:
    if key_type is not KeyType.COSIGNATURE_ML_DSA_44:
        return Ed25519PrivateKey.from_private_bytes(seed)
    try:
        key: MLDSA44PrivateKey = _ml_dsa().MLDSA44PrivateKey.from_seed_bytes(seed)
    except UnsupportedAlgorithm as error:
        raise _ml_dsa_missing() from error
    return key


@functools.cache
def _ml_dsa() -> Any:
    """Return the module of ML-DSA: newer than the oldest ``cryptography`` that an application may have."""
    try:
        from cryptography.hazmat.primitives.asymmetric import mldsa  # noqa: PLC0415  # may be missing
    except ImportError as error:
        raise _ml_dsa_missing() from error
    module: ModuleType = mldsa
    return module


def _ml_dsa_missing() -> ConfigError:
    return ConfigError("the installed cryptography has no ML-DSA-44", hint="pip install --upgrade cryptography")
