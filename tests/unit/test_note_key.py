"""Keys of notes: their texts, their ids, what each type signs, and that a private one never shows."""

from __future__ import annotations

import copy
import pickle
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas import note_key
from sealstream.schemas.cosignature import ed25519_message, ml_dsa_message, parse_timestamped
from sealstream.schemas.errors import ConfigError, KeyInvalid, NoteInvalid
from sealstream.schemas.keys import pack_key, parse_key
from sealstream.schemas.note_key import KeyType, SignerKey, VerifierKey, is_key_name
from support.notes import CHECKPOINT, LOG, NOW_SECONDS, ORIGIN, signer

TYPES = [KeyType.ED25519, KeyType.COSIGNATURE, KeyType.COSIGNATURE_ML_DSA_44]
# Keys that others have published: sumdb/note's documentation, C2SP's example, tests of transparency-dev's modules.
PUBLISHED = [
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
]


@pytest.mark.parametrize("vkey", PUBLISHED)
def test_published_keys(vkey: str) -> None:
    """Verifier keys that others have published are read, have the id they say, and are written back."""
    assert str(VerifierKey.parse(vkey)) == vkey


@pytest.mark.parametrize("key_type", TYPES, ids=lambda one: one.name)
def test_come_back(key_type: KeyType) -> None:
    """Both halves of a key are read from what is written, and belong together."""
    key = SignerKey.generate(ORIGIN, key_type)
    assert VerifierKey.parse(str(key.verifier)) == key.verifier
    assert SignerKey.parse(key.secret()).verifier == key.verifier
    signature = key.sign(CHECKPOINT.pack(), time_seconds=NOW_SECONDS)
    assert SignerKey.parse(key.secret()).verifier.verify(CHECKPOINT.pack(), signature)


@pytest.mark.parametrize("key_type", TYPES, ids=lambda one: one.name)
def test_every_change_of_a_verifier_key_is_refused(key_type: KeyType) -> None:
    """A verifier key that was changed or cut anywhere is refused: its id no longer fits."""
    vkey = str(signer(ORIGIN, key_type).verifier)
    for place in range(len(vkey)):
        for mask in (1, 2, 32):
            with pytest.raises(KeyInvalid):
                VerifierKey.parse(vkey[:place] + chr(ord(vkey[place]) ^ mask) + vkey[place + 1 :])
        with pytest.raises(KeyInvalid):
            VerifierKey.parse(vkey[:place])


@given(st.text(max_size=80) | st.text(alphabet="PRIVATEKY+aB4=/0f", max_size=80))
def test_any_text(text: str) -> None:
    """Whatever the text is, it is refused with a reason, and no reason quotes what may be a private key."""
    for parse in (VerifierKey.parse, SignerKey.parse):
        with pytest.raises(KeyInvalid):
            parse(text)


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\tb", "a\x01", "a\n", "a\u00a0", "a\u3000", "\udc80", "a" * 256], ids=ascii
)
def test_names(name: str) -> None:
    """A key's name has no space of any kind, no plus and no control character, and at most 255 bytes."""
    with pytest.raises(KeyInvalid):
        VerifierKey(name, KeyType.ED25519, bytes(32))
    assert is_key_name(name) == (name == "a" * 256)


@pytest.mark.parametrize(
    ("vkey", "words"),
    [
        (f"{ORIGIN}+00000000+{'A' * 44}", "unknown type 0x00"),
        ("a+00000000+Ag==", "unknown type 0x02"),
        ("a+00000000+/w==", "unknown type 0xff"),
        ("a+00000000+AQ==", "0 bytes instead of 32"),
        (PUBLISHED[0].replace("c74f20a3", "c74f20a4"), "its own is c74f20a3"),
        (PUBLISHED[0].replace("c74f20a3", "C74F20A3"), "8 hex digits"),
        (PUBLISHED[0].replace("+", "-"), "8 hex digits"),
        ("a" * 5000, "of the form"),
    ],
)
def test_reasons(vkey: str, words: str) -> None:
    """What is wrong with a verifier key is said."""
    with pytest.raises(KeyInvalid, match=words):
        VerifierKey.parse(vkey)


class TestWhatIsSigned:
    """The bytes under each type's signature are those that C2SP asks for."""

    def test_ed25519(self) -> None:
        """A log signs the text itself."""
        Ed25519PublicKey.from_public_bytes(LOG.verifier.public_key).verify(LOG.sign(b"a\n"), b"a\n")

    def test_cosignature(self) -> None:
        """A witness signs a header, the time, and the text; the time stands before the signature."""
        key = signer("w.example", KeyType.COSIGNATURE)
        signature = key.sign(CHECKPOINT.pack(), time_seconds=1_679_315_147)
        message = b"cosignature/v1\ntime 1679315147\n" + CHECKPOINT.pack()
        assert ed25519_message(CHECKPOINT.pack(), 1_679_315_147) == message
        assert signature[:8] == struct.pack(">Q", 1_679_315_147)
        Ed25519PublicKey.from_public_bytes(key.verifier.public_key).verify(signature[8:], message)

    def test_ml_dsa_44(self) -> None:
        """By ML-DSA-44 it signs a structure of names, time, size and root; extension lines are not in it."""
        key = signer("w.example", KeyType.COSIGNATURE_ML_DSA_44)
        signature = key.sign(CHECKPOINT.pack(), time_seconds=1_679_315_147)
        message = b"".join(
            (
                b"subtree/v1\n\0",
                b"\x09w.example",
                struct.pack(">Q", 1_679_315_147),
                b"\x12" + ORIGIN.encode(),
                struct.pack(">QQ", 0, CHECKPOINT.size),
                CHECKPOINT.root,
            )
        )
        assert ml_dsa_message(CHECKPOINT.pack() + b"extension\n", 1_679_315_147, "w.example") == message
        MLDSA44PublicKey.from_public_bytes(key.verifier.public_key).verify(signature[8:], message)

    @pytest.mark.parametrize("key_type", TYPES, ids=lambda one: one.name)
    def test_statements(self, key_type: KeyType) -> None:
        """A statement is signed behind a label of its own, with an id of its own: it is never taken for another one."""
        key = signer(ORIGIN, key_type)
        statement = key.sign_statement(CHECKPOINT.pack())
        assert key.verifier.verify_statement(CHECKPOINT.pack(), statement)
        assert key.verifier.statement_id != key.verifier.key_id
        assert not key.verifier.verify(CHECKPOINT.pack(), statement)
        assert not key.verifier.verify_statement(
            CHECKPOINT.pack(), key.sign(CHECKPOINT.pack(), time_seconds=NOW_SECONDS)
        )

    def test_times_are_bounded(self) -> None:
        """A time is 0 to 2^63 - 1 seconds."""
        for time_seconds in (-1, 2**63):
            with pytest.raises(NoteInvalid):
                ed25519_message(CHECKPOINT.pack(), time_seconds)
        with pytest.raises(NoteInvalid):
            parse_timestamped(struct.pack(">Q", 2**63) + bytes(64))
        with pytest.raises(NoteInvalid):
            parse_timestamped(bytes(7))

    def test_long_origins(self) -> None:
        """ML-DSA-44 cosigns no origin of more than 255 bytes: its length would not fit."""
        with pytest.raises(NoteInvalid, match="256 bytes"):
            ml_dsa_message(b"a" * 256 + CHECKPOINT.pack()[len(ORIGIN) :], NOW_SECONDS, "w")

    @pytest.mark.parametrize("key_type", TYPES, ids=lambda one: one.name)
    def test_nonsense_does_not_verify(self, key_type: KeyType) -> None:
        """Signatures of any size and keys that are no points are refused, not raised."""
        key = signer(ORIGIN, key_type).verifier
        for size in (0, 7, 8, 64, 72, 2420, 2428):
            assert not key.verify(CHECKPOINT.pack(), bytes(size))
            assert not key.verify(b"no checkpoint\n", b"\xff" * size)
        broken = VerifierKey(ORIGIN, key_type, b"\xff" * len(key.public_key))
        assert not broken.verify(CHECKPOINT.pack(), bytes(64))


class TestPrivateKeys:
    """They stay private."""

    def test_never_shown(self) -> None:
        """Neither repr nor str nor format nor a pickle gives a private key away."""
        raw = LOG.secret().split("+", 4)[4]
        for text in (repr(LOG), str(LOG), f"{LOG}", repr([LOG])):
            assert raw not in text
            assert LOG.verifier.key_id.hex() in text
        for copying in (pickle.dumps, copy.copy):
            with pytest.raises(TypeError, match="not pickled"):
                copying(LOG)

    def test_never_in_an_error(self) -> None:
        """A signer key that is wrong is not quoted."""
        secret = LOG.secret()
        raw = secret.split("+", 4)[4]
        for wrong in (secret[:-1], secret + "A", secret.replace(ORIGIN, "other.example"), secret[12:], "x" + secret,
                      secret.replace("+A", "+B")):  # fmt: skip
            with pytest.raises(KeyInvalid) as caught:
                SignerKey.parse(wrong)
            seen: BaseException | None = caught.value
            while seen is not None:
                assert raw[:10] not in str(seen)
                seen = seen.__cause__ or seen.__context__

    def test_algorithm_fits_the_type(self) -> None:
        """A key of one algorithm is not used for a type of another."""
        with pytest.raises(KeyInvalid, match="another algorithm"):
            SignerKey("a", KeyType.COSIGNATURE_ML_DSA_44, Ed25519PrivateKey.generate())
        with pytest.raises(KeyInvalid, match="none of a key by itself"):
            SignerKey.generate("a", KeyType.STATEMENT)

    def test_renamed(self) -> None:
        """One key signs the logs of many tenants, each under the log's own name."""
        tenant = LOG.renamed(f"{ORIGIN}/acme")
        assert tenant.verifier == LOG.verifier.renamed(f"{ORIGIN}/acme")
        assert tenant.verifier.public_key == LOG.verifier.public_key
        assert tenant.verifier.key_id != LOG.verifier.key_id


def test_without_ml_dsa(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the installed library has no ML-DSA-44, what needs it says so, and the rest works."""

    def missing() -> None:
        raise ConfigError("no ML-DSA-44")

    key = signer(ORIGIN, KeyType.COSIGNATURE_ML_DSA_44)
    signature = key.sign(CHECKPOINT.pack(), time_seconds=NOW_SECONDS)
    pem = pack_key(key)
    monkeypatch.setattr(note_key, "_ml_dsa", missing)
    for attempt in (
        lambda: SignerKey.generate("a", KeyType.COSIGNATURE_ML_DSA_44),
        lambda: SignerKey.parse(key.secret()),
        lambda: parse_key(pem),
        lambda: key.verifier.verify(CHECKPOINT.pack(), signature),
    ):
        with pytest.raises(ConfigError, match="no ML-DSA-44"):
            attempt()
    assert VerifierKey.parse(str(key.verifier)) == key.verifier
    assert LOG.verifier.verify(b"a\n", LOG.sign(b"a\n"))
