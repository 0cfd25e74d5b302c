"""A TCP proxy on loopback between a client and a broker, that can cut the connection, and hold one request or answer.

It forwards whole frames of Kafka's protocol (a length, then that many bytes) and looks at no more of them than the
request's kind and number, which stand at fixed places in every version (KIP-482 keeps the request header's beginning).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from sealstream.deploy.stack.ports import LOOPBACK, free_port

END_TXN = 26
"""The kind of the request that commits or aborts a transaction (EndTxn)."""

_LENGTH = struct.Struct(">i")
_REQUEST = struct.Struct(">hhi")  # kind, version, number
_NUMBER = struct.Struct(">i")
_CONNECT_SECONDS = 5.0

Side = Literal["request", "answer"]


@dataclass(slots=True)
class _Hold:
    """What is to be held: the n-th request of a kind on its way, or the answer to it."""

    kind: int
    passage: int
    side: Side
    passed: int = 0
    dropped: bool = False
    reached: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True, eq=False)
class _Link:
    """One connection of a client, and ours to the broker for it."""

    client: socket.socket
    broker: socket.socket
    awaited: set[int] = field(default_factory=set[int])  # numbers of requests whose answers are to be held

    def close(self) -> None:
        """Close both ends, so that whoever reads from them finds their end at once."""
        for end in (self.client, self.broker):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Proxy:
    """Forwards connections to a port on loopback until told otherwise.

    Arguments:
        broker_port: Where to.
        taken: Ports that are not to be listened on.
    """

    def __init__(self, broker_port: int, *, taken: frozenset[int] = frozenset()) -> None:
        self.port = free_port(taken=taken)
        self._broker_port = broker_port
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._cut = False
        self._hold: _Hold | None = None
        self._listener = socket.create_server((LOOPBACK, self.port))
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def address(self) -> str:
        """Where clients connect to."""
        return f"{LOOPBACK}:{self.port}"

    def close(self) -> None:
        """End it with all its connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # else the thread that accepts would not notice
        self._listener.close()
        self.cut()

    def hold(self, kind: int, side: Side, *, passage: int = 1) -> None:
        """Hold the n-th request of a kind from now on, or the broker's answer to it, and all that comes behind it."""
        self._hold = _Hold(kind, passage, side)

    def holds(self) -> bool:
        """Return whether the awaited request or answer has come, and is held."""
        return self._hold is not None and self._hold.reached.is_set()

    def let_go(self) -> None:
        """Forward what is held, if its connection is still there."""
        if self._hold is not None:
            self._hold.let_go.set()
            self._hold = None

    def drop(self) -> None:
        """Close the connection that is held, without forwarding what was held."""
        if self._hold is not None:
            self._hold.dropped = True
        self.let_go()

    def cut(self) -> None:
        """Close all connections, with what is on its way in them, and take no new ones."""
        with self._lock:
            self._cut = True
            links, self._links = self._links, set()
        for link in links:
            link.close()
        self.drop()

    def mend(self) -> None:
        """Take connections again."""
        with self._lock:
            self._cut = False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            link = self._connect(client)
            if link is not None:
                for forward in (self._forward_requests, self._forward_answers):
                    threading.Thread(target=self._run, args=(forward, link), name="proxy", daemon=True).start()

    def _connect(self, client: socket.socket) -> _Link | None:
        try:
            broker = socket.create_connection((LOOPBACK, self._broker_port), timeout=_CONNECT_SECONDS)
        except OSError:
            client.close()  # no broker there: the client finds the same
            return None
        broker.settimeout(None)
        link = _Link(client, broker)
        for end in (client, broker):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            if not self._cut:
                self._links.add(link)
                return link
        link.close()
        return None

    def _run(self, forward: Callable[[_Link], None], link: _Link) -> None:
        with contextlib.suppress(OSError, EOFError):
            forward(link)
        with self._lock:
            self._links.discard(link)
        link.close()

    def _forward_requests(self, link: _Link) -> None:
        while True:
            frame = _read_frame(link.client)
            kind, _, number = _REQUEST.unpack_from(frame)
            hold = self._hold
            if hold is not None and kind == hold.kind:
                hold.passed += 1
                if hold.passed == hold.passage and hold.side == "request":
                    self._wait(hold)
                elif hold.passed == hold.passage:
                    link.awaited.add(number)
            link.broker.sendall(_LENGTH.pack(len(frame)) + frame)

    def _forward_answers(self, link: _Link) -> None:
        while True:
            frame = _read_frame(link.broker)
            (number,) = _NUMBER.unpack_from(frame)
            hold = self._hold
            if hold is not None and number in link.awaited:
                link.awaited.discard(number)
                self._wait(hold)
            link.client.sendall(_LENGTH.pack(len(frame)) + frame)

    @staticmethod
    def _wait(hold: _Hold) -> None:
        hold.reached.set()
        hold.let_go.wait()
        if hold.dropped:
            raise EOFError


def _read_frame(connection: socket.socket) -> bytes:
    (length,) = _LENGTH.unpack(_read(connection, _LENGTH.size))
    return _read(connection, length)


def _read(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(min(count - len(data), 1 << 20))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
