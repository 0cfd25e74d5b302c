"""The witness's server with judges and memories as they should not be: slow, behind, hanging, broken."""

from __future__ import annotations

import http.client
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import CheckpointRefused, SealstreamError, StoreError
from sealstream.sinks.witness import server as server_module
from sealstream.sinks.witness.judging import Behind
from sealstream.sinks.witness.memory import Memory
from sealstream.sinks.witness.server import JUDGMENTS_MAX, WitnessServer
from support.witnessing import Answer, WitnessedLog, open_cosigner, open_memory
from support.workers import wait_for

LOG = WitnessedLog.of(20)
WAIT_SECONDS = 60


@dataclass
class HeldJudge:
    """A judge who answers only when he is let go, and then as he is told."""

    answer: Exception | None = None
    let_go: threading.Event = field(default_factory=threading.Event)
    asked: int = 0

    def begin(self, checkpoint: Checkpoint) -> None:
        """Do nothing."""

    def judge(self, checkpoint: Checkpoint) -> None:
        """Wait, and answer."""
        del checkpoint
        self.asked += 1
        self.let_go.wait(WAIT_SECONDS)
        if self.answer is not None:
            raise self.answer

    def witnessed(self, checkpoint: Checkpoint, connection: sqlite3.Connection) -> None:
        """Do nothing."""

    def ready(self) -> tuple[bool, str]:
        """Return that he is ready."""
        return True, "ready"

    def close(self) -> None:
        """Let everybody go."""
        self.let_go.set()


@dataclass
class Served:
    """A server within the test, and what it said of its failures."""

    server: WitnessServer
    memory: Memory
    failures: list[SealstreamError]

    def ask(self, body: bytes) -> Answer:
        """Send one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=WAIT_SECONDS)
        try:
            connection.request("POST", "/add-checkpoint", body)
            answer = connection.getresponse()
            told = answer.getheader("content-type", ""), answer.getheader("retry-after")
            return Answer(answer.status, *told, answer.read())
        finally:
            connection.close()


Serve = Callable[[HeldJudge], Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serve a witness that asks a judge."""
    ends: list[Callable[[], None]] = []

    def start(judge: HeldJudge) -> Served:
        memory = open_memory(tmp_path / "witness.sqlite")
        failures: list[SealstreamError] = []
        server = WitnessServer(open_cosigner(memory, judge=judge), "127.0.0.1", 0, on_failure=failures.append)
        server.start()
        ends.extend((memory.close, server.stop, judge.close))
        return Served(server, memory, failures)

    yield start
    for end in reversed(ends):
        end()


def begin_asking(served: Served, bodies: list[bytes]) -> tuple[list[threading.Thread], list[Answer]]:
    """Ask from a thread each; return the threads, and the answers as they come."""
    answers: list[Answer] = []

    def ask(body: bytes) -> None:
        with suppress(http.client.HTTPException, OSError):  # a stop may leave it without an answer
            answers.append(served.ask(body))

    threads = [threading.Thread(target=ask, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    return threads, answers


def test_slow_judge_blocks_nobody(serve: Serve) -> None:
    """While judges are at it, what needs none is answered; one question too many is told to come again."""
    judge = HeldJudge()
    served = serve(judge)
    threads, answers = begin_asking(served, [LOG.body(0, 5)] * JUDGMENTS_MAX)
    wait_for(lambda: judge.asked == JUDGMENTS_MAX, timeout_seconds=WAIT_SECONDS, what="all judgments to begin")
    assert served.ask(LOG.body(3, 5)).status == 409
    busy = served.ask(LOG.body(0, 5))
    assert (busy.status, busy.retry_after) == (503, "10")
    judge.let_go.set()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert sorted(answer.status for answer in answers) == [200] + [409] * (JUDGMENTS_MAX - 1)
    assert served.ask(LOG.body(5, 7)).status == 200


def test_judge_who_does_not_answer(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a time the log is told to ask again; what the judge says then counts for the next question."""
    monkeypatch.setattr(server_module, "JUDGE_SECONDS_MAX", 0.2)
    judge = HeldJudge(CheckpointRefused("another root"))
    served = serve(judge)
    late = served.ask(LOG.body(0, 5))
    assert (late.status, late.retry_after) == (503, "10")
    judge.let_go.set()
    assert served.ask(LOG.body(0, 5)).status == 403


def test_behind(serve: Serve) -> None:
    """503 says when to ask again."""
    judge = HeldJudge(Behind("at round 3", retry_after_seconds=7))
    judge.let_go.set()
    answer = serve(judge).ask(LOG.body(0, 5))
    assert (answer.status, answer.retry_after, answer.body) == (503, "7", b"at round 3\n")


def test_memory_that_cannot_be_written(serve: Serve) -> None:
    """A disk that fails is no answer: 500, and the worker is told that it has to end."""
    judge = HeldJudge()
    judge.let_go.set()
    served = serve(judge)
    assert served.ask(LOG.body(0, 5)).status == 200
    with served.memory.turn() as turn:
        turn.connection.execute("CREATE TRIGGER broken BEFORE UPDATE ON logs BEGIN INSERT INTO nowhere VALUES (1); END")
    assert served.ask(LOG.body(5, 7)).status == 500
    assert [type(error) for error in served.failures] == [StoreError]


def test_answers_leave_at_once(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small packets of an answer do not wait for each other's confirmation, which would cost 40 ms each time."""
    not_delayed: list[int] = []
    receive = H11Protocol.data_received

    def spy(protocol: H11Protocol, data: bytes) -> None:
        connected: socket.socket = protocol.transport.get_extra_info("socket")
        not_delayed.append(connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        receive(protocol, data)

    monkeypatch.setattr(H11Protocol, "data_received", spy)
    judge = HeldJudge()
    judge.let_go.set()
    assert serve(judge).ask(LOG.body(0, 5)).status == 200
    assert set(not_delayed) == {1}


def test_stop_with_a_judge_who_hangs(serve: Serve) -> None:
    """A stop does not wait for a judge."""
    judge = HeldJudge()
    served = serve(judge)
    threads, _ = begin_asking(served, [LOG.body(0, 5)])
    wait_for(lambda: judge.asked == 1, timeout_seconds=WAIT_SECONDS, what="a judgment to begin")
    served.server.stop()
    assert not served.server.alive()
    judge.let_go.set()
    for thread in threads:
        thread.join(WAIT_SECONDS)
