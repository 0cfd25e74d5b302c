"""The proxy of the fault tests does to a connection what they think it does."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from sealstream.deploy.stack.ports import LOOPBACK
from support.proxy import END_TXN, Proxy
from support.workers import wait_for

OTHER = 3


def request(kind: int, number: int) -> bytes:
    """Return a request's frame."""
    body = struct.pack(">hhi", kind, 0, number) + b"body"
    return struct.pack(">i", len(body)) + body


class Broker:
    """Answers each request with its number, and notes the requests."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while head := stream.read(4):
                body = stream.read(*struct.unpack(">i", head))
                (number,) = struct.unpack_from(">i", body, 4)
                self.seen.append(number)
                connection.sendall(struct.pack(">ii", 4, number))


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A server that speaks frames."""
    made = Broker()
    yield made
    made.listener.shutdown(socket.SHUT_RDWR)
    made.listener.close()


@pytest.fixture
def proxy(broker: Broker) -> Iterator[Proxy]:
    """A proxy before it."""
    made = Proxy(broker.port)
    yield made
    made.close()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    """A connection through the proxy."""
    with socket.create_connection((LOOPBACK, proxy.port), timeout=10) as made:
        yield made


def answer(client: socket.socket) -> int:
    """Return the number in the next answer; 0 for the connection's end."""
    data = b""
    while len(data) < 8:
        piece = client.recv(8 - len(data))
        if not piece:
            return 0
        data += piece
    return int(struct.unpack(">ii", data)[1])


def test_forwards(client: socket.socket) -> None:
    """Requests and answers go through."""
    client.sendall(request(OTHER, 1) + request(END_TXN, 2))
    assert [answer(client), answer(client)] == [1, 2]


def test_holds_a_request(proxy: Proxy, broker: Broker, client: socket.socket) -> None:
    """A held request has not reached the broker; let go, it does."""
    proxy.hold(END_TXN, "request", passage=2)
    client.sendall(request(END_TXN, 1) + request(OTHER, 2) + request(END_TXN, 3))
    assert [answer(client), answer(client)] == [1, 2]
    wait_for(proxy.holds, timeout_seconds=10, what="the request")
    assert broker.seen == [1, 2]
    proxy.let_go()
    assert answer(client) == 3


def test_holds_an_answer(proxy: Proxy, broker: Broker, client: socket.socket) -> None:
    """A held answer is to a request that has reached the broker."""
    proxy.hold(END_TXN, "answer")
    client.sendall(request(END_TXN, 1))
    wait_for(proxy.holds, timeout_seconds=10, what="the answer")
    assert broker.seen == [1]
    proxy.let_go()
    assert answer(client) == 1


def test_drops_what_it_holds(proxy: Proxy, broker: Broker, client: socket.socket) -> None:
    """A dropped request never reaches the broker, and its connection ends."""
    proxy.hold(END_TXN, "request")
    client.sendall(request(END_TXN, 1))
    wait_for(proxy.holds, timeout_seconds=10, what="the request")
    proxy.drop()
    assert answer(client) == 0
    assert broker.seen == []


def test_cuts_and_mends(proxy: Proxy, client: socket.socket) -> None:
    """Cut, there is neither an old connection nor a new one; mended, there are new ones."""
    client.sendall(request(OTHER, 1))
    assert answer(client) == 1
    proxy.cut()
    assert client.recv(1) == b""
    with socket.create_connection((LOOPBACK, proxy.port), timeout=10) as refused:
        assert refused.recv(1) == b""
    proxy.mend()
    with socket.create_connection((LOOPBACK, proxy.port), timeout=10) as mended:
        mended.sendall(request(OTHER, 2))
        assert answer(mended) == 2
