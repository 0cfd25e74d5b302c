"""What a witness does beside the protocol: clocks, judges, what it keeps of a log that tells two histories."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import (
    CheckpointRefused,
    StoreError,
    TreeDiffers,
    Unreachable,
    WorkerLost,
)
from sealstream.schemas.note import verify_note
from sealstream.sinks.witness.cosigning import Cosigner
from sealstream.sinks.witness.judging import RETRY_AFTER_SECONDS_MAX, Behind
from sealstream.sinks.witness.memory import FORKS_MAX, Memory
from sealstream.sinks.witness.protocol import Reason, Refusal
from support.notes import LOG, NOW_SECONDS, ORIGIN
from support.witnessing import WITNESS, Clock, WitnessedLog, cosign, open_cosigner, open_memory

LOG_OF_20 = WitnessedLog.of(20)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    """A witness's memory."""
    opened = open_memory(tmp_path / "witness.sqlite")
    yield opened
    opened.close()


@dataclass
class ToldJudge:
    """A judge that says what a test wants, and writes into the witness's transaction what he was told."""

    answer: Exception | None = None
    late_answer: Exception | None = None
    asked: list[int] = field(default_factory=list[int])

    def begin(self, checkpoint: Checkpoint) -> None:
        """Be asked, and say it."""
        self.judge(checkpoint)

    def judge(self, checkpoint: Checkpoint) -> None:
        """Say it."""
        self.asked.append(checkpoint.size)
        if self.answer is not None:
            raise self.answer

    def witnessed(self, checkpoint: Checkpoint, connection: sqlite3.Connection) -> None:
        """Write it down, and then maybe change his mind."""
        connection.execute("CREATE TABLE IF NOT EXISTS judge_sizes (size INTEGER)")
        connection.execute("INSERT INTO judge_sizes VALUES (?)", (checkpoint.size,))
        if self.late_answer is not None:
            raise self.late_answer

    def ready(self) -> tuple[bool, str]:
        """Say that he is at it."""
        return False, "reading"

    def close(self) -> None:
        """Do nothing."""


def stated_seconds(size: int, line: bytes) -> int | None:
    """Return the time in a cosignature of the log."""
    return verify_note(LOG_OF_20.note(size) + line, [WITNESS.verifier]).verified[0].time_seconds


def judge_sizes(path: Path) -> list[int]:
    """Return what the judge has written down, as the file has it."""
    connection = sqlite3.connect(path)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'judge_sizes'").fetchone():
            return []
        return [size for (size,) in connection.execute("SELECT size FROM judge_sizes")]
    finally:
        connection.close()


class TestClock:
    """The time in a cosignature."""

    def test_again_is_later(self, memory: Memory) -> None:
        """The same checkpoint is cosigned as often as it is asked for, each time with the time that it is."""
        clock = Clock()
        cosigner = open_cosigner(memory, clock=clock)
        cosign(cosigner, LOG_OF_20.body(0, 7))
        clock.seconds += 60
        assert stated_seconds(7, cosign(cosigner, LOG_OF_20.body(7, 7))) == NOW_SECONDS + 60

    def test_small_step_back(self, memory: Memory) -> None:
        """A clock that was set back a little states the last time again, never an earlier one; also after a restart."""
        clock = Clock()
        cosign(open_cosigner(memory, clock=clock), LOG_OF_20.body(0, 7))
        clock.seconds -= 300
        assert stated_seconds(8, cosign(open_cosigner(memory, clock=clock), LOG_OF_20.body(7, 8))) == NOW_SECONDS

    def test_large_step_back(self, memory: Memory) -> None:
        """A clock that is further behind stops all cosigning, and readiness says so, until it has come back."""
        clock = Clock()
        cosigner = open_cosigner(memory, clock=clock)
        cosign(cosigner, LOG_OF_20.body(0, 7))
        clock.seconds -= 301
        with pytest.raises(Refusal, match="301 s behind") as caught:
            cosign(cosigner, LOG_OF_20.body(7, 8))
        assert (caught.value.reason, caught.value.status, caught.value.retry_after_seconds) == (Reason.CLOCK, 503, 30)
        assert cosigner.ready() == (False, "the clock is behind the time that was cosigned last")
        clock.seconds += 302
        assert stated_seconds(8, cosign(cosigner, LOG_OF_20.body(7, 8))) == NOW_SECONDS + 1
        assert cosigner.ready() == (True, "ready")


class TestJudge:
    """Who is asked before anything is cosigned."""

    def test_asked_last(self, memory: Memory) -> None:
        """The judge sees only what holds by the protocol."""
        judge = ToldJudge()
        cosigner = open_cosigner(memory, judge=judge)
        with pytest.raises(Refusal):
            cosign(cosigner, LOG_OF_20.body(5, 7))
        cosign(cosigner, LOG_OF_20.body(0, 7))
        assert judge.asked == [7]
        assert cosigner.ready() == (False, "reading")

    @pytest.mark.parametrize(
        ("error", "reason", "status", "retry_after_seconds"),
        [
            (Behind("at round 3", retry_after_seconds=7), Reason.BEHIND, 503, 7),
            (Behind("at round 3", retry_after_seconds=9_999), Reason.BEHIND, 503, RETRY_AFTER_SECONDS_MAX),
            (CheckpointRefused("another root"), Reason.JUDGE, 403, None),
            (TreeDiffers("another root"), Reason.JUDGE, 403, None),
            (Unreachable("no Kafka"), Reason.BEHIND, 503, 30),
            (WorkerLost("gone"), Reason.FAILED, 500, None),
        ],
    )
    @pytest.mark.parametrize("is_late", [False, True])
    def test_what_he_says(
        self,
        memory: Memory,
        error: Exception,
        reason: Reason,
        status: int,
        retry_after_seconds: int | None,
        is_late: bool,
    ) -> None:
        """Whatever he objects to, and also if he changes his mind at the last moment: nothing is remembered, neither by
        the witness nor by him.
        """
        judge = ToldJudge(late_answer=error) if is_late else ToldJudge(answer=error)
        with pytest.raises(Refusal) as caught:
            cosign(open_cosigner(memory, judge=judge), LOG_OF_20.body(0, 7))
        told = (caught.value.reason, caught.value.status, caught.value.retry_after_seconds)
        assert told == (reason, status, retry_after_seconds)
        assert memory.log(ORIGIN) is None
        assert judge_sizes(memory.path) == []

    def test_remembers_with_the_witness(self, memory: Memory) -> None:
        """What the judge writes down is in the file with the checkpoint, in one transaction."""
        cosigner = open_cosigner(memory, judge=ToldJudge())
        cosign(cosigner, LOG_OF_20.body(0, 7))
        cosign(cosigner, LOG_OF_20.body(7, 9))
        assert judge_sizes(memory.path) == [7, 9]


class TestTurns:
    """Several requests at once."""

    def test_judged_and_overtaken(self, memory: Memory) -> None:
        """A checkpoint that was fine when it was judged is refused if another one came first, smaller or larger."""
        cosigner = open_cosigner(memory)
        cosign(cosigner, LOG_OF_20.body(0, 7))
        slow, quick = cosigner.admit(LOG_OF_20.body(7, 8)), cosigner.admit(LOG_OF_20.body(7, 12))
        cosigner.cosign(quick)
        with pytest.raises(Refusal) as caught:
            cosigner.cosign(slow)
        assert (caught.value.reason, caught.value.size) == (Reason.OLD_SIZE, 12)

    def test_forks_at_once(self, memory: Memory) -> None:
        """Of any number of histories that are shown at the same moment, one is cosigned, and only it goes on."""
        cosigner = open_cosigner(memory)
        cosign(cosigner, LOG_OF_20.body(0, 7))
        bodies = [LOG_OF_20.fork(7 + number % 2, f"history {number}").body(7, 9 + number % 3) for number in range(24)]
        cosigned = run_at_once([partial(cosign_or_none, cosigner, body) for body in bodies])
        assert sum(line is not None for line in cosigned) == 1

    def test_never_back_whatever_decides(self, memory: Memory) -> None:
        """The file itself refuses to shrink, to change, to go back in time and to forget: should all else fail."""
        cosign(open_cosigner(memory), LOG_OF_20.body(0, 7))
        before = memory.log(ORIGIN)
        for log, size, seconds in (
            (LOG_OF_20, 6, NOW_SECONDS),
            (LOG_OF_20.fork(2), 7, NOW_SECONDS),
            (LOG_OF_20, 8, NOW_SECONDS - 1),
        ):
            with pytest.raises(TreeDiffers, match="never goes back"), memory.turn() as turn:
                turn.advance(log.checkpoint(size), log.note(size), time_seconds=seconds)
        with pytest.raises(StoreError, match="does not forget"), memory.turn() as turn:
            turn.connection.execute("DELETE FROM logs")
        assert memory.log(ORIGIN) == before

    def test_other_writer_does_not_end(self, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
        """While the judge holds the file, a request is told to come again; the witness goes on."""
        other = sqlite3.connect(memory.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(memory, "_connection", impatient(memory.path))
        with pytest.raises(Refusal) as caught:
            cosign(open_cosigner(memory), LOG_OF_20.body(0, 7))
        assert (caught.value.reason, caught.value.status) == (Reason.BUSY, 503)
        other.execute("ROLLBACK")
        other.close()
        assert cosign(open_cosigner(memory), LOG_OF_20.body(0, 7))


class TestEvidence:
    """What is kept."""

    def test_two_roots_of_one_size(self, memory: Memory) -> None:
        """A second root of the size that is remembered is kept with the log's signature, once, whatever the old size
        that came with it: the signed note is the proof that the log tells two histories.
        """
        cosigner = open_cosigner(memory)
        cosign(cosigner, LOG_OF_20.body(0, 7))
        forked = LOG_OF_20.fork(3)
        for old_size in (7, 7, 2):
            with pytest.raises(Refusal):
                cosigner.admit(forked.body(old_size, 7))
        assert kept_forks(memory.path) == [(7, forked.checkpoint(7).root, forked.note(7))]

    def test_bounded(self, memory: Memory) -> None:
        """A log that signs any number of histories does not fill the disk."""
        cosigner = open_cosigner(memory)
        cosign(cosigner, LOG_OF_20.body(0, 7))
        for number in range(FORKS_MAX + 5):
            with pytest.raises(Refusal):
                cosigner.admit(LOG_OF_20.fork(3, str(number)).body(7, 7))
        assert len(kept_forks(memory.path)) == FORKS_MAX

    def test_latest(self, memory: Memory) -> None:
        """The latest checkpoint of a log can be had by the digest of its origin: the log's signature and ours."""
        cosigner = open_cosigner(memory)
        digest = hashlib.sha256(ORIGIN.encode()).hexdigest()
        assert (cosigner.latest(digest), cosigner.latest("0" * 64)) == (None, None)
        line = cosign(cosigner, LOG_OF_20.body(0, 7))
        assert cosigner.latest(digest) == LOG_OF_20.note(7) + line
        assert len(verify_note(LOG_OF_20.note(7) + line, [LOG.verifier, WITNESS.verifier]).verified) == 2


def cosign_or_none(cosigner: Cosigner, body: bytes) -> bytes | None:
    """Return the cosignature's line; ``None`` if it is refused."""
    try:
        return cosign(cosigner, body)
    except Refusal:
        return None


def run_at_once(calls: list[Callable[[], bytes | None]]) -> list[bytes | None]:
    """Make calls from threads that start together, and return what each gave."""
    gate = threading.Barrier(len(calls))
    results: list[bytes | None] = [None] * len(calls)

    def run(number: int) -> None:
        gate.wait(30)
        results[number] = calls[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def impatient(path: Path) -> sqlite3.Connection:
    """Return a connection like a memory's own that waits for nobody."""
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)


def kept_forks(path: Path) -> list[tuple[int, bytes, bytes]]:
    """Return the second histories that a memory keeps."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT size, root, note FROM forks").fetchall()
    finally:
        connection.close()
