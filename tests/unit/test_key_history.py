"""Rotation records, and which key was in use when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.errors import HistoryForked, RotationInvalid
from sealstream.schemas.key_history import (
    ROTATIONS_BYTES_MAX,
    ROTATIONS_MAX,
    DatedKey,
    KeyHistory,
    Rotation,
    parse_rotations,
    sign_rotation,
)
from sealstream.schemas.note import Note, sign_note
from sealstream.schemas.note_key import KeyType, SignerKey
from support.notes import LOG, NOW_SECONDS, ORIGIN, signer

NEXT, LAST = signer(ORIGIN, number=1), signer(ORIGIN, KeyType.COSIGNATURE_ML_DSA_44)
THEN = NOW_SECONDS - 1000


def rotated(old: SignerKey, new: SignerKey, time_seconds: int = THEN) -> tuple[Rotation, bytes]:
    """Return a rotation at a time, and its record."""
    return sign_rotation(old, new, old_not_after_seconds=time_seconds, new_not_before_seconds=time_seconds)


FIRST, FIRST_RECORD = rotated(LOG, NEXT)
SECOND, SECOND_RECORD = rotated(NEXT, LAST, THEN + 500)


def test_comes_back() -> None:
    """A record says what was signed, for every type of key."""
    assert Rotation.parse(FIRST_RECORD) == FIRST
    assert Rotation.parse(SECOND_RECORD) == SECOND
    assert parse_rotations(FIRST_RECORD + SECOND_RECORD) == (FIRST, SECOND)


def test_every_change_is_refused() -> None:
    """No byte of a record can be another one, and none can be missing."""
    for place in range(len(FIRST_RECORD)):
        for mask in (1, 8, 32):
            with pytest.raises(RotationInvalid):
                Rotation.parse(FIRST_RECORD[:place] + bytes((FIRST_RECORD[place] ^ mask,)) + FIRST_RECORD[place + 1 :])
        with pytest.raises(RotationInvalid):
            parse_rotations(FIRST_RECORD + FIRST_RECORD[:place] if place else b"")


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Whatever the bytes are, they are refused with a reason."""
    for candidate in (data, FIRST_RECORD + data if data else b"", b"sealstream/rotation1\n" + data):
        with pytest.raises(RotationInvalid):
            parse_rotations(candidate)


def test_both_keys_sign() -> None:
    """A record that one key alone, a stranger, or both in the wrong order have signed is refused."""
    note = Note.parse(FIRST_RECORD)
    old, new = note.signatures
    stranger = signer(ORIGIN, number=9)
    wrong = [(old,), (new,), (new, old), (old, old), (old, new, new)]
    for signatures in wrong:
        with pytest.raises(RotationInvalid, match="sign"):
            Rotation.parse(Note(note.text, signatures).pack())
    for pair in ((stranger, NEXT), (LOG, stranger)):
        other = Note.parse(rotated(*pair)[1]).signatures
        with pytest.raises(RotationInvalid, match=r"signed by|does not verify"):
            Rotation.parse(Note(note.text, other).pack())


def test_a_signature_of_another_kind_is_none() -> None:
    """What a log signs as a log is never a rotation: the record is signed behind a label of its own."""
    with pytest.raises(RotationInvalid, match="signed by"):
        Rotation.parse(sign_note(FIRST.text(), [LOG, NEXT]))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (LOG, signer("other.example"), "a name is for ever"),
        (LOG, LOG, "no new key"),
        (LAST, LOG, "from type 6 to 1"),
        (LOG, signer(ORIGIN, KeyType.COSIGNATURE), "from type 1 to 4"),
    ],
)
def test_keys_that_do_not_go_together(old: SignerKey, new: SignerKey, words: str) -> None:
    """A name stays, a key is new, a log does not become a witness, and nobody goes back from ML-DSA-44."""
    with pytest.raises(RotationInvalid, match=words):
        rotated(old, new)


@pytest.mark.parametrize("time_seconds", [-1, 2**63])
def test_times_are_bounded(time_seconds: int) -> None:
    """A time is 0 to 2^63 - 1 seconds."""
    with pytest.raises(RotationInvalid, match="time"):
        rotated(LOG, NEXT, time_seconds)


class TestLineage:
    """Which keys belong together."""

    def test_whole(self) -> None:
        """From any of its keys, a name's history is the same: each key with the time in which it was in use."""
        history = KeyHistory([SECOND, FIRST, FIRST])
        expected = (
            DatedKey(LOG.verifier, 0, THEN),
            DatedKey(NEXT.verifier, THEN, THEN + 500),
            DatedKey(LAST.verifier, THEN + 500, None),
        )
        for key in (LOG, NEXT, LAST):
            assert history.lineage(key.verifier) == expected

    def test_alone(self) -> None:
        """A key of which no record speaks was always in use."""
        assert KeyHistory().lineage(LOG.verifier) == (DatedKey(LOG.verifier),)
        other = signer("other.example")
        assert KeyHistory([FIRST]).lineage(other.verifier) == (DatedKey(other.verifier),)

    def test_tenants(self) -> None:
        """The instance's records hold for the logs of its tenants, under their names; not for a name like it."""
        name = f"{ORIGIN}/acme"
        lineage = KeyHistory([FIRST]).lineage(LOG.renamed(name).verifier)
        assert [dated.key for dated in lineage] == [LOG.renamed(name).verifier, NEXT.renamed(name).verifier]
        for other in (f"{ORIGIN}acme", "demo.example", f"x{ORIGIN}/acme"):
            assert len(KeyHistory([FIRST]).lineage(LOG.renamed(other).verifier)) == 1

    def test_ends_are_included(self) -> None:
        """A key is in use in its first and in its last second, and not beside them."""
        dated = DatedKey(LOG.verifier, 10, 20)
        assert [dated.in_use(time_seconds) for time_seconds in (9, 10, 20, 21)] == [False, True, True, False]
        assert DatedKey(LOG.verifier, 10).in_use(2**63)

    def test_forks(self) -> None:
        """Two records that let different keys follow one, or come from different ones, are refused together."""
        other = signer(ORIGIN, number=2)
        for second in (rotated(LOG, other)[0], rotated(other, NEXT)[0], rotated(LOG, NEXT, THEN + 1)[0]):
            with pytest.raises(HistoryForked, match="contradict"):
                KeyHistory([FIRST, second])

    def test_circles(self) -> None:
        """A key that was given up does not come back."""
        other = signer(ORIGIN, number=2)
        history = KeyHistory([FIRST, rotated(NEXT, other)[0], rotated(other, LOG)[0]])
        with pytest.raises(HistoryForked, match="given up"):
            history.lineage(LOG.verifier)


def test_limits() -> None:
    """No file of records keeps a reader busy."""
    with pytest.raises(RotationInvalid, match="at most"):
        parse_rotations(FIRST_RECORD + b"a" * ROTATIONS_BYTES_MAX)
    with pytest.raises(RotationInvalid, match="1001 records"):
        parse_rotations(b"sealstream/rotation1\n" * (ROTATIONS_MAX + 1))
