"""The parts of the demonstration that need no server."""

from __future__ import annotations

import itertools
import stat
import time
from collections import Counter
from pathlib import Path

import pytest

from sealstream.deploy.demo.events import events, tenant_names
from sealstream.deploy.demo.home import DemoHome
from sealstream.deploy.demo.options import DemoOptions
from sealstream.deploy.demo.stages import Stage
from sealstream.deploy.demo.tampering import decode, forge
from sealstream.schemas.codec import encode_event
from sealstream.schemas.entry import is_tenant
from sealstream.schemas.errors import ConfigError, StoreError


def test_the_story_is_the_same_for_the_same_seed() -> None:
    """The same seed gives the same actors and actions in the same order; ids and salts are always new."""
    first, second = (list(events(200, tenant_names(5), seed=7)) for _ in range(2))

    assert [(e.tenant, e.actor, e.action, e.targets) for e in first] == [
        (e.tenant, e.actor, e.action, e.targets) for e in second
    ]
    assert len({event.id for event in first + second}) == 400


@pytest.mark.parametrize(("count", "tenants"), [(1, 1), (50, 50), (3000, 1000)])
def test_every_event_is_valid_and_every_tenant_has_one(count: int, tenants: int) -> None:
    """Events pass the model's own check, and no tenant is left out."""
    names = tenant_names(tenants)
    made = list(events(count, names))
    for event in made:
        event.check()

    assert len(set(names)) == tenants
    assert all(is_tenant(name) for name in names)
    assert Counter(event.tenant for event in made).keys() == set(names)
    assert len(made) == count


def test_a_forgery_decodes_as_well_as_the_truth() -> None:
    """What the demo puts in an event's place is an event too: only its actor is another one."""
    (event,) = events(1, ("acme",))
    payload = encode_event(event)

    forged = decode(forge(payload, event, "u-0000"))

    assert forged.actor.id == "u-0000"
    assert (forged.id, forged.action, forged.targets) == (event.id, event.action, event.targets)
    with pytest.raises(StoreError, match="would not decode"):
        forge(payload, event, "somebody-else")


def test_a_rate_is_told_only_where_it_says_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage's rate is that between its first and its last record, and unknown where that was too short a time."""
    clock = itertools.count(100.0, 0.25)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    stage = Stage("chained")
    stage.observe(100)
    too_early = stage.rate
    for count in (200, 300, 400, 500):
        stage.observe(count)

    assert too_early is None
    assert stage.rate == pytest.approx(400)
    assert stage.rate_now == pytest.approx(400)


def test_options_that_contradict_each_other_are_refused() -> None:
    """More tenants than events, or more repeats than events, are an error with the numbers in it."""
    with pytest.raises(ConfigError, match="3 events are too few for 5 tenants"):
        DemoOptions(events=3, tenants=5)
    with pytest.raises(ConfigError, match="20 of 10 events"):
        DemoOptions(events=10, duplicates=20)


@pytest.mark.parametrize("keep_logs", [False, True])
def test_the_directory_is_left_as_it_was(tmp_path: Path, *, keep_logs: bool) -> None:
    """What the demo has put into a directory goes again; one that was there before stays, with its rights."""
    given, fresh = tmp_path / "given", tmp_path / "fresh"
    given.mkdir(mode=0o750)
    for directory in (given, fresh):
        home = DemoHome(directory)
        home.logs.mkdir()
        (home.logs / "sink.log").write_text("why")
        (home.path / "kafka").mkdir()
        assert home.has_worker_logs()
        home.remove(keep_logs=keep_logs)

    assert stat.S_IMODE(given.stat().st_mode) == 0o750
    assert fresh.exists() == keep_logs
    assert [path.name for path in given.rglob("*")] == (["logs", "sink.log"] if keep_logs else [])
