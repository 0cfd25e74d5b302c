"""Who is believed: policies, clocks, keys that went, and keys that were stolen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.cosignature import ml_dsa_message, pack_timestamped
from sealstream.schemas.errors import (
    CheckpointInvalid,
    HistoryForked,
    KeyUntimely,
    OriginDiffers,
    QuorumMissing,
    SignatureInvalid,
    SignatureMissing,
)
from sealstream.schemas.key_history import KeyHistory, Rotation, sign_rotation
from sealstream.schemas.note import Signature, sign_note
from sealstream.schemas.note_key import KeyType, SignerKey
from sealstream.schemas.policy import Log, Policy, Witness
from sealstream.schemas.trust import CLOCK_SKEW_SECONDS, Reader, verify_checkpoint
from support.notes import (
    CHECKPOINT,
    DAY_SECONDS,
    LOG,
    NOW_SECONDS,
    ORIGIN,
    cosignature_line,
    cosigned,
    policy,
    reader,
    signer,
    witness,
)

YEAR_SECONDS = 365 * DAY_SECONDS
SIGNED = NOW_SECONDS - 100
LONG_AGO = NOW_SECONDS - 8 * YEAR_SECONDS
NEW_LOG = signer(ORIGIN, number=1)


def rotation(old: SignerKey, new: SignerKey, time_seconds: int) -> Rotation:
    """Return that one key followed another at a time."""
    made, _ = sign_rotation(old, new, old_not_after_seconds=time_seconds, new_not_before_seconds=time_seconds)
    return made


class TestToday:
    """Keys that are in use."""

    def test_quorum(self) -> None:
        """A checkpoint that the log signed and a quorum cosigned is believed, with who and when."""
        trusted = verify_checkpoint(cosigned({3: SIGNED + 9, 1: SIGNED}), reader(), origin=ORIGIN)
        assert (trusted.checkpoint, trusted.log_key, trusted.left_out) == (CHECKPOINT, LOG.verifier, ())
        assert [(one.witness, one.time_seconds) for one in trusted.cosignatures] == [("W1", SIGNED), ("W3", SIGNED + 9)]
        assert trusted.quorum_time_seconds == SIGNED + 9

    def test_time_of_the_quorum(self) -> None:
        """The time is the one by which enough had seen it, not the last one's."""
        trusted = verify_checkpoint(cosigned({1: 10, 2: 30, 3: 20}), reader())
        assert trusted.quorum_time_seconds == 20

    def test_too_few(self) -> None:
        """One of two is no quorum, and the error says who did cosign."""
        with pytest.raises(QuorumMissing, match="W2 cosigned"):
            verify_checkpoint(cosigned({2: SIGNED}), reader())
        with pytest.raises(QuorumMissing, match="nobody cosigned"):
            verify_checkpoint(cosigned({}), reader())

    def test_strangers_do_not_count(self) -> None:
        """Cosignatures of witnesses that the policy does not know change nothing."""
        with pytest.raises(QuorumMissing):
            verify_checkpoint(cosigned({1: SIGNED, 8: SIGNED, 9: SIGNED}), reader())

    def test_one_witness_counts_once(self) -> None:
        """A witness that signs twice is still one."""
        note = cosigned({1: SIGNED}) + cosignature_line(CHECKPOINT, witness(1), SIGNED + 1)
        with pytest.raises(QuorumMissing):
            verify_checkpoint(note, reader())

    def test_no_quorum_asked_for(self) -> None:
        """With `quorum none` the log's signature is enough, and there is no time."""
        assert verify_checkpoint(cosigned({}), reader(policy(0))).quorum_time_seconds is None

    def test_a_wrong_cosignature_refuses_it(self) -> None:
        """A cosignature of another checkpoint in a known witness's name refuses the whole, even with a quorum."""
        line = cosignature_line(replace(CHECKPOINT, size=43), witness(3), SIGNED)
        with pytest.raises(SignatureInvalid):
            verify_checkpoint(cosigned({1: SIGNED, 2: SIGNED}) + line, reader())

    def test_another_log(self) -> None:
        """A checkpoint of another log than the one asked for is refused, whoever signed it."""
        with pytest.raises(OriginDiffers):
            verify_checkpoint(cosigned({1: SIGNED, 2: SIGNED}), reader(), origin=f"{ORIGIN}/acme")

    def test_origin_in_anothers_name(self) -> None:
        """A known log cannot sign for another origin: the key's name and the origin have to agree."""
        other = signer("other.example")
        both = replace(policy(0), logs=(Log(LOG.verifier), Log(other.verifier)))
        with pytest.raises(SignatureMissing, match=ORIGIN):
            verify_checkpoint(sign_note(CHECKPOINT.pack(), [other]), reader(both))
        assert verify_checkpoint(sign_note(CHECKPOINT.pack(), [other, LOG]), reader(both)).log_key == LOG.verifier

    def test_witnesses_alone(self) -> None:
        """Without the log's own signature no quorum helps."""
        note = sign_note(CHECKPOINT.pack(), [witness(1), witness(2)], time_seconds=SIGNED)
        with pytest.raises(SignatureMissing):
            verify_checkpoint(note, reader())

    def test_ml_dsa(self) -> None:
        """A log and a witness may sign by ML-DSA-44; extension lines, which that does not cover, are then refused."""
        log = signer(ORIGIN, KeyType.COSIGNATURE_ML_DSA_44)
        cosigner = signer("w.example", KeyType.COSIGNATURE_ML_DSA_44)
        known = Policy((Log(log.verifier),), (Witness("W", cosigner.verifier),), (), "W")
        note = sign_note(CHECKPOINT.pack(), [log, cosigner], time_seconds=SIGNED)
        assert verify_checkpoint(note, reader(known)).quorum_time_seconds == SIGNED
        extended = note.replace(b"\n\n", b"\nanything\n\n", 1)
        with pytest.raises(CheckpointInvalid, match="does not cover"):
            verify_checkpoint(extended, reader(known))

    def test_extension_lines_that_are_covered(self) -> None:
        """An Ed25519 signature covers extension lines."""
        extended = replace(CHECKPOINT, extensions=("anything",))
        assert verify_checkpoint(cosigned({}, checkpoint=extended), reader(policy(0))).checkpoint == extended


class TestClock:
    """Bounds of times."""

    @pytest.mark.parametrize(
        ("ahead_seconds", "counts"), [(0, True), (CLOCK_SKEW_SECONDS, True), (CLOCK_SKEW_SECONDS + 1, False)]
    )
    def test_future(self, ahead_seconds: int, counts: bool) -> None:
        """A cosignature from further in the future than clocks differ does not count."""
        note = cosigned({1: SIGNED, 2: NOW_SECONDS + ahead_seconds})
        if counts:
            assert len(verify_checkpoint(note, reader()).cosignatures) == 2
        else:
            with pytest.raises(QuorumMissing, match=r"W2 .*future"):
                verify_checkpoint(note, reader())

    def test_fresh(self) -> None:
        """Who asks for a fresh checkpoint does not get an old one."""
        fresh = replace(reader(), cosigned_since_seconds=SIGNED)
        assert verify_checkpoint(cosigned({1: SIGNED, 2: SIGNED}), fresh)
        with pytest.raises(QuorumMissing, match=r"W2 cosigned at .*before"):
            verify_checkpoint(cosigned({1: SIGNED, 2: SIGNED - 1}), fresh)

    def test_no_time(self) -> None:
        """A cosignature by ML-DSA-44 that leaves out its time says nothing of when: it does not count."""
        private_key = MLDSA44PrivateKey.generate()
        cosigner = SignerKey("w.example", KeyType.COSIGNATURE_ML_DSA_44, private_key)
        known = Policy((Log(LOG.verifier),), (Witness("W", cosigner.verifier),), (), "W")
        with pytest.raises(QuorumMissing, match="does not say when"):
            verify_checkpoint(cosigned({}) + timeless(cosigner, private_key), reader(known))


def timeless(key: SignerKey, private_key: MLDSA44PrivateKey) -> bytes:
    """Return the line of a cosignature by ML-DSA-44 with the time 0."""
    message = ml_dsa_message(CHECKPOINT.pack(), 0, key.verifier.name)
    return Signature(key.verifier.name, key.verifier.key_id, pack_timestamped(0, private_key.sign(message))).pack()


class TestRotation:
    """Keys that follow others."""

    CHANGED = NOW_SECONDS - 10 * DAY_SECONDS
    RECORD = rotation(LOG, NEW_LOG, CHANGED)

    def judge(self, note: bytes, *, existed_by_seconds: int | None = None, judged_by: Policy | None = None) -> object:
        """Verify a note with the record of the log's rotation."""
        judging = reader(judged_by, rotations=[self.RECORD])
        return verify_checkpoint(note, judging, existed_by_seconds=existed_by_seconds).log_key

    def test_the_new_key_counts(self) -> None:
        """Who knows the old key and has the record believes the new one; who has not, does not."""
        note = cosigned({1: SIGNED, 2: SIGNED}, log=NEW_LOG)
        assert self.judge(note) == NEW_LOG.verifier
        with pytest.raises(SignatureMissing):
            verify_checkpoint(note, reader())

    def test_a_policy_with_the_new_key_takes_old_signatures(self) -> None:
        """A policy that was brought up to date still verifies archives, by the record."""
        note = cosigned({1: self.CHANGED - 5, 2: self.CHANGED - 5})
        assert self.judge(note, judged_by=policy(log=NEW_LOG)) == LOG.verifier

    @pytest.mark.parametrize("times", [{1: CHANGED, 2: CHANGED}, {1: CHANGED - 1, 2: CHANGED - 2}])
    def test_an_old_signature_counts_if_a_quorum_dates_it(self, times: dict[int, int]) -> None:
        """Witnesses saw it while the key was in use."""
        assert self.judge(cosigned(times)) == LOG.verifier

    @pytest.mark.parametrize(
        "times", [{1: CHANGED, 2: CHANGED + 1}, {1: SIGNED, 2: SIGNED}, {1: CHANGED + 1, 2: CHANGED + 1, 3: CHANGED}]
    )
    def test_a_thief_of_the_old_key(self, times: dict[int, int]) -> None:
        """What the old key signs later counts for nobody, even if witnesses that missed the rotation cosign it."""
        with pytest.raises(KeyUntimely):
            self.judge(cosigned(times))

    def test_without_witnesses(self) -> None:
        """Where nobody cosigns, only a timestamp from the key's time shows that a signature is from it."""
        note, alone = cosigned({}), policy(0)
        with pytest.raises(KeyUntimely):
            self.judge(note, judged_by=alone)
        with pytest.raises(KeyUntimely):
            self.judge(note, judged_by=alone, existed_by_seconds=self.CHANGED + 1)
        assert self.judge(note, judged_by=alone, existed_by_seconds=self.CHANGED) == LOG.verifier

    def test_not_yet(self) -> None:
        """A key that is to follow does not count before its time."""
        coming = rotation(LOG, NEW_LOG, NOW_SECONDS + DAY_SECONDS)
        with pytest.raises(KeyUntimely):
            verify_checkpoint(cosigned({1: SIGNED, 2: SIGNED}, log=NEW_LOG), reader(rotations=[coming]))
        assert verify_checkpoint(cosigned({1: SIGNED, 2: SIGNED}), reader(rotations=[coming]))

    def test_overlap(self) -> None:
        """While both keys are in use, both count."""
        both, _ = sign_rotation(
            LOG, NEW_LOG, old_not_after_seconds=NOW_SECONDS + DAY_SECONDS, new_not_before_seconds=NOW_SECONDS - 1
        )
        for log in (LOG, NEW_LOG):
            assert verify_checkpoint(cosigned({1: SIGNED, 2: SIGNED}, log=log), reader(rotations=[both]))

    def test_a_log_that_states_a_time(self) -> None:
        """A log's signature by ML-DSA-44 that states a time outside its key's, or in the future, does not count."""
        old, new = (signer(ORIGIN, KeyType.COSIGNATURE_ML_DSA_44, number=number) for number in (0, 1))
        judging = reader(policy(0, log=old), rotations=[rotation(old, new, self.CHANGED)])
        future = NOW_SECONDS + CLOCK_SKEW_SECONDS + 1
        for key, time_seconds, counts in (
            (new, SIGNED, True),
            (new, self.CHANGED - 1, False),
            (new, future, False),
            (old, SIGNED, False),
        ):
            note = sign_note(CHECKPOINT.pack(), [key], time_seconds=time_seconds)
            if counts:
                assert verify_checkpoint(note, judging).log_key == key.verifier
            else:
                with pytest.raises(KeyUntimely):
                    verify_checkpoint(note, judging, existed_by_seconds=self.CHANGED)


class TestWitnessRotation:
    """Witnesses' keys that follow others."""

    CHANGED = NOW_SECONDS - 10 * DAY_SECONDS
    RECORD = rotation(witness(1), witness(1, generation=1), CHANGED)

    def test_the_new_key_is_the_same_witness(self) -> None:
        """A witness cosigns by its new key under its old name, and both keys together are one witness."""
        judging = reader(rotations=[self.RECORD])
        new_line = cosignature_line(CHECKPOINT, witness(1, generation=1), SIGNED)
        assert verify_checkpoint(cosigned({2: SIGNED}) + new_line, judging).quorum_time_seconds == SIGNED
        with pytest.raises(QuorumMissing):
            verify_checkpoint(cosigned({1: self.CHANGED}) + new_line, judging, existed_by_seconds=self.CHANGED)

    def test_a_thief_of_the_old_key_writes_any_time(self) -> None:
        """An old key's own word on the time does not count: only a timestamp over the note shows it."""
        note = cosigned({1: self.CHANGED - 5, 2: SIGNED})
        judging = reader(rotations=[self.RECORD])
        with pytest.raises(QuorumMissing, match=r"W1 .*no longer in use"):
            verify_checkpoint(note, judging)
        with pytest.raises(QuorumMissing, match=r"W1 .*no longer in use"):
            verify_checkpoint(note, judging, existed_by_seconds=self.CHANGED + 1)
        assert verify_checkpoint(note, judging, existed_by_seconds=self.CHANGED)

    def test_a_time_outside_the_keys(self) -> None:
        """A cosignature that states a time in which its key was not in use does not count."""
        judging = reader(rotations=[self.RECORD])
        early = cosigned({2: SIGNED}) + cosignature_line(CHECKPOINT, witness(1, generation=1), self.CHANGED - 1)
        late = cosigned({1: self.CHANGED + 1, 2: SIGNED})
        for note in (early, late):
            with pytest.raises(QuorumMissing, match="not in use then"):
                verify_checkpoint(note, judging, existed_by_seconds=self.CHANGED)

    def test_two_witnesses_with_one_key(self) -> None:
        """A key that the records give to two witnesses of the policy would count twice: refused."""
        one, two = witness(1).renamed("same.example"), witness(2).renamed("same.example")
        known = Policy((Log(LOG.verifier),), (Witness("A", one.verifier), Witness("B", two.verifier)), (), "A")
        judging = reader(known, rotations=[rotation(one, two, self.CHANGED)])
        with pytest.raises(HistoryForked, match="two witnesses"):
            verify_checkpoint(cosigned({}), judging)


class TestEightYearsLater:
    """An archive is verified when all its keys are gone."""

    RECORDS = (
        rotation(LOG, NEW_LOG, LONG_AGO + YEAR_SECONDS),
        *(rotation(witness(n), witness(n, generation=1), LONG_AGO + YEAR_SECONDS) for n in (1, 2, 3)),
    )
    READER = reader(rotations=RECORDS)
    NOTE = cosigned({1: LONG_AGO, 2: LONG_AGO})

    def test_with_a_timestamp(self) -> None:
        """A timestamp from the time of its keys is enough."""
        trusted = verify_checkpoint(self.NOTE, self.READER, existed_by_seconds=LONG_AGO + DAY_SECONDS)
        assert (trusted.log_key, trusted.quorum_time_seconds) == (LOG.verifier, LONG_AGO)

    def test_without_one(self) -> None:
        """Without it nobody can tell the archive from what the thieves of all old keys would write."""
        with pytest.raises((QuorumMissing, KeyUntimely)):
            verify_checkpoint(self.NOTE, self.READER)

    def test_forged(self) -> None:
        """Who stole all old keys cannot get a timestamp from then."""
        forged = cosigned({1: LONG_AGO, 2: LONG_AGO}, checkpoint=Checkpoint(ORIGIN, 42, bytes(32)))
        with pytest.raises((QuorumMissing, KeyUntimely)):
            verify_checkpoint(forged, self.READER, existed_by_seconds=NOW_SECONDS)


def test_a_reader_brings_everything() -> None:
    """A reader without records and bounds believes keys as they are in his policy."""
    plain = Reader(policy(), NOW_SECONDS)
    assert (plain.clock_skew_seconds, plain.cosigned_since_seconds) == (CLOCK_SKEW_SECONDS, 0)
    assert isinstance(plain.history, KeyHistory)
    assert verify_checkpoint(cosigned({1: SIGNED, 2: SIGNED}), plain)
