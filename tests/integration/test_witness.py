"""The witness as production runs it: a process of its own, asked over HTTP, killed, raced and starved."""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import re
import socket
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import sealstream.sinks.witness
from sealstream.schemas.note import VerifiedSignature, verify_note
from sealstream.sinks.witness.protocol import BODY_BYTES_MAX
from sealstream.sinks.witness.server import CONNECTIONS_MAX
from support.notes import ORIGIN, cosignature_line, signer
from support.witnessing import ML_DSA_WITNESS, WITNESS, WitnessedLog, WitnessProcess
from support.workers import wait_for

StartWitness = Callable[..., WitnessProcess]
LOG = WitnessedLog.of(64)
SIZE_TYPE = "text/x.tlog.size"
FIRST_USE = "--trust-first-use"


@pytest.fixture
def start_witness(tmp_path: Path) -> Iterator[StartWitness]:
    """Start witnesses on one directory, one after the other; what still runs is ended with the test."""
    started: list[WitnessProcess] = []

    def start(*options: str, **settings: object) -> WitnessProcess:
        witness = WitnessProcess(tmp_path, *options, **settings)  # type: ignore[arg-type]  # as the test says
        started.append(witness)
        return witness

    yield start
    for witness in started:
        witness.close()


def cosignature(note: bytes, lines: bytes) -> VerifiedSignature:
    """Return the witness's signature below a checkpoint, verified as a log does it."""
    (verified,) = verify_note(note + lines, [WITNESS.verifier]).verified
    return verified


class TestProtocol:
    """What goes over the wire."""

    def test_a_log_s_life(self, start_witness: StartWitness) -> None:
        """A log begins, is told where it stands, grows, is refused what does not grow out of it, and starts again."""
        witness = start_witness(FIRST_USE)
        first = witness.ask(LOG.body(0, 7))
        assert (first.status, first.content_type) == (200, "text/plain; charset=utf-8")
        cosignature(LOG.note(7), first.body)

        told = witness.ask(LOG.body(0, 9))
        assert (told.status, told.content_type, told.body) == (409, SIZE_TYPE, b"7\n")
        assert witness.ask(LOG.body(7, 9)).status == 200
        assert witness.ask(LOG.fork(3).body(9, 12)).status == 422
        assert witness.ask(LOG.fork(3).body(9, 9)).status == 422
        assert witness.ask(LOG.body(9, 12).replace(b"old 9", b"old 15")).status == 400
        assert witness.ask(WitnessedLog.of(9, signer("other.example/audit")).body(0, 9)).status == 404
        assert witness.ask(WitnessedLog.of(9, signer(ORIGIN, number=1)).body(9, 9)).status == 403
        assert witness.ask(b"nonsense").status == 400
        assert witness.terminate() == 0

        again = start_witness()
        assert again.ask(LOG.body(0, 12)).body == b"9\n"
        assert again.ask(LOG.body(9, 12)).status == 200

    def test_size_0(self, start_witness: StartWitness) -> None:
        """An empty log is cosigned, and whatever follows it."""
        witness = start_witness(FIRST_USE)
        cosignature(LOG.note(0), witness.ask(LOG.body(0, 0)).body)
        cosignature(LOG.note(5), witness.ask(LOG.body(0, 5)).body)

    def test_ml_dsa(self, start_witness: StartWitness) -> None:
        """A witness with a key of ML-DSA-44 cosigns as well."""
        witness = start_witness(FIRST_USE, key=ML_DSA_WITNESS)
        lines = witness.ask(LOG.body(0, 5)).body
        assert len(verify_note(LOG.note(5) + lines, [ML_DSA_WITNESS.verifier]).verified) == 1

    def test_what_is_to_be_read(self, start_witness: StartWitness) -> None:
        """Who it is, and the latest checkpoint of each log by its digest; nothing else, and no other method."""
        witness = start_witness(FIRST_USE)
        path = f"/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint"
        assert witness.ask(b"", path=path, method="GET").status == 404
        lines = witness.ask(LOG.body(0, 5)).body
        assert witness.ask(b"", path=path, method="GET").body == LOG.note(5) + lines
        assert witness.ask(b"", path="/", method="GET").body == f"witness {WITNESS.verifier}\n".encode()
        assert witness.ask(b"", method="GET").status == 405
        assert witness.ask(b"", path="/elsewhere", method="GET").status == 404

    def test_one_connection(self, start_witness: StartWitness) -> None:
        """A log asks again and again over one connection, also after a refusal."""
        witness = start_witness(FIRST_USE)
        connection = http.client.HTTPConnection("127.0.0.1", witness.port, timeout=30)
        statuses: list[int] = []
        for body in (LOG.body(0, 5), b"nonsense", LOG.body(0, 7), LOG.body(5, 7)):
            connection.request("POST", "/add-checkpoint", body)
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()
        assert statuses == [200, 400, 409, 200]

    def test_seen_by_operators(self, start_witness: StartWitness) -> None:
        """Ready, alive, and its numbers: what was cosigned, what was refused and why, and how far each log is."""
        witness = start_witness(FIRST_USE)
        witness.ask(LOG.body(0, 5))
        witness.ask(LOG.body(0, 7))
        witness.ask(b"nonsense")
        assert witness.get("/healthz") == (200, "ok\n")
        assert witness.get("/readyz") == (200, "ready\n")
        _, numbers = witness.get("/metrics")
        assert f'sealstream_witness_cosigned_total{{origin="{ORIGIN}"}} 1.0' in numbers
        assert f'sealstream_witness_size_entries{{origin="{ORIGIN}"}} 5.0' in numbers
        for reason in ("old-size", "malformed"):
            assert f'sealstream_witness_refused_total{{reason="{reason}"}} 1.0' in numbers
        assert "nonsense" not in witness.log()
        assert WITNESS.secret() not in witness.log()


class TestStart:
    """Beginning, and beginning again."""

    def test_never_silently(self, start_witness: StartWitness, tmp_path: Path) -> None:
        """Without a word of its operator an empty witness does not start, nor an old one whose file is lost."""
        refused = start_witness()
        assert refused.wait(timeout_seconds=60) == 2
        assert "remembers none of the logs" in refused.log()
        witness = start_witness(FIRST_USE)
        witness.ask(LOG.body(0, 5))
        witness.terminate()
        for file in tmp_path.glob("witness.sqlite*"):
            file.unlink()
        assert start_witness().wait(timeout_seconds=60) == 2

    def test_from_a_checkpoint(self, start_witness: StartWitness, tmp_path: Path) -> None:
        """A witness begins with a checkpoint that its operator has, and with that option does not start again."""
        file = tmp_path / "checkpoint"
        file.write_bytes(LOG.note(9))
        witness = start_witness("--from-checkpoint", str(file))
        assert witness.ask(LOG.fork(3).body(9, 12)).status == 422
        assert witness.ask(LOG.body(9, 12)).status == 200
        witness.terminate()
        left = start_witness("--from-checkpoint", str(file))
        assert left.wait(timeout_seconds=60) == 2
        assert "take it away" in left.log()

    def test_second_process(self, start_witness: StartWitness) -> None:
        """A second process on the same file ends at once; the first one goes on."""
        witness = start_witness(FIRST_USE)
        witness.ask(LOG.body(0, 5))
        second = start_witness()
        assert second.wait(timeout_seconds=60) == 2
        assert "in use by another witness" in second.log()
        assert witness.ask(LOG.body(5, 7)).status == 200

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"witness_key": ""}, "SEALSTREAM_WITNESS_KEY is not set"),
            ({"witness_key": signer(ORIGIN).secret()}, "is the key of a log"),
            ({"policy": None}, "SEALSTREAM_POLICY is not set"),
            ({"witness_path": ""}, "SEALSTREAM_WITNESS_PATH is not set"),
            ({"witness_host": "host.invalid"}, "cannot be opened"),
        ],
    )
    def test_settings(self, start_witness: StartWitness, settings: dict[str, object], words: str) -> None:
        """A setting that is missing or wrong is named, with exit code 2."""
        witness = start_witness(FIRST_USE, **settings)
        assert witness.wait(timeout_seconds=60) == 2
        assert words in witness.log()

    def test_recomputing_needs_more(self, start_witness: StartWitness) -> None:
        """The verifier's witness says what it needs beyond the plain one."""
        witness = start_witness(FIRST_USE, "--recompute")
        assert witness.wait(timeout_seconds=60) == 2
        assert "SEALSTREAM_LOG_STORAGE is not set" in witness.log()

    def test_second_one_elsewhere(self, start_witness: StartWitness, tmp_path: Path) -> None:
        """The commands that the README gives to whoever runs a witness of his own lead to one that cosigns."""
        text = (Path(sealstream.sinks.witness.__file__).parent / "README.md").read_text(encoding="utf-8")
        (block,) = re.findall(r"## A second witness, elsewhere.*?```sh\n(.*?)```", text, re.DOTALL)
        lines = [line for line in block.splitlines() if line.startswith(("sealstream keys", "echo", "curl"))]
        script = "\n".join(lines).replace("<verifier key of the instance>", str(LOG.key.verifier))
        (tmp_path / "published").write_bytes(LOG.note(9))
        script = re.sub(r"curl -o checkpoint <[^>]*>root/checkpoint", "cp published checkpoint", script)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        subprocess.run(
            ["sh", "-euc", script], cwd=tmp_path, env=os.environ | {"PATH": path}, check=True, capture_output=True
        )
        settings = {"witness_key": "", "witness_key_file": tmp_path / "witness.key", "policy_file": tmp_path / "policy"}
        options = ("--from-checkpoint", str(tmp_path / "checkpoint"))
        assert start_witness(*options, policy=None, **settings).ask(LOG.body(9, 12)).status == 200

    def test_command_line(self, start_witness: StartWitness) -> None:
        """``sealstream witness`` is the same."""
        witness = start_witness(FIRST_USE, command=(sys.executable, "-m", "sealstream.deploy", "witness"))
        assert witness.ask(LOG.body(0, 5)).status == 200
        assert witness.terminate() == 0


class TestCrash:
    """Power cuts."""

    def test_between_memory_and_answer(self, start_witness: StartWitness) -> None:
        """A witness that dies when a checkpoint is remembered and its cosignature is not out yet: nobody has it, the
        log asks again and gets one, and another history of that size has none.
        """
        witness = start_witness(FIRST_USE, failpoints="persisted#2=kill")
        assert witness.ask(LOG.body(0, 5)).status == 200
        with pytest.raises((http.client.HTTPException, OSError)):
            witness.ask(LOG.body(5, 9))
        assert witness.wait(timeout_seconds=60) == -9

        again = start_witness()
        assert again.ask(LOG.fork(7).body(5, 9)).body == b"9\n"
        assert again.ask(LOG.fork(7).body(9, 9)).status == 422
        cosignature(LOG.note(9), again.ask(LOG.body(9, 9)).body)

    @pytest.mark.slow
    def test_kills_at_any_time(self, start_witness: StartWitness) -> None:
        """However often it is killed while it cosigns: it remembers at least what it has answered, and at most what it
        was asked.
        """
        remembered = 0
        witness = start_witness(FIRST_USE)
        for number in range(4):
            assert witness.port
            killing = threading.Timer(0.05 + 0.07 * number, witness.process.kill)
            killing.start()
            answered, asked = push_until_gone(witness, remembered)
            killing.join()
            witness.process.wait(30)
            witness = start_witness(*() if asked else (FIRST_USE,))
            remembered = int(witness.ask(LOG.body(0, 0)).body or 0)
            assert answered <= remembered <= asked


def push_until_gone(witness: WitnessProcess, size: int) -> tuple[int, int]:
    """Let a log grow by one leaf after the other until its witness has gone; return what was answered, and asked."""
    log = WitnessedLog.of(size + 400)
    asked = size
    while asked < len(log.leaves):
        asked = size + 1
        try:
            answer = witness.ask(log.body(size, asked))
        except (http.client.HTTPException, OSError):
            break
        assert answer.status == 200
        size = asked
    return size, asked


class TestRace:
    """Many at once, and not all of them honest."""

    def test_histories_against_each_other(self, start_witness: StartWitness) -> None:
        """Eight clients push two histories with random sizes: the cosigned roots are one history, each size has one
        root, and no client ever hears of a smaller size than before.
        """
        witness = start_witness(FIRST_USE)
        assert witness.ask(LOG.body(0, 3)).status == 200
        cosigned: dict[int, set[bytes]] = defaultdict(set)
        statuses: set[int] = set()
        histories = [LOG, LOG.fork(4)]

        def push(number: int) -> None:
            dice, log, old_size = random.Random(number), histories[number % 2], 3
            for _ in range(25):
                size = min(old_size + dice.randrange(4), len(log.leaves))
                answer = witness.ask(log.body(old_size, size))
                statuses.add(answer.status)
                if answer.status == 200:
                    verify_note(log.note(size) + answer.body, [WITNESS.verifier])
                    cosigned[size].add(log.checkpoint(size).root)
                    old_size = size
                elif answer.status == 409:
                    assert int(answer.body) > old_size
                    old_size = int(answer.body)

        at_once([partial(push, number) for number in range(8)])
        assert statuses == {200, 409, 422}
        assert all(len(roots) == 1 for roots in cosigned.values())
        winner = next(log for log in histories if cosigned[max(cosigned)] == {log.checkpoint(max(cosigned)).root})
        assert all(roots == {winner.checkpoint(size).root} for size, roots in cosigned.items())
        assert witness.ask(LOG.body(0, 64)).body == b"%d\n" % max(cosigned)


class TestAbuse:
    """Whatever comes in at the port."""

    @pytest.mark.parametrize("size_bytes", [BODY_BYTES_MAX + 1, 20 * BODY_BYTES_MAX])
    def test_huge_body(self, start_witness: StartWitness, size_bytes: int) -> None:
        """A body beyond the largest one has a clear answer, and the next request is answered."""
        witness = start_witness(FIRST_USE)
        assert witness.ask(b"x" * size_bytes).status == 413
        assert witness.ask(LOG.body(0, 5)).status == 200

    def test_endless_body(self, start_witness: StartWitness) -> None:
        """A body without an end is cut off after a bounded number of bytes."""
        witness = start_witness(FIRST_USE)
        with socket.create_connection(("127.0.0.1", witness.port), timeout=60) as client:
            client.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n")
            chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
            sent = sent_until_closed(client, chunk, 10_000)
        assert sent < 10_000
        assert witness.ask(LOG.body(0, 5)).status == 200

    def test_garbage_changes_nothing(self, start_witness: StartWitness) -> None:
        """Random bytes, cut requests and forged lines are refused, and what is remembered stays as it was."""
        witness = start_witness(FIRST_USE)
        witness.ask(LOG.body(0, 5))
        dice = random.Random(5)
        good = LOG.body(5, 9)
        for _ in range(60):
            body = bytearray(good)
            body[dice.randrange(len(body))] = dice.randrange(256)
            bad = [bytes(body), good[: dice.randrange(len(good))], dice.randbytes(dice.randrange(300))]
            statuses = [witness.ask(one).status for one in bad if one != good]
            assert all(400 <= status < 500 for status in statuses)
        forged = cosignature_line(LOG.checkpoint(6), WITNESS, 1)
        assert witness.ask(LOG.body(0, 0)).body == b"5\n"
        lines = witness.ask(LOG.body(5, 9, more=forged)).body
        assert cosignature(LOG.note(9), lines).time_seconds != 1
        assert "Traceback" not in witness.log()

    @pytest.mark.slow
    def test_slow_clients(self, start_witness: StartWitness) -> None:
        """Whoever sends half a header, or half a body, and then nothing or a byte now and then, is cut off; meanwhile
        others are answered.
        """
        witness = start_witness(FIRST_USE)
        whole = b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 900\r\n\r\nold 0\n"
        parts = [whole[:40], whole[:5], whole] * 10
        clients = [socket.create_connection(("127.0.0.1", witness.port), timeout=60) for _ in parts]
        for client, part in zip(clients, parts, strict=True):
            client.sendall(part)
        assert witness.ask(LOG.body(0, 5)).status == 200
        wait_for(lambda: all(is_cut_off(client) for client in clients), timeout_seconds=90, what="slow clients to go")
        for client in clients:
            client.close()
        assert witness.ask(LOG.body(5, 7)).status == 200

    @pytest.mark.slow
    def test_too_many_connections(self, start_witness: StartWitness) -> None:
        """With all connections taken others hear at once that they are too many, and are answered when those go."""
        witness = start_witness(FIRST_USE)
        clients = [socket.create_connection(("127.0.0.1", witness.port), timeout=60) for _ in range(CONNECTIONS_MAX)]
        wait_for(lambda: witness.ask(LOG.body(0, 5)).status == 503, timeout_seconds=30, what="a busy witness")
        for client in clients:
            client.close()
        wait_for(lambda: witness.ask(LOG.body(0, 5)).status == 200, timeout_seconds=30, what="an answer")

    def test_stops_while_clients_hang(self, start_witness: StartWitness) -> None:
        """SIGTERM ends it in time, whatever its clients do."""
        witness = start_witness(FIRST_USE)
        half = b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 900\r\n\r\nold 0\n"
        clients = [socket.create_connection(("127.0.0.1", witness.port), timeout=60) for _ in range(6)]
        for client, part in zip(clients, [b"", half[:30], half] * 2, strict=True):
            client.sendall(part)
        assert witness.ask(LOG.body(0, 5)).status == 200
        assert witness.terminate(timeout_seconds=10) == 0
        for client in clients:
            client.close()


def sent_until_closed(client: socket.socket, chunk: bytes, count: int) -> int:
    """Send the same so many times, and return how often it went before the other side had enough."""
    for number in range(count):
        try:
            client.sendall(chunk)
        except OSError:
            return number
    return count


def is_cut_off(client: socket.socket) -> bool:
    """Return whether the other side has closed a connection, whatever it said before; send a byte if it has not."""
    client.settimeout(0.01)
    try:
        return not client.recv(4096)
    except TimeoutError:
        pass
    except OSError:
        return True
    try:
        client.sendall(b"x")
    except OSError:
        return True
    return False


def at_once(calls: list[Callable[[], None]]) -> None:
    """Make calls from threads of their own, and fail with whatever failed."""
    failures: list[BaseException] = []

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  # raised below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures, failures
