"""The command line where no server is needed: errors, exit codes, JSON, settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sealstream.deploy.cli import main
from sealstream.deploy.cli.output import ExitCode, print_table, printable

COMMANDS = (
    ("processor",),
    ("sink",),
    ("verifier",),
    ("migrate",),
    ("rebuild-search",),
    ("topics", "create"),
    ("topics", "check"),
    ("heads", "show"),
    ("heads", "check"),
    ("heads", "rebuild"),
    ("heads", "restore-offsets"),
    ("gap", "list"),
    ("verify",),
    ("search",),
    ("show", "ev-1"),
    ("violations", "list"),
)
SECRET = "a-password-that-nobody-may-see"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test see no setting but its own."""
    for name in list(os.environ):
        if name.startswith("SEALSTREAM_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_unknown_setting_is_refused_by_every_command(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt setting ends any command with code 2, its name and what was probably meant."""
    monkeypatch.setenv("SEALSTREAM_KAFKKA", "127.0.0.1:1")

    code = main(command)

    printed = capsys.readouterr()
    assert code == ExitCode.FAILED
    assert printed.out == ""
    assert printed.err == "error: the setting SEALSTREAM_KAFKKA does not exist\nhint: did you mean SEALSTREAM_KAFKA?\n"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_errors_are_json_where_json_was_asked_for(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --json an error is one JSON object on standard output, with what went wrong and what to do."""
    monkeypatch.setenv("SEALSTREAM_PARTITIONS", "none")

    code = main((*command, "--json"))

    printed = capsys.readouterr()
    error = json.loads(printed.out)
    assert code == ExitCode.FAILED
    assert "SEALSTREAM_PARTITIONS" in error["error"]
    assert error["hint"]
    assert printed.err == ""


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        (["nonsense"], "nonsense", "sealstream --help"),
        (["topics", "chek"], "check", "sealstream topics --help"),
        (["demo", "--events", "0"], "--events", "sealstream demo --help"),
        (["demo", "--events", "3", "--tenants", "5"], "3 events are too few for 5 tenants", "at least one"),
        (["config", "show", "--no-such-option"], "--no-such-option", "sealstream config show --help"),
    ],
    ids=["command", "subcommand", "range", "contradiction", "option"],
)
def test_wrong_usage_is_explained(
    arguments: list[str], words: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong usage ends with code 2 and says what is wrong and where to read on, for people and for programs."""
    assert main(arguments) == ExitCode.FAILED
    text = capsys.readouterr().err
    assert main([*arguments, "--json"]) == ExitCode.FAILED
    error = json.loads(capsys.readouterr().out)

    assert text == f"error: {error['error']}\nhint: {error['hint']}\n"
    assert words in error["error"]
    assert hint in error["hint"]


def test_config_show_hides_secrets_and_says_where_values_come_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`config show` names each setting, its value, its source and its use, and never shows a secret."""
    file = tmp_path / "database"
    file.write_text(f"postgresql://me:{SECRET}@db.example:5432/audit\n")
    monkeypatch.setenv("SEALSTREAM_DATABASE_FILE", str(file))
    monkeypatch.setenv("SEALSTREAM_KAFKA_PASSWORD", SECRET)
    monkeypatch.setenv("SEALSTREAM_PARTITIONS", "12")

    assert main(["config", "show", "--json"]) == ExitCode.OK
    printed = capsys.readouterr()
    assert main(["config", "show"]) == ExitCode.OK
    text = capsys.readouterr().out

    rows = {row["variable"]: row for row in json.loads(printed.out)}
    assert SECRET not in printed.out + printed.err + text
    assert rows["SEALSTREAM_DATABASE"]["value"] == "postgresql://me:**********@db.example:5432/audit"
    assert rows["SEALSTREAM_DATABASE"]["source"] == "file in SEALSTREAM_DATABASE_FILE"
    assert (rows["SEALSTREAM_PARTITIONS"]["value"], rows["SEALSTREAM_PARTITIONS"]["source"]) == (12, "environment")
    assert rows["SEALSTREAM_INSTANCE"]["source"] == "default"
    assert all(row["description"] for row in rows.values())
    assert "SEALSTREAM_PARTITIONS\t12\tenvironment\t" in text


def test_commands_that_need_kafka_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Without bootstrap servers a command says which setting is missing and what it looks like."""
    assert main(["topics", "check"]) == ExitCode.FAILED

    assert capsys.readouterr().err == (
        "error: SEALSTREAM_KAFKA is not set\nhint: give the bootstrap servers, such as kafka:9092\n"
    )


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """`version` and `--version` name the version, as text and as JSON."""
    assert main(["--version"]) == ExitCode.OK
    first = capsys.readouterr().out.splitlines()[0]
    assert main(["version", "--json"]) == ExitCode.OK
    versions = json.loads(capsys.readouterr().out)

    assert first == f"sealstream {versions['sealstream']}"
    assert {"python", "confluent-kafka"} <= versions.keys()


def test_the_command_line_is_quick_and_light() -> None:
    """`sealstream --help` imports no role, no Kafka client and no database driver."""
    heavy = ("faust", "confluent_kafka", "psycopg", "pydantic", "structlog", "jgo")
    program = (
        "import sys; from sealstream.deploy.cli import main; code = main(['--help']);"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stderr.strip() == "[]"
    for command in ("demo", "up", "down", "processor", "sink", "verifier", "migrate", "topics", "config", "verify"):
        assert f" {command} " in done.stdout


def test_a_reader_that_goes_away_is_no_error() -> None:
    """Piped into `head`, a command ends quietly, with the code of a closed pipe."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sealstream.deploy", "config", "show"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()

    assert process.returncode == ExitCode.BROKEN_PIPE
    assert error == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_works(shell: str) -> None:
    """The script that `--install-completion` installs asks the program, and the program answers."""
    variables = {
        "bash": {"COMP_WORDS": "sealstream topics ", "COMP_CWORD": "2"},
        "zsh": {"_TYPER_COMPLETE_ARGS": "sealstream topics "},
        "fish": {"_TYPER_COMPLETE_ARGS": "sealstream topics ", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]

    done = subprocess.run(
        [sys.executable, "-m", "sealstream.deploy"],
        env=os.environ | variables | {"_SEALSTREAM_COMPLETE": f"complete_{shell}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "create" in done.stdout
    assert "check" in done.stdout


def test_data_cannot_steer_the_terminal() -> None:
    """Control characters that came in with an event are shown, not obeyed."""
    assert printable("a\x1b[2Jb\x07 c\u202ed") == "a\\x1b[2Jb\\x07 c\\u202ed"
    assert printable("one\ntwo\tthree") == "one\ntwo\tthree"
    assert printable("one\ntwo", keep_newlines=False) == "one\\ntwo"
    assert printable("Zoë → 東京") == "Zoë → 東京"


def test_tables_are_lines_with_tabs_where_no_person_looks(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe a table is one line a row, whole, with tabs between the cells."""
    print_table(("tenant", "note"), [("acme", "x" * 300), ("globex", None), ("tab", "a\tb")])

    assert capsys.readouterr().out == f"tenant\tnote\nacme\t{'x' * 300}\nglobex\t\ntab\ta\\tb\n"
