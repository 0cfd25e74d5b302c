"""Our witness, asked by a log that others wrote: Tessera, which publishes nothing that its witnesses did not cosign.

The program in ``tests/oracles/witness`` keeps its log in files. Tessera asks as tlog-witness says: with a size that it
believes, then with the one that it is told; and opens what it is given with golang.org/x/mod/sumdb/note.
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.note import verify_note
from sealstream.schemas.policy import Policy, Witness
from support.go import ORACLES, Oracle, go_program
from support.notes import LOG
from support.witnessing import WITNESS, WitnessProcess

PATIENT_SECONDS = 60
IMPATIENT_SECONDS = 3


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Generator[Oracle]:
    """The program, running."""
    with Oracle(go_program(ORACLES / "witness", tmp_path_factory.mktemp("oracle"))) as running:
        yield running


@pytest.fixture
def witness(tmp_path: Path) -> Generator[WitnessProcess]:
    """A witness that knows the log, and trusts what it shows first."""
    running = WitnessProcess(tmp_path, "--trust-first-use")
    yield running
    running.close()


def grow(
    oracle: Oracle, witness: WitnessProcess, directory: Path, entries: list[str], seconds: int = PATIENT_SECONDS
) -> tuple[str, bytes]:
    """Let the log in a directory grow; return what went wrong, if anything, and the checkpoint that was published."""
    believed = Witness("ours", WITNESS.verifier, f"http://127.0.0.1:{witness.port}/")
    policy = Policy((), (believed,), (), "ours").pack().decode()
    answer = oracle.ask(
        "grow", directory=str(directory), key=LOG.secret(), policy=policy, entries=entries, seconds=seconds
    )
    return answer["error"], base64.b64decode(answer.get("checkpoint", ""))


def test_somebody_else_s_log_grows(oracle: Oracle, witness: WitnessProcess, tmp_path: Path) -> None:
    """It is published with our cosignature, again and again, each time by a program that knows no size at first."""
    for number in range(1, 4):
        error, note = grow(oracle, witness, tmp_path / "log", [f"{number} {entry}" for entry in range(5)])
        assert error == ""
        verified = verify_note(note, [LOG.verifier, WITNESS.verifier])
        assert len(verified.verified) == 2
        assert Checkpoint.parse(verified.text).size == 5 * number


def test_somebody_else_s_log_begins_anew(oracle: Oracle, witness: WitnessProcess, tmp_path: Path) -> None:
    """A log that was lost and is begun again under its key learns that it is smaller than what was cosigned."""
    entries = [f"entry {number}" for number in range(5)]
    assert grow(oracle, witness, tmp_path / "log", entries)[0] == ""
    error, _ = grow(oracle, witness, tmp_path / "other", entries, IMPATIENT_SECONDS)
    assert "replied with x.tlog.size 5, larger than log size" in error


@pytest.mark.parametrize("size", [2, 3, 6])
def test_somebody_else_s_log_forks(oracle: Oracle, witness: WitnessProcess, tmp_path: Path, size: int) -> None:
    """A second history under the same key, smaller, as large or larger, is never published; the first one goes on."""
    log, fork = tmp_path / "log", tmp_path / "fork"
    grow(oracle, witness, log, [f"entry {number}" for number in range(5)])
    shutil.copytree(log, fork)
    assert grow(oracle, witness, log, ["a", "b", "c"])[0] == ""
    error, _ = grow(oracle, witness, fork, [f"other {number}" for number in range(size)], IMPATIENT_SECONDS)
    assert "not published" in error
    assert grow(oracle, witness, log, ["d"])[0] == ""
