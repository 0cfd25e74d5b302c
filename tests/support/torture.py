"""Publishers that are killed, a broker that restarts and stalls, a disk that fills: what must be in the chain then."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from sealstream.kafka.topics import SEAL_ENTRY_HEADER
from sealstream.schemas.entry import Kind, parse
from support.aftermath import ends
from support.brokers import FaultBroker
from support.harness import read_log
from support.processing import committed, run_engine
from support.workers import Pipeline, wait_for

PUBLISHERS: Final = 4
START_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 120.0
SMALL_DISK_BYTES: Final = 8 * 1024 * 1024
STEP_SECONDS: Final = (0.3, 1.5)
STEPS: Final = ("kill", "kill", "kill", "broker", "stall", "disk")


@dataclass(slots=True)
class Outcome:
    """What a run came to.

    Arguments:
        seed: Its seed.
        done: What was done to whom, and how often.
        spooled: Events whose receipt said that they are in the spool.
        records: Records in the source.
        kinds: Entries by kind.
        missing: Spooled events that are not in the chain as they were.
        doubled: Events that are in the chain as more than one.
    """

    seed: int
    done: Counter[str]
    spooled: int = 0
    records: int = 0
    kinds: Counter[Kind] = field(default_factory=Counter[Kind])
    missing: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    doubled: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def row(self) -> str:
        """Return the run as a row of the table."""
        done = " ".join(f"{self.done[step]:>6}" for step in ("kill", "broker", "stall", "disk"))
        kinds = " ".join(f"{self.kinds[kind]:>7}" for kind in (Kind.EVENT, Kind.DUPLICATE, Kind.CONFLICT))
        return f"{self.seed:>5} {done} {self.spooled:>8} {self.records:>8} {kinds} {len(self.missing):>7}"

    @staticmethod
    def heading() -> str:
        """Return the table's first line."""
        return " seed   kill broker  stall   disk  spooled  records  kind 1  kind 3  kind 5 missing"


class Torture:
    """One run.

    Arguments:
        pipeline: An instance with topics, and no workers.
        broker: Its broker.
        directory: Where spools and receipts go.
        small_disk: A file system of 8 MiB, for the first publisher's spool.
        seed: Decides what is done when.
    """

    def __init__(self, pipeline: Pipeline, broker: FaultBroker, directory: Path, small_disk: Path, seed: int) -> None:
        self._pipeline = pipeline
        self._broker = broker
        self._directory = directory
        self._small_disk = small_disk
        self._random = random.Random(seed)
        self._lives = [0] * PUBLISHERS
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * PUBLISHERS
        self.outcome = Outcome(seed, Counter())

    def run(self, seconds: float) -> Outcome:
        """Publish and disturb for so long; then let everything arrive, and compare."""
        try:
            for number in range(PUBLISHERS):
                self._start(number)
            wait_for(
                lambda: all(map(self._receipts, range(PUBLISHERS))), timeout_seconds=START_SECONDS, what="receipts"
            )
            steps, deadline = list(STEPS), time.monotonic() + seconds
            while steps or time.monotonic() < deadline:  # each at least once
                step = steps.pop(self._random.randrange(len(steps))) if steps else self._random.choice(STEPS)
                self.outcome.done[step] += 1
                self._do(step)
                time.sleep(self._random.uniform(*STEP_SECONDS))
        finally:
            for number in range(PUBLISHERS):
                self._end(number)
        self._drain()
        self._compare()
        return self.outcome

    def _do(self, step: str) -> None:
        steps = {"kill": self._kill, "broker": self._restart_broker, "stall": self._stall, "disk": self._disk}
        steps[step]()

    def _spool(self, number: int) -> Path:
        return (self._small_disk if number == 0 else self._directory) / f"publisher-{number}"

    def _receipts(self, number: int) -> list[dict[str, Any]]:
        with suppress(FileNotFoundError):
            lines = (self._directory / f"receipts-{number}").read_bytes().split(b"\n")
            return [json.loads(line) for line in lines[:-1]]
        return []

    def _command(self, number: int, life: str) -> list[str]:
        pipeline = self._pipeline
        return [
            *(sys.executable, "-m", "support.torture_publisher", pipeline.bootstrap, pipeline.topics.prefix),
            *(pipeline.genesis.instance, str(self._spool(number)), str(self._directory / f"receipts-{number}"), life),
        ]

    def _popen(self, number: int, life: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with (self._directory / f"publisher-{number}.log").open("ab") as log:
            return subprocess.Popen(self._command(number, life), env=environment, stdout=log, stderr=log)

    def _start(self, number: int) -> None:
        self._lives[number] += 1
        self._processes[number] = self._popen(number, str(self._lives[number]))

    def _end(self, number: int) -> None:
        process = self._processes[number]
        if process is not None:
            assert process.poll() is None, f"publisher {number} ended by itself with {process.poll()}"
            process.kill()
            process.wait()
            self._processes[number] = None

    def _kill(self) -> None:
        """SIGKILL of a publisher, which starts again with its spool."""
        number = self._random.randrange(PUBLISHERS)
        self._end(number)
        self._start(number)

    def _restart_broker(self) -> None:
        """SIGKILL of the broker, which comes back with its data."""
        self._broker.kill()
        time.sleep(self._random.uniform(*STEP_SECONDS))
        self._broker.start()

    def _stall(self) -> None:
        """A broker that answers nobody for a while."""
        self._broker.pause()
        try:
            time.sleep(self._random.uniform(1.0, 3.0))
        finally:
            self._broker.resume()

    def _disk(self) -> None:
        """The first publisher's disk is full for a while, and is killed in it, half of the time."""
        ballast = self._small_disk / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(65_536)):
                pass
        time.sleep(self._random.uniform(*STEP_SECONDS))
        if self._random.random() < 0.5:
            self._end(0)
            self._start(0)
            time.sleep(self._random.uniform(*STEP_SECONDS))
        ballast.unlink()

    def _drain(self) -> None:
        """Start every publisher once more, to send what its spool holds."""
        processes = [self._popen(number, "drain") for number in range(PUBLISHERS)]
        for number, process in enumerate(processes):
            log = self._directory / f"publisher-{number}.log"
            assert process.wait(DRAIN_SECONDS) == 0, log.read_text()[-2000:]

    def _compare(self) -> None:
        """Chain everything, and look for each event whose receipt said that it is spooled."""
        wanted = ends(self._pipeline, self._pipeline.topics.events, "read_committed")
        busy = {partition: end for partition, end in wanted.items() if end}
        run_engine(self._pipeline, until=lambda: committed(self._pipeline) == busy)
        chained = read_log(self._pipeline.connection, self._pipeline.topics.chained, self._pipeline.genesis.partitions)
        first, outcome = dict[tuple[str, str], bytes](), self.outcome
        for record in (record for records in chained for record in records):
            entry = parse(record.header(SEAL_ENTRY_HEADER) or b"")
            outcome.kinds[entry.kind] += 1
            if entry.kind is Kind.EVENT:
                place = (entry.tenant, entry.event_id)
                if place in first:
                    outcome.doubled.append(place)
                first[place] = entry.payload
        outcome.records = sum(wanted.values())
        for number in range(PUBLISHERS):
            for receipt in self._receipts(number):
                outcome.spooled += 1
                place = (receipt["tenant"], receipt["id"])
                if first.get(place) != bytes.fromhex(receipt["digest"]):
                    outcome.missing.append(place)


@contextmanager
def small_disk(directory: Path) -> Generator[Path]:
    """Mount a file system of 8 MiB; a test that needs it is skipped where one may not mount anything."""
    place = directory / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"filling a disk takes the right to mount a small one: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
