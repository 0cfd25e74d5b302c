"""Asking witnesses over HTTP: honest ones, ones that are behind, and ones that answer whatever they like."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import ConfigError, RolledBack
from sealstream.schemas.key_history import KeyHistory, sign_rotation
from sealstream.schemas.note import Note, sign_note
from sealstream.schemas.policy import NO_QUORUM, Group, Log, Policy, Witness
from sealstream.sinks.notary.asking import Asked, WitnessAsker
from sealstream.sinks.notary.round_files import RoundFiles
from sealstream.worker.objects import Objects, open_objects
from support.made_rounds import GrowingLogs
from support.notes import LOG, ORIGIN, signer, witness
from support.plain_witness import PlainWitness, Reply, served_witness

PATIENCE_SECONDS = 60.0


class RootLog:
    """A root log whose tiles are published, and its checkpoints."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.objects: Objects = open_objects(str(directory))
        self._logs = GrowingLogs()
        self._files = RoundFiles(self.objects)

    def grow(self, rounds: int = 1) -> bytes:
        """Make rounds, and return the checkpoint of the last one as the log signs it."""
        made = [self._logs.grow({}) for _ in range(rounds)]
        for one in made:
            self._files.write(one)
        return sign_note(Checkpoint(ORIGIN, made[-1].size, made[-1].root).pack(), [LOG])


@pytest.fixture
def log(tmp_path: Path) -> RootLog:
    """A root log without rounds."""
    return RootLog(tmp_path / "log")


@pytest.fixture
def three() -> Generator[list[PlainWitness]]:
    """Three honest witnesses."""
    with ExitStack() as stack:
        yield [stack.enter_context(served_witness(PlainWitness(witness(n), LOG.verifier))) for n in (1, 2, 3)]


def policy(witnesses: list[PlainWitness], threshold: int = 2) -> Policy:
    """Return the policy with these witnesses, of whom so many are a quorum."""
    known = tuple(Witness(f"W{n}", one.key.verifier, one.url) for n, one in enumerate(witnesses, 1))
    group = Group("some", threshold, tuple(one.name for one in known))
    return Policy((Log(LOG.verifier),), known, (group,), "some")


def asker(log: RootLog, judged_by: Policy, history: KeyHistory | None = None) -> WitnessAsker:
    """Return what asks them."""
    return WitnessAsker(judged_by, history or KeyHistory(), log.objects, origin=ORIGIN)


def names(asked: Asked) -> set[str]:
    """Return who counts."""
    assert asked.trusted is not None
    return {one.witness for one in asked.trusted.cosignatures}


def test_a_quorum_in_each_round(log: RootLog, three: list[PlainWitness]) -> None:
    """Each round's checkpoint is cosigned by all; a witness that was asked before is sent the proof at once."""
    asking = asker(log, policy(three, threshold=3))
    for rounds in (1, 3, 300):
        note = log.grow(rounds)
        asked = asking.ask(note, patience_seconds=PATIENCE_SECONDS)
        assert (names(asked), asked.missing) == ({"W1", "W2", "W3"}, {})
        assert Note.parse(asked.note).text == Note.parse(note).text
    assert [len(one.requests) for one in three] == [3, 3, 3]


def test_a_restart_learns_their_sizes(log: RootLog, three: list[PlainWitness]) -> None:
    """A log that has forgotten what its witnesses have seen is told by them, and asks again with the proof."""
    asker(log, policy(three, threshold=3)).ask(log.grow(5), patience_seconds=PATIENCE_SECONDS)
    asked = asker(log, policy(three, threshold=3)).ask(log.grow(7), patience_seconds=PATIENCE_SECONDS)
    assert names(asked) == {"W1", "W2", "W3"}
    assert [len(one.requests) for one in three] == [3, 3, 3]


def test_what_is_cosigned_is_not_asked_again(log: RootLog, three: list[PlainWitness]) -> None:
    """Where some cosigned before, only the others are asked, and what there is already stays byte for byte."""
    three[2].answering = lambda _body: (500, {}, b"broken")
    asking = asker(log, policy(three, threshold=3))
    asked = asking.ask(log.grow(), patience_seconds=PATIENCE_SECONDS)
    assert (asked.trusted, set(asked.missing)) == (None, {"W3"})
    assert "500" in asked.missing["W3"]

    three[2].answering = three[2].honest
    again = asking.ask(asked.note, patience_seconds=PATIENCE_SECONDS)
    assert (names(again), [len(one.requests) for one in three]) == ({"W1", "W2", "W3"}, [1, 1, 2])
    assert again.note.startswith(asked.note)


def test_a_larger_size_stops_the_log(log: RootLog, three: list[PlainWitness]) -> None:
    """As many witnesses as make a quorum that have seen more than the log has say that the log was set back."""
    before = log.grow(2)
    asker(log, policy(three)).ask(log.grow(3), patience_seconds=PATIENCE_SECONDS)
    with pytest.raises(RolledBack, match="size 5, and its head has 2"):
        asker(log, policy(three)).ask(before, patience_seconds=PATIENCE_SECONDS)


def test_one_that_says_a_larger_size_stops_nothing(log: RootLog, three: list[PlainWitness]) -> None:
    """The word of one witness is nobody's signature: it is left out with its reason, and the others are enough."""
    three[0].answering = lambda _body: (409, {}, b"4096\n")
    asked = asker(log, policy(three)).ask(log.grow(2), patience_seconds=PATIENCE_SECONDS)
    assert names(asked) == {"W2", "W3"}
    assert asked.larger == {"W1": 4096}
    assert asked.missing == {"W1": "it remembers the size 4096, and shows no checkpoint of it that the log has signed"}

    asked = asker(log, policy(three, threshold=3)).ask(log.grow(1), patience_seconds=PATIENCE_SECONDS)
    assert (asked.trusted, set(asked.missing)) == (None, {"W1"})


@pytest.mark.parametrize("lie", ["another key", "another log", "no larger", "no note"])
def test_what_is_shown_for_a_larger_size_must_be_the_logs(log: RootLog, three: list[PlainWitness], lie: str) -> None:
    """A checkpoint that the log has not signed, or that is not larger, stops nothing either."""
    note, root = log.grow(2), b"r" * 32
    three[0].answering = lambda _body: (409, {}, b"5\n")
    three[0].shown = {
        "another key": sign_note(Checkpoint(ORIGIN, 5, root).pack(), [signer(ORIGIN, number=1)]),
        "another log": sign_note(Checkpoint(f"{ORIGIN}/acme", 5, root).pack(), [LOG]),
        "no larger": note,
        "no note": b"5\n",
    }[lie]
    asked = asker(log, policy(three)).ask(note, patience_seconds=PATIENCE_SECONDS)
    assert names(asked) == {"W2", "W3"}


def test_one_that_shows_a_larger_checkpoint_stops_the_log(log: RootLog, three: list[PlainWitness]) -> None:
    """What the log itself has signed is proof, whoever shows it: its database was set back, or its key was stolen."""
    note = log.grow(2)
    three[0].answering = lambda _body: (409, {}, b"5\n")
    three[0].shown = log.grow(3)
    with pytest.raises(RolledBack, match=r"the witness W1 has seen .* at size 5, and its head has 2"):
        asker(log, policy(three, threshold=3)).ask(note, patience_seconds=PATIENCE_SECONDS)


def test_a_witness_that_is_behind(log: RootLog, three: list[PlainWitness]) -> None:
    """``503`` with ``Retry-After`` is asked again at that time."""
    asking = asker(log, policy(three, threshold=3))
    one = three[0]
    times: list[float] = []

    def behind(body: bytes) -> Reply:
        times.append(time.monotonic())
        return (503, {"Retry-After": "1"}, b"not yet") if len(times) < 3 else one.honest(body)

    one.answering = behind
    asked = asking.ask(log.grow(), patience_seconds=PATIENCE_SECONDS)
    assert (len(names(asked)), len(times)) == (3, 3)
    assert min(later - before for before, later in pairwise(times)) >= 0.9


def test_a_witness_that_is_behind_for_long(log: RootLog, three: list[PlainWitness]) -> None:
    """A witness that wants to be asked after the round is over is not waited for."""
    three[0].answering = lambda _body: (503, {"Retry-After": "86400"}, b"not today")
    began = time.monotonic()
    asked = asker(log, policy(three, threshold=3)).ask(log.grow(), patience_seconds=PATIENCE_SECONDS)
    assert (asked.trusted, "not today" in asked.missing["W1"]) == (None, True)
    assert time.monotonic() - began < PATIENCE_SECONDS


def test_a_silent_witness(log: RootLog, three: list[PlainWitness]) -> None:
    """One that never answers keeps nobody waiting once there is a quorum, and is not asked twice at the same time."""
    never = threading.Event()

    def silent(_body: bytes) -> Reply:
        never.wait(300)
        return 500, {}, b""

    three[0].answering = silent
    asking = asker(log, policy(three))
    began = time.monotonic()
    try:
        asked = asking.ask(log.grow(), patience_seconds=PATIENCE_SECONDS)
        assert (names(asked), set(asked.missing)) == ({"W2", "W3"}, {"W1"})
        assert time.monotonic() - began < PATIENCE_SECONDS
        asked = asking.ask(log.grow(), patience_seconds=PATIENCE_SECONDS)
        assert (names(asked), len(three[0].requests)) == ({"W2", "W3"}, 1)
    finally:
        never.set()


def test_stopping(log: RootLog, three: list[PlainWitness]) -> None:
    """A worker that is told to stop does not wait for witnesses."""
    for one in three:
        one.answering = lambda _body: (503, {"Retry-After": "5"}, b"")
    began = time.monotonic()
    asked = asker(log, policy(three)).ask(log.grow(), patience_seconds=300, stopping=lambda: True)
    assert (asked.trusted, len(asked.missing)) == (None, 3)
    assert time.monotonic() - began < 100


def _forged(one: PlainWitness, checkpoint: Checkpoint) -> bytes:
    line = bytearray(one.lines(checkpoint))
    line[-10] = ord("A") if line[-10] != ord("A") else ord("B")
    return bytes(line)


LIES: dict[str, Callable[[PlainWitness, PlainWitness, Checkpoint], bytes]] = {
    "nothing": lambda _one, _other, _checkpoint: b"",
    "no lines": lambda _one, _other, _checkpoint: b"<html>cosigned</html>\n",
    "cut": lambda one, _other, checkpoint: one.lines(checkpoint)[:-1],
    "forged": lambda one, _other, checkpoint: _forged(one, checkpoint),
    "another checkpoint": lambda one, _other, checkpoint: one.lines(replace(checkpoint, size=checkpoint.size + 1)),
    "another key": lambda _one, _other, checkpoint: PlainWitness(signer("w1.example/witness"), LOG.verifier).lines(
        checkpoint
    ),
    "another witness": lambda _one, other, checkpoint: other.lines(checkpoint),
    "forged in another's name": lambda _one, other, checkpoint: _forged(other, checkpoint),
    "forged in the log's name": lambda _one, _other, _checkpoint: "— {} {}\n".format(
        ORIGIN, str(LOG.verifier).split("+")[2]
    ).encode(),
    "from the future": lambda one, _other, checkpoint: one.lines(checkpoint, time_seconds=int(time.time()) + 3_600),
    "a hundred lines": lambda one, _other, checkpoint: one.lines(checkpoint) * 101,
    "a text of its own": lambda one, _other, checkpoint: b"evil\n\n" + one.lines(checkpoint),
    "huge": lambda one, _other, checkpoint: one.lines(checkpoint) * 10_000,
}


@pytest.mark.parametrize("lie", LIES)
def test_lies(lie: str, log: RootLog, three: list[PlainWitness]) -> None:
    """Whatever a witness answers: it is taken for no cosignature, named as missing, and harms no other's."""

    def lying(body: bytes) -> Reply:
        note = body.partition(b"\n\n")[2]
        return 200, {}, LIES[lie](three[0], three[2], Checkpoint.parse(Note.parse(note).text))

    three[0].answering = lying
    three[2].answering = lambda _body: (500, {}, b"")
    note = log.grow()
    asked = asker(log, policy(three, threshold=1)).ask(note, patience_seconds=PATIENCE_SECONDS)
    assert (names(asked), set(asked.missing)) == ({"W2"}, {"W1", "W3"})
    assert asked.note.startswith(note)
    assert len(Note.parse(asked.note).signatures) == 2


def test_forged_lines_beside_a_true_one(log: RootLog, three: list[PlainWitness]) -> None:
    """Of several lines the true one counts; the others do not even enter the note."""

    def generous(body: bytes) -> Reply:
        status, headers, lines = three[0].honest(body)
        checkpoint = Checkpoint.parse(Note.parse(body.partition(b"\n\n")[2]).text)
        return status, headers, _forged(three[1], checkpoint) + lines + _forged(three[0], checkpoint)

    three[0].answering = generous
    three[1].answering = lambda _body: (500, {}, b"")
    asked = asker(log, policy(three)).ask(log.grow(), patience_seconds=PATIENCE_SECONDS)
    assert (names(asked), len(Note.parse(asked.note).signatures)) == ({"W1", "W3"}, 3)


def test_a_lie_about_its_size(log: RootLog, three: list[PlainWitness]) -> None:
    """A size that is none, or that changes with each question, is a reason and no loop."""
    three[0].answering = lambda _body: (409, {}, b"many\n")
    sizes = iter(range(1, 1_000))
    three[1].answering = lambda _body: (409, {}, b"%d\n" % (1 + next(sizes) % 2))
    asked = asker(log, policy(three, threshold=3)).ask(log.grow(3), patience_seconds=PATIENCE_SECONDS)
    assert set(asked.missing) == {"W1", "W2"}
    assert len(three[1].requests) == 2


def test_what_a_witness_says_is_shown_as_text(log: RootLog, three: list[PlainWitness]) -> None:
    """The words of a refusal are shown, shortened, without what a terminal or a log would act upon."""
    three[0].answering = lambda _body: (403, {}, b"unknown\x1b[31m\nlog" + b"x" * 10_000)
    asked = asker(log, policy(three, threshold=3)).ask(log.grow(), patience_seconds=PATIENCE_SECONDS)
    assert "unknown [31m log" in asked.missing["W1"]
    assert len(asked.missing["W1"]) < 200


def test_a_rotated_key(log: RootLog, three: list[PlainWitness]) -> None:
    """A witness that has a new key by now cosigns with it, if the rotation is known; the old one does not count."""
    old, new = witness(1), witness(1, generation=1)
    rotation, _ = sign_rotation(old, new, old_not_after_seconds=1_700_000_000, new_not_before_seconds=1_600_000_000)
    history = KeyHistory([rotation])
    asked = asker(log, policy(three, threshold=3), history).ask(log.grow(), patience_seconds=PATIENCE_SECONDS)
    assert (asked.trusted, set(asked.missing)) == (None, {"W1"})
    judged_by = policy(three, threshold=3)
    three[0].key = new
    asked = asker(log, judged_by, history).ask(log.grow(), patience_seconds=PATIENCE_SECONDS)
    assert names(asked) == {"W1", "W2", "W3"}


def test_missing_tiles(log: RootLog, three: list[PlainWitness], tmp_path: Path) -> None:
    """Where no proof can be made because the log's tiles are gone, that is the reason, and no traceback."""
    asking = asker(log, policy(three))
    asking.ask(log.grow(5), patience_seconds=PATIENCE_SECONDS)
    note = log.grow(6)
    for path in log.objects.list("root/tile"):
        (tmp_path / "log" / path).unlink()
    asked = asking.ask(note, patience_seconds=PATIENCE_SECONDS)
    assert asked.trusted is None
    assert all("root/tile" in reason for reason in asked.missing.values())


def test_quorum_none(log: RootLog) -> None:
    """A policy that asks for nobody is satisfied without anybody; one that has no URL for a witness misses it."""
    nobody = Policy((Log(LOG.verifier),), (), (), NO_QUORUM)
    asked = asker(log, nobody).ask(log.grow(), patience_seconds=PATIENCE_SECONDS)
    assert asked.trusted is not None
    unreachable = Policy((Log(LOG.verifier),), (Witness("W1", witness(1).verifier),), (), "W1")
    asked = asker(log, unreachable).ask(log.grow(), patience_seconds=PATIENCE_SECONDS)
    assert (asked.trusted, "no URL" in asked.missing["W1"]) == (None, True)


def test_urls_with_secrets(log: RootLog) -> None:
    """A URL with a password is refused, and not shown."""
    known = Witness("W1", witness(1).verifier, "https://me:hunter2@w1.example/")
    with pytest.raises(ConfigError) as caught:
        asker(log, Policy((Log(LOG.verifier),), (known,), (), "W1"))
    assert "hunter2" not in str(caught.value)
