"""Servers that answer what they like: a proof server, a storage, a witness, over HTTP on the loopback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

FETCH_SECONDS = 30.0
FETCH_BYTES_MAX = 8_000_000

Answering = Callable[[str], tuple[int, bytes]]
"""Returns status and body for a path."""


@contextmanager
def lying_server(answering: Answering) -> Generator[str]:
    """Serve whatever a function answers, and yield the URL without a slash at the end."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answering(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
            """Say nothing: the tests look at answers."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def fetch(url: str) -> bytes:
    """Return what a server gives out, as a reader's browser saves it."""
    with urlopen(url, timeout=FETCH_SECONDS) as answer:  # loopback
        body: bytes = answer.read(FETCH_BYTES_MAX)
        return body
