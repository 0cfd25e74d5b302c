"""The worker's web port: Faust's own web, bound to the address and port of the settings."""

from __future__ import annotations

import json
from typing import Any, Final

import faust
from aiohttp.web import BaseSite, TCPSite
from faust import web
from faust.web.drivers.aiohttp import Web

from sealstream.processors.status import Status
from sealstream.schemas.errors import ConfigError
from sealstream.worker import metrics
from sealstream.worker.logs import logger

FREE_PORT: Final = 1
"""Stands for "any free port" in Faust's settings, which know no 0; nobody could want port 1 itself."""


class ProcessorWeb(Web):
    """Faust's web server; it takes a free port if asked to, and says which."""

    async def start_server(self) -> None:
        """Open the port.

        Raises:
            ConfigError: The port cannot be opened.
        """
        host, port = self.app.conf.web_bind, self.app.conf.web_port
        try:
            await super().start_server()
        except OSError as error:
            raise ConfigError(
                f"the web port {host}:{port} cannot be opened: {error.strerror}", hint="set SEALSTREAM_WEB_PORT"
            ) from error
        logger().info("web listening", host=host, port=self._runner.addresses[0][1])

    def _new_transport_tcp(self) -> BaseSite:
        port = self.app.conf.web_port
        return TCPSite(self._runner, self.app.conf.web_bind, 0 if port == FREE_PORT else port)


def add_pages(app: faust.App, status: Status) -> None:
    """Add ``/healthz``, ``/readyz``, ``/partitions`` and ``/metrics`` to a Faust app.

    Arguments:
        app: The app.
        status: What the pages tell.
    """

    @app.page("/healthz")
    class Health(web.View):  # pyright: ignore[reportUnusedClass]
        """Whether the log's thread is alive; this page's own answer shows that the event loop is."""

        async def get(self, request: web.Request, **arguments: Any) -> web.Response:
            del request, arguments
            alive = status.alive()
            return self.text("ok\n" if alive else "stuck\n", status=200 if alive else 503)

    @app.page("/readyz")
    class Readiness(web.View):  # pyright: ignore[reportUnusedClass]
        """Whether the worker chains, and in words what it waits for."""

        async def get(self, request: web.Request, **arguments: Any) -> web.Response:
            del request, arguments
            ready, words = status.ready()
            return self.text(f"{words}\n", status=200 if ready else 503)

    @app.page("/partitions")
    class Partitions(web.View):  # pyright: ignore[reportUnusedClass]
        """What the worker is at, by partition, as JSON for people."""

        async def get(self, request: web.Request, **arguments: Any) -> web.Response:
            del request, arguments
            text = json.dumps(status.describe(), indent=2)
            return self.text(f"{text}\n", content_type="application/json")

    @app.page("/metrics")
    class Metrics(web.View):  # pyright: ignore[reportUnusedClass]
        """All metrics in Prometheus' text format."""

        async def get(self, request: web.Request, **arguments: Any) -> web.Response:
            del request, arguments
            status.export()
            return self.bytes(metrics.exposition(), headers={"Content-Type": metrics.CONTENT_TYPE})
