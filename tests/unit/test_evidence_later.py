"""A proof in an archive: eight years later all keys are gone, and one was stolen. The genuine one holds, no forged one.

The clock is moved, and nothing else: what is stamped, is stamped by a real authority now, and judged eight years later.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from sealstream.schemas.errors import (
    HistoryForked,
    KeyUntimely,
    QuorumMissing,
    SealstreamError,
    TimestampInvalid,
    TimestampUntrusted,
)
from sealstream.schemas.evidence import Evidence, ProofLevel, verify_proof
from sealstream.schemas.key_history import KeyHistory, Rotation, sign_rotation
from sealstream.schemas.note_key import SignerKey
from sealstream.schemas.policy import Policy
from sealstream.schemas.proof_file import ProofFile
from sealstream.schemas.trust import Reader
from support.notes import LOG, ORIGIN, cosigned, policy, signer, witness
from support.sealproofs import INSTANCE, TENANT, Instance, chain
from support.timestamping import Authority, make_authority

DAY: Final = 86_400
YEAR: Final = 365 * DAY
NEW_LOG: Final = signer(ORIGIN, number=1)


@dataclass(frozen=True)
class Archive:
    """A proof and what was over it, made now; and the same that a thief makes of the old keys, years later."""

    made_seconds: int
    authority: Authority
    proof: ProofFile
    forged: ProofFile

    def reader(self, *rotations: Rotation, years: float = 8, judged_by: Policy | None = None) -> Reader:
        """Return who verifies so many years after the proof was made, with the rotations that he knows."""
        return Reader(judged_by or policy(), self.made_seconds + int(years * YEAR), KeyHistory(rotations))

    def judge(self, proof: ProofFile, reader: Reader, *, roots: bytes | None = None) -> Evidence:
        """Verify a proof file, by the authority's root unless others are given."""
        return verify_proof(proof, reader, timestamp_roots=roots or self.authority.roots_pem)

    def rotated(self, old: SignerKey, new: SignerKey, *, days: float = 365) -> Rotation:
        """Return that one key followed another so many days after the proof was made."""
        at = self.made_seconds + int(days * DAY)
        return sign_rotation(old, new, old_not_after_seconds=at, new_not_before_seconds=at)[0]

    @property
    def all_gone(self) -> tuple[Rotation, ...]:
        """A year later the log and all witnesses have other keys."""
        return (
            self.rotated(LOG, NEW_LOG),
            *(self.rotated(witness(number), witness(number, generation=1)) for number in (1, 2, 3)),
        )


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A proof of now with a timestamp, whose authority's certificate ends next month."""
    soon = datetime.now(UTC) + timedelta(days=30)
    authority = make_authority(tmp_path_factory.mktemp("archive") / "authority", not_after=soon)
    now = int(time.time())
    note = INSTANCE.note(5, {1: now, 2: now})
    forged = Instance((chain(TENANT, 21, received_seconds=1_000), *INSTANCE.chains[1:]), INSTANCE.sizes)
    return Archive(
        now,
        authority,
        INSTANCE.proof(15, note=note, timestamps=[authority.stamp(note)]),
        forged.proof(15, note=forged.note(5, {1: now, 2: now})),
    )


def without_timestamp(proof: ProofFile) -> ProofFile:
    """Return a proof without its timestamps."""
    return replace(proof, rooted=replace(proof.rooted, timestamps=()))


class TestGenuine:
    """What holds eight years later, and what has to be in the file for it."""

    def test_today(self, archive: Archive) -> None:
        """A timestamp makes a witnessed proof an anchored one, and says by when it was there."""
        evidence = archive.judge(archive.proof, archive.reader(years=0))
        assert evidence.level is ProofLevel.ANCHORED
        stamped = [one for one in evidence.existed_by if one.timestamp]
        assert [one.by for one in stamped] == [archive.authority.name]
        assert archive.made_seconds <= stamped[0].time_seconds <= archive.made_seconds + 120

    def test_all_keys_gone(self, archive: Archive) -> None:
        """With log and witnesses rotated, and the authority's certificate at its end, the timestamp carries it all."""
        evidence = archive.judge(archive.proof, archive.reader(*archive.all_gone))
        assert (evidence.level, evidence.trusted.log_key) == (ProofLevel.ANCHORED, LOG.verifier)

    def test_a_policy_of_then(self, archive: Archive) -> None:
        """A reader whose policy has the new keys verifies the archive by the same records."""
        members = tuple(
            replace(one, key=witness(number, generation=1).verifier) for number, one in enumerate(policy().witnesses, 1)
        )
        today = replace(policy(log=NEW_LOG), witnesses=members)
        reader = archive.reader(*archive.all_gone, judged_by=today)
        assert archive.judge(archive.proof, reader).level is ProofLevel.ANCHORED

    def test_log_gone_alone(self, archive: Archive) -> None:
        """Where only the log has another key, the witnesses alone show that the old one signed in its time."""
        proof = without_timestamp(archive.proof)
        evidence = archive.judge(proof, archive.reader(archive.rotated(LOG, NEW_LOG)))
        assert evidence.level is ProofLevel.WITNESSED

    def test_one_witness_gone(self, archive: Archive) -> None:
        """A witness whose key has gone needs the timestamp; a quorum of the others does not."""
        reader = archive.reader(archive.rotated(witness(1), witness(1, generation=1)))
        assert archive.judge(archive.proof, reader).level is ProofLevel.ANCHORED
        with pytest.raises(QuorumMissing, match=r"W1 .*no longer in use"):
            archive.judge(without_timestamp(archive.proof), reader)
        note = INSTANCE.note(5, {1: archive.made_seconds, 2: archive.made_seconds, 3: archive.made_seconds})
        assert archive.judge(INSTANCE.proof(15, note=note), reader).level is ProofLevel.WITNESSED

    def test_without_a_timestamp(self, archive: Archive) -> None:
        """Without one nobody can tell the archive from what thieves of all old keys would write: not judged."""
        with pytest.raises(KeyUntimely):
            archive.judge(without_timestamp(archive.proof), archive.reader(*archive.all_gone))

    def test_earlier_state(self, archive: Archive) -> None:
        """The earlier checkpoint needs a timestamp of its own for its old keys."""
        note = INSTANCE.note(4, {1: archive.made_seconds - 60, 2: archive.made_seconds - 50})
        stamped = INSTANCE.earlier(5, 4, note=note, timestamps=[archive.authority.stamp(note)])
        reader = archive.reader(*archive.all_gone)
        evidence = archive.judge(replace(archive.proof, earlier=stamped), reader)
        assert [one.time_seconds - archive.made_seconds for one in evidence.absent_at] == [-60, -50]
        with pytest.raises(KeyUntimely):
            archive.judge(replace(archive.proof, earlier=INSTANCE.earlier(5, 4, note=note)), reader)

    def test_not_judged(self, archive: Archive) -> None:
        """Who gives no roots gets the level that the witnesses carry, and is told that there is a timestamp."""
        evidence = verify_proof(archive.proof, archive.reader(years=0))
        assert evidence.level is ProofLevel.WITNESSED
        assert any("not judged" in words for words in evidence.not_proven)
        assert not any(one.timestamp for one in evidence.existed_by)

    def test_log_alone(self, archive: Archive) -> None:
        """Without witnesses a timestamp says by when, but a policy that asks for none reaches no higher level."""
        evidence = archive.judge(archive.proof, archive.reader(judged_by=policy(0)))
        assert evidence.level is ProofLevel.CHECKPOINT
        assert [one.timestamp for one in evidence.existed_by] == [True]


class TestThief:
    """What a thief makes, with which keys, and why it does not hold."""

    def stamped(self, archive: Archive, proof: ProofFile) -> ProofFile:
        """Return a thief's proof with the timestamp that he gets: one of later."""
        token = archive.authority.stamp(proof.rooted.note)
        return replace(proof, rooted=replace(proof.rooted, timestamps=(token,)))

    def test_all_old_keys_backdated(self, archive: Archive) -> None:
        """All old keys, with cosignatures backdated into their time, prove nothing: nobody outside saw them then."""
        with pytest.raises(KeyUntimely):
            archive.judge(archive.forged, archive.reader(*archive.all_gone))

    def test_a_timestamp_of_later(self, archive: Archive) -> None:
        """A timestamp that he gets after the keys went shows that they signed too late."""
        gone_before = tuple(
            archive.rotated(old, new, days=-1)
            for old, new in ((LOG, NEW_LOG), *((witness(n), witness(n, generation=1)) for n in (1, 2, 3)))
        )
        backdated = archive.made_seconds - 2 * DAY
        note = INSTANCE.note(5, {1: backdated, 2: backdated})
        with pytest.raises(KeyUntimely):
            archive.judge(self.stamped(archive, INSTANCE.proof(15, note=note)), archive.reader(*gone_before))

    def test_somebody_elses_timestamp(self, archive: Archive) -> None:
        """The genuine proof's timestamp under the forged checkpoint is one over other bytes."""
        moved = replace(
            archive.forged, rooted=replace(archive.forged.rooted, timestamps=archive.proof.rooted.timestamps)
        )
        with pytest.raises(TimestampInvalid, match="other bytes"):
            archive.judge(moved, archive.reader(*archive.all_gone))

    def test_an_authority_of_his_own(self, archive: Archive, tmp_path: Path) -> None:
        """An authority that he made himself counts for nobody who does not trust it, whatever time it writes."""
        own = make_authority(tmp_path / "own", "Own TSA")
        token = own.stamp(archive.forged.rooted.note)
        proof = replace(archive.forged, rooted=replace(archive.forged.rooted, timestamps=(token,)))
        with pytest.raises(TimestampUntrusted):
            archive.judge(proof, archive.reader(*archive.all_gone))
        both = own.roots_pem + archive.authority.roots_pem
        assert archive.judge(proof, archive.reader(*archive.all_gone), roots=both)  # why roots are the reader's own

    def test_one_bad_timestamp_of_two(self, archive: Archive, tmp_path: Path) -> None:
        """A timestamp that does not verify is an error, and is not passed over for a good one."""
        token = make_authority(tmp_path / "own", "Own TSA").stamp(archive.proof.rooted.note)
        both = (*archive.proof.rooted.timestamps, token)
        with pytest.raises(TimestampUntrusted):
            archive.judge(
                replace(archive.proof, rooted=replace(archive.proof.rooted, timestamps=both)), archive.reader()
            )

    def test_stolen_log_key(self, archive: Archive) -> None:
        """The log's old key alone, with whatever the witnesses' new ones cosign later, is too late."""
        later = archive.made_seconds + 2 * YEAR
        forged = Instance((chain(TENANT, 21, received_seconds=1_000), *INSTANCE.chains[1:]), INSTANCE.sizes)
        proof = forged.proof(15, note=forged.note(5, {1: later, 2: later}, generation=1))
        with pytest.raises(KeyUntimely):
            archive.judge(proof, archive.reader(*archive.all_gone))

    def test_stolen_log_key_that_is_still_in_use(self, archive: Archive) -> None:
        """With the log's key and one witness's, a thief has no quorum of two, whatever time he writes."""
        note = cosigned({1: archive.made_seconds}, checkpoint=INSTANCE.checkpoint(5))
        with pytest.raises(QuorumMissing):
            archive.judge(INSTANCE.proof(15, note=note), archive.reader())

    def test_a_record_of_his_own(self, archive: Archive) -> None:
        """Another record of the old key that he made contradicts the genuine one: both together are refused."""
        with pytest.raises(HistoryForked):
            archive.reader(*archive.all_gone, archive.rotated(LOG, signer(ORIGIN, number=9)))

    def test_a_timestamp_of_the_future(self, archive: Archive) -> None:
        """Who judges as of before the timestamp is told so."""
        with pytest.raises(TimestampUntrusted, match="future"):
            archive.judge(archive.proof, archive.reader(years=-1))

    def test_log_and_quorum_in_one_hand(self, archive: Archive) -> None:
        """Against who has the log's key and a quorum's while they are in use, no file helps: that is said."""
        evidence = archive.judge(archive.forged, archive.reader(years=0))
        assert evidence.level is ProofLevel.WITNESSED
        assert any("one hand" in words for words in evidence.not_proven)


def test_every_byte_of_a_timestamp(archive: Archive) -> None:
    """A changed byte of a timestamp is refused, or is none of what the authority signed: the time stays the same."""
    (token,) = archive.proof.rooted.timestamps
    reader = archive.reader(years=0)
    wanted = archive.judge(archive.proof, reader).existed_by
    for place in range(0, len(token), 7):
        changed = token[:place] + bytes((token[place] ^ 0x04,)) + token[place + 1 :]
        proof = replace(archive.proof, rooted=replace(archive.proof.rooted, timestamps=(changed,)))
        try:
            found = archive.judge(proof, reader).existed_by
        except SealstreamError:
            continue
        assert [one.time_seconds for one in found] == [one.time_seconds for one in wanted]
