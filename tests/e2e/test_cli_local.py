"""`sealstream up`, `down`, `topics` and `migrate` as a person runs them, on real servers."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from support.processes import processes_in
from support.shell import COMMAND_SECONDS, Shell
from support.workers import wait_for


@pytest.fixture
def shell(kafka_bootstrap: str) -> Shell:
    """Return a shell for an instance of its own on the shared Kafka."""
    return Shell(SEALSTREAM_KAFKA=kafka_bootstrap, SEALSTREAM_TOPIC_PREFIX=f"cli-{uuid.uuid4().hex[:8]}.")


def test_topics_are_created_once_and_checked(shell: Shell) -> None:
    """`topics create` makes the topics, a second time nothing; `check` is content, but calls one replica unsafe."""
    missing = shell.run("topics", "check", "--json")
    first, second = shell.json("topics", "create"), shell.json("topics", "create")
    checked = shell.run("topics", "check", "--json")
    text = shell.run("topics", "check")

    assert missing.returncode == 1
    assert {finding["setting"] for finding in json.loads(missing.stdout)["findings"]} == {"exists"}
    assert (len(first["created"]), first["existing"]) == (8, [])
    assert (second["created"], sorted(second["existing"])) == ([], sorted(first["created"]))
    assert checked.returncode == 0
    result = json.loads(checked.stdout)
    assert result["ok"] is True
    assert {(finding["setting"], finding["fatal"]) for finding in result["findings"]} <= {("replication", False)}
    assert text.returncode == 0
    assert "unsafe" in text.stdout


def test_a_topic_that_workers_must_not_use_is_named(shell: Shell, kafka_bootstrap: str) -> None:
    """A wrong number of partitions ends `topics check` with code 1, and names topic, setting, and both values."""
    shell.run("topics", "create")
    topic = f"{shell.environment['SEALSTREAM_TOPIC_PREFIX']}events"
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    admin.create_partitions([NewPartitions(topic, 5)])[topic].result()
    described = admin.list_topics
    wait_for(lambda: len(described(topic, timeout=15).topics[topic].partitions) == 5, timeout_seconds=30, what="growth")

    done = shell.run("topics", "check")

    assert done.returncode == 1
    assert f"wrong\t{topic}\tpartitions\t4\t5" in done.stdout
    assert "workers must not run like this" in done.stderr
    assert "hint: " in done.stderr


def test_a_cluster_that_does_not_answer_is_an_error_and_not_a_finding() -> None:
    """Without a broker `topics check` could not check: code 2, with the address and what to do."""
    shell = Shell(SEALSTREAM_KAFKA="127.0.0.1:1", SEALSTREAM_REQUEST_TIMEOUT_SECONDS="3")

    done = shell.run("topics", "check", "--json")

    assert done.returncode == 2
    error = json.loads(done.stdout)
    assert error["type"] == "Unreachable"
    assert "127.0.0.1:1" in error["error"]
    assert "SEALSTREAM_KAFKA" in error["hint"]


def test_the_store_is_migrated_once(database_url: str) -> None:
    """`migrate` makes the store and says what it applied; a second time there is nothing to do."""
    shell = Shell(SEALSTREAM_DATABASE=database_url)

    first, second = shell.json("migrate"), shell.run("migrate")

    assert first["applied"][0].startswith("0001_")
    assert second.returncode == 0
    assert second.stdout == "the store is at this version already\n"


@contextmanager
def running(shell: Shell, directory: Path) -> Generator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run `up` in a directory; gives the process and the addresses that it tells, and ends it all."""
    command = [sys.executable, "-m", "sealstream.deploy", "up", "--dir", str(directory), "--json"]
    with subprocess.Popen(command, env=shell.environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()
            shell.run("down", "--dir", str(directory))


def test_up_stays_until_down_and_its_data_stays(tmp_path: Path) -> None:
    """`up` starts servers and workers and says where they are; a second one is refused; `down` ends all of it, also
    where `up` was killed; and the next `up` goes on with the same data at the same addresses.
    """
    shell, directory = Shell(), tmp_path / "home"
    with running(shell, directory) as (process, addresses):
        assert set(addresses["workers"]) == {"processor", "sink", "verifier"}
        assert "**********" in addresses["database"]
        topics = shell_of(directory).json("topics", "create")
        second = shell.run("up", "--dir", str(directory), "--json")
        assert second.returncode == 2
        assert "sealstream down" in json.loads(second.stdout)["hint"]

        process.kill()
        process.wait(COMMAND_SECONDS)
        assert processes_in(directory) != []
        assert set(down(shell, directory)) == {"processor", "sink", "verifier", "kafka", "database"}
        assert processes_in(directory) == []
    with running(shell, directory) as (process, again):
        assert (again["kafka"], again["database"]) == (addresses["kafka"], addresses["database"])
        assert shell_of(directory).json("topics", "create") == topics
        assert topics["created"] == []

        assert set(down(shell, directory)) == {"processor", "sink", "verifier"}
        assert process.wait(COMMAND_SECONDS) == 128 + signal.SIGTERM
        assert processes_in(directory) == []
    assert down(shell, directory) == []


def down(shell: Shell, directory: Path) -> list[str]:
    """Run `down`, and return what it has ended."""
    ended: list[str] = shell.json("down", "--dir", str(directory))["ended"]
    return ended


def shell_of(directory: Path) -> Shell:
    """Return a shell that has read the file which `up` writes for other shells."""
    lines = (directory / "environment").read_text().splitlines()
    words = [shlex.split(line) for line in lines]
    assert all(export == "export" for export, _ in words)
    return Shell(**dict(assignment.split("=", 1) for _, assignment in words))
