"""The crash matrix: wherever a worker is when something breaks, and whoever goes on, each record has its one entry.

Each case is a point in the life of a worker, a fault that happens exactly there under load, and who goes on after it;
README.md beside this file says what each means and who repairs what is left. No case knows more than that nothing may
be lost, doubled, forked or left open in the end.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sealstream.processors.points import Point
from support.aftermath import finish
from support.brokers import FaultBroker
from support.faults import RESTARTS, Place, Restart, Scene
from support.load import Load
from support.processing import abort
from support.workers import Pipeline

MakePipeline = Callable[..., Pipeline]
PASSAGE = 3
"""Which transaction the fault hits: there are committed ones before it, and more records are waiting."""

PLACES: dict[str, Place] = {
    "before-produce": Place(Point.BEFORE_PRODUCE, PASSAGE),
    "after-produce": Place(Point.AFTER_PRODUCE, PASSAGE, uncommitted="chained"),
    "after-heads": Place(Point.AFTER_HEADS, PASSAGE, uncommitted="heads"),
    "after-send-offsets": Place(Point.AFTER_SEND_OFFSETS, PASSAGE, uncommitted="heads"),
    "during-commit-asked": Place(Point.DURING_COMMIT, PASSAGE, hold="request"),
    "during-commit-decided": Place(Point.DURING_COMMIT, PASSAGE, hold="answer"),
    "after-commit": Place(Point.AFTER_COMMIT, PASSAGE),
    "during-assignment": Place(Point.DURING_ASSIGNMENT, restarted=True),
    "during-revocation": Place(Point.DURING_REVOCATION, joined=True),
    "during-heads-reload": Place(Point.DURING_HEADS_RELOAD, 2, restarted=True),
}


def killed(scene: Scene) -> None:
    """SIGKILL: the process is gone in the middle of an instruction."""
    scene.come_to_the_point("kill")
    scene.let_go()
    assert scene.victim.wait(timeout_seconds=10) == -signal.SIGKILL
    scene.broker.proxy.drop()
    scene.succeed_victim()


def raised(scene: Scene) -> None:
    """An error that nobody foresaw: the worker ends with exit code 1, and says why."""
    scene.come_to_the_point("raise")
    scene.let_go()
    assert scene.victim.wait(timeout_seconds=15) == 1
    assert "FailpointReached" in scene.victim.log()
    scene.broker.proxy.drop()
    scene.succeed_victim()


def stopped(scene: Scene) -> None:
    """SIGSTOP for longer than the session, then SIGCONT: a zombie, which goes on as if nothing had happened.

    The same worker: nobody else was there meanwhile. Another worker: it has gone on. Two workers: so has another one,
    and one under the zombie's own name: then one of the two ends.
    """
    scene.come_to_the_point("pause")
    scene.victim.process.send_signal(signal.SIGSTOP)
    if scene.restart == "same worker":
        scene.wait_for_expiry()
    else:
        scene.succeed(namesake=scene.restart == "two workers", other=True)
        scene.wait_for_progress()
    scene.let_go()
    scene.broker.proxy.let_go()  # a commit that was on its way arrives now
    scene.victim.process.send_signal(signal.SIGCONT)
    scene.await_victim()


def broker_killed(scene: Scene) -> None:
    """The broker is killed, and started again after the worker has noticed.

    The same worker: it goes on. Another worker: the broker's machine took the worker with it. Two workers: another one
    joins it.
    """
    scene.come_to_the_point("pause")
    scene.broker.kill()
    scene.broker.proxy.drop()
    scene.let_go()
    if scene.restart == "other worker":
        scene.victim.kill()
    else:
        scene.wait_red()
        scene.alive.append(scene.victim)
    scene.broker.start()
    scene.succeed(namesake=False, other=scene.restart != "same worker")


def cut(scene: Scene) -> None:
    """The connection to the broker is cut, and mended after the worker has noticed, or others have gone on without it.

    The restarts are those of a zombie: it differs in that the worker works on meanwhile.
    """
    scene.come_to_the_point("pause", proxied=True)
    scene.broker.proxy.cut()
    scene.let_go()
    if scene.restart == "same worker":
        scene.wait_red()
    else:
        scene.succeed(namesake=scene.restart == "two workers", other=True)
        scene.wait_for_progress()
    scene.broker.proxy.mend()
    scene.await_victim()


FAULTS: dict[str, Callable[[Scene], None]] = {
    "killed": killed,
    "raised": raised,
    "stopped": stopped,
    "broker-killed": broker_killed,
    "cut": cut,
}
TELLING = {
    ("after-produce", "killed", "other worker"),
    ("after-heads", "raised", "same worker"),
    ("after-send-offsets", "killed", "two workers"),
    ("before-produce", "stopped", "other worker"),
    ("during-commit-asked", "stopped", "two workers"),
    ("during-commit-asked", "broker-killed", "same worker"),
    ("during-commit-decided", "killed", "same worker"),
    ("during-commit-decided", "cut", "other worker"),
    ("after-commit", "raised", "two workers"),
    ("during-assignment", "broker-killed", "two workers"),
    ("during-revocation", "stopped", "other worker"),
    ("during-heads-reload", "killed", "other worker"),
}
CASES = [
    pytest.param(
        place,
        fault,
        restart,
        id=f"{place}-{fault}-{restart.replace(' ', '-')}",
        marks=[pytest.mark.telling] if (place, fault, restart) in TELLING else [],
    )
    for place, fault, restart in itertools.product(PLACES, FAULTS, RESTARTS)
]


@pytest.mark.fault
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("place", "fault", "restart"), CASES)
def test_nothing_is_lost_doubled_forked_or_left_open(
    broker: FaultBroker, make_pipeline: MakePipeline, tmp_path: Path, place: str, fault: str, restart: Restart
) -> None:
    """Whatever breaks wherever under load, and whoever goes on: each source offset has exactly one entry, the chains
    are those that an undisturbed run makes, and no transaction is left open.
    """
    pipeline = make_pipeline()
    abort(pipeline, 5)
    scene = Scene(broker, pipeline, PLACES[place], restart, tmp_path)
    with Load(pipeline) as load:
        FAULTS[fault](scene)
        finish(pipeline, load, scene.alive)
