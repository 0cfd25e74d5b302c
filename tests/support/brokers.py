"""A broker of the fault tests' own: it may be killed, and one of its addresses leads through a proxy."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path

from sealstream.deploy.stack.kafka import KafkaServer
from sealstream.deploy.stack.ports import LOOPBACK, free_port
from sealstream.deploy.stack.server import Surroundings
from support.proxy import Proxy


class FaultBroker:
    """One embedded Kafka with two addresses: its own, and one that is advertised to whoever comes through the proxy.

    Arguments:
        directory: Where its data lies.

    Use it from one thread.
    """

    def __init__(self, directory: Path) -> None:
        ports: list[int] = []
        for _ in range(3):
            ports.append(free_port(taken=frozenset(ports)))
        port, controller_port, inner_port = ports
        self.proxy = Proxy(inner_port, taken=frozenset(ports))
        own, inner, proxied = f"{LOOPBACK}:{port}", f"{LOOPBACK}:{inner_port}", self.proxy.address
        self._kafka = KafkaServer(
            directory,
            port=port,
            controller_port=controller_port,
            surroundings=Surroundings(),
            settings={
                "listeners": f"PLAINTEXT://{own},PROXIED://{inner},CONTROLLER://{LOOPBACK}:{controller_port}",
                "advertised.listeners": f"PLAINTEXT://{own},PROXIED://{proxied}",
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
            },
        )
        self.address = own

    @property
    def runs(self) -> bool:
        """Whether it was started, and neither stopped nor killed since."""
        return self._kafka.server.identity is not None

    def start(self) -> None:
        """Start it, on the same addresses and data as before."""
        self._kafka.start()

    def kill(self) -> None:
        """Kill it as a crash would."""
        self._kafka.server.kill()

    def stop(self) -> None:
        """Stop it in order, as for an upgrade."""
        self._kafka.server.stop()

    def pause(self) -> None:
        """Stop its process where it stands: whoever waits for an answer waits."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        identity = self._kafka.server.identity
        assert identity is not None, "the broker does not run"
        os.kill(identity.pid, number)

    def close(self) -> None:
        """Stop it, and the proxy."""
        self.stop()
        self.proxy.close()


@contextlib.contextmanager
def fault_broker() -> Generator[FaultBroker]:
    """Run a broker in a temporary directory, and leave nothing of it."""
    with tempfile.TemporaryDirectory(prefix="sealstream-", ignore_cleanup_errors=True) as directory:
        broker = FaultBroker(Path(directory) / "kafka")
        try:
            broker.start()
            yield broker
        finally:
            broker.close()
