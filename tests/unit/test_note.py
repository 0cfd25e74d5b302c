"""Signed notes: what is signed, what is ignored, what refuses the whole note."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.errors import (
    CheckpointInvalid,
    KeyInvalid,
    NoteInvalid,
    SealstreamError,
    SignatureInvalid,
    SignatureMissing,
)
from sealstream.schemas.note import NOTE_BYTES_MAX, Note, Signature, sign_note, verify_note
from sealstream.schemas.note_key import KeyType, SignerKey, VerifierKey
from support.notes import CHECKPOINT, LOG, NOW_SECONDS, ORIGIN, signer, witness

# The example in the documentation of golang.org/x/mod/sumdb/note.
NEUMANN_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
NEUMANN_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_TEXT = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NEUMANN_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
).encode()
NEUMANN_NOTE = NEUMANN_TEXT + b"\n" + NEUMANN_LINE

PUBLISHED = [
    pytest.param(NEUMANN_VKEY, NEUMANN_NOTE, id="sumdb/note"),
    pytest.param(NEUMANN_VKEY, NEUMANN_NOTE + ENOCH_LINE, id="sumdb/note, two signatures"),
    pytest.param(
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        (
            "This is an example message.\n\n— example.com/foo "
            "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
        ).encode(),
        id="C2SP signed-note",
    ),
    pytest.param(
        "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        (
            "go.sum database tree\n6476701\nmb8QLQIs0Z0yP5Cstq6guj87oXWeC9gEM8oVikmm9Wk=\n\n— sum.golang.org "
            "Az3grsLX85Gz+s1SiTbgkuqxgItqFq7gsMUEyVnrsa9LM7Us9S+1xbFIGu95949rj4nPRYfvimWEPWL+o3GeoWwOoAw=\n"
        ).encode(),
        id="a tree of Go's checksum database",
    ),
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=set(map(chr, range(32))) - {"\n"})).map(
    lambda text: f"{text}\n".encode()
)


@pytest.mark.parametrize(("vkey", "note"), PUBLISHED)
def test_published_notes(vkey: str, note: bytes) -> None:
    """Notes that others have published verify with their keys, and are written back byte for byte."""
    key = VerifierKey.parse(vkey)
    assert verify_note(note, [key]).verified[0].key == key
    assert Note.parse(note).pack() == note


def test_published_signer() -> None:
    """The published private key makes the published signature: Ed25519 leaves no choice."""
    assert sign_note(NEUMANN_TEXT, [SignerKey.parse(NEUMANN_SKEY)]) == NEUMANN_NOTE


@pytest.mark.parametrize(("vkey", "note"), PUBLISHED)
def test_every_change_is_refused(vkey: str, note: bytes) -> None:
    """No byte of a note's text, or of its one signature, can be another one; nor can the note end earlier."""
    key = VerifierKey.parse(vkey)
    note = note.removesuffix(ENOCH_LINE)
    for place in range(len(note)):
        for mask in (1, 2, 4, 8, 16, 32, 64, 128):
            with pytest.raises((NoteInvalid, SignatureInvalid, SignatureMissing)):
                verify_note(note[:place] + bytes((note[place] ^ mask,)) + note[place + 1 :], [key])
        with pytest.raises((NoteInvalid, SignatureInvalid, SignatureMissing)):
            verify_note(note[:place], [key])


@pytest.mark.parametrize("key_type", [KeyType.COSIGNATURE, KeyType.COSIGNATURE_ML_DSA_44], ids=lambda one: one.name)
def test_every_change_of_a_cosignature_is_refused(key_type: KeyType) -> None:
    """The same holds for the cosignatures, whose time is signed with them."""
    key = signer(ORIGIN, key_type)
    note = sign_note(CHECKPOINT.pack(), [key], time_seconds=NOW_SECONDS)
    for place in range(len(note)):
        with pytest.raises((NoteInvalid, SignatureInvalid, SignatureMissing)):
            verify_note(note[:place] + bytes((note[place] ^ (1 + place % 7),)) + note[place + 1 :], [key.verifier])
        if place % 5 == 0:
            with pytest.raises((NoteInvalid, SignatureInvalid, SignatureMissing)):
                verify_note(note[:place], [key.verifier])


@given(TEXTS, st.integers(0, 3))
def test_any_text(text: bytes, signers: int) -> None:
    """Any text of which a note can be made is what the note then says, empty lines included."""
    keys = [LOG, *(signer(f"{number}.example") for number in range(signers))]
    note = verify_note(sign_note(text, keys), [key.verifier for key in keys])
    assert (note.text, len(note.verified), note.unverified) == (text, len(keys), ())


@given(
    st.binary(max_size=300)
    | st.text(max_size=100).map(lambda text: f"{text}\n\n— a AAAA{text}\n".encode(errors="replace"))
)
def test_any_bytes(data: bytes) -> None:
    """Whatever the bytes are: a note in its one form, or refused with a reason; and signed by nobody."""
    with pytest.raises((NoteInvalid, SignatureMissing)) as caught:
        verify_note(data, [LOG.verifier])
    if caught.type is SignatureMissing:
        assert Note.parse(data).pack() == data


class TestWhoSigned:
    """Known keys and unknown ones."""

    def test_unknown_signatures_are_ignored(self) -> None:
        """Signatures of unknown keys are given back as unverified, repeated lines once, and change nothing."""
        note = NEUMANN_NOTE + ENOCH_LINE + ENOCH_LINE
        opened = verify_note(note, [VerifierKey.parse(NEUMANN_VKEY)])
        assert [one.key.name for one in opened.verified] == ["PeterNeumann"]
        assert [one.name for one in opened.unverified] == ["EnochRoot"]

    @pytest.mark.parametrize("change", ["name", "id"])
    def test_a_name_or_an_id_alone_is_unknown(self, change: str) -> None:
        """A signature that shares only its name, or only its id, with a known key is one of an unknown key."""
        line = Note.parse(sign_note(NEUMANN_TEXT, [LOG])).signatures[0]
        other = Signature("x", line.key_id, b"x") if change == "name" else Signature(line.name, b"abcd", b"x")
        opened = verify_note(NEUMANN_TEXT + b"\n" + other.pack() + line.pack(), [LOG.verifier])
        assert opened.unverified == (other,)

    def test_a_known_key_that_does_not_verify_refuses_the_note(self) -> None:
        """One wrong signature in a known name is enough, whoever else has signed."""
        wrong = Signature(ORIGIN, LOG.verifier.key_id, bytes(64)).pack()
        with pytest.raises(SignatureInvalid, match=ORIGIN):
            verify_note(NEUMANN_NOTE + wrong, [LOG.verifier, VerifierKey.parse(NEUMANN_VKEY)])

    def test_the_first_of_several_counts(self) -> None:
        """Of several signatures by one key the first is verified, and the others are not looked at."""
        wrong = Signature(ORIGIN, LOG.verifier.key_id, bytes(64)).pack()
        good = sign_note(NEUMANN_TEXT, [LOG])
        assert len(verify_note(good + wrong, [LOG.verifier]).verified) == 1
        with pytest.raises(SignatureInvalid):
            verify_note(NEUMANN_TEXT + b"\n" + wrong + good[len(NEUMANN_TEXT) + 1 :], [LOG.verifier])

    def test_nobody_known(self) -> None:
        """A note that no known key has signed is refused, and says who did."""
        with pytest.raises(SignatureMissing, match="PeterNeumann"):
            verify_note(NEUMANN_NOTE, [LOG.verifier])
        with pytest.raises(SignatureMissing):
            verify_note(NEUMANN_NOTE, [])

    def test_the_same_key_under_another_name_is_another(self) -> None:
        """A tenant's checkpoint is not one of the instance: the name is part of the key."""
        tenant = LOG.renamed(f"{ORIGIN}/acme")
        with pytest.raises(SignatureMissing):
            verify_note(sign_note(CHECKPOINT.pack(), [tenant]), [LOG.verifier])

    def test_ambiguous_keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two different keys with one name and id are a trap; the same key twice is not."""
        assert verify_note(NEUMANN_NOTE, [VerifierKey.parse(NEUMANN_VKEY)] * 2).verified
        monkeypatch.setattr(VerifierKey, "key_id", property(lambda _: b"same"))
        with pytest.raises(KeyInvalid, match="two different keys"):
            verify_note(NEUMANN_NOTE, [LOG.verifier, signer(ORIGIN, number=1).verifier])

    def test_time(self) -> None:
        """A cosignature says when; a plain signature does not."""
        note = sign_note(CHECKPOINT.pack(), [LOG, witness(1)], time_seconds=NOW_SECONDS)
        opened = verify_note(note, [LOG.verifier, witness(1).verifier])
        assert [one.time_seconds for one in opened.verified] == [None, NOW_SECONDS]


class TestSigning:
    """What is made."""

    def test_existing_signatures_stay(self) -> None:
        """Signatures that are there stay before the new ones; one by a signer is replaced by its new one."""
        note = Note.parse(sign_note(NEUMANN_TEXT, [LOG, witness_like("a"), witness_like("b")]))
        again = Note.parse(sign_note(NEUMANN_TEXT, [witness_like("a"), witness_like("c")], existing=note.signatures))
        assert [one.name for one in again.signatures] == [ORIGIN, "b", "a", "c"]

    @pytest.mark.parametrize("text", [b"", b"no newline", b"a\tb\n", b"a\r\n", b"\xff\n", b"a\x00\n"])
    def test_no_text_of_a_note(self, text: bytes) -> None:
        """What nobody would read is not signed."""
        with pytest.raises(NoteInvalid):
            sign_note(text, [LOG])

    def test_nobody_signs(self) -> None:
        """A note without a signature is none."""
        with pytest.raises(NoteInvalid, match="0 signatures"):
            sign_note(NEUMANN_TEXT, [])

    def test_a_cosignature_needs_a_time_and_a_checkpoint(self) -> None:
        """A witness signs nothing but checkpoints, and always says when."""
        for time_seconds in (None, 0, -1, 2**63):
            with pytest.raises(NoteInvalid, match="time"):
                sign_note(CHECKPOINT.pack(), [witness(1)], time_seconds=time_seconds)
        with pytest.raises(CheckpointInvalid):
            sign_note(NEUMANN_TEXT, [witness(1)], time_seconds=NOW_SECONDS)

    @pytest.mark.parametrize(
        "signature", [Signature("", b"abcd", b"x"), Signature("a b", b"abcd", b"x"), Signature("a", b"abc", b"x"),
                      Signature("a", b"abcd", b"")]
    )  # fmt: skip
    def test_no_signature_line(self, signature: Signature) -> None:
        """A line that would not be read is not written."""
        with pytest.raises(NoteInvalid):
            signature.pack()


class TestLimits:
    """No note keeps a reader busy."""

    def test_size(self) -> None:
        """A note has at most a million bytes."""
        note = b"a" * (NOTE_BYTES_MAX - len(NEUMANN_LINE) - 2) + b"\n\n" + NEUMANN_LINE
        assert Note.parse(note).pack() == note
        with pytest.raises(NoteInvalid, match="at most"):
            Note.parse(b"a" + note)

    def test_sixteen_of_the_largest(self) -> None:
        """Sixteen signatures by ML-DSA-44 are read, which every reader of notes must take."""
        keys = [signer(f"{number}.example", KeyType.COSIGNATURE_ML_DSA_44) for number in range(16)]
        note = sign_note(CHECKPOINT.pack(), keys, time_seconds=NOW_SECONDS)
        assert len(verify_note(note, [key.verifier for key in keys]).verified) == 16

    @pytest.mark.parametrize(
        ("note", "words"),
        [
            (b"", "empty line"),
            (NEUMANN_TEXT, "empty line"),
            (NEUMANN_TEXT + b"\n", "no signature"),
            (NEUMANN_NOTE[:-1], "newline"),
            (NEUMANN_NOTE + b"x\n", "line 2 does not begin"),
            (NEUMANN_NOTE + "— a\n".encode(), "too few"),
            (NEUMANN_NOTE + "— a AAAA\n".encode(), "3 bytes"),
            (NEUMANN_NOTE + "— a AAAAAA==\n".encode(), "4 bytes"),
            (NEUMANN_NOTE + "— a AAAAAAA\n".encode(), "base64"),
            (NEUMANN_NOTE + "— a+b AAAAAAA=\n".encode(), "name"),
            (b"a\x00" + NEUMANN_NOTE, "0x00 at byte 1"),
            (b"a\xff" + NEUMANN_NOTE, "UTF-8 at byte 1"),
            (NEUMANN_NOTE + b"\n", "no signature"),
        ],
    )
    def test_reasons(self, note: bytes, words: str) -> None:
        """What is wrong is said."""
        with pytest.raises(NoteInvalid, match=words):
            verify_note(note, [VerifierKey.parse(NEUMANN_VKEY)])


def test_errors_are_ours() -> None:
    """Everything that is raised here is an error of the tree."""
    assert all(
        issubclass(one, SealstreamError) for one in (NoteInvalid, SignatureInvalid, SignatureMissing, KeyInvalid)
    )


def witness_like(name: str) -> SignerKey:
    """Return a key of a short name."""
    return signer(name)
