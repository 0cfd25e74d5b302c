"""Benchmarks where no server is needed: what they publish, how figures are made, and where they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.chain import OutputDiffers, compare
from bench.common import Figure, Machine, Options, Result
from bench.end_to_end import ROLES, Sample, Trial
from bench.output import Course, Output
from bench.source import EVENT_BYTES, keyed_events
from bench.usage import JavaTime, Warmth
from sealstream.deploy.cli import bench as command
from sealstream.deploy.cli import main
from sealstream.deploy.cli.output import ExitCode
from sealstream.schemas.codec import EventReader


def test_events_are_valid_different_and_of_one_size() -> None:
    """Every event that a benchmark publishes decodes, belongs to its key's tenant, and has exactly 300 bytes."""
    events = list(keyed_events(7, 0, 50))
    reader = EventReader()

    decoded = [reader.read(value) for _, value in events]

    assert {len(value) for _, value in events} == {EVENT_BYTES}
    assert len({value for _, value in events}) == len({event.id for event in decoded}) == 50
    assert [event.tenant.encode() for event in decoded] == [tenant for tenant, _ in events]
    assert len({tenant for tenant, _ in events}) == 7


def test_a_ratio_is_taken_run_by_run() -> None:
    """A slow minute of the machine that hits both contestants of one run does not change their ratio."""
    ours, peer = Figure.of([100, 50, 100]), Figure.of([200, 100, 200])

    assert ours.over(peer) == 0.5
    assert ours.to_json() == {"median": 100.0, "least": 50.0, "most": 100.0, "runs": [100.0, 50.0, 100.0]}


def test_a_rate_is_taken_behind_the_warm_up() -> None:
    """Records that came while a contestant got warm are not counted, nor is the time that they took."""
    course = Course(((1_000, 10), (5_000, 10), (6_000, 30), (7_000, 30)))

    assert course.records == 80
    assert course.after(20) == (5.0, 7.0, 60)
    assert course.after(0) == (1.0, 7.0, 80)


def test_a_peer_that_made_other_bytes_is_no_peer() -> None:
    """A benchmark ends with an error if a peer did other work than ours."""
    ours = Output(Course(((1, 1),)), ("a", "b"), 0)

    compare({"ours": ours, "bare_loop": ours})
    with pytest.raises(OutputDiffers, match="bare_loop"):
        compare({"ours": ours, "bare_loop": Output(ours.course, ("a", "c"), 0)})


@pytest.mark.parametrize(("growing", "flat"), [(0, True), (100, False)], ids=["steady", "growing"])
def test_a_rate_is_held_only_if_no_stage_falls_behind(growing: int, flat: bool) -> None:
    """One stage whose lag grows by a tenth of the rate is enough for a rate to count as not held."""
    samples = [
        Sample(float(second), 1_000 * second, dict.fromkeys(ROLES, 50) | {"sink": 50 + growing * second})
        for second in range(20)
    ]

    trial = Trial(1_000, samples, {})

    assert trial.is_flat is flat


def test_a_broker_is_warm_when_java_has_hardly_compiled_for_a_while() -> None:
    """A short rest of the compiler is not enough, and no work at all is not needed."""
    compiling = iter([0.0, 4.0, 4.0, 8.0, 8.1, 8.2, 8.3, 8.4])
    moments = iter([0.0, 5.0, 10.0, 15.0, 18.0, 20.0, 22.0, 26.0])
    total = iter(range(0, 80, 10))
    warmth = Warmth(lambda: JavaTime(next(compiling), next(total)), now=lambda: next(moments))

    assert [warmth.is_reached() for _ in range(8)] == [False] * 7 + [True]


def test_a_broker_that_cannot_be_looked_into_is_never_called_warm() -> None:
    """Where compiler threads cannot be told apart, the whole time for warming is taken."""
    moments = iter([0.0, 60.0])

    warmth = Warmth(lambda: None, now=lambda: next(moments))

    assert not any(warmth.is_reached() for _ in range(2))


def test_a_result_is_plain_json() -> None:
    """What a benchmark gives back holds what was promised to programs, and nothing that JSON cannot say."""
    figure = {"events_per_second": Figure.of([123456.789])}
    result = Result(
        name="chain",
        options=Options(events=10, without=frozenset({"b", "a"})),
        ours=figure,
        peers={"bare_loop": figure},
        ratios={"bare_loop": 1.0},
        machine=Machine.describe(kafka="4.1.0"),
    )

    found = json.loads(json.dumps(result.to_json()))

    assert set(found) == {"name", "options", "ours", "peers", "ratios", "machine", "notes"}
    assert found["ours"]["events_per_second"]["median"] == 123460.0
    assert found["options"]["warmup"] == 5
    assert found["machine"]["versions"]["kafka"] == "4.1.0"
    assert found["machine"]["cores"] >= 1


def test_an_installed_package_says_that_it_has_no_benchmarks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Outside of a source checkout `sealstream bench` says so and what to do, with exit code 2."""
    monkeypatch.setattr(command, "_TESTS", tmp_path)

    code = main(["bench", "chain", "--json"])

    assert code == ExitCode.FAILED
    assert "no part of the installed package" in json.loads(capsys.readouterr().out)["error"]


def test_a_peer_that_does_not_exist_cannot_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt --without is an error, and not a benchmark of the wrong peers."""
    code = main(["bench", "chain", "--without", "kafka-streams", "--json"])

    assert code == ExitCode.FAILED
    assert "kafka-streams" in json.loads(capsys.readouterr().out)["error"]
