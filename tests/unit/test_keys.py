"""Private keys as text: what stands in a file or a variable is read, or refused without being quoted."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.errors import FormatError, KeyInvalid
from sealstream.schemas.keys import KEY_BYTES_MAX, pack_key, parse_key
from sealstream.schemas.note_key import KeyType
from support.notes import LOG, ORIGIN, signer

TYPES = [KeyType.ED25519, KeyType.COSIGNATURE, KeyType.COSIGNATURE_ML_DSA_44]


@pytest.mark.parametrize("key_type", TYPES, ids=lambda one: one.name)
def test_comes_back(key_type: KeyType) -> None:
    """A key is read from its file's text and from its one line, with or without a newline behind it."""
    key = signer(ORIGIN, key_type)
    for text in (pack_key(key), key.secret(), key.secret() + "\n", pack_key(key).decode()):
        assert parse_key(text).secret() == key.secret()


@pytest.mark.parametrize("key_type", TYPES, ids=lambda one: one.name)
def test_other_tools_read_it(key_type: KeyType) -> None:
    """The file is PKCS8 in PEM to whatever reads that, and its first line is the verifier key."""
    key = signer(ORIGIN, key_type)
    private = load_pem_private_key(pack_key(key), password=None)
    assert private.public_key() == load_pem_private_key(key.secret_pem(), password=None).public_key()
    assert pack_key(key).decode().splitlines()[0] == f"vkey {key.verifier}"


def pem(key: serialization.PrivateFormat, private: Ed25519PrivateKey, password: bytes | None = None) -> bytes:
    """Return a private key in PEM."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, key, encryption)


VKEY_LINE = f"vkey {LOG.verifier}\n".encode()
ML_DSA_LINE = f"vkey {signer(ORIGIN, KeyType.COSIGNATURE_ML_DSA_44).verifier}\n".encode()
PKCS8 = serialization.PrivateFormat.PKCS8
OTHER = Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(65537, 2048).private_bytes(
    serialization.Encoding.PEM, PKCS8, serialization.NoEncryption()
)
ML_DSA_65 = MLDSA65PrivateKey.generate().private_bytes(serialization.Encoding.PEM, PKCS8, serialization.NoEncryption())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "neither"),
        (LOG.secret_pem(), "neither"),
        (VKEY_LINE, "neither"),
        (VKEY_LINE + b"nothing\n", "neither"),
        (b"vkey nonsense\n" + LOG.secret_pem(), "of the form"),
        (VKEY_LINE + LOG.secret_pem()[:60], "no PKCS8"),
        (VKEY_LINE + pem(PKCS8, OTHER), "does not belong"),
        (VKEY_LINE + pem(PKCS8, OTHER, b"secret"), "encrypted"),
        (VKEY_LINE + RSA, "another algorithm"),
        (ML_DSA_LINE + RSA, "another algorithm"),
        (ML_DSA_LINE + ML_DSA_65, "another algorithm"),
        (ML_DSA_LINE + LOG.secret_pem(), "another algorithm"),
        (VKEY_LINE + signer(ORIGIN, KeyType.COSIGNATURE_ML_DSA_44).secret_pem(), "another algorithm"),
        (b"\xff", "no text"),
        (b"a" * (KEY_BYTES_MAX + 1), "at most"),
        (LOG.secret()[:-3], "no base64"),
        (LOG.secret().replace(ORIGIN, "other.example"), "its own is another one"),
    ],
)  # fmt: skip
def test_reasons(text: bytes | str, words: str) -> None:
    """What is wrong is said."""
    with pytest.raises(KeyInvalid, match=words):
        parse_key(text)


def test_every_change_is_refused_or_means_nothing() -> None:
    """A file that was changed or cut anywhere is refused, or still gives the very same key; nothing quotes it."""
    data = pack_key(LOG)
    secrets = {line for line in LOG.secret_pem().decode().splitlines() if "-" not in line}
    refused = 0
    for place in range(len(data)):
        for changed in (data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :], data[:place]):
            try:
                assert parse_key(changed).secret() == LOG.secret()
            except FormatError as error:
                refused += 1
                seen: BaseException | None = error
                while seen is not None:
                    assert not any(secret[:12] in str(seen) for secret in secrets)
                    seen = seen.__cause__
    assert refused > 1.9 * len(data)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Whatever the bytes are, they are refused with a reason."""
    for candidate in (data, VKEY_LINE + data, VKEY_LINE + b"-----BEGIN PRIVATE" + data, b"PRIVATE+KEY+" + data):
        with pytest.raises(KeyInvalid):
            parse_key(candidate)
