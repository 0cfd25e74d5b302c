"""``sealstream up``: the local stack with its workers, until somebody ends it; and ``sealstream down``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sealstream.deploy.environment import ENVIRONMENT_NAME, as_writer, instance_environment, write_environment
from sealstream.deploy.interruption import Interruption
from sealstream.deploy.preparation import prepare
from sealstream.deploy.stack import LocalStack, StackError, read_state, stop_left_running
from sealstream.deploy.stack.locations import make_directory
from sealstream.deploy.stack.ports import LOOPBACK
from sealstream.deploy.stack.processes import is_running
from sealstream.deploy.supervision import ROLES, Workers, end_left_running, refuse_running
from sealstream.worker.settings import Settings, load_settings

_POLL_SECONDS: Final = 0.5
# Not the host's name, which a laptop changes with its network: the same worker takes its partitions up at once.
_WORKER_ID: Final = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where what runs can be reached.

    Arguments:
        settings: The instance.
        environment_file: A file for a shell to read, with everything that commands and applications need.
        web_ports: The workers' web ports on loopback, by role.
        logs: The workers' logs, by role.
    """

    settings: Settings
    environment_file: Path
    web_ports: dict[str, int]
    logs: dict[str, Path]

    def to_dict(self) -> dict[str, Any]:
        """Return them as plain values, without the database's password."""
        return {
            "kafka": self.settings.kafka,
            "database": self.settings.redacted()["database"],
            "instance": self.settings.instance,
            "topic_prefix": self.settings.topic_prefix,
            "environment_file": str(self.environment_file),
            "workers": {
                role: {"web": f"http://{LOOPBACK}:{port}", "log": str(self.logs[role])}
                for role, port in self.web_ports.items()
            },
        }

    def in_words(self) -> str:
        """Return them for a person."""
        rows = [("Kafka", self.settings.kafka), ("PostgreSQL", str(self.settings.redacted()["database"]))]
        rows += [
            (role, f"http://{LOOPBACK}:{port}/metrics   log {self.logs[role]}") for role, port in self.web_ports.items()
        ]
        lines = [f"  {name:<11} {value}" for name, value in rows]
        return "\n".join(
            [
                *lines,
                "",
                "Commands and applications in another shell find it all after:",
                "",
                f"  . {self.environment_file}",
                "",
                "Ctrl-C, or `sealstream down`, ends it; the data stays for the next `sealstream up`.",
            ]
        )


class LocalInstance:
    """Servers, topics, store and workers in one directory, as a context manager; from the main thread only.

    Servers that the environment names are used instead of the stack's own.

    Arguments:
        directory: Where data and logs lie; what an earlier run left there is continued.
        workers: Start processor, sink and verifier as well.
        interruption: Lets a signal end the start.
        on_progress: Told what happens, from any thread.
    """

    def __init__(
        self, directory: Path, *, workers: bool, interruption: Interruption, on_progress: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._with_workers = workers
        self._interruption = interruption
        self._on_progress = on_progress
        self._ends = ExitStack()
        self._workers: Workers | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ends.__exit__(kind, error, traceback)

    def start(self) -> Addresses:
        """Start everything.

        Raises:
            ConfigError: A setting is wrong, or an existing topic is not as it must be.
            Interrupted: A signal came.
            StackError: A server or worker cannot be started, or the directory is in use.
            StoreError: The store refuses.
            Unreachable: A given server does not answer.
        """
        given = load_settings()
        directory = make_directory(self._directory)
        refuse_running(directory)
        end_left_running(directory)
        overrides = self._start_servers(given, directory)
        settings = load_settings(None, **overrides)
        self._on_progress("creating topics and migrating the store")
        prepare(settings, self._interruption)
        environment_file = write_environment(directory, instance_environment(overrides))
        self._ends.callback((directory / ENVIRONMENT_NAME).unlink, missing_ok=True)
        if "database" in overrides:  # our own; a given one has the login that the person wants for the sink
            overrides["database"] = as_writer(overrides["database"])
        workers = Workers(directory, instance_environment(overrides))
        self._ends.callback(workers.stop)
        if self._with_workers:
            self._on_progress(f"starting {', '.join(ROLES)}")
            workers.start()
        self._workers = workers
        return Addresses(
            settings=settings,
            environment_file=environment_file,
            web_ports={worker.role: worker.web_port for worker in workers.running},
            logs={worker.role: worker.log for worker in workers.running},
        )

    def stay(self) -> None:
        """Watch over what runs.

        Raises:
            Interrupted: A signal came: the one good end.
            StackError: A server ended.
            WorkerEnded: A worker ended.
        """
        while True:
            self._interruption.pause(_POLL_SECONDS)
            if self._workers is not None:
                self._workers.check()
            state = read_state(self._directory)
            for name, identity in state.servers.items() if state is not None else ():
                if not is_running(identity):
                    raise StackError(f"{name} ended", hint=f"its log is in {self._directory / name}")

    def _start_servers(self, given: Settings, directory: Path) -> dict[str, str]:
        """Start the servers that are not given, and return the settings that lead to them."""
        stack = LocalStack(
            directory,
            kafka=not given.kafka,
            database=not given.database.get_secret_value(),
            on_progress=self._on_progress,
        )
        self._ends.callback(stack.stop)
        with self._interruption.allowed():
            stack.start()
        overrides: dict[str, str] = {}
        if "worker_id" not in given.model_fields_set:
            overrides["worker_id"] = _WORKER_ID
        if not given.kafka:
            overrides["kafka"] = stack.kafka
        if not given.database.get_secret_value():
            overrides["database"] = stack.database
        return overrides


def end_local(directory: Path) -> tuple[str, ...]:
    """End what runs, or was left running, in a directory.

    Returns:
        What was ended: workers by role, ``kafka``, ``database``, ``owner``; empty if nothing ran.

    Raises:
        StackError: Something does not end, or belongs to another user.
    """
    if not directory.is_dir():
        return ()
    workers = end_left_running(directory)
    servers = stop_left_running(directory)
    (directory / ENVIRONMENT_NAME).unlink(missing_ok=True)
    return workers + servers
