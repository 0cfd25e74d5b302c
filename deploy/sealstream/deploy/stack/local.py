"""The local stack: Apache Kafka and PostgreSQL as child processes, from packages alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from sealstream.deploy.stack.errors import StackError
from sealstream.deploy.stack.java import JavaTuning
from sealstream.deploy.stack.kafka import KafkaServer
from sealstream.deploy.stack.leftover import STOP_ORDER, end_servers
from sealstream.deploy.stack.locations import make_directory
from sealstream.deploy.stack.ports import free_port, is_free
from sealstream.deploy.stack.postgresql import PostgresqlServer
from sealstream.deploy.stack.processes import Identity, identify
from sealstream.deploy.stack.registry import RegistryServer
from sealstream.deploy.stack.server import Server, Surroundings
from sealstream.deploy.stack.state import (
    DirectoryLock,
    StackState,
    read_ports,
    read_state,
    remove_state,
    write_ports,
    write_state,
)

_POLL_SECONDS = 0.2
_PORT_NAMES = ("kafka", "controller", "database", "registry", "management")


class _Part(Protocol):
    """A server of the stack."""

    server: Server

    @property
    def address(self) -> str: ...

    def start(self) -> None: ...


class LocalStack:
    """Kafka and PostgreSQL for demonstrations and tests, on loopback ports, with their data in one directory.

    Not for production: one broker, no encryption, and any user of this machine can reach the broker. The servers run in
    a session of their own, so Ctrl-C in the terminal does not reach them; whoever starts a stack stops it, with `stop`
    or as a context manager. If this process is killed, the servers run on until `stop_left_running` or the next start
    in the same directory.

    Use it from one thread.

    Arguments:
        directory: Where data, logs and state lie; created if missing. What an earlier stack left there is continued.
        kafka: Start Kafka.
        database: Start PostgreSQL.
        registry: Start a Schema Registry, whose content lasts as long as the stack runs.
        kafka_tuning: What Kafka's runtime is made for.
        on_progress: Told in a few words what happens, never by two threads at a time but from any thread.
    """

    def __init__(
        self,
        directory: Path,
        *,
        kafka: bool = True,
        database: bool = True,
        registry: bool = False,
        kafka_tuning: JavaTuning = JavaTuning.QUICK_START,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        self.directory = directory
        self._wanted = {"kafka": kafka, "database": database, "registry": registry}
        self._kafka_tuning = kafka_tuning
        self._on_progress = on_progress
        self._progress_lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._called_off = threading.Event()
        self._lock: DirectoryLock | None = None
        self._parts: dict[str, _Part] = {}

    @property
    def kafka(self) -> str:
        """Kafka's bootstrap servers, ``127.0.0.1:port``; the same over `kafka_stop` and `kafka_start`.

        Raises:
            StackError: The stack was not started, or without Kafka.
        """
        return self._part("kafka").address

    @property
    def database(self) -> str:
        """PostgreSQL's URL for its superuser, with the password.

        Raises:
            StackError: The stack was not started, or without PostgreSQL.
        """
        return self._part("database").address

    @property
    def registry(self) -> str:
        """The Schema Registry's URL, for clients of Confluent's interface.

        Raises:
            StackError: The stack was not started, or without a registry.
        """
        return self._part("registry").address

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the servers, at the same time, and wait until they answer.

        Servers that a killed process left running in the directory are ended first. If anything fails, or on Ctrl-C,
        what has been started is stopped again.

        Raises:
            StackError: The directory cannot be used or is in use, or a server cannot be prepared or started.
        """
        if self._lock is not None:
            raise StackError("this stack is started already")
        self._called_off.clear()
        self.directory = make_directory(self.directory)
        lock = DirectoryLock(self.directory)
        lock.acquire()
        self._lock = lock
        try:
            self._end_leftovers()
            self._make_parts()
            self._start_servers()
        except BaseException:
            self._called_off.set()
            self.stop()
            raise

    def stop(self) -> None:
        """Stop Kafka, then PostgreSQL, and free the directory; does nothing if the stack does not run.

        Stop your clients first.

        Raises:
            StackError: A server does not end even when killed; it stays in the state file.
        """
        if self._lock is None:
            return
        with ExitStack() as steps:  # from the last one up, each even if another fails
            steps.callback(self._free)
            for name in reversed(STOP_ORDER):
                if name in self._parts:
                    steps.callback(self._parts[name].server.stop)

    def kafka_stop(self) -> None:
        """Stop Kafka in order; address and data stay."""
        self._part("kafka").server.stop()

    def kafka_kill(self) -> None:
        """Kill Kafka as a crash would; address and data stay."""
        self._part("kafka").server.kill()

    def kafka_start(self) -> None:
        """Start Kafka again, on the same address and data.

        Raises:
            StackError: It does not get ready, or its port was taken meanwhile.
        """
        self._part("kafka").start()

    def database_stop(self) -> None:
        """Stop PostgreSQL in order, ending its sessions; address and data stay."""
        self._part("database").server.stop()

    def database_start(self) -> None:
        """Start PostgreSQL again, on the same address and data.

        Raises:
            StackError: It does not get ready, or its port was taken meanwhile.
        """
        self._part("database").start()

    def _end_leftovers(self) -> None:
        # We hold the lock, so whoever started what the state file names has ended without stopping it.
        state = read_state(self.directory)
        if state is not None:
            self._report("ending servers that an earlier run left")
            end_servers(state)
            remove_state(self.directory)

    def _make_parts(self) -> None:
        surroundings = Surroundings(called_off=self._called_off, report=self._report, note=self._note)
        ports = self._choose_ports()
        makers: dict[str, Callable[[], _Part]] = {
            "kafka": lambda: KafkaServer(
                self.directory / "kafka",
                port=ports["kafka"],
                controller_port=ports["controller"],
                surroundings=surroundings,
                tuning=self._kafka_tuning,
            ),
            "database": lambda: PostgresqlServer(
                self.directory / "database", port=ports["database"], surroundings=surroundings
            ),
            "registry": lambda: RegistryServer(
                self.directory / "registry",
                port=ports["registry"],
                management_port=ports["management"],
                surroundings=surroundings,
            ),
        }
        self._parts = {name: make() for name, make in makers.items() if self._wanted[name]}

    def _choose_ports(self) -> dict[str, int]:
        # Those of the last run, if they are free, so that clients' settings stay valid.
        remembered = read_ports(self.directory)
        ports: dict[str, int] = {}
        for name in _PORT_NAMES:
            port = remembered.get(name)
            ports[name] = port if port and is_free(port) else free_port(taken=frozenset(ports.values()))
        write_ports(self.directory, ports)
        return ports

    def _start_servers(self) -> None:
        with ThreadPoolExecutor(max_workers=len(self._wanted), thread_name_prefix="stack") as pool:
            futures = [pool.submit(part.start) for part in self._parts.values()]
            try:
                _wait_interruptibly(futures)
                for future in futures:
                    if future.done():
                        future.result()
            except BaseException:
                self._called_off.set()  # the pool waits for its threads: the other server's start shall not go on
                raise

    def _free(self) -> None:
        if self._lock is not None:
            if not self._running():
                remove_state(self.directory)
            self._lock.release()
            self._lock = None

    def _running(self) -> dict[str, Identity]:
        named = {name: part.server.identity for name, part in self._parts.items()}
        return {name: identity for name, identity in named.items() if identity is not None}

    def _note(self) -> None:
        with self._state_lock:
            running = self._running()
            addresses = {name: self._parts[name].address for name in running}
            state = StackState(owner=identify(os.getpid()), servers=running, addresses=addresses)
            write_state(self.directory, state)

    def _report(self, text: str) -> None:
        if self._on_progress is not None:
            with self._progress_lock:
                self._on_progress(text)

    def _part(self, name: str) -> _Part:
        if name not in self._parts:
            raise StackError(f"this stack has no {name}", hint=f"start it with {name}=True")
        return self._parts[name]


def _wait_interruptibly(futures: list[Future[None]]) -> None:
    """Wait until all are done or one has failed, in steps that let a Ctrl-C through."""
    while True:
        outcome = wait(futures, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
        if not outcome.not_done or any(future.exception() is not None for future in outcome.done):
            return
