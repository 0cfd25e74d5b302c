"""A Schema Registry for the local stack: Apicurio Registry, which speaks Confluent's interface, on loopback only."""

from __future__ import annotations

import http.client
import signal
import tarfile
import tempfile
from pathlib import Path

from sealstream.deploy.stack.artifacts import fetch, read_pins
from sealstream.deploy.stack.java import java_command
from sealstream.deploy.stack.locations import cache_directory, directory_unusable, make_directory
from sealstream.deploy.stack.ports import LOOPBACK
from sealstream.deploy.stack.server import Server, Surroundings

REGISTRY_VERSION = "3.3.3"
_PROGRAM = f"Apicurio Registry {REGISTRY_VERSION}"
_NAME = f"apicurio-registry-{REGISTRY_VERSION}"
_CONFLUENT_PATH = "/apis/ccompat/v7"
_HEAP_MEBIBYTES = 256
_ANSWER_SECONDS = 10.0
_STOP_STEPS = ((signal.SIGTERM, 15.0),)


class RegistryServer:
    """A registry that keeps its schemas in memory.

    Arguments:
        directory: Its directory, for its log; created if missing.
        port: The port for clients.
        management_port: The port of its health pages, on loopback as well.
        surroundings: The stack's part.
    """

    def __init__(self, directory: Path, *, port: int, management_port: int, surroundings: Surroundings) -> None:
        self.address = f"http://{LOOPBACK}:{port}{_CONFLUENT_PATH}"
        self.server = Server("the Schema Registry", surroundings, stop_steps=_STOP_STEPS)
        self._port = port
        self._management_port = management_port
        self._directory = directory
        self._surroundings = surroundings
        self._log = directory / "registry.log"

    def start(self) -> None:
        """Start the registry and wait until it answers; the first start of this user downloads it (159 MB).

        Raises:
            StackError: It cannot be downloaded or unpacked, or does not get ready; with the end of its log.
        """
        program = self._program()
        make_directory(self._directory)
        temporary = make_directory(self._directory / "tmp")
        self._surroundings.report("starting the Schema Registry")
        settings = {
            "quarkus.http.host": LOOPBACK,
            "quarkus.http.port": str(self._port),
            # without these two, its health pages would be open to the network on port 9000
            "quarkus.management.host": LOOPBACK,
            "quarkus.management.port": str(self._management_port),
            "apicurio.storage.kind": "sql",
            "apicurio.storage.sql.kind": "h2",
            "quarkus.otel.sdk.disabled": "true",
            "quarkus.log.level": "WARN",
        }
        command = [
            *java_command(heap_mebibytes=_HEAP_MEBIBYTES, temporary=temporary),
            *(f"-D{key}={value}" for key, value in settings.items()),
            *("-jar", str(program / "quarkus-run.jar")),
        ]
        self.server.launch(command, directory=self._directory, log=self._log, account=None)
        self.server.wait_until(self._answers, logs=(self._log,))

    def _program(self) -> Path:
        """Give the unpacked program, from the user's cache."""
        folder = make_directory(cache_directory())
        program = folder / _NAME
        if program.exists():
            return program
        (archive,) = fetch(
            read_pins(f"{_NAME}.pins"),
            what=_PROGRAM,
            folder=folder,
            called_off=self._surroundings.called_off,
            report=self._surroundings.report,
        )
        self._surroundings.report(f"unpacking {_PROGRAM}")
        try:
            with tempfile.TemporaryDirectory(prefix="unpack-", dir=folder) as scratch:
                new = Path(scratch) / _NAME
                with tarfile.open(archive) as packed:
                    packed.extractall(new, filter="data")
                # If we die before this, the next start unpacks again; a rival may have been quicker, with the same.
                if not program.exists():
                    new.rename(program)
            archive.unlink(missing_ok=True)
        except OSError as error:
            raise directory_unusable(program, error) from error
        return program

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", f"{_CONFLUENT_PATH}/subjects")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
