"""``sealstream receipts check``: what an application was promised, against a real store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sealstream.deploy.cli.application import app
from sealstream.schemas.codec import encode_event
from sealstream.schemas.entry import Kind, payload_digest
from support.chained import Chains
from support.fake_transport import event
from support.stores import migrated, open_feeder

INSTANCE = "demo.example/audit"


def line(event_id: str, value: bytes, *, tenant: str = "acme", instance: str = INSTANCE) -> str:
    """Return a receipt as an application keeps it."""
    fields = {"instance": instance, "tenant": tenant, "id": event_id, "digest": payload_digest(value).hex()}
    return json.dumps(fields | {"spooled": True, "partition": None, "offset": None})


@pytest.fixture
def store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A store with an event, one of which bytes came twice, and one under whose id other bytes came too."""
    values = {name: encode_event(event(id=name)) for name in ("ev-1", "ev-2", "ev-3")}
    values["conflict"] = encode_event(event(id="ev-3", action="other.bytes"))
    chains = Chains()
    log = chains.record("acme", values["ev-1"], event_id="ev-1")
    log += chains.record("acme", values["ev-2"], event_id="ev-2")
    log += chains.record("acme", values["ev-2"], event_id="ev-2", kind=Kind.DUPLICATE, ref=2)
    log += chains.record("acme", values["ev-3"], event_id="ev-3")
    log += chains.record("acme", values["conflict"], event_id="ev-3", kind=Kind.CONFLICT, ref=4)
    with migrated(database_url) as made:
        with open_feeder(made) as feeder:
            feeder.claim()
            feeder.feed(log)
        monkeypatch.setenv("SEALSTREAM_DATABASE", made.reader("acme"))
        monkeypatch.setenv("SEALSTREAM_INSTANCE", INSTANCE)
        yield values


def check(tmp_path: Path, *lines: str, as_json: bool = True) -> tuple[int, str]:
    """Check a file of lines; return the exit code and what was printed."""
    file = tmp_path / "receipts"
    file.write_text("".join(f"{each}\n" for each in lines))
    result = CliRunner().invoke(app, ["receipts", "check", str(file), *(["--json"] if as_json else [])])
    return result.exit_code, result.stdout


def test_receipts_whose_events_are_in_the_chain_are_found(store: dict[str, bytes], tmp_path: Path) -> None:
    """Byte for byte, re-sent or not, and also those that came second under an id."""
    lines = [line("ev-1", store["ev-1"]), line("ev-2", store["ev-2"]), line("ev-3", store["conflict"])]

    code, output = check(tmp_path, *lines, "")

    assert code == 0
    assert json.loads(output) == {
        "receipts": 3, "found": 3, "missing": 0, "differs": 0, "unreadable": 0, "wrong": []
    }  # fmt: skip


def test_what_is_missing_or_has_other_bytes_is_named(store: dict[str, bytes], tmp_path: Path) -> None:
    """The answer names line, tenant and id, and the exit code is that of a finding."""
    lines = [line("ev-1", b"other"), line("ev-9", b""), line("ev-1", store["ev-1"], tenant="other")]

    code, output = check(tmp_path, *lines)
    assert code == 1
    assert [
        (wrong["line"], wrong["verdict"], wrong["tenant"], wrong["id"]) for wrong in json.loads(output)["wrong"]
    ] == [
        (1, "differs", "acme", "ev-1"),
        (2, "missing", "acme", "ev-9"),
        (3, "missing", "other", "ev-1"),
    ]

    code, output = check(tmp_path, *lines, as_json=False)
    assert code == 1
    assert "line 2: acme/ev-9 is not in the chain" in output


@pytest.mark.parametrize(
    "bad",
    ['{"tenant":"acme","id":"ev-1"', "[]", '{"tenant":1}', "x" * 5000, '{"tenant":"acme","id":"ev-1","digest":"0"}'],
)
def test_a_line_that_is_no_receipt_is_never_passed_over(store: dict[str, bytes], tmp_path: Path, bad: str) -> None:
    """A line that a kill cut, say: what it promised cannot be checked, so the exit code says that not all was."""
    code, output = check(tmp_path, line("ev-1", store["ev-1"]), bad)

    assert code == 2
    assert json.loads(output)["found"] == 1
    assert json.loads(output)["unreadable"] >= 1


def test_receipts_of_another_instance_are_not_looked_up(store: dict[str, bytes], tmp_path: Path) -> None:
    """They would be missing here, and that would say nothing."""
    code, output = check(tmp_path, line("ev-1", store["ev-1"], instance="other.example/audit"))

    assert code == 2
    assert json.loads(output)["wrong"][0]["verdict"] == "unreadable"


def test_a_file_that_cannot_be_read_is_no_success(store: dict[str, bytes], tmp_path: Path) -> None:
    """Nothing was checked, and the exit code says so."""
    assert store
    result = CliRunner().invoke(app, ["receipts", "check", str(tmp_path / "none")])

    assert result.exit_code != 0
