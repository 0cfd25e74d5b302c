"""``sealstream spool show``: what a spool holds, for a person, without what its events say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sealstream.deploy.cli import main
from sealstream.deploy.cli.output import ExitCode
from sealstream.producers.spool.database import FILE_NAME, Row, checksum
from sealstream.producers.spool.look import look_into
from sealstream.producers.spool.opening import open_spool
from sealstream.producers.spool.owner import Ownership
from sealstream.schemas.codec import encode_event
from sealstream.schemas.errors import SpoolError, SpoolOwned
from support.fake_transport import event

SECRET = "what nobody else may read"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A spool with two events that wait, one that was refused, a damaged one, and a count of dropped ones."""
    file = open_spool(tmp_path, "off").file
    file.set_meta("producer_id", "producer-1")
    file.set_meta("epoch", "17")
    values = [encode_event(event(id=f"ev-{number}", metadata={"note": SECRET})) for number in range(4)]
    file.append([Row(number, checksum(number, value), value) for number, value in enumerate(values, 1)])
    file.set_aside(2, values[1], "Broker: Message size too large", "2026-11-01T12:00:00+00:00")
    file.set_aside(3, values[2][:20], "is not what was written", "2026-11-01T12:00:01+00:00")
    file.keep_dropped([("acme", 7, "2026-11-01T11:00:00+00:00", "2026-11-01T11:00:01+00:00")])
    file.close()
    return tmp_path


def test_everything_is_counted_and_the_refused_are_named(directory: Path) -> None:
    """Waiting, refused and dropped events are counted; of a refused one tenant, id and reason are told."""
    contents = look_into(directory)

    assert (contents.producer_id, contents.epoch) == ("producer-1", 17)
    assert (contents.summary.events, contents.summary.refused) == (2, 2)
    assert [(one.number, one.tenant, one.id) for one in contents.refused] == [(2, "acme", "ev-1"), (3, "", "")]
    assert contents.refused[0].reason == "Broker: Message size too large"
    assert contents.dropped[0][:2] == ("acme", 7)
    assert look_into(directory) == contents


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_the_command_shows_it_without_what_events_say(
    directory: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused events are a finding (exit code 1); nothing of their content is printed."""
    code = main(("spool", "show", str(directory), *options))

    printed = capsys.readouterr().out
    assert code == ExitCode.FOUND
    assert "ev-1" in printed
    assert "Message size too large" in printed
    assert SECRET not in printed
    if options:
        assert json.loads(printed)["summary"]["events"] == 2


def test_an_empty_spool_is_no_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A spool that waits for nothing is shown with exit code 0."""
    open_spool(tmp_path, "off").file.close()

    assert main(("spool", "show", str(tmp_path))) == ExitCode.OK
    assert capsys.readouterr().out.startswith("0 events of 0 bytes wait")


def test_a_spool_in_use_and_none_are_told_apart(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A spool whose process runs is left alone, and named with the process; a directory without one stays as it is."""
    owner = Ownership(directory)
    with pytest.raises(SpoolOwned, match="in use by process"):
        look_into(directory)
    owner.release()

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(SpoolError, match="there is no spool"):
        look_into(elsewhere)
    assert list(elsewhere.iterdir()) == []
    assert main(("spool", "show", str(elsewhere))) == ExitCode.FAILED
    assert "give the directory that the audit log is given" in capsys.readouterr().err
    assert (directory / FILE_NAME).is_file()
