"""HTTP/1.1 with bounds: on connections, on the size and the time of a header, and on clients that do not read.

What uvicorn bounds by itself is the time between two requests. How large a body may be is the application's to say.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, cast

import orjson
from uvicorn._types import HTTPScope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from sealstream.producers.gateway.problems import Problem, malformed
from sealstream.worker import metrics
from sealstream.worker.http_server import TimedProtocol

HEADER_BYTES_MAX: Final = 32_768
_VERSION: Final = b"HTTP/1.1 "
_CONTINUE: Final = b"HTTP/1.1 100 "
_FULL: Final = metrics.GATEWAY_CLOSED.labels("full")
_SLOW: Final = metrics.GATEWAY_CLOSED.labels("slow")
_LARGE: Final = metrics.GATEWAY_CLOSED.labels("large-header")
_UNREAD: Final = metrics.GATEWAY_CLOSED.labels("unread")


@dataclass(slots=True)
class Bounds:
    """What a connection must keep to.

    Arguments:
        connections_max: How many there may be.
        request_seconds: How long a header may take to arrive, from its first byte, or from the connection's begin; and
            then its body.
    """

    connections_max: int
    request_seconds: float


class _JoiningTransport:
    """Writes the head of an answer together with its body: uvicorn's two writes would be two packets.

    Arguments:
        transport: The connection's own.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        """Be the transport in all other respects."""
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Return whether the connection is about to end."""
        return self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Write, but keep an answer's head until the next call."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_VERSION) and not data.startswith(_CONTINUE):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Write a head that no body follows."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """End the connection when everything is written."""
        self.flush()
        self._transport.close()


class BoundedProtocol(TimedProtocol, HttpToolsProtocol):
    """One connection."""

    bounds: Bounds
    """Set in a subclass of each server's own: uvicorn makes the protocol, and gives it nothing of ours."""

    _joining: _JoiningTransport
    _header_bytes = 0
    _body_of: RequestResponseCycle | None = None
    _wants_other = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class
        """Take a connection, or close it if there are too many."""
        if len(self.connections) >= self.bounds.connections_max:
            _FULL.inc()
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        self._joining = _JoiningTransport(transport)
        self.transport = cast("asyncio.Transport", self._joining)
        metrics.GATEWAY_CONNECTIONS.inc()
        self.arm(self.bounds.request_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self.disarm()
        if self in self.connections:
            metrics.GATEWAY_CONNECTIONS.dec()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes. What comes in one piece, as most requests do, needs no clock."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        cycle = cast("RequestResponseCycle | None", self.cycle)  # the base class says that there always is one
        if cycle is None or cycle.response_complete:
            self._await_header(len(data))
        elif cycle.more_body:
            self._await_body(cycle)
        elif self.is_timed:
            self._header_bytes = 0
            self.disarm()

    def _await_body(self, cycle: RequestResponseCycle) -> None:
        """Go on waiting for a body: the end of its header begins its time."""
        if self._body_of is not cycle:
            self._body_of, self._header_bytes = cycle, 0
            self.disarm()
            self.arm(self.bounds.request_seconds)

    def _await_header(self, more_bytes: int) -> None:
        """Go on waiting for a header: its first byte begins its time; what is left of a refused body counts as one."""
        self._header_bytes += more_bytes if self._is_in_header else 0
        if not self.is_timed:
            self.arm(self.bounds.request_seconds)
        if self._header_bytes > HEADER_BYTES_MAX and not self.transport.is_closing():
            _LARGE.inc()
            self._end(
                Problem(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                    "header-too-large",
                    f"the header has more than {HEADER_BYTES_MAX} bytes",
                )
            )

    def on_response_complete(self) -> None:
        """Begin to wait for the next request; an answer to HEAD has no body that its head would be written with."""
        self._joining.flush()
        super().on_response_complete()

    def on_headers_complete(self) -> None:
        """Begin to answer; a request that wants another protocol is refused, because the parser drops its body."""
        assert self.parser is not None  # it goes with the connection
        if self.parser.should_upgrade():
            self._wants_other = True
            raise ValueError("Upgrade")  # ends the parsing; the answer is below
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Say that what came is no HTTP/1.1."""
        del msg
        if self._wants_other:
            self._end(malformed("the request asks for another protocol", hint="use HTTP/1.1 and send no Upgrade"))
        else:
            self._end(malformed("this is no request of HTTP/1.1"))

    def timeout_keep_alive_handler(self) -> None:
        """End a connection that rests; a client that has not read its last answer by now gets no more time for it."""
        if self.transport.get_write_buffer_size() > 0:
            _UNREAD.inc()
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """End a connection that rests; let one that waits for an answer have it."""
        self.disarm()
        super().shutdown()

    def too_slow(self) -> None:
        """End a connection that gave no header in time; say so to whom still sends a body."""
        _SLOW.inc()
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is None or cycle.response_complete or cycle.response_started:
            self.transport.abort()  # nobody waits for an answer
            return
        cycle.disconnected = True  # which the application hears when it asks for the rest of the body
        cycle.message_event.set()
        detail = f"the body did not arrive within {self.bounds.request_seconds:g} s"
        self._end(Problem(HTTPStatus.REQUEST_TIMEOUT, "too-slow", detail))

    @property
    def _is_in_header(self) -> bool:
        """Whether a request's first line has begun and its header not ended: the base class has its fields by then."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        scope = cast("HTTPScope | None", self.scope)
        return scope is not None and (cycle is None or scope is not cycle.scope)

    def _end(self, problem: Problem) -> None:
        body = orjson.dumps(problem.document())
        fields: dict[str, Any] = problem.headers() | {"content-length": len(body), "connection": "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.transport.write(STATUS_LINE[problem.status.value] + f"{lines}\r\n".encode() + body)
        self.transport.close()
