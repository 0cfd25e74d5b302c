"""What a case of the crash matrix does: a worker under load comes to a point, a fault happens, somebody goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from confluent_kafka.admin import AdminClient, ConsumerGroupDescription

from sealstream.processors.points import Point
from support.aftermath import LOOK_SECONDS, WAIT_SECONDS, committed_by_now, ends, wait_for_progress
from support.brokers import FaultBroker
from support.processing import group_of, wait_ready
from support.proxy import END_TXN, Side
from support.workers import Pipeline, Worker, wait_for

Restart = Literal["same worker", "other worker", "two workers"]
RESTARTS: tuple[Restart, ...] = ("same worker", "other worker", "two workers")
COMMAND = (sys.executable, "-m", "sealstream.processors")
SESSION_SECONDS = 5
TRANSACTION_SECONDS = 6
BATCH_RECORDS_MAX = 200
"""Small, so that there are many transactions, and none of them takes long even on a machine that is busy."""


@dataclass(frozen=True, slots=True)
class Place:
    """A row of the matrix: where the fault happens.

    Arguments:
        point: The failpoint.
        passage: Which passage of it.
        hold: What the proxy holds of the commit: the request, so that the coordinator has not decided, or the answer,
            so that it has decided and the worker does not know.
        uncommitted: The topic (its short name) that must hold records of the open transaction when the fault happens.
        restarted: Whether the worker is one that came back after a kill, and restores.
        joined: Whether another worker joins, so that partitions are taken back.
    """

    point: Point
    passage: int = 1
    hold: Side | None = None
    uncommitted: str = ""
    restarted: bool = False
    joined: bool = False


class Scene:
    """One case as it goes on.

    Arguments:
        broker: The broker.
        pipeline: The instance.
        place: Where the fault happens.
        restart: Who goes on after it.
        directory: For the failpoint's file.
    """

    def __init__(
        self, broker: FaultBroker, pipeline: Pipeline, place: Place, restart: Restart, directory: Path
    ) -> None:
        self.broker = broker
        self.pipeline = pipeline
        self.place = place
        self.restart = restart
        self.alive: list[Worker] = []
        """Workers that must run in the end."""
        self.victim: Worker
        self.namesake: Worker | None = None
        self.joiner: Worker | None = None
        self._file = directory / "failpoint"

    # -- before the fault ----------------------------------------------------------------------------------------------

    def come_to_the_point(self, action: Literal["kill", "raise", "pause"], *, proxied: bool = False) -> None:
        """Start the worker and wait until it stands at the point, where it does as told once it is let go."""
        place = self.place
        if place.restarted:
            before = self._start("one")
            every = self.pipeline.genesis.partitions
            self._wait(lambda: len(committed_by_now(self.pipeline)) == every, "heads of every partition")
            self.wait_for_progress()
            before.kill()
        if place.hold is not None:
            self.broker.proxy.hold(END_TXN, place.hold, passage=place.passage)
        address = {"kafka": self.broker.proxy.address} if proxied or place.hold is not None else {}
        failpoint = f"{place.point}#{place.passage}={action}@{self._file}"
        self.victim = self._start("one", failpoints=failpoint, **address)
        if place.joined:
            wait_ready(self.victim)
            self.joiner = self._start("joiner")
        self._wait(self._file.exists, f"the point {place.point}")
        if place.hold is not None:
            self._wait(self.broker.proxy.holds, f"the commit's {place.hold} in the proxy")
        if place.uncommitted:
            topic = getattr(self.pipeline.topics, place.uncommitted)
            self._wait(lambda: self._has_uncommitted(topic), f"uncommitted records in {topic}")
        if self.joiner is not None:
            if self.restart == "same worker":
                self.joiner.kill()  # it has done its part
            else:
                self.alive.append(self.joiner)

    # -- the fault and after -------------------------------------------------------------------------------------------

    def let_go(self) -> None:
        """Let the worker go on from the point, to what it was told to do there."""
        self._file.unlink()

    def succeed(self, *, namesake: bool, other: bool) -> None:
        """Start who goes on.

        Arguments:
            namesake: A worker under the victim's name.
            other: A worker under another name, if none is there already.
        """
        if namesake:
            self.namesake = self._start("one")
            self.alive.append(self.namesake)
        if other and self.joiner is None:
            self.alive.append(self._start("two"))

    def succeed_victim(self) -> None:
        """Start who goes on where the victim is gone."""
        self.succeed(namesake=self.restart != "other worker", other=self.restart != "same worker")

    def wait_for_progress(self) -> None:
        """Wait until all that is published by now is chained and committed."""
        wait_for_progress(self.pipeline, self.alive)

    def wait_for_expiry(self) -> None:
        """Wait until the group has given up all its members."""
        self._wait(lambda: not self._members(), "the end of the session")

    def wait_red(self) -> None:
        """Wait until the victim says that it is not ready."""
        wait_ready(self.victim, ready=False, timeout_seconds=WAIT_SECONDS)

    def await_victim(self) -> None:
        """Wait for what becomes of a victim that others went on without.

        It comes back, unless its name was taken: then one of the two ends, and says why.
        """
        self.alive.append(self.victim)
        if self.restart != "two workers":
            wait_ready(self.victim, timeout_seconds=WAIT_SECONDS)
            return
        # Two workers have one name now. They put each other out, and either may be the one that goes on.
        namesakes = [worker for worker in self.alive if worker in (self.victim, self.namesake)]
        self._wait(lambda: any(one.process.poll() is not None for one in namesakes), "the end of one of two namesakes")
        for worker in namesakes:
            if worker.process.poll() is not None:
                assert worker.process.returncode == 1
                assert "SEALSTREAM_WORKER_ID" in worker.log()
                self.alive.remove(worker)

    # -- looks at Kafka ------------------------------------------------------------------------------------------------

    def _start(self, worker_id: str, **settings: str) -> Worker:
        return self.pipeline.start("processor", command=COMMAND, worker_id=worker_id, **settings)

    @staticmethod
    def _wait(condition: Callable[[], bool], what: str) -> None:
        wait_for(condition, timeout_seconds=WAIT_SECONDS, what=what)

    def _has_uncommitted(self, topic: str) -> bool:
        return ends(self.pipeline, topic, "read_uncommitted") != ends(self.pipeline, topic, "read_committed")

    def _members(self) -> int:
        time.sleep(LOOK_SECONDS)
        group = group_of(self.pipeline)
        client = AdminClient({"bootstrap.servers": self.pipeline.bootstrap})
        found = cast("ConsumerGroupDescription", client.describe_consumer_groups([group])[group].result())
        return len(found.members or ())
