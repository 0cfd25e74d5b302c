"""The gateway's server: on uvloop with httptools, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop

from sealstream.producers.gateway.application import Gateway
from sealstream.producers.gateway.protocol import BoundedProtocol, Bounds
from sealstream.worker.http_server import HttpServer
from sealstream.worker.stop import StopSignal

IDLE_SECONDS: Final = 75
"""How long a connection may rest between two requests: longer than proxies keep theirs, so that they end it first."""
GRACE_SECONDS: Final = 6
"""How long requests that are under way may take after a stop; what has no answer from Kafka by then is answered 503."""
SETTLE_SECONDS: Final = 3.0
"""After so long of these, what is outstanding is given up, so that the rest of the time is there to say so."""

_COLLECTOR: Final = (20_000, 20, 20)
_LOOK_SECONDS: Final = 0.1
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
        self._http = HttpServer(
            "gateway",
            application,
            type("GatewayProtocol", (BoundedProtocol,), {"bounds": bounds}),
            host,
            port,
            backlog=_BACKLOG,
            idle_seconds=IDLE_SECONDS,
            grace_seconds=GRACE_SECONDS,
        )
        self.port = self._http.port

    def run(self, begin: Callable[[], Awaitable[object]], settle: Callable[[], Awaitable[None]]) -> None:
        """Serve until told to stop; then take no more connections, answer what is under way, and end.

        Arguments:
            begin: Opens the audit log, so that what a spool holds is sent before the first request comes.
            settle: Ends the audit log, so that each event still outstanding has an outcome soon.
        """
        # What was made until now stays: the collector need not look at it again, and not after each few requests.
        gc.freeze()
        gc.set_threshold(*_COLLECTOR)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run(begin, settle))

    def close(self) -> None:
        """Close the port."""
        self._http.close()

    def healthy(self) -> bool:
        """Return whether its loop turns."""
        return self._http.healthy()

    async def _run(self, begin: Callable[[], Awaitable[object]], settle: Callable[[], Awaitable[None]]) -> None:
        await begin()
        serving = asyncio.ensure_future(self._http.serve())
        while not self._stop.is_set() and not serving.done():  # noqa: ASYNC110 - a signal sets it, and no task
            await asyncio.sleep(_LOOK_SECONDS)
        self._http.stop()
        # A second stop, or a crash from here on, loses no event: what has no receipt yet is repeated by its sender.
        await asyncio.wait({serving}, timeout=SETTLE_SECONDS)
        await settle()
        await serving
