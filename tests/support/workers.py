"""Workers as production runs them: processes of their own, started by the command line, stopped by signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Final
from urllib.error import HTTPError
from urllib.request import urlopen

from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicNames, topic_table
from sealstream.schemas.entry import Genesis
from sealstream.worker.settings import PREFIX
from support.harness import AuditHarness


def wait_for(condition: Callable[[], bool], *, timeout_seconds: float, what: str) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: It does not hold in time; says what was waited for.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_seconds:.0f} s in vain for {what}"
        time.sleep(0.05)


STARTED: Final[list[Worker]] = []
"""The workers that the test at hand has started, for the report of its failure."""

_REPORTED_LINES: Final = 60
_TIME: Final = re.compile(r'"timestamp": "[^"]*"|\(after \d+ms')


class Worker:
    """One worker process.

    Arguments:
        role: ``processor``, ``sink`` or ``verifier``.
        environment: Its ``SEALSTREAM_*`` settings; nothing of the test's own environment reaches it otherwise.
        log_path: Where its log goes.
        command: How it is started; by Sealstream's command line if not given.
        directory: Where it is started; the test's own if not given.
    """

    def __init__(
        self,
        role: str,
        environment: dict[str, str],
        log_path: Path,
        *,
        command: Sequence[str] = (),
        directory: Path | None = None,
    ) -> None:
        self.role = role
        self.log_path = log_path
        clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        clean.pop("PYTHONDONTWRITEBYTECODE", None)  # else every worker compiles all of its modules anew
        self._log: IO[bytes] = log_path.open("ab")
        self.process = subprocess.Popen(
            command or [sys.executable, "-m", "sealstream.deploy", role],
            cwd=directory,
            env=clean | {"SEALSTREAM_LOG_FORMAT": "json"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        STARTED.append(self)

    def report(self) -> str:
        """Return how the worker is, and the last of what it logged; of lines that differ in time alone, the last."""
        code = self.process.poll()
        lines: dict[str, str] = {}
        for line in self.log().splitlines():
            words = _TIME.sub("", line)
            lines.pop(words, None)
            lines[words] = line
        state = "runs" if code is None else f"ended with {code}"
        return "\n".join([f"{self.role} {state}", *list(lines.values())[-_REPORTED_LINES:]])

    def log(self) -> str:
        """Return what the worker has logged so far."""
        return self.log_path.read_text(errors="replace")

    def events(self) -> list[dict[str, object]]:
        """Return the worker's log lines, parsed."""
        whole = self.log().rpartition("\n")[0]  # the last line may be half written
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def get(self, path: str) -> tuple[int, str]:
        """Ask the worker's web port and return status and body; the port is the one that the worker logged."""
        wait_for(
            lambda: self._web_port() is not None or self.process.poll() is not None, timeout_seconds=90, what="web"
        )
        try:
            with urlopen(f"http://127.0.0.1:{self._web_port()}{path}", timeout=5) as answer:  # loopback
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def _web_port(self) -> int | None:
        ports = [event["port"] for event in self.events() if event.get("event") == "web listening"]
        return int(str(ports[-1])) if ports else None

    def terminate(self, *, timeout_seconds: float = 10.0) -> int:
        """Stop the worker as an operator does and return its exit code; it must obey in time."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout_seconds=timeout_seconds)

    def kill(self) -> None:
        """Stop the worker as a power cut does."""
        self.process.kill()
        self.process.wait(10)

    def wait(self, *, timeout_seconds: float) -> int:
        """Wait for the worker's own end and return its exit code."""
        try:
            return self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            message = f"{self.role} still runs after {timeout_seconds} s; its log:\n{self.log()[-3000:]}"
            raise AssertionError(message) from None

    def close(self) -> None:
        """End the worker if it still runs."""
        if self.process.poll() is None:
            self.kill()
        self._log.close()


class Pipeline:
    """An instance of its own on shared servers: its topics, its store, its workers.

    Arguments:
        bootstrap: The brokers.
        name: Unique; begins the topics' names.
        directory: Where logs go.
        database_url: The store.
        partitions: Number of partitions.
        settings: More settings by their names in lower case.
    """

    def __init__(
        self,
        bootstrap: str,
        name: str,
        directory: Path,
        *,
        database_url: str = "",
        partitions: int = 4,
        **settings: object,
    ) -> None:
        self.bootstrap = bootstrap
        self.connection = KafkaConnection(bootstrap)
        self.topics = TopicNames(prefix=f"{name}.", epoch=int(str(settings.get("epoch", 1))))
        self.database_url = database_url
        self.directory = directory
        self.workers: list[Worker] = []
        window = {"window_offsets": 65_536, "window_seconds": 86_400} | settings
        self.genesis = Genesis(
            instance=f"test.example/{name}",
            partitions=partitions,
            window_offsets=int(str(window["window_offsets"])),
            window_seconds=int(str(window["window_seconds"])),
        )
        self.environment = {
            f"{PREFIX}{key.upper()}": str(value)
            for key, value in {
                "kafka": bootstrap,
                "database": database_url,
                "topic_prefix": self.topics.prefix,
                "instance": self.genesis.instance,
                "partitions": partitions,
                "session_timeout_seconds": 6,
                **window,
            }.items()
            if value != ""
        }

    def next_epoch(self, *, partitions: int, bootstrap: str = "", **settings: object) -> Pipeline:
        """Return the same instance in its next epoch.

        Arguments:
            partitions: Number of partitions there.
            bootstrap: The brokers, if they are others.
            settings: More settings by their names in lower case.
        """
        following = Pipeline(
            bootstrap or self.bootstrap,
            self.topics.prefix.removesuffix("."),
            self.directory,
            database_url=self.database_url,
            partitions=partitions,
            **({"epoch": self.topics.epoch + 1} | settings),
        )
        following.workers = self.workers  # so that each has a log of its own, and all are closed
        return following

    def create_topics(self, **overrides: dict[str, str]) -> None:
        """Create the instance's topics.

        Arguments:
            overrides: Settings that differ from the table, by the topic's short name, such as
                ``events={"message.timestamp.type": "CreateTime"}``.
        """
        table = topic_table(self.topics, partitions=self.genesis.partitions, window_seconds=self.genesis.window_seconds)
        names = {getattr(self.topics, short): config for short, config in overrides.items()}
        specs = [replace(spec, config=spec.config | names.get(spec.name, {})) for spec in table]
        TopicAdmin(self.connection).create(specs)

    def topic_id(self, topic: str) -> bytes | None:
        """Return a topic's UUID, if it exists."""
        state = TopicAdmin(self.connection).describe([topic]).get(topic)
        return None if state is None else state.topic_id

    def harness(self) -> AuditHarness:
        """Return the checker of this instance."""
        return AuditHarness(self.bootstrap, self.topics, self.genesis, database_url=self.database_url or None)

    def start(self, role: str, *, command: Sequence[str] = (), **settings: object) -> Worker:
        """Start a worker of this instance, by Sealstream's command line or by another command."""
        number = len(self.workers)
        worker_id = f"{role}-{sum(worker.role == role for worker in self.workers)}"
        environment = self.environment | {f"{PREFIX}WORKER_ID": worker_id}
        environment |= {f"{PREFIX}{key.upper()}": str(value) for key, value in settings.items()}
        worker = Worker(role, environment, self.directory / f"{number}-{role}.log", command=command)
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.close()

    def logs(self) -> str:
        """Return the ends of all workers' logs, for a failed test's report."""
        return "\n".join(f"--- {worker.role} ---\n{worker.log()[-2000:]}" for worker in self.workers)
