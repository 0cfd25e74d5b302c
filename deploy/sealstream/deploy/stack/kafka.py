"""Apache Kafka for the local stack: one node that is broker and controller, on loopback only."""

from __future__ import annotations

import base64
import contextlib
import shutil
import signal
import socket
import uuid
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from sealstream.deploy.stack.artifacts import check_classpath, fetch, read_pins
from sealstream.deploy.stack.java import JavaTuning, java_command
from sealstream.deploy.stack.locations import cache_directory, directory_unusable, make_directory
from sealstream.deploy.stack.ports import LOOPBACK
from sealstream.deploy.stack.processes import run_tool
from sealstream.deploy.stack.server import Server, Surroundings
from sealstream.deploy.stack.waiting import Wait

KAFKA_VERSION = "4.1.0"
_PROGRAM = f"Apache Kafka {KAFKA_VERSION}"
_HEAP_MEBIBYTES = {JavaTuning.QUICK_START: 512, JavaTuning.LONG_LOAD: 1024}
_FORMAT_HEAP_MEBIBYTES = 128
_FORMAT_SECONDS_MAX = 60.0
_METADATA_SECONDS = 2.0
_CONNECT_SECONDS = 0.5
_NO_GROUP = "sealstream-no-group"
# A stop in order takes half a second; a broker that is busy with a full disk may need longer.
_STOP_STEPS = ((signal.SIGTERM, 30.0),)

# What a broker for tests and demonstrations needs beyond its defaults; see the design's topics and processor.
BROKER_SETTINGS: dict[str, str] = {
    # one node: its own topics can have one replica only, and few partitions make the first transaction quick
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # a group's first member does not wait three seconds for others
    "group.initial.rebalance.delay.ms": "0",
    # who asks for it has a dead worker's partitions given to another one within seconds, not six at the least
    "group.min.session.timeout.ms": "1000",
    # a dead worker's transaction is aborted soon after its timeout, not up to ten seconds later
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # a killed broker may come back after four seconds, not nine: until then the controller takes it for a second one
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "500",
    # a topic exists because somebody created it with the right settings
    "auto.create.topics.enable": "false",
    "delete.topic.enable": "true",
    "log.segment.delete.delay.ms": "1000",
    # a 1 MiB event and its seal, with room for a batch's overhead
    "message.max.bytes": str(3 * 1024 * 1024),
    # the default of 128 MiB is a quarter of this heap
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
}


class KafkaServer:
    """A broker with its data in one directory.

    Arguments:
        directory: Its directory, created if missing; what is there is continued.
        port: The port for clients.
        controller_port: The port on which the node talks to itself.
        surroundings: The stack's part.
        settings: Broker settings beside the stack's own, or in their place.
        tuning: What its runtime is made for; decides the heap as well.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int,
        controller_port: int,
        surroundings: Surroundings,
        settings: Mapping[str, str] | None = None,
        tuning: JavaTuning = JavaTuning.QUICK_START,
    ) -> None:
        self.address = f"{LOOPBACK}:{port}"
        self.server = Server("Kafka", surroundings, stop_steps=_STOP_STEPS)
        self._port = port
        self._controller_port = controller_port
        self._directory = directory
        self._surroundings = surroundings
        self._settings = dict(settings or {})
        self._tuning = tuning
        # written by Kafka's logging, and by the Java runtime itself
        self._logs = (directory / "kafka.out", directory / "kafka.log")

    def start(self) -> None:
        """Start the broker and wait until it answers; downloads and formats what the first start needs.

        Raises:
            StackError: It cannot be downloaded or prepared, or does not get ready; with the end of its log.
        """
        classpath = self._classpath()
        self._prepare(classpath)
        self._surroundings.report("starting Kafka")
        self.server.launch(self.command(classpath), directory=self._directory, log=self._logs[0], account=None)
        self.server.wait_until(self._listens, logs=self._logs)
        self._wait_for_metadata()

    def command(self, classpath: str) -> list[str]:
        """Give the command line that runs the broker, in its directory.

        Arguments:
            classpath: Where Kafka's classes lie.
        """
        java = self._java(_HEAP_MEBIBYTES[self._tuning], self._tuning)
        return [*java, "-cp", classpath, "kafka.Kafka", "server.properties"]

    def _classpath(self) -> str:
        surroundings = self._surroundings
        jars = fetch(
            read_pins(f"kafka-{KAFKA_VERSION}.pins"),
            what=_PROGRAM,
            folder=cache_directory() / f"kafka-{KAFKA_VERSION}",
            called_off=surroundings.called_off,
            report=surroundings.report,
        )
        return check_classpath(jars)

    def _prepare(self, classpath: str) -> None:
        make_directory(self._directory)
        make_directory(self._directory / "tmp")
        try:
            logging_text = files("sealstream.deploy.stack").joinpath("log4j2.properties").read_text(encoding="ascii")
            (self._directory / "log4j2.properties").write_text(logging_text, encoding="ascii")
            (self._directory / "server.properties").write_text(self._properties(), encoding="ascii")
        except OSError as error:
            raise directory_unusable(self._directory, error) from error
        # The storage tool writes meta.properties last: without it, an earlier format did not come to its end.
        if not (self._directory / "data" / "meta.properties").exists():
            self._format(classpath)

    def _format(self, classpath: str) -> None:
        self._surroundings.report("formatting Kafka's storage")
        shutil.rmtree(self._directory / "data", ignore_errors=True)
        run_tool(
            [
                *self._java(_FORMAT_HEAP_MEBIBYTES, JavaTuning.QUICK_START),
                *("-cp", classpath, "kafka.tools.StorageTool"),
                *("format", "--cluster-id", _cluster_id(), "--config", "server.properties"),
            ],
            what="formatting Kafka's storage",
            directory=self._directory,
            log=self._logs[0],
            wait=Wait("Kafka's format", seconds=_FORMAT_SECONDS_MAX, called_off=self._surroundings.called_off),
        )

    def _java(self, heap_mebibytes: int, tuning: JavaTuning) -> list[str]:
        command = java_command(heap_mebibytes=heap_mebibytes, temporary=self._directory / "tmp", tuning=tuning)
        return [*command, "-Dlog4j2.configurationFile=log4j2.properties"]

    def _properties(self) -> str:
        controller = f"{LOOPBACK}:{self._controller_port}"
        node = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{controller}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            # relative to the working directory: Kafka would split a path at its commas
            "log.dirs": "data",
        }
        return "".join(f"{key}={value}\n" for key, value in {**node, **BROKER_SETTINGS, **self._settings}.items())

    def _listens(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self._port), timeout=_CONNECT_SECONDS):
                return True
        except OSError:
            return False

    def _wait_for_metadata(self) -> None:
        # A client's complaints about a server that is only starting are no news.
        client = AdminClient({"bootstrap.servers": self.address, "log_level": 0})

        def has_broker() -> bool:
            try:
                return bool(client.list_topics(timeout=_METADATA_SECONDS).brokers)
            except KafkaException:
                return False

        self.server.wait_until(has_broker, logs=self._logs)
        # Asking for a group makes the broker create the topic for group offsets. Otherwise the first consumer's joining
        # does, and finds it not ready, and tries again three seconds later.
        with contextlib.suppress(KafkaException, TimeoutError):  # it may well not be ready yet
            client.describe_consumer_groups([_NO_GROUP])[_NO_GROUP].result(_METADATA_SECONDS)


def _cluster_id() -> str:
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        if not text.startswith("-"):  # the storage tool would take it for an option
            return text
