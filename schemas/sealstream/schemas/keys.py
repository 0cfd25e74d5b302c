"""Private keys as text: what stands in a key's file, or in a variable of the environment.

Pure: who reads and writes the files, and refuses those that others may read, is :mod:`sealstream.worker.key_file`.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sealstream.schemas.errors import KeyInvalid
from sealstream.schemas.note_key import SignerKey, VerifierKey, check_supported

KEY_BYTES_MAX: Final = 16_384
"""The largest text that is taken for a private key."""

_VKEY: Final = "vkey "
_PEM_BEGIN: Final = "-----BEGIN "
_SIGNER: Final = "PRIVATE+KEY+"
_NEW_HINT: Final = "`sealstream keys new` makes a file that fits"


def pack_key(key: SignerKey) -> bytes:
    """Return the text of a key's file: a line ``vkey <verifier key>``, and the private key as PKCS8 in PEM.

    To be written into a secret store, and nowhere else. Other tools skip the line (RFC 7468 allows text before).
    """
    return f"{_VKEY}{key.verifier}\n".encode() + key.secret_pem()


def parse_key(data: bytes | str) -> SignerKey:
    """Return the private key that a text is: what :func:`pack_key` writes, or a signer key in one line.

    Raises:
        KeyInvalid: The text is neither, is encrypted, or its verifier key is another key's. No message quotes it.
        ConfigError: The key is one of ML-DSA-44, and the installed ``cryptography`` has none.
    """
    text = _text(data)
    if text.startswith(_SIGNER):
        return SignerKey.parse(text.removesuffix("\n"))
    vkey, _, pem = text.partition("\n")
    if not vkey.startswith(_VKEY) or not pem.startswith(_PEM_BEGIN):
        raise KeyInvalid(
            "private key is neither a line `vkey <verifier key>` with PEM below it, nor a signer key in one line",
            hint=_NEW_HINT,
        )
    verifier = VerifierKey.parse(vkey.removeprefix(_VKEY))
    return _from_pem(verifier, pem)


def _from_pem(verifier: VerifierKey, pem: str) -> SignerKey:
    check_supported(verifier.type)
    try:
        private = load_pem_private_key(pem.encode(), password=None)
    except TypeError:  # how the library says that a password is missing; nothing is chained that may quote the text
        raise KeyInvalid(
            f"private key of {verifier.name} is encrypted", hint="keep it without a password, in a file for you alone"
        ) from None
    except (ValueError, UnsupportedAlgorithm, InternalError):  # the last: OpenSSL's word for some wrong sizes
        raise KeyInvalid(f"private key of {verifier.name} is no PKCS8 in PEM that is read", hint=_NEW_HINT) from None
    key = SignerKey(verifier.name, verifier.type, private)  # type: ignore[arg-type]  # it looks at the algorithm itself
    if key.verifier != verifier:
        raise KeyInvalid(f"private key of {verifier.name} does not belong to the verifier key above it", hint=_NEW_HINT)
    return key


def _text(data: bytes | str) -> str:
    if len(data) > KEY_BYTES_MAX:
        raise KeyInvalid(f"private key has {len(data)} bytes; at most {KEY_BYTES_MAX} are read")
    if isinstance(data, str):
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise KeyInvalid("private key is no text", hint=_NEW_HINT) from None
