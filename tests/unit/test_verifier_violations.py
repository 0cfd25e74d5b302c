"""What a person reads about violations, and the state of a store's verification between two runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sealstream.schemas.entry import Kind
from sealstream.schemas.errors import ConfigError, FormatError
from sealstream.schemas.resolution import Resolution
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.sinks.verifier.audit_state import AuditState
from sealstream.sinks.verifier.followed import Accounts, Followed
from sealstream.sinks.verifier.stored_chain import End
from sealstream.sinks.verifier.violations import explain

PLACE = (bytes(range(16)), 3)
FOLLOWED = Followed(
    "demo.example/audit", 5, bytes(32), bytes(range(32)), 2, Accounts({PLACE: 70}, {PLACE: list(range(len(Kind)))})
)
STATE = AuditState("store-1", {"acme": End(7, bytes(range(32))), "!partition-0": End(0, bytes(32))}, FOLLOWED)


@pytest.mark.parametrize("kind", list(ViolationType))
def test_every_type_is_explained(kind: ViolationType) -> None:
    """Each type says what it means, what can have caused it, and what to do."""
    explanation = explain(kind)

    assert explanation.type is kind
    assert all((explanation.meaning, explanation.causes, explanation.what_to_do))
    assert json.loads(json.dumps(explanation.to_dict()))["type"] == kind.value


def test_a_resolution_comes_back_as_it_was() -> None:
    """What is recorded of a resolution is what is read, and no violation is taken for one."""
    resolution = Resolution(violation_id="a" * 32, tenant="acme", by="ada", why="a restored broker", instance="i")

    assert Resolution.decode(resolution.encode()) == resolution
    with pytest.raises(FormatError):
        Resolution.decode(Violation(type=ViolationType.GAP, tenant="acme", message="m").encode())


def test_a_state_file_comes_back_as_it_was(tmp_path: Path) -> None:
    """What one run saves the next one loads; without a file there is nothing yet; nothing else is left behind."""
    path = tmp_path / "state.json"

    assert AuditState.read(path) is None
    STATE.save(path)
    STATE.save(path)
    assert AuditState.read(path) == STATE
    STATE.require("store-1", path)
    with pytest.raises(ConfigError, match="another store"):
        STATE.require("store-2", path)
    assert list(tmp_path.iterdir()) == [path]


def _without(name: str, value: object) -> str:
    """Return a state in which something of the root log is another."""
    log = FOLLOWED.to_dict() | {name: value}
    return json.dumps({"version": 1, "store": "store-1", "chains": {}, "root_log": log})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        "null",
        "[" * 100_000,
        '{"version": 2, "store": "store-1", "chains": {}}',
        '{"version": 1, "store": 1, "chains": {}}',
        '{"version": 1, "store": "store-1", "chains": {}, "root_log": {}}',
        _without("size", 0),
        _without("root", "00"),
        _without("previous", None),
        _without("accounts", [[bytes(16).hex(), 0, 1, [1]]]),
        _without("accounts", [["acme", 0, 1, [0] * len(Kind)]]),
        _without("accounts", [[bytes(16).hex(), 0, 1, [-1] * len(Kind)]]),
        '{"version": 1, "store": "store-1", "chains": []}',
        '{"version": 1, "store": "store-1", "chains": {"acme": 7}}',
        '{"version": 1, "store": "store-1", "chains": {"acme": [-1, "' + "0" * 64 + '"]}}',
        '{"version": 1, "store": "store-1", "chains": {"acme": [1, "00"]}}',
        '{"version": 1, "store": "store-1", "chains": {"../acme": [1, "' + "0" * 64 + '"]}}',
    ],
)
def test_what_is_no_state_file_is_refused(tmp_path: Path, content: str) -> None:
    """A file that is damaged, or of another version, is a typed error, never taken for nothing."""
    path = tmp_path / "state.json"
    path.write_text(content)

    with pytest.raises(ConfigError):
        AuditState.read(path)


def test_a_state_file_that_cannot_be_written_or_read_is_refused(tmp_path: Path) -> None:
    """A path that is a folder, or in none, is a typed error."""
    for path in (tmp_path, tmp_path / "nowhere" / "state.json"):
        with pytest.raises(ConfigError):
            STATE.save(path)
    with pytest.raises(ConfigError):
        AuditState.read(tmp_path)
    assert list(tmp_path.iterdir()) == []
