"""The web port: alive, ready, metrics, on the loopback interface and on a free port."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from sealstream.schemas.errors import ConfigError
from sealstream.worker import metrics
from sealstream.worker.web import WorkerWeb

TIMEOUT_SECONDS = 5


@dataclass
class Worker:
    """A worker in whatever state a test needs."""

    healthy: bool = True
    ready: tuple[bool, str] = (True, "ready")
    asked: list[str] = field(default_factory=list[str])


@pytest.fixture
def worker() -> Worker:
    """A worker that is well."""
    return Worker()


@pytest.fixture
def web(worker: Worker) -> Iterator[WorkerWeb]:
    """Its web port."""
    web = WorkerWeb("127.0.0.1", 0, healthy=lambda: worker.healthy, ready=lambda: worker.ready)
    web.start()
    yield web
    web.stop()


def get(web: WorkerWeb, path: str, method: str = "GET") -> tuple[int, str, str]:
    """Return status, content type and body of a page."""
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.headers.get("Content-Type", ""), response.read().decode()
    finally:
        connection.close()


def test_health(web: WorkerWeb, worker: Worker) -> None:
    """The page says whether the loop is alive, in its status."""
    assert get(web, "/healthz") == (200, "text/plain; charset=utf-8", "ok\n")
    worker.healthy = False
    assert get(web, "/healthz")[0] == 503


def test_readiness(web: WorkerWeb, worker: Worker) -> None:
    """The page says whether the worker does its work, and what it waits for."""
    assert get(web, "/readyz")[0] == 200
    worker.ready = (False, "waiting for Kafka")
    assert get(web, "/readyz") == (503, "text/plain; charset=utf-8", "waiting for Kafka\n")


def test_metrics(web: WorkerWeb) -> None:
    """The page has every metric of the catalogue, in the format that Prometheus reads."""
    status, content_type, body = get(web, "/metrics")
    assert (status, content_type) == (200, metrics.CONTENT_TYPE)
    assert "# HELP sealstream_processor_entries_total " in body


@pytest.mark.parametrize("path", ["/", "/metrics/", "/healthz/x", "/../etc/passwd", "/%2e%2e"])
def test_nothing_else(web: WorkerWeb, path: str) -> None:
    """There is nothing else, and the answer says what there is."""
    status, _, body = get(web, path)
    assert (status, body) == (404, "try /healthz, /readyz or /metrics\n")


def test_query_is_no_matter(web: WorkerWeb) -> None:
    """A query behind the path changes nothing, as probes may add one."""
    assert get(web, "/healthz?verbose=1")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_read_only(web: WorkerWeb, method: str) -> None:
    """The port can be asked, not told."""
    assert get(web, "/healthz", method)[0] == 501


def test_garbage_is_answered(web: WorkerWeb) -> None:
    """What is no request does not disturb the next one."""
    with socket.create_connection(("127.0.0.1", web.port), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(b"\x16\x03\x01\x00\x00\r\n\r\n")
        assert connection.recv(64)
    assert get(web, "/healthz")[0] == 200


def test_port_is_taken(web: WorkerWeb) -> None:
    """A port that is taken is a mistake in the settings, and is named."""
    with pytest.raises(ConfigError, match=str(web.port)) as caught:
        WorkerWeb("127.0.0.1", web.port, healthy=lambda: True, ready=lambda: (True, ""))
    assert "SEALSTREAM_WEB_PORT" in caught.value.hint


def test_stopped_port_is_free() -> None:
    """After the stop nobody listens, and the port can be taken again at once."""
    web = WorkerWeb("127.0.0.1", 0, healthy=lambda: True, ready=lambda: (True, ""))
    web.start()
    web.stop()
    with pytest.raises(ConnectionRefusedError):
        get(web, "/healthz")
    again = WorkerWeb("127.0.0.1", web.port, healthy=lambda: True, ready=lambda: (True, ""))
    again.stop()


def test_stopped_before_it_was_started() -> None:
    """A worker that fails before it serves can still be stopped."""
    web = WorkerWeb("127.0.0.1", 0, healthy=lambda: True, ready=lambda: (True, ""))
    web.stop()
    with pytest.raises(ConnectionRefusedError):
        get(web, "/healthz")
