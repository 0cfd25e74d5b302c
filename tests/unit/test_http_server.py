"""What gateway and witness have in common: a server that ends when it is told, and requests that have a time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol

from sealstream.schemas.errors import ConfigError
from sealstream.worker.http_server import HttpServer, TimedProtocol

HOST = "127.0.0.1"
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
WAIT_SECONDS = 30.0


async def greet(_scope: Any, _receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """Answer every request with one word."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


class Timed(TimedProtocol, H11Protocol):
    """A protocol that gives a connection a moment."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class
        """Begin the connection's time."""
        super().connection_made(transport)
        self.arm(0.05)


def server(protocol: type[asyncio.Protocol] = H11Protocol, *, port: int = 0) -> HttpServer:
    """Return a server on a free port."""
    return HttpServer("gateway", greet, protocol, HOST, port, backlog=8, idle_seconds=5, grace_seconds=1)


async def test_it_serves_until_it_is_told_to_stop() -> None:
    """Requests are answered; a stop ends it, and the port, once closed, takes nobody in."""
    served = server()
    serving = asyncio.ensure_future(served.serve())
    reader, writer = await asyncio.open_connection(HOST, served.port)
    writer.write(REQUEST)
    answer = await asyncio.wait_for(reader.readuntil(b"hello"), WAIT_SECONDS)

    assert (answer.split(b"\r\n")[0], served.healthy()) == (b"HTTP/1.1 200 OK", True)
    assert b"server:" not in answer.lower(), "it does not say what it is made of"
    served.stop()
    await asyncio.wait_for(serving, WAIT_SECONDS)
    served.close()
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, served.port)


async def test_what_takes_too_long_is_ended() -> None:
    """A connection whose time is over is ended, although its client still waits."""
    served = server(cast("type[asyncio.Protocol]", Timed))
    serving = asyncio.ensure_future(served.serve())
    reader, writer = await asyncio.open_connection(HOST, served.port)
    try:
        try:
            received = await asyncio.wait_for(reader.read(), WAIT_SECONDS)
        except ConnectionResetError:
            received = b""
        assert received == b""
    finally:
        writer.close()
        served.stop()
        await asyncio.wait_for(serving, WAIT_SECONDS)
        served.close()


async def test_what_came_in_time_is_not_ended() -> None:
    """Who waits no longer is not ended by a time that was begun."""
    protocol = TimedProtocol()
    protocol.loop = asyncio.get_running_loop()
    protocol.arm(0.0)
    assert protocol.is_timed
    protocol.disarm()
    protocol.disarm()

    await asyncio.sleep(0)  # its call would come now, and find no transport
    assert not protocol.is_timed


def test_a_port_that_is_taken_is_named_with_its_setting() -> None:
    """The error says which server's port it is, and which setting gives another."""
    with socket.create_server((HOST, 0)) as taken, pytest.raises(ConfigError, match="the gateway's port") as caught:
        server(port=taken.getsockname()[1])
    assert caught.value.hint == "set SEALSTREAM_GATEWAY_PORT"
