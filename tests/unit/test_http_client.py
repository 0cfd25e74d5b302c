"""Asking web servers that may do anything: bounded in time and in size, with nothing followed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from sealstream.schemas.errors import ConfigError, Unreachable
from sealstream.worker.http_client import HttpClient, check_url

TIMEOUT_SECONDS = 1.5


@contextmanager
def answering(answer: Callable[[socket.socket, threading.Event], None]) -> Generator[str]:
    """Run a server that answers one connection as it likes, byte by byte, until it is told that the test is over."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                answer(connection, over)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/x"
        finally:
            over.set()
            thread.join()


def drip(begin: bytes, drop: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Return a server that sends a little, again and again, so that no single wait is long."""

    def answer(connection: socket.socket, over: threading.Event) -> None:
        try:
            connection.sendall(begin)
            while not over.wait(0.1):
                connection.sendall(drop)
        except OSError:
            return  # the client has gone

    return answer


@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
)
def test_servers_that_drip(begin: bytes, drop: bytes) -> None:
    """A server that sends a byte now and then gets no more time than one that is silent."""
    with answering(drip(begin, drop)) as url:
        began = time.monotonic()
        with pytest.raises(Unreachable):
            HttpClient().ask("GET", url, timeout_seconds=TIMEOUT_SECONDS, bytes_max=10_000_000)
        assert time.monotonic() - began < 30


def test_more_than_asked_for() -> None:
    """A body that is too large is not taken, and the status is known still."""

    def answer(connection: socket.socket, _over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 500 Broken\r\nContent-Length: 101\r\n\r\n" + b"x" * 101)

    with answering(answer) as url:
        found = HttpClient().ask("GET", url, timeout_seconds=30, bytes_max=100)
    assert (found.status, found.body) == (500, None)


@pytest.mark.parametrize("said", [b"nonsense\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nxx"])
def test_no_answer(said: bytes) -> None:
    """What is no HTTP, or is cut, is no answer."""
    with answering(lambda connection, _over: connection.sendall(said)) as url, pytest.raises(Unreachable):
        HttpClient().ask("GET", url, timeout_seconds=30, bytes_max=100)


def test_redirects_are_answers() -> None:
    """A redirect is not followed: it is an answer like any other."""
    said = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    with answering(lambda connection, _over: connection.sendall(said)) as url:
        found = HttpClient().ask("GET", url, timeout_seconds=30, bytes_max=100)
    assert (found.status, found.headers["location"]) == (302, "http://127.0.0.1:9/")


@pytest.mark.parametrize("url", ["", "ftp://x", "https://", "https://me:hunter2@x/", "https://[hunter2", "x"])
def test_urls(url: str) -> None:
    """What is no URL of a web server, or has a user in it, is refused without being shown."""
    with pytest.raises(ConfigError) as caught:
        check_url(url, "the server")
    assert "hunter2" not in str(caught.value)


def test_prefixes() -> None:
    """A slash at the end is none of the prefix."""
    assert check_url("https://example.com/log/", "the server") == "https://example.com/log"


def test_a_server_that_is_not_there_is_told_in_words() -> None:
    """Who reads the log at night reads what happened, and no names of a library's classes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
    with pytest.raises(Unreachable, match=f"^{url} gives no answer: no connection can be made"):
        HttpClient().ask("GET", url, timeout_seconds=TIMEOUT_SECONDS, bytes_max=10)


def test_a_server_that_hangs_up_is_told_in_words() -> None:
    """The same where a server is there and does not answer."""
    with (
        answering(lambda connection, _over: connection.close()) as url,
        pytest.raises(Unreachable, match="the connection broke off"),
    ):
        HttpClient().ask("GET", url, timeout_seconds=TIMEOUT_SECONDS, bytes_max=10)
