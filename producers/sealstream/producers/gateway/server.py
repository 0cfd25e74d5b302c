"""The web server: uvicorn on uvloop with httptools, within bounds, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Final

import uvicorn

from sealstream.producers.gateway.application import Gateway
from sealstream.producers.gateway.protocol import BoundedProtocol, Bounds
from sealstream.schemas.errors import ConfigError
from sealstream.worker.logs import logger
from sealstream.worker.stop import StopSignal

IDLE_SECONDS: Final = 75
"""How long a connection may rest between two requests: longer than proxies keep theirs, so that they end it first."""
GRACE_SECONDS: Final = 6
"""How long requests that are under way may take after a stop; what has no answer from Kafka by then is answered 503."""
SETTLE_SECONDS: Final = 3.0
"""After so long of these, what is outstanding is given up, so that the rest of the time is there to say so."""

_COLLECTOR: Final = (20_000, 20, 20)
_BEAT_SECONDS: Final = 0.1
_BEATS_MISSED_MAX: Final = 100
_BACKLOG: Final = 2_048


class GatewayServer:
    """Serves the gateway's application.

    Arguments:
        application: The application.
        host: The address to bind to.
        port: The port; 0 takes a free one.
        bounds: What a connection must keep to.
        stop: Tells it to stop.

    Raises:
        ConfigError: The port cannot be opened.
    """

    def __init__(self, application: Gateway, host: str, port: int, *, bounds: Bounds, stop: StopSignal) -> None:
        self._stop = stop
        self._beat = time.monotonic()
        self._socket = _bind(host, port)
        self.port: int = self._socket.getsockname()[1]
        protocol = type("GatewayProtocol", (BoundedProtocol,), {"bounds": bounds})
        self._server = _Server(
            uvicorn.Config(
                application,
                http=protocol,
                ws="none",
                lifespan="off",
                loop="uvloop",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        # Its warnings are about requests that are none: anybody could fill the log with them.
        for name in ("uvicorn", "uvicorn.error"):
            logging.getLogger(name).setLevel(logging.ERROR)

    def run(self, begin: Callable[[], Awaitable[object]], settle: Callable[[], Awaitable[None]]) -> None:
        """Serve until told to stop; then take no more connections, answer what is under way, and end.

        Arguments:
            begin: Opens the audit log, so that what a spool holds is sent before the first request comes.
            settle: Ends the audit log, so that each event still outstanding has an outcome soon.
        """
        # What was made until now stays: the collector need not look at it again, and not after each few requests.
        gc.freeze()
        gc.set_threshold(*_COLLECTOR)
        loop_factory = self._server.config.get_loop_factory()
        assert loop_factory is not None
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(self._run(begin, settle))

    def close(self) -> None:
        """Close the port."""
        self._socket.close()

    def healthy(self) -> bool:
        """Return whether its loop turns."""
        return time.monotonic() - self._beat < _BEATS_MISSED_MAX * _BEAT_SECONDS

    async def _run(self, begin: Callable[[], Awaitable[object]], settle: Callable[[], Awaitable[None]]) -> None:
        await begin()
        serving = asyncio.ensure_future(self._server.serve([self._socket]))
        logger().info("gateway listening", host=self._socket.getsockname()[0], port=self.port)
        while not self._stop.is_set() and not serving.done():
            self._beat = time.monotonic()
            await asyncio.sleep(_BEAT_SECONDS)
        self._server.should_exit = True
        # A second stop, or a crash from here on, loses no event: what has no receipt yet is repeated by its sender.
        await asyncio.wait({serving}, timeout=SETTLE_SECONDS)
        await settle()
        await serving


class _Server(uvicorn.Server):
    """Leaves signals to us: it would take them for itself, and raise them again at its end."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Do nothing."""
        yield


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"the gateway's port {host}:{port} cannot be opened: {error.strerror}", hint="set SEALSTREAM_GATEWAY_PORT"
        ) from error
