"""Two brokers on loopback that replicate everything: for tests in which a partition's leader moves."""

from __future__ import annotations

import base64
import contextlib
import tempfile
import time
import uuid
from collections.abc import Generator
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from sealstream.deploy.stack.kafka import KafkaServer
from sealstream.deploy.stack.ports import LOOPBACK, free_port
from sealstream.deploy.stack.server import Surroundings

REPLICATED = {
    "offsets.topic.replication.factor": "2",
    "transaction.state.log.replication.factor": "2",
    # a leader goes back to the broker that is to have it a second after that is there again, not five minutes
    "leader.imbalance.check.interval.seconds": "1",
}
TRANSACTION_LOG = "__transaction_state"
START_SECONDS = 90.0


class Cluster:
    """A controller that is a broker as well (1), and a second broker (2), which may be stopped and started.

    Arguments:
        directory: Where their data lies.
    """

    def __init__(self, directory: Path) -> None:
        ports: list[int] = []
        for _ in range(3):
            ports.append(free_port(taken=frozenset(ports)))
        first, second, controller_port = ports
        self._directory = directory
        self._first = KafkaServer(
            directory / "1",
            port=first,
            controller_port=controller_port,
            surroundings=Surroundings(),
            settings=REPLICATED,
        )
        self._second = KafkaServer(
            directory / "2",
            port=second,
            controller_port=controller_port,
            surroundings=Surroundings(),
            settings=REPLICATED
            | {"process.roles": "broker", "node.id": "2", "listeners": f"PLAINTEXT://{LOOPBACK}:{second}"},
        )
        self.address = f"{self._first.address},{self._second.address}"

    def start(self) -> None:
        """Start both, and wait until they know each other."""
        self._first.start()
        self._join()
        self._second.start()
        deadline = time.monotonic() + START_SECONDS
        while len(self._client().list_topics(timeout=15).brokers) < 2:
            assert time.monotonic() < deadline, "the second broker does not join the first"
            time.sleep(0.1)

    def stop_second(self) -> None:
        """Stop the second broker in order: it hands over what it leads before it goes."""
        self._second.server.stop()

    def start_second(self) -> None:
        """Start the second broker again."""
        self._second.start()

    def stop(self) -> None:
        """Stop both."""
        self._second.server.stop()
        self._first.server.stop()

    def coordinator(self, transactional_id: str) -> int | None:
        """Return the broker that coordinates a transactional id's transactions; ``None`` while there is none."""
        try:
            partitions = self._client().list_topics(TRANSACTION_LOG, timeout=15).topics[TRANSACTION_LOG].partitions
        except KafkaException:
            return None
        if not partitions:
            return None
        leader: int = partitions[abs(_java_hash(transactional_id)) % len(partitions)].leader
        return leader if leader >= 0 else None

    def _client(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})

    def _join(self) -> None:
        """Let the second broker's data belong to the first one's cluster: what the storage tool would write."""
        lines = (self._directory / "1" / "data" / "meta.properties").read_text().splitlines()
        cluster = next(line for line in lines if line.startswith("cluster.id="))
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        data = self._directory / "2" / "data"
        data.mkdir(parents=True)
        text = f"version=1\nnode.id=2\n{cluster}\ndirectory.id={identity}\n"
        (data / "meta.properties").write_text(text)


def _java_hash(text: str) -> int:
    """Return what ``String.hashCode`` returns in Java: it decides which partition holds a transactional id."""
    number = 0
    for character in text:
        number = (31 * number + ord(character)) & 0xFFFFFFFF
    return number - (1 << 32) if number >= 1 << 31 else number


@contextlib.contextmanager
def cluster() -> Generator[Cluster]:
    """Run two brokers in a temporary directory, and leave nothing of them."""
    with tempfile.TemporaryDirectory(prefix="sealstream-", ignore_cleanup_errors=True) as directory:
        made = Cluster(Path(directory))
        try:
            made.start()
            yield made
        finally:
            made.stop()
