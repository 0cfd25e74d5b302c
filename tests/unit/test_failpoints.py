"""Failpoints: they fail exactly where a test says, and are nothing where it says nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealstream.processors.points import Point
from sealstream.schemas.errors import ConfigError
from sealstream.worker.failpoints import OFF, VARIABLE, FailpointReached, Failpoints
from sealstream.worker.settings import load_settings
from support.workers import wait_for

NAMES = ("after-produce", "after-commit")


class TestOff:
    """Without the variable, a worker has no failpoints."""

    def test_costs_nothing(self) -> None:
        """A place that is not armed is one function for all places, and a call under way is the call itself."""

        def call() -> int:
            return 7

        assert OFF.at("after-produce") is Failpoints("after-commit=raise", names=NAMES).at("before-produce")
        assert OFF.during("after-produce", call) is call

    def test_passes(self) -> None:
        """Passing a place that is not armed does nothing, however often."""
        place = OFF.at("after-produce")
        assert [place() for _ in range(3)] == [None] * 3

    def test_silent(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """Nothing armed, nothing logged."""
        monkeypatch.delenv(VARIABLE, raising=False)
        Failpoints.from_environment(NAMES)
        assert capsys.readouterr() == ("", "")


class TestArmed:
    """What an armed failpoint does."""

    def test_raises_on_its_passage_and_never_again(self) -> None:
        """The passage that was asked for raises; those before and after it go on."""
        place = Failpoints("after-produce#2=raise", names=NAMES).at("after-produce")
        place()
        with pytest.raises(FailpointReached, match="after-produce"):
            place()
        place()

    def test_counts_over_all_who_pass(self) -> None:
        """A place that is bound anew goes on counting: transactions after a reload are passages, too."""
        failpoints = Failpoints("after-produce#2=raise", names=NAMES)
        failpoints.at("after-produce")()
        with pytest.raises(FailpointReached):
            failpoints.at("after-produce")()

    def test_kills_the_process(self) -> None:
        """The process ends as by a power cut: no handler runs, nothing is flushed."""
        code = "from sealstream.worker.failpoints import *; Failpoints('p=kill', names='p').at('p')(); print('on!')"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == -signal.SIGKILL
        assert "on!" not in done.stdout

    def test_waits_to_be_let_go(self, tmp_path: Path) -> None:
        """With a file, it says that it is there and goes on when the file is gone."""
        file = tmp_path / "here"
        place = Failpoints(f"after-produce=pause@{file}", names=NAMES).at("after-produce")
        thread = threading.Thread(target=place)
        thread.start()
        wait_for(file.exists, timeout_seconds=10, what="the file")
        assert thread.is_alive()
        file.unlink()
        thread.join(10)
        assert not thread.is_alive()

    def test_waits_no_longer_than_it_says(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that nobody removes does not hold a worker for ever."""
        monkeypatch.setattr("sealstream.worker.failpoints.PAUSE_SECONDS_MAX", 0.0)
        file = tmp_path / "here"
        with pytest.raises(FailpointReached):
            Failpoints(f"after-produce=raise@{file}", names=NAMES).at("after-produce")()
        assert file.exists()

    def test_is_passed_while_the_call_is_under_way(self, tmp_path: Path) -> None:
        """During a call, the call has begun and not ended; its answer comes through afterwards."""
        began, end, file = threading.Event(), threading.Event(), tmp_path / "here"

        def call() -> int:
            began.set()
            assert end.wait(10)
            return 7

        answers: list[int] = []
        during = Failpoints(f"after-commit=pause@{file}", names=NAMES).during("after-commit", call)
        thread = threading.Thread(target=lambda: answers.append(during()))
        thread.start()
        wait_for(file.exists, timeout_seconds=10, what="the file")
        assert began.wait(10)
        file.unlink()
        end.set()
        thread.join(10)
        assert answers == [7]

    def test_takes_a_call_and_its_repetitions_for_one_passage(self) -> None:
        """A call that fails and is made again does not move the passage that a test has counted on."""
        answers: Iterator[KeyError | int] = iter([KeyError(), 1, 2])

        def call() -> int:
            answer = next(answers)
            if isinstance(answer, KeyError):
                raise answer
            return answer

        during = Failpoints("after-commit#3=raise", names=NAMES).during("after-commit", call)
        with pytest.raises(KeyError):
            during()
        assert [during(), during()] == [1, 2]
        with pytest.raises(FailpointReached):
            during()

    def test_hands_on_what_the_call_raises(self) -> None:
        """An error of the call that is under way is the caller's."""

        def call() -> None:
            raise KeyError("x")

        during = Failpoints("after-commit#9=raise", names=NAMES).during("after-commit", call)
        with pytest.raises(KeyError):
            during()

    def test_is_said_loudly(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """Nobody runs an armed worker without its log saying so."""
        monkeypatch.setenv(VARIABLE, "after-commit=kill")
        Failpoints.from_environment(NAMES)
        said = capsys.readouterr()
        assert "FAILPOINTS ARE ARMED" in said.out + said.err


class TestVariable:
    """The one variable that arms them."""

    @pytest.mark.parametrize(
        "text", ["after-produce", "after-produce=explode", "after-produce#0=kill", "=kill", "after-commit=pause", "a b"]
    )
    def test_malformed(self, text: str) -> None:
        """A clause that says nothing clear is an error, not a failpoint that never fires."""
        with pytest.raises(ConfigError, match=VARIABLE):
            Failpoints(text, names=NAMES)

    def test_unknown_place(self) -> None:
        """A place that the worker does not have is an error that names those it has."""
        with pytest.raises(ConfigError) as caught:
            Failpoints("after-lunch=kill", names=NAMES)
        assert caught.value.hint == "one of after-commit, after-produce"

    def test_several(self) -> None:
        """Several places are armed at a time, each for itself."""
        failpoints = Failpoints("after-produce=raise; after-commit#2=raise;", names=NAMES)
        with pytest.raises(FailpointReached):
            failpoints.at("after-produce")()
        failpoints.at("after-commit")()

    def test_is_no_setting(self) -> None:
        """The check of the environment takes the variable, which is no setting of any role."""
        assert load_settings({VARIABLE: "after-produce=kill"}) == load_settings({})


def test_points_of_the_processor_are_named_as_in_the_matrix() -> None:
    """Each state in which a crash leaves something else behind has a point."""
    assert [str(point) for point in Point] == [
        "before-produce",
        "after-produce",
        "after-heads",
        "after-send-offsets",
        "during-commit",
        "after-commit",
        "during-assignment",
        "during-revocation",
        "during-heads-reload",
    ]
