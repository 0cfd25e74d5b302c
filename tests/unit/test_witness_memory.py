"""A witness's file: whose it is, where it begins, and that it is never begun silently."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sealstream.schemas.errors import ConfigError, InstanceDiffers
from sealstream.schemas.key_history import KeyHistory, sign_rotation
from sealstream.schemas.note import sign_note
from sealstream.schemas.note_key import KeyType
from sealstream.sinks.witness.beginning import Beginning, begin
from sealstream.sinks.witness.judging import PlainJudge
from sealstream.sinks.witness.memory import Began, Memory
from sealstream.sinks.witness.protocol import KnownLogs, Refusal
from support.notes import LOG, NOW_SECONDS, ORIGIN, cosignature_line, signer
from support.witnessing import (
    ML_DSA_WITNESS,
    WITNESS,
    Clock,
    WitnessedLog,
    cosign,
    open_cosigner,
    open_memory,
    policy_of,
)

LOG_OF_20 = WitnessedLog.of(20)
OTHER = signer("other.example/audit")


def start(memory: Memory, beginning: Beginning = Beginning()) -> None:  # noqa: B008  # it is a value
    """Begin as a witness of one log does at its start."""
    begin(memory, KnownLogs(policy_of(LOG), KeyHistory()), WITNESS, beginning, PlainJudge(), now_seconds=NOW_SECONDS)


class TestOwner:
    """Whose the file is."""

    def test_one_process(self, tmp_path: Path) -> None:
        """A second process, or a second witness in one, does not get a file that is in use."""
        path = tmp_path / "witness.sqlite"
        memory = open_memory(path)
        with pytest.raises(ConfigError, match="in use by another witness"):
            open_memory(path)
        memory.close()
        open_memory(path).close()

    def test_another_key(self, tmp_path: Path) -> None:
        """Another witness's file is refused: two witnesses with one memory are one witness."""
        path = tmp_path / "witness.sqlite"
        open_memory(path).close()
        for other in (signer("w2.example/witness", KeyType.COSIGNATURE), ML_DSA_WITNESS):
            with pytest.raises(InstanceDiffers, match=r"is the memory of w\.example/witness"):
                open_memory(path, other)
        open_memory(path).close()  # whoever was refused has not kept the lock

    def test_rotated_key(self, tmp_path: Path) -> None:
        """A witness whose key was rotated goes on with its file, and not back to the old key."""
        path, new = tmp_path / "witness.sqlite", signer("w.example/witness", KeyType.COSIGNATURE, number=1)
        open_memory(path).close()
        rotation, _ = sign_rotation(WITNESS, new, old_not_after_seconds=NOW_SECONDS, new_not_before_seconds=NOW_SECONDS)
        open_memory(path, new, rotations=[rotation]).close()
        open_memory(path, new).close()
        with pytest.raises(InstanceDiffers):
            open_memory(path, WITNESS, rotations=[rotation])

    def test_something_else(self, tmp_path: Path) -> None:
        """A file of something else is left as it is."""
        path, text = tmp_path / "other.sqlite", tmp_path / "text"
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE other (id INTEGER)")
        connection.close()
        text.write_text("some words that are no database, and are more than a header is long" * 9)
        for file, words in ((path, "no memory of a witness"), (text, "cannot be used")):
            with pytest.raises(ConfigError, match=words):
                open_memory(file)
        assert text.read_text().startswith("some words")

    def test_newer_form(self, tmp_path: Path) -> None:
        """A file of a newer version is not read as if it were one of ours."""
        path = tmp_path / "witness.sqlite"
        open_memory(path).close()
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 2")
        connection.close()
        with pytest.raises(ConfigError, match="has the form 2"):
            open_memory(path)

    def test_no_directory(self, tmp_path: Path) -> None:
        """A place that is not there is a wrong setting, and is not made."""
        with pytest.raises(ConfigError, match="cannot be opened"):
            open_memory(tmp_path / "nowhere" / "witness.sqlite")

    def test_durable(self, tmp_path: Path) -> None:
        """Each commit is written through to the disk before it returns."""
        memory = open_memory(tmp_path / "witness.sqlite")
        with memory.turn() as turn:
            run = turn.connection.execute
            values = [run(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
        memory.close()
        assert values == [2, "wal"]


class TestBeginning:
    """Where a witness begins."""

    def test_nothing_said(self, tmp_path: Path) -> None:
        """An empty memory does not start without a word of its operator, also when it is started again."""
        for _ in range(2):
            memory = open_memory(tmp_path / "witness.sqlite")
            with pytest.raises(ConfigError, match=r"remembers none of the logs demo\.example/audit"):
                start(memory)
            memory.close()

    def test_lost_memory(self, tmp_path: Path) -> None:
        """A witness whose file is gone does not start as it did the day before."""
        memory = open_memory(tmp_path / "witness.sqlite")
        cosign(open_cosigner(memory), LOG_OF_20.body(0, 7))
        start(memory)  # as every day
        memory.close()
        for file in tmp_path.iterdir():
            file.unlink()
        memory = open_memory(tmp_path / "witness.sqlite")
        with pytest.raises(ConfigError, match="remembers none"):
            start(memory)
        memory.close()

    def test_first_use_stays_on_record(self, tmp_path: Path) -> None:
        """That a log was trusted as it came, and when and where, is remembered as long as the log is."""
        memory, clock = open_memory(tmp_path / "witness.sqlite"), Clock()
        start(memory, Beginning(trust_first_use=True))
        cosigner = open_cosigner(memory, clock=clock)
        cosign(cosigner, LOG_OF_20.body(0, 7))
        clock.seconds += 1000
        cosign(cosigner, LOG_OF_20.body(7, 9))
        state = memory.log(ORIGIN)
        memory.close()
        assert state is not None
        assert (state.began, state.began_size, state.began_seconds) == (Began.FIRST_USE, 7, NOW_SECONDS)

    def test_empty_log_is_a_beginning(self, tmp_path: Path) -> None:
        """A log that was witnessed from size 0 on was not trusted in anything: that is on record, too."""
        memory = open_memory(tmp_path / "witness.sqlite")
        cosign(open_cosigner(memory), LOG_OF_20.body(0, 0))
        state = memory.log(ORIGIN)
        memory.close()
        assert state is not None
        assert state.began is Began.BEGINNING

    @pytest.mark.parametrize("option", ["first-use", "checkpoint"])
    def test_options_are_for_once(self, tmp_path: Path, option: str) -> None:
        """An option that was left in a start script is an error, before the day on which it would do harm."""
        memory, file = open_memory(tmp_path / "witness.sqlite"), tmp_path / "checkpoint"
        file.write_bytes(LOG_OF_20.note(7))
        beginning = Beginning(checkpoint=file) if option == "checkpoint" else Beginning(trust_first_use=True)
        start(memory, beginning)
        cosign(open_cosigner(memory), LOG_OF_20.body(0 if option == "first-use" else 7, 9))
        with pytest.raises(ConfigError, match="take it away"):
            start(memory, beginning)
        start(memory)
        memory.close()

    def test_option_again_before_anything_began(self, tmp_path: Path) -> None:
        """A witness that was started to trust what comes first, and saw nothing yet, can be started so again."""
        for _ in range(2):
            memory = open_memory(tmp_path / "witness.sqlite")
            start(memory, Beginning(trust_first_use=True))
            assert memory.origins() == frozenset()
            memory.close()

    def test_second_log(self, tmp_path: Path) -> None:
        """A log that is added to the policy is refused until its beginning is said; the first one goes on."""
        memory, policy = open_memory(tmp_path / "witness.sqlite"), policy_of(LOG, OTHER)
        cosign(open_cosigner(memory), LOG_OF_20.body(0, 7))
        logs = KnownLogs(policy, KeyHistory())
        begin(memory, logs, WITNESS, Beginning(), PlainJudge(), now_seconds=NOW_SECONDS)
        cosigner = open_cosigner(memory, policy=policy, beginning=Beginning())
        cosign(cosigner, LOG_OF_20.body(7, 9))
        with pytest.raises(Refusal, match="not been told where to begin"):
            cosign(cosigner, WitnessedLog.of(3, OTHER).body(0, 3))
        begin(memory, logs, WITNESS, Beginning(trust_first_use=True), PlainJudge(), now_seconds=NOW_SECONDS)
        cosign(open_cosigner(memory, policy=policy), WitnessedLog.of(3, OTHER).body(0, 3))
        assert memory.origins() == {ORIGIN, "other.example/audit"}
        memory.close()


class TestFromCheckpoint:
    """A beginning in the middle."""

    def test_goes_on_from_there(self, tmp_path: Path) -> None:
        """What continues the checkpoint is cosigned, and what does not is refused; nothing of it is served as ours."""
        memory, file = open_memory(tmp_path / "witness.sqlite"), tmp_path / "checkpoint"
        file.write_bytes(LOG_OF_20.note(7))
        start(memory, Beginning(checkpoint=file))
        cosigner = open_cosigner(memory, beginning=Beginning())
        with pytest.raises(Refusal, match="another root"):
            cosign(cosigner, LOG_OF_20.fork(3).body(7, 9))
        cosign(cosigner, LOG_OF_20.body(7, 9))
        state = memory.log(ORIGIN)
        memory.close()
        assert state is not None
        assert (state.began, state.began_size, state.remembered.size) == (Began.CHECKPOINT, 7, 9)

    def test_restores_a_lost_memory(self, tmp_path: Path) -> None:
        """With its own cosignature below it, the checkpoint also restores the time before which nothing is stated."""
        memory, file = open_memory(tmp_path / "witness.sqlite"), tmp_path / "checkpoint"
        later = NOW_SECONDS + 200
        forged = cosignature_line(LOG_OF_20.checkpoint(8), WITNESS, later + 9)
        file.write_bytes(LOG_OF_20.note(7) + cosignature_line(LOG_OF_20.checkpoint(7), WITNESS, later))
        start(memory, Beginning(checkpoint=file))
        state = memory.log(ORIGIN)
        memory.close()
        assert state is not None
        assert (state.time_seconds, state.note) == (later, file.read_bytes())
        file.write_bytes(LOG_OF_20.note(7) + forged)
        second = open_memory(tmp_path / "second.sqlite")
        start(second, Beginning(checkpoint=file))
        state = second.log(ORIGIN)
        second.close()
        assert state is not None
        assert (state.time_seconds, state.note) == (0, LOG_OF_20.note(7))

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"some words\n",
            LOG_OF_20.checkpoint(7).pack(),
            LOG_OF_20.note(7)[:-1],
            sign_note(LOG_OF_20.checkpoint(7).pack(), [signer(ORIGIN, number=1)]),
            WitnessedLog.of(7, OTHER).note(7),
        ],
    )
    def test_none_to_begin_with(self, tmp_path: Path, data: bytes) -> None:
        """A file that no log of the policy has signed is refused, and nothing begins."""
        memory, file = open_memory(tmp_path / "witness.sqlite"), tmp_path / "checkpoint"
        file.write_bytes(data)
        with pytest.raises(ConfigError, match="none to begin with"):
            start(memory, Beginning(checkpoint=file))
        assert memory.origins() == frozenset()
        memory.close()

    def test_no_file(self, tmp_path: Path) -> None:
        """A file that is not there is named."""
        memory = open_memory(tmp_path / "witness.sqlite")
        with pytest.raises(ConfigError, match="cannot be read"):
            start(memory, Beginning(checkpoint=tmp_path / "nowhere"))
        memory.close()
