"""`sealstream demo` as a person runs it: a process of its own, real servers, a tampering that is found out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from support.processes import processes_in
from support.workers import wait_for

DEMO_SECONDS = 120
STOP_SECONDS = 45


def demo_environment(tmp_path: Path, **settings: str) -> dict[str, str]:
    """Return an environment without any setting but these, and with a place for temporary files of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SEALSTREAM_")}
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    return clean | {"TMPDIR": str(temporary)} | settings


@contextmanager
def started_demo(
    *options: str, environment: dict[str, str], log: Path | None = None
) -> Generator[subprocess.Popen[str]]:
    """Start a demo, and kill it if it is still there in the end."""
    with (log or Path(os.devnull)).open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "sealstream.deploy", "demo", *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def run_demo(*options: str, environment: dict[str, str], log: Path) -> tuple[int, str]:
    """Run a demo to its end; returns its exit code and what it printed on standard output."""
    with started_demo(*options, environment=environment, log=log) as process:
        output, _ = process.communicate(timeout=DEMO_SECONDS)
    return process.returncode, output


def assert_nothing_left(environment: dict[str, str]) -> None:
    """Assert that neither a process nor a file of a demo is left."""
    temporary = Path(environment["TMPDIR"])
    assert processes_in(temporary) == []
    assert list(temporary.iterdir()) == []


def test_everything_published_is_chained_stored_and_verified(tmp_path: Path) -> None:
    """The demo's last line with --json has equal counts, no violation, a detected tampering; nothing is left behind."""
    environment = demo_environment(tmp_path)

    code, output = run_demo(
        "--events", "300", "--tenants", "3", "--json", environment=environment, log=tmp_path / "errors"
    )

    errors = (tmp_path / "errors").read_text()
    assert code == 0, errors
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    counts = {name: result[name] for name in ("published", "chained", "stored", "verified")}
    assert counts == dict.fromkeys(counts, 300)
    assert (result["duplicates"], result["quarantined"], result["violations"]) == (0, 0, 0)
    assert result["tamper_detected"] is True
    tampering = result["tampering"]
    assert f"payload-altered: tenant {tampering['tenant']}, seq {tampering['seq']}" in tampering["finding"]
    assert 0 < result["seconds"] < DEMO_SECONDS
    assert result["record"]["tenant"] == tampering["tenant"]
    assert_nothing_left(environment)


def test_without_a_terminal_the_demo_tells_its_story_in_plain_lines(tmp_path: Path) -> None:
    """In a pipe there are no control characters, each step is a line, and the tampering and its place are named."""
    environment = demo_environment(tmp_path)
    directory = tmp_path / "kept"

    code, output = run_demo(
        "--events", "50", "--keep", "--dir", str(directory), environment=environment, log=tmp_path / "errors"
    )

    assert code == 0, output + (tmp_path / "errors").read_text()
    assert "\x1b" not in output
    for words in (
        "Kafka and PostgreSQL are up",
        "Topics and store are ready",
        "published 50 of 50",
        "becomes",
        "violation payload-altered: tenant acme, seq ",
        "clean: 55 entries of 5 chains hold",
        "50 events are verified; 0 violations. The tampering was found.",
        f"sealstream up --dir {directory}",
    ):
        assert words in output
    assert (directory / "logs" / "processor.log").exists()
    assert processes_in(directory) == []


@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGINT, "workers.json"), (signal.SIGTERM, "workers.json"), (signal.SIGINT, "database")],
    ids=["ctrl-c-while-events-flow", "sigterm-while-events-flow", "ctrl-c-while-servers-start"],
)
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, number: signal.Signals, moment: str) -> None:
    """Ctrl-C or SIGTERM at any moment ends servers and workers, and removes the data."""
    environment = demo_environment(tmp_path)
    temporary, log = Path(environment["TMPDIR"]), tmp_path / "demo.log"
    with started_demo("--events", "2000", "--rate", "5", environment=environment, log=log) as process:
        wait_for(lambda: any(temporary.glob(f"*/{moment}")), timeout_seconds=60, what=moment)
        assert processes_in(temporary) != [] or moment == "database"

        process.send_signal(number)
        code = process.wait(STOP_SECONDS)

    assert code == 128 + number, log.read_text()
    assert_nothing_left(environment)


def test_given_servers_are_used_and_left_as_they_were(
    kafka_bootstrap: str, database_server: str, tmp_path: Path
) -> None:
    """On servers named in the environment the demo uses topics and a database of its own, and removes them.

    What it sent twice is stored as a duplicate, what is no event as quarantined, and neither is verified.
    """
    environment = demo_environment(tmp_path, SEALSTREAM_KAFKA=kafka_bootstrap, SEALSTREAM_DATABASE=database_server)

    options = ("--events", "100", "--tenants", "2", "--duplicates", "7", "--bad", "5", "--json")

    code, output = run_demo(*options, environment=environment, log=tmp_path / "errors")

    assert code == 0, (tmp_path / "errors").read_text()
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    assert (result["published"], result["chained"], result["stored"]) == (112, 112, 112)
    assert (result["verified"], result["duplicates"], result["quarantined"]) == (100, 7, 5)
    assert (result["violations"], result["tamper_detected"]) == (0, True)
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    wait_for(
        lambda: not any(name.startswith("demo-") for name in admin.list_topics(timeout=15).topics),
        timeout_seconds=30,
        what="the demo's topics to be gone",
    )
    with psycopg.connect(database_server) as connection:
        names = [name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()]
    assert not any(name.startswith("sealstream_demo_") for name in names)
    assert_nothing_left(environment)


def test_a_directory_with_something_in_it_is_not_touched(tmp_path: Path) -> None:
    """The demo refuses a directory that is not empty, says what to do, and starts nothing."""
    environment = demo_environment(tmp_path)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "letter").write_text("dear")

    code, output = run_demo("--dir", str(precious), "--json", environment=environment, log=tmp_path / "errors")

    assert code == 2
    error = json.loads(output)
    assert f"{precious} is not empty" in error["error"]
    assert error["hint"]
    assert [path.name for path in precious.iterdir()] == ["letter"]
