"""`sealstream verify` in several processes: it finds what one finds, and nothing is left of it, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealstream.kafka.partition import partition_of
from sealstream.schemas.entry import Genesis
from sealstream.schemas.errors import WorkerLost
from sealstream.sinks.verifier.audit import VerifyResult, verify_store
from support.chained import INSTANCE, Sealed
from support.model import Model, SourceRecord
from support.publish import event_value
from support.shell import Shell
from support.stores import Feeder, TestStore, migrated
from support.workers import wait_for

GENESIS = Genesis(INSTANCE, 4, window_offsets=3)
LONG, SHORT = "acme", ("globex", "initech")
LONG_EVENTS, SHORT_EVENTS = 120, 10
PIECE_ENTRIES = 12
END_SECONDS = 60.0


def _log() -> list[Sealed]:
    """Return what a long chain becomes, in which each eighth event repeats the one before, and two short ones."""
    models = [Model(GENESIS, bytes(range(16)), n) for n in range(4)]
    sealed: list[Sealed] = []
    for number in range(LONG_EVENTS):
        for tenant in (LONG, *SHORT) if number < SHORT_EVENTS else (LONG,):
            partition = partition_of(tenant.encode(), 4)
            value = event_value(tenant, f"e-{number - number % 8 // 7}")
            offset = 10 * number + len(tenant)
            record = SourceRecord(partition, offset, tenant.encode(), value, 1_700_000_000_000 + number)
            sealed += [Sealed(r.partition, r.key, r.value, r.entry) for r in models[partition].expect([record])]
    return sealed


@pytest.fixture
def store(database_url: str) -> Iterator[TestStore]:
    """A store with a chain that is cut into ten pieces, and with two that go together."""
    with migrated(database_url) as found:
        feeder = Feeder(found.login("sealstream_writer"))
        try:
            feeder.claim()
            feeder.feed(_log())
        finally:
            feeder.writer.close()
        yield found


def _plain(result: VerifyResult) -> dict[str, Any]:
    """Return a result without when it was."""
    found = result.to_dict()
    for violation in found["violations"]:
        del violation["detected_at"]
    return found | {"as_of": None}


def test_two_processes_find_what_one_finds(store: TestStore, tmp_path: Path) -> None:
    """Clean or not, the result is the same, in the same order, and so is what is remembered in a state file."""
    state = tmp_path / "state.json"

    clean = verify_store(store.url, workers=2, piece_entries=PIECE_ENTRIES, state_path=state)

    assert (clean.exit_code, clean.entries) == (0, LONG_EVENTS + 2 * SHORT_EVENTS + 3)
    assert _plain(clean) == _plain(verify_store(store.url))
    assert verify_store(store.url, state_path=state).entries == 3  # the last entries are looked at again
    for place in ("tenant = 'acme' AND seq IN (40, 90)", "tenant = 'globex' AND seq = 3"):
        store.tamper(f"UPDATE sealstream.entries SET received = 1 WHERE {place}")
    store.tamper("DELETE FROM sealstream.entries WHERE tenant = 'acme' AND seq = 60")
    altered = verify_store(store.url, workers=2, piece_entries=PIECE_ENTRIES)
    assert [(v.type.value, v.tenant, v.seq) for v in altered.violations] == [
        ("edited", "acme", 40), ("gap", "acme", 60), ("edited", "acme", 90), ("edited", "globex", 3),
    ]  # fmt: skip
    assert _plain(altered) == _plain(verify_store(store.url))
    assert multiprocessing.active_children() == []


def test_a_process_that_is_lost_is_no_clean_result(store: TestStore) -> None:
    """If a process is killed, the result says so, with exit code 2, and the others end as well."""

    def kill(done: int, total: int) -> None:
        del done, total
        for process in multiprocessing.active_children():
            process.kill()

    result = verify_store(store.url, workers=2, piece_entries=PIECE_ENTRIES, on_progress=kill)

    assert (result.exit_code, type(result.failure)) == (2, WorkerLost)
    assert "SIGKILL" in str(result.failure)
    assert multiprocessing.active_children() == []


_INTERRUPTED = """
import os, signal, sys
from sealstream.deploy.cli import main
from sealstream.sinks.verifier import audit

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it runs in the background ignore it
verify = audit.verify_store

def interrupted(url, **options):
    def interrupt(done, total):
        {interrupt}
    return verify(url, **(options | {{"on_progress": interrupt, "piece_entries": {entries}}}))

audit.verify_store = interrupted
sys.exit(main(["verify", "--workers", "2"]))
"""


@pytest.mark.parametrize(
    ("interrupt", "code"),
    [
        ("os.killpg(0, signal.SIGINT)", 130),  # as a terminal does
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_nothing_is_left_of_it(store: TestStore, interrupt: str, code: int) -> None:
    """Ctrl-C ends all of it without a word, with code 130; and if it is killed, its processes end by themselves."""
    script = _INTERRUPTED.format(interrupt=interrupt, entries=PIECE_ENTRIES)
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=Shell(SEALSTREAM_DATABASE=store.url).environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )

    output, errors = process.communicate(timeout=END_SECONDS)

    assert (process.returncode, output) == (code, "")
    assert "Traceback" not in errors
    wait_for(lambda: not _is_anybody_left(process.pid), timeout_seconds=END_SECONDS, what="its processes to end")


def _is_anybody_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
