"""A witness's answers, rule by rule of C2SP tlog-witness."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import PolicyInvalid
from sealstream.schemas.key_history import KeyHistory, sign_rotation
from sealstream.schemas.notation import encode_base64
from sealstream.schemas.note import Signature, sign_note, verify_note
from sealstream.schemas.note_key import KeyType, SignerKey
from sealstream.schemas.policy import Policy
from sealstream.sinks.witness.beginning import Beginning
from sealstream.sinks.witness.protocol import (
    BODY_BYTES_MAX,
    PROOF_LINES_MAX,
    STATUS,
    AddCheckpoint,
    KnownLogs,
    Reason,
    Refusal,
)
from support.notes import DAY_SECONDS, LOG, NOW_SECONDS, ORIGIN, cosignature_line, signer, witness
from support.witnessing import (
    ML_DSA_WITNESS,
    WITNESS,
    WitnessedLog,
    cosign,
    open_cosigner,
    open_memory,
    policy_of,
    request_body,
)

LOG_OF_20 = WitnessedLog.of(20)
HASH = b"\x07" * 32


def refusal(path: Path, body: bytes, *, remembered: int | None = 7, **cosigner: object) -> Refusal:
    """Return why a witness that remembers the log at a size refuses a request.

    Arguments:
        path: Where its memory is.
        body: The request.
        remembered: That size; ``None`` for a witness that remembers nothing.
        cosigner: What it is otherwise like.
    """
    memory = open_memory(path / "witness.sqlite")
    try:
        if remembered is not None:
            cosign(open_cosigner(memory), LOG_OF_20.body(0, remembered))
        before = memory.log(ORIGIN)
        asked = open_cosigner(memory, **cosigner)  # type: ignore[arg-type]  # what the caller says
        with pytest.raises(Refusal) as caught:
            cosign(asked, body)
        assert memory.log(ORIGIN) == before  # nothing that is refused is remembered
    finally:
        memory.close()
    return caught.value


def told(error: Refusal) -> tuple[Reason, int]:
    """Return a refusal's word and status."""
    return error.reason, error.status


class TestTaken:
    """What is cosigned."""

    @pytest.mark.parametrize("key", [WITNESS, ML_DSA_WITNESS], ids=["ed25519", "ml-dsa-44"])
    def test_cosignature_verifies(self, tmp_path: Path, key: SignerKey) -> None:
        """The line goes below the checkpoint as it is, verifies by the witness's key, and says when."""
        memory = open_memory(tmp_path / "witness.sqlite", key)
        line = cosign(open_cosigner(memory, key=key), LOG_OF_20.body(0, 7))
        verified = verify_note(LOG_OF_20.note(7) + line, [key.verifier])
        assert [one.time_seconds for one in verified.verified] == [NOW_SECONDS]
        memory.close()

    def test_growth(self, tmp_path: Path) -> None:
        """From each size to each larger one, and to the same again: whatever the log proves is taken."""
        for old_size in range(9):
            memory = open_memory(tmp_path / f"{old_size}.sqlite")
            cosigner = open_cosigner(memory)
            cosign(cosigner, LOG_OF_20.body(0, old_size))
            for before, after in ((old_size, old_size), (old_size, old_size + 5), (old_size + 5, 20)):
                assert cosign(cosigner, LOG_OF_20.body(before, after)).startswith("— w.example".encode())
            memory.close()

    def test_empty_log(self, tmp_path: Path) -> None:
        """A log can be witnessed from its very beginning: the empty tree, as often as one likes, and what follows."""
        memory = open_memory(tmp_path / "witness.sqlite")
        cosigner = open_cosigner(memory)
        for old_size, size in ((0, 0), (0, 0), (0, 3)):
            assert cosign(cosigner, LOG_OF_20.body(old_size, size))
        memory.close()

    def test_other_signatures_do_not_matter(self, tmp_path: Path) -> None:
        """Lines of other keys, also forged ones in this or another witness's name, or in that of another log that it
        knows, change nothing and go no further.
        """
        memory, second = open_memory(tmp_path / "witness.sqlite"), signer("other.example/audit")
        other = WitnessedLog.of(7).checkpoint(6)
        more = cosignature_line(other, WITNESS, NOW_SECONDS) + cosignature_line(other, witness(1), NOW_SECONDS)
        more += Signature(second.verifier.name, second.verifier.key_id, b"\x01" * 64).pack()
        line = cosign(open_cosigner(memory, policy=policy_of(LOG, second)), LOG_OF_20.body(0, 7, more=more))
        state = memory.log(ORIGIN)
        assert state is not None
        assert state.note == LOG_OF_20.note(7) + line
        memory.close()

    def test_following_key(self, tmp_path: Path) -> None:
        """A log whose key was rotated goes on under the new key, and not under the old one."""
        new = signer(ORIGIN, number=1)
        rotation, _ = sign_rotation(
            LOG, new, old_not_after_seconds=NOW_SECONDS - 1, new_not_before_seconds=NOW_SECONDS - DAY_SECONDS
        )
        memory = open_memory(tmp_path / "witness.sqlite")
        cosigner = open_cosigner(memory, rotations=[rotation])
        with pytest.raises(Refusal, match="not in use") as caught:
            cosign(cosigner, LOG_OF_20.body(0, 7))
        assert told(caught.value) == (Reason.UNSIGNED, 403)
        assert cosign(cosigner, WitnessedLog.of(20, new).body(0, 7))
        memory.close()


class TestMalformed:
    """400: what is no request."""

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"old 7\n",
            b"old 7\n" + LOG_OF_20.note(9),
            LOG_OF_20.body(7, 9).replace(b"old 7", b"old 07"),
            LOG_OF_20.body(7, 9).replace(b"old 7", b"old -7"),
            LOG_OF_20.body(7, 9).replace(b"old 7", b"old 7 "),
            LOG_OF_20.body(7, 9).replace(b"old 7", b"old  7"),
            LOG_OF_20.body(7, 9).replace(b"old 7", b"old 9223372036854775808"),
            LOG_OF_20.body(7, 9).replace(b"old 7", b"size 7"),
            LOG_OF_20.body(7, 9).replace(b"\n", b"\r\n"),
            LOG_OF_20.body(7, 9)[:-1],
            LOG_OF_20.body(7, 9) + b"\n",
            request_body(7, [HASH[:31]], LOG_OF_20.note(9)),
            request_body(7, [HASH], LOG_OF_20.note(9)).replace(encode_base64(HASH), b"!" * 44),
            request_body(7, [HASH], LOG_OF_20.note(9)).replace(encode_base64(HASH), encode_base64(HASH)[:-1]),
            request_body(7, [HASH] * (PROOF_LINES_MAX + 1), LOG_OF_20.note(9)),
            request_body(7, [], LOG_OF_20.checkpoint(9).pack()),
            request_body(7, [], sign_note(b"no checkpoint\n", [LOG])),
        ],
    )
    def test_body(self, tmp_path: Path, body: bytes) -> None:
        """A body that is cut, padded, or not in the one form of its numbers and hashes, is none."""
        assert told(refusal(tmp_path, body)) == (Reason.MALFORMED, 400)

    def test_longest_proof(self) -> None:
        """A proof of as many lines as are allowed is read."""
        body = request_body(7, [HASH] * PROOF_LINES_MAX, LOG_OF_20.note(9))
        assert len(AddCheckpoint.parse(body).proof) == PROOF_LINES_MAX

    @given(st.integers(0, len(LOG_OF_20.body(7, 9)) - 1), st.integers(0, 255))
    def test_any_byte(self, place: int, byte: int) -> None:
        """Whatever one byte of a request becomes, it is read or refused, and nothing else happens."""
        body = bytearray(LOG_OF_20.body(7, 9))
        body[place] = byte
        status = 200
        try:
            AddCheckpoint.parse(bytes(body))
        except Refusal as error:
            status = error.status
        assert status in (200, 400)

    def test_too_large(self) -> None:
        """A request beyond the largest one has a status of its own."""
        with pytest.raises(Refusal) as caught:
            AddCheckpoint.parse(LOG_OF_20.body(7, 9) + b"x" * BODY_BYTES_MAX)
        assert told(caught.value) == (Reason.TOO_LARGE, 413)

    def test_old_larger_than_checkpoint(self, tmp_path: Path) -> None:
        """400: a log that would shrink does not even ask rightly."""
        assert told(refusal(tmp_path, request_body(7, [], LOG_OF_20.note(6)))) == (Reason.OLD_LARGER, 400)


class TestWhose:
    """403 and 404: whose checkpoint it is."""

    def test_unknown_log(self, tmp_path: Path) -> None:
        """404: a log that is not in the policy."""
        other = WitnessedLog.of(20, signer("other.example/audit"))
        assert told(refusal(tmp_path, other.body(0, 7))) == (Reason.UNKNOWN_LOG, 404)

    @pytest.mark.parametrize(
        "note",
        [
            sign_note(LOG_OF_20.checkpoint(9).pack(), [signer(ORIGIN, number=1)]),
            sign_note(LOG_OF_20.checkpoint(9).pack(), [WITNESS], time_seconds=NOW_SECONDS),
            sign_note(LOG_OF_20.checkpoint(9).pack(), [signer("other.example/audit")]),
            LOG_OF_20.checkpoint(9).pack() + LOG_OF_20.note(8)[len(LOG_OF_20.checkpoint(8).pack()) :],
        ],
        ids=["another-key", "a-witness", "another-log", "of-another-text"],
    )
    def test_not_signed_by_the_log(self, tmp_path: Path, note: bytes) -> None:
        """403: no signature by a known key of the log, or one in its name that does not verify."""
        body = request_body(7, [], note)
        policy = policy_of(LOG, signer("other.example/audit"))
        assert told(refusal(tmp_path, body, policy=policy)) == (Reason.UNSIGNED, 403)

    def test_wrong_line_beside_a_right_one(self, tmp_path: Path) -> None:
        """403: a note with a wrong signature by a known key is no note, whatever stands beside it."""
        second = signer(ORIGIN, number=1)
        wrong = Signature(ORIGIN, second.verifier.key_id, b"\x01" * 64).pack()
        body = LOG_OF_20.body(7, 9, more=wrong)
        assert told(refusal(tmp_path, body, policy=policy_of(LOG, second))) == (Reason.UNSIGNED, 403)

    def test_log_signed_by_ml_dsa_with_extension_lines(self, tmp_path: Path) -> None:
        """403: lines of a checkpoint that its log's signature does not cover could be anybody's."""
        key = signer(ORIGIN, KeyType.COSIGNATURE_ML_DSA_44)
        checkpoint = Checkpoint(ORIGIN, 9, LOG_OF_20.checkpoint(9).root, ("more",))
        body = request_body(0, [], sign_note(checkpoint.pack(), [key], time_seconds=NOW_SECONDS))
        assert told(refusal(tmp_path, body, policy=policy_of(key), remembered=None)) == (Reason.UNSIGNED, 403)

    def test_policy_without_logs(self) -> None:
        """A witness that knows no log does not start."""
        with pytest.raises(PolicyInvalid, match="no log"):
            KnownLogs(Policy((), (), (), "none"), KeyHistory())


class TestConsistent:
    """409 and 422: whether it grows out of what is remembered."""

    @pytest.mark.parametrize(("old_size", "size"), [(0, 9), (0, 0), (5, 9), (8, 9), (6, 7)])
    def test_other_old_size(self, tmp_path: Path, old_size: int, size: int) -> None:
        """409: the log learns the size that is remembered, whatever proof it has brought."""
        error = refusal(tmp_path, LOG_OF_20.body(old_size, size))
        assert (*told(error), error.size) == (Reason.OLD_SIZE, 409, 7)

    def test_nothing_remembered(self, tmp_path: Path) -> None:
        """409: to a log that continues what this witness never saw, it says 0."""
        error = refusal(tmp_path, LOG_OF_20.body(7, 9), remembered=None)
        assert (*told(error), error.size) == (Reason.OLD_SIZE, 409, 0)

    def test_other_root_of_the_same_size(self, tmp_path: Path) -> None:
        """422: two roots of one size."""
        assert told(refusal(tmp_path, LOG_OF_20.fork(3).body(7, 7))) == (Reason.FORK, 422)

    def test_proof_for_the_same_size(self, tmp_path: Path) -> None:
        """422: a tree needs no proof that it is itself, so there is none that verifies."""
        assert told(refusal(tmp_path, request_body(7, [HASH], LOG_OF_20.note(7)))) == (Reason.PROOF, 422)

    def test_another_history(self, tmp_path: Path) -> None:
        """422: a tree that does not begin with the leaves of the one that is remembered."""
        assert told(refusal(tmp_path, LOG_OF_20.fork(3).body(7, 9))) == (Reason.PROOF, 422)

    def test_each_hash_counts(self, tmp_path: Path) -> None:
        """422: a proof with one hash changed, one too few, or one too many."""
        proof = AddCheckpoint.parse(LOG_OF_20.body(7, 20)).proof
        wrong = [(*proof[:place], HASH, *proof[place + 1 :]) for place in range(len(proof))]
        for number, given_proof in enumerate([*wrong, proof[:-1], (*proof, HASH), ()]):
            folder = tmp_path / str(number)
            folder.mkdir()
            body = request_body(7, given_proof, LOG_OF_20.note(20))
            assert told(refusal(folder, body)) == (Reason.PROOF, 422)

    @pytest.mark.parametrize("remembered", [None, 0])
    def test_proof_from_nothing(self, tmp_path: Path, remembered: int | None) -> None:
        """422: from size 0 there is nothing to prove."""
        body = request_body(0, [HASH], LOG_OF_20.note(9))
        assert told(refusal(tmp_path, body, remembered=remembered)) == (Reason.PROOF, 422)

    @pytest.mark.parametrize("remembered", [None, 0])
    def test_size_0_with_another_root(self, tmp_path: Path, remembered: int | None) -> None:
        """422: an empty tree has one root."""
        body = request_body(0, [], sign_note(Checkpoint(ORIGIN, 0, HASH).pack(), [LOG]))
        assert told(refusal(tmp_path, body, remembered=remembered)) == (Reason.EMPTY_ROOT, 422)

    @pytest.mark.parametrize(("old_size", "size"), [(0, 0), (0, 1), (0, 7), (7, 9)])
    def test_not_begun(self, tmp_path: Path, old_size: int, size: int) -> None:
        """404: a log of which nothing is remembered is refused whatever it shows, also an empty one, unless the
        operator has said where to begin: who makes a witness lose its memory must not choose its next one.
        """
        error = refusal(tmp_path, LOG_OF_20.body(old_size, size), remembered=None, beginning=Beginning())
        assert told(error) == (Reason.NOT_BEGUN, 404)


def test_every_reason_has_a_status() -> None:
    """No refusal is without an HTTP status, and none of them is a success."""
    assert set(STATUS) == set(Reason)
    assert min(STATUS.values()) >= 400
