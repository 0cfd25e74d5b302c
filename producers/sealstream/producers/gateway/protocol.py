"""HTTP/1.1 with bounds: on connections, on the size and the time of a header, and on clients that do not read.

What uvicorn bounds by itself is the time between two requests. A body's size and time are the application's to say.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, cast

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from sealstream.producers.gateway.problems import Problem, malformed
from sealstream.worker import metrics

HEADER_BYTES_MAX: Final = 32_768
_FULL: Final = metrics.GATEWAY_CLOSED.labels("full")
_SLOW: Final = metrics.GATEWAY_CLOSED.labels("slow")
_LARGE: Final = metrics.GATEWAY_CLOSED.labels("large-header")
_UNREAD: Final = metrics.GATEWAY_CLOSED.labels("unread")


@dataclass(slots=True)
class Bounds:
    """What a connection must keep to.

    Arguments:
        connections_max: How many there may be.
        header_seconds: How long a header may take to arrive, from its first byte, or from the connection's begin.
    """

    connections_max: int
    header_seconds: float


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    bounds: Bounds
    """Set in a subclass of each server's own: uvicorn makes the protocol, and gives it nothing of ours."""

    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class
        """Take a connection, or close it if there are too many."""
        if len(self.connections) >= self.bounds.connections_max:
            _FULL.inc()
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        metrics.GATEWAY_CONNECTIONS.inc()
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._disarm()
        if self in self.connections:
            metrics.GATEWAY_CONNECTIONS.dec()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of a header count against its size and its time."""
        if self.transport.is_closing():
            return
        if self._is_answering():
            super().data_received(data)  # of a body
            return
        if self._deadline is None:
            self._arm()  # between two requests only the idle time counts, until the next one's first byte
        self._header_bytes += len(data)
        super().data_received(data)
        if self._is_answering():
            self._disarm()  # the header is there
        elif self._header_bytes > HEADER_BYTES_MAX and not self.transport.is_closing():
            _LARGE.inc()
            self._end(
                Problem(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                    "header-too-large",
                    f"the header has more than {HEADER_BYTES_MAX} bytes",
                )
            )

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._header_bytes = 0
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Say that what came is no HTTP."""
        del msg
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
        self._disarm()
        super().shutdown()

    def _is_answering(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # the base class says that there always is one
        return cycle is not None and not cycle.response_complete

    def _end(self, problem: Problem) -> None:
        body = orjson.dumps(problem.document())
        fields: dict[str, Any] = problem.headers() | {"content-length": len(body), "connection": "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.transport.write(STATUS_LINE[problem.status.value] + f"{lines}\r\n".encode() + body)
        self.transport.close()

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.bounds.header_seconds, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            _SLOW.inc()
            self.transport.abort()
