"""The web port of a worker: is it alive, is it ready, and its metrics.

Small enough to stand on the standard library: three pages, no input but the path.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from sealstream.schemas.errors import ConfigError
from sealstream.worker import metrics
from sealstream.worker.logs import logger

_REQUEST_TIMEOUT_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.1  # how soon a stop is noticed
_TEXT: Final = "text/plain; charset=utf-8"


class WorkerWeb:
    """Serves ``/healthz``, ``/readyz`` and ``/metrics``.

    Arguments:
        host: The address to bind to.
        port: The port; 0 takes a free one.
        healthy: Whether the worker's loop is alive.
        ready: Whether the worker does its work, and in words what it waits for.
    """

    def __init__(
        self, host: str, port: int, *, healthy: Callable[[], bool], ready: Callable[[], tuple[bool, str]]
    ) -> None:
        self._healthy = healthy
        self._ready = ready
        try:
            self._server = ThreadingHTTPServer((host, port), self._handler())
        except OSError as error:
            raise ConfigError(
                f"the web port {host}:{port} cannot be opened: {error.strerror}", hint="set SEALSTREAM_WEB_PORT"
            ) from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="web", daemon=True
        )

    def start(self) -> None:
        """Serve from a thread of its own."""
        self._thread.start()
        logger().info("web listening", host=self._server.server_address[0], port=self.port)

    def stop(self) -> None:
        """Stop serving, if it was started, and close the port."""
        if self._thread.is_alive():  # what does not serve would never answer a shutdown
            self._server.shutdown()
            self._thread.join(_REQUEST_TIMEOUT_SECONDS)
        self._server.server_close()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and body for a path."""
        if path == "/metrics":
            return 200, metrics.CONTENT_TYPE, metrics.exposition()
        if path == "/healthz":
            alive = self._healthy()
            return (200 if alive else 503), _TEXT, b"ok\n" if alive else b"stuck\n"
        if path == "/readyz":
            ready, words = self._ready()
            return (200 if ready else 503), _TEXT, f"{words}\n".encode()
        return 404, _TEXT, b"try /healthz, /readyz or /metrics\n"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            timeout = _REQUEST_TIMEOUT_SECONDS

            def do_GET(self) -> None:
                status, content_type, body = web.answer(self.path.partition("?")[0])
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
                path = getattr(self, "path", "")  # what is no request has none
                logger().debug("web request", path=path, detail=format % args)

        return Handler
