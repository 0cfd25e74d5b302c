"""The README is run as it stands: whoever follows it gets what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealstream.deploy.stack.ports import free_port
from support.providers import fresh_database
from support.workers import Worker, wait_for

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROLES = ("processor", "sink", "verifier", "witness", "notary")
PROVEN_SECONDS = 150
WITNESS_PORT = "7071"
COMMAND_TIMEOUT_SECONDS = 120
SET_UP = "pip install uv && uv run "


def blocks() -> list[tuple[str, str]]:
    """Return the README's code blocks: language and text."""
    return [(match[1], match[2]) for match in BLOCK.finditer((ROOT / "README.md").read_text())]


class Reader:
    """Somebody who follows the README: runs each line, keeps workers running, and has an environment."""

    def __init__(self, kafka: str, database: str, notary_database: str, directory: Path) -> None:
        prefix = f"readme-{uuid.uuid4().hex[:8]}."
        self.port = str(free_port())
        self.given = {
            "SEALSTREAM_KAFKA": kafka,
            "SEALSTREAM_DATABASE": database,
            "SEALSTREAM_NOTARY_DATABASE": notary_database,
            "SEALSTREAM_WITNESS_PORT": self.port,
            "SEALSTREAM_TOPIC_PREFIX": prefix,
        }
        self.environment = dict(self.given)
        self.directory = directory
        self.workers: list[Worker] = []
        self.ran: list[str] = []

    def shell_line(self, line: str) -> None:
        """Run one line of a shell block; the servers' addresses are the tests' own."""
        line = line.replace(f"127.0.0.1:{WITNESS_PORT}", f"127.0.0.1:{self.port}")
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            self.environment[name] = self.given.get(name, value)
            return
        program, *arguments = line.split()
        if program == "mkdir":
            (self.directory / arguments[0]).mkdir()
            return
        assert program == "sealstream", f"the README has a command that this test does not know: {line}"
        self.ran.append(line)
        if arguments[0] in ROLES:
            command = [sys.executable, "-m", "sealstream.deploy", *arguments]
            log = self.directory / f"{arguments[0]}.log"
            self.workers.append(Worker(arguments[0], self.environment, log, command=command, directory=self.directory))
            return
        if arguments[0] == "proof":
            wait_for(lambda: self.is_provable(arguments), timeout_seconds=PROVEN_SECONDS, what="a provable event")
            return
        result = self.run("-m", "sealstream.deploy", *arguments)
        assert result.returncode == 0, f"{line}: {result.stdout}{result.stderr}"

    def is_provable(self, arguments: list[str]) -> bool:
        """Make a proof, and return whether it could be made; what is too fresh is provable a moment later."""
        return self.run("-m", "sealstream.deploy", *arguments).returncode == 0

    def python_block(self, text: str) -> str:
        """Run a Python block as a program of its own and return what it prints."""
        names = f"topics=TopicNames(prefix={self.given['SEALSTREAM_TOPIC_PREFIX']!r})"
        script = text.replace('instance="audit.example.org"', f'instance="audit.example.org", {names}')
        result = self.run("-c", f"from sealstream.kafka.topics import TopicNames\n{script}")
        assert result.returncode == 0, result.stderr
        return result.stdout

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python with the reader's environment."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
            check=False,
        )


@pytest.fixture
def reader(kafka_bootstrap: str, database_url: str, database_server: str, tmp_path: Path) -> Iterator[Reader]:
    """A reader with servers of its own choice, whose workers end with the test."""
    with fresh_database(database_server) as notary_database:
        somebody = Reader(kafka_bootstrap, database_url, notary_database, tmp_path)
        yield somebody
        for worker in somebody.workers:
            worker.close()


def test_following_the_readme_works(reader: Reader) -> None:
    """Every block of the README runs, in its order, and ends in a valid chain with the event that was published."""
    printed: list[str] = []
    for language, text in blocks():
        if text.startswith(SET_UP):
            continue  # the two commands: one is the test of the demo, the other is this very run
        if language == "python":
            if "AuditStore" in text:
                wait_for(lambda: _is_stored(reader), timeout_seconds=60.0, what="the event in the store")
            printed.append(reader.python_block(text))
        else:
            for line in text.splitlines():
                reader.shell_line(line)

    assert printed[-1].startswith("True chain 1\n")
    assert len([line for line in reader.ran if line.split()[1] in ROLES]) == len(ROLES)


def test_the_two_commands_stand_in_the_readme() -> None:
    """The set-up is one line to see it work and one line to test it, and both begin from a bare Python."""
    commands = [text.strip() for _, text in blocks() if text.startswith(SET_UP)]

    assert commands == [f"{SET_UP}sealstream demo", f"{SET_UP}pytest"]


def _is_stored(reader: Reader) -> bool:
    result = reader.run("-m", "sealstream.deploy", "search", "--tenant", "acme", "--json")
    return result.returncode == 0 and "document.updated" in result.stdout
