"""An HTTP server within bounds: what those have in common whom others may ask, the gateway and the witness.

uvicorn serves. What it bounds by itself is the time between two requests; how long a request may take to arrive is
:class:`TimedProtocol`'s to say, and how large it may be, its application's. The pages for operators are elsewhere:
:mod:`sealstream.worker.web`. It needs uvicorn, which the extras of those two bring.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import uvicorn

from sealstream.schemas.errors import ConfigError
from sealstream.worker.logs import logger

Application: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

_BEAT_SECONDS: Final = 1.0
_STUCK_SECONDS: Final = 10.0


class HttpServer:
    """Serves an ASGI application on one port.

    Arguments:
        name: Whose server it is, as its settings begin: ``gateway``.
        application: The application; it is told nothing of beginning and end.
        protocol: uvicorn's protocol, or what was made of it.
        host: The address to bind to.
        port: The port; 0 takes a free one.
        backlog: How many connections the system may hold that were not taken yet.
        idle_seconds: How long a connection may rest between two requests.
        grace_seconds: How long requests that are under way may take after a stop.
        requests_max: How many connections and requests there may be; more are answered 503. No bound if not given.
        header_bytes_max: How large a header may be, where the protocol is uvicorn's with h11; its default if not given.

    Raises:
        ConfigError: The port cannot be opened.
    """

    def __init__(
        self,
        name: str,
        application: Application,
        protocol: type[asyncio.Protocol],
        host: str,
        port: int,
        *,
        backlog: int,
        idle_seconds: int,
        grace_seconds: int,
        requests_max: int | None = None,
        header_bytes_max: int | None = None,
    ) -> None:
        self._name = name
        self._beat = time.monotonic()
        self._socket = _bind(name, host, port, backlog)
        self.port: int = self._socket.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                application,
                http=protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=requests_max,
                h11_max_incomplete_event_size=header_bytes_max,
                timeout_keep_alive=idle_seconds,
                timeout_graceful_shutdown=grace_seconds,
            )
        )
        # Its warnings are about requests that are none: anybody could fill the log with them.
        for source in ("uvicorn", "uvicorn.error"):
            logging.getLogger(source).setLevel(logging.ERROR)

    async def serve(self) -> None:
        """Serve until :meth:`stop`; then take no more connections, answer what is under way, and return."""
        beating = asyncio.create_task(self._keep_beating())
        logger().info(f"{self._name} listening", host=self._socket.getsockname()[0], port=self.port)
        try:
            await self._server.serve([self._socket])
        finally:
            beating.cancel()

    def stop(self) -> None:
        """Let it end; from any thread."""
        self._server.should_exit = True

    def close(self) -> None:
        """Close the port."""
        self._socket.close()

    def healthy(self) -> bool:
        """Return whether its loop turns."""
        return time.monotonic() - self._beat < _STUCK_SECONDS

    async def _keep_beating(self) -> None:
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(_BEAT_SECONDS)


class TimedProtocol:
    """A time by which the rest of a request has to be there; to be mixed into a protocol of uvicorn's, before it.

    Who sends a byte now and then does not get more time by it.
    """

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    _deadline: asyncio.TimerHandle | None = None

    @property
    def is_timed(self) -> bool:
        """Whether something is waited for."""
        return self._deadline is not None

    def arm(self, seconds: float) -> None:
        """Begin to wait."""
        self._deadline = self.loop.call_later(seconds, self._expire)

    def disarm(self) -> None:
        """Wait no longer, if something was waited for."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def too_slow(self) -> None:
        """End the connection: the time is over."""
        self.transport.abort()

    def _expire(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.too_slow()


class _Server(uvicorn.Server):
    """Leaves signals to the worker: it would take them for itself, and raise them again at its end."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Do nothing."""
        yield


def _bind(name: str, host: str, port: int, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=backlog)
    except OSError as error:
        raise ConfigError(
            f"the {name}'s port {host}:{port} cannot be opened: {error.strerror}",
            hint=f"set SEALSTREAM_{name.upper()}_PORT",
        ) from error
