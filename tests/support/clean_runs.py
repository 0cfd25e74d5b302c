"""Clean runs: a whole instance in which nothing is attacked, and much else goes wrong, decided by a seed.

Workers are killed, stopped and continued, told to end, and made to fail at their failpoints; the database's connections
are cut, and the broker goes away and comes back. Whoever starts workers again does what a supervisor does: the same
command, and nothing else.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

import psycopg

from sealstream.processors.points import Point
from sealstream.sinks.notary.finishing import POINTS as NOTARY_POINTS
from sealstream.sinks.witness.cosigning import FAILPOINTS as WITNESS_POINTS
from support.brokers import FaultBroker
from support.clean_load import TENANTS, CleanLoad, How
from support.stage import ROLES, Stage
from support.workers import Worker

Fault = Literal[
    "kill", "kill-all", "stop", "terminate", "replace", "failpoint", "cut-database", "kill-broker", "stop-broker"
]

WAIT_SECONDS: Final = 180.0
END_SECONDS: Final = 30.0
"""A worker is to end within 10 s; so much longer may a machine take that is busy with everything else."""
FIRST_SIZE: Final = 2  # genesis and one event
_FAULTS: Final[dict[Fault, int]] = {
    "kill": 5,
    "kill-all": 1,
    "stop": 4,
    "terminate": 3,
    "replace": 1,
    "cut-database": 3,
}
_FAULTS_EACH: Final = 4
_PROCESSOR_POINTS: Final = (
    Point.BEFORE_PRODUCE,
    Point.AFTER_PRODUCE,
    Point.AFTER_HEADS,
    Point.AFTER_SEND_OFFSETS,
    Point.DURING_COMMIT,
    Point.AFTER_COMMIT,
    Point.DURING_ASSIGNMENT,
)
_FAILPOINTS: Final = (
    *(("notary", point) for point in NOTARY_POINTS),
    *(("witness", point) for point in WITNESS_POINTS),
    *(("processor", point.value) for point in _PROCESSOR_POINTS),
)
_BROKER_EVERY: Final = 8
_PASSAGES_MAX: Final = 3
_LOOK_SECONDS: Final = 0.5
_PAUSE_SECONDS_MAX: Final = 1.2
_STOPPED_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 7.0)
"""The last one is longer than a consumer group's session."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that goes wrong.

    Arguments:
        fault: What.
        role: Whose, where it is one worker's.
        records: How many records are published before it.
        how: How they are.
        pause_seconds: How long they are on their way before it.
        stopped_seconds: How long a worker stands still.
        failpoint: Where it is made to fail.
    """

    fault: Fault
    role: str
    records: int
    how: How
    pause_seconds: float
    stopped_seconds: float = 0.0
    failpoint: str = ""


def steps_of(seed: int) -> tuple[Step, ...]:
    """Return what goes wrong in a run: one failpoint, each in its turn; four more faults; now and then the broker."""
    random = Random(seed)
    role, point = _FAILPOINTS[seed % len(_FAILPOINTS)]
    faults: list[Fault] = random.choices([*_FAULTS], weights=[*_FAULTS.values()], k=_FAULTS_EACH)
    if seed % _BROKER_EVERY == 0:
        faults[-1] = "kill-broker" if seed % (2 * _BROKER_EVERY) else "stop-broker"
    faults.append("failpoint")
    random.shuffle(faults)
    return tuple(_step(random, fault, role, point) for fault in faults)


def _step(random: Random, fault: Fault, role: str, point: str) -> Step:
    passage = 1 if point == Point.DURING_ASSIGNMENT else random.randint(1, _PASSAGES_MAX)
    hows: tuple[How, ...] = ("plain", "committed", "aborted")
    (how,) = random.choices(hows, weights=(4, 1, 1))
    return Step(
        fault,
        role if fault == "failpoint" else random.choice(ROLES),
        random.randint(20, 80),
        how,
        random.uniform(0, _PAUSE_SECONDS_MAX),
        random.choice(_STOPPED_SECONDS),
        f"{point}#{passage}=kill",
    )


class Crew:
    """The workers of an instance, one of each role, and who starts them again.

    Arguments:
        stage: The instance.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._names = {role: f"{role}-0" for role in ROLES}
        self.workers: dict[str, Worker] = {}
        self.start(*ROLES)

    def start(self, *roles: str, failpoint: str = "") -> None:
        """Start workers under the names that they had."""
        for role in roles:
            settings = {"failpoints": failpoint} if failpoint else {}
            self.workers |= self._stage.start(role, worker_id=self._names[role], **settings)

    def kill(self, *roles: str) -> None:
        """End workers as a power cut does."""
        for role in roles:
            self.workers[role].process.kill()
        for role in roles:
            self.workers[role].process.wait(END_SECONDS)

    def terminate(self, *roles: str) -> None:
        """End workers as an operator does, all at once; each must end in order."""
        for role in roles:
            self.workers[role].get("/healthz")  # before it is up, a signal ends it as it ends any process
        for role in roles:
            self.workers[role].process.send_signal(signal.SIGTERM)
        for role in roles:
            code = self.workers[role].wait(timeout_seconds=END_SECONDS)
            assert code == 0, f"a {role} that was told to end has ended with {code}"

    def rename(self, role: str) -> None:
        """Let who starts next in a role have another name, as a pod has that takes another one's place."""
        self._names[role] = f"{role}-{int(self._names[role].rpartition('-')[2]) + 1}"

    def check(self) -> None:
        """Check that all run: nothing that happens here is a reason to end."""
        for role, worker in self.workers.items():
            assert worker.process.poll() is None, f"a {role} has ended by itself:\n{worker.report()}"


class CleanRun:
    """One run.

    Arguments:
        stage: An instance with nothing in it.
        broker: Its broker.
        seed: Decides everything that is decided here.
    """

    def __init__(self, stage: Stage, broker: FaultBroker, seed: int) -> None:
        self.stage = stage
        self.random = Random(f"load {seed}")
        self._broker = broker
        self._steps = steps_of(seed)
        self._load = CleanLoad(stage.pipeline, self.random)
        self.crew: Crew

    def disturb(self) -> None:
        """Start the instance, and let everything go wrong that is to; in the end all workers run again."""
        self.crew = Crew(self.stage)
        self._load.publish_one_of_each()
        # What its operator has begun for the first time, and sees working, is left alone by him from here on.
        self.stage.wait_witnessed(**dict.fromkeys(TENANTS, FIRST_SIZE))
        for step in self._steps:
            self._load.publish(step.records, step.how)
            _pause(step.pause_seconds)
            self.crew.check()
            self._do(step)
        self._load.publish(self._steps[0].records)
        self.crew.check()

    def _do(self, step: Step) -> None:
        crew, role = self.crew, step.role
        match step.fault:
            case "kill":
                crew.kill(role)
                crew.start(role)
            case "kill-all":
                crew.kill(*ROLES)
                crew.start(*ROLES)
            case "terminate":
                crew.terminate(role)
                crew.start(role)
            case "replace":
                crew.kill(role)
                crew.rename(role)
                crew.start(role)
            case "stop":
                crew.workers[role].process.send_signal(signal.SIGSTOP)
                _pause(step.stopped_seconds)
                crew.workers[role].process.send_signal(signal.SIGCONT)
            case "failpoint":
                self._fail_at_point(step)
            case "cut-database":
                cut_connections(self.stage)
            case "kill-broker" | "stop-broker":
                (self._broker.kill if step.fault == "kill-broker" else self._broker.stop)()
                _pause(step.pause_seconds)
                self._broker.start()

    def _fail_at_point(self, step: Step) -> None:
        crew, role = self.crew, step.role
        crew.kill(role)
        crew.start(role, failpoint=step.failpoint)
        worker, deadline = crew.workers[role], time.monotonic() + WAIT_SECONDS
        while worker.process.poll() is None:
            assert time.monotonic() < deadline, f"{step.failpoint} is not reached:\n{worker.report()}"
            self._load.publish(1)  # some points are passed only while there is something to do
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(_LOOK_SECONDS)
        assert worker.process.returncode == -signal.SIGKILL, f"{step.failpoint}:\n{worker.report()}"
        crew.start(role)


def cut_connections(stage: Stage) -> None:
    """Cut all connections to the instance's two databases, as a failover does."""
    for url in (stage.pipeline.database_url, stage.notary_url):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


def _pause(seconds: float) -> None:
    """Let so much time go by: the moment of a fault, and its length, are what a seed decides."""
    threading.Event().wait(seconds)
