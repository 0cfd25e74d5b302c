"""One question to a web server that nobody here runs, and its answer: bounded in time and size, with no redirects."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from sealstream.kafka.patience import call_within
from sealstream.schemas.errors import ConfigError, Unreachable

_PIECE_BYTES: Final = 65_536
_WORDS: Final[dict[type[Exception], str]] = {
    NameResolutionError: "its name is not known",
    NewConnectionError: "no connection can be made",
    ConnectTimeoutError: "no connection in time",
    TimeoutError: "its time is up",
    ReadTimeoutError: "its time is up",
    SSLError: "TLS with it fails",
    ProtocolError: "the connection broke off",
}
"""The first kind that fits: some are of others' kinds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Arguments:
        status: The HTTP status.
        headers: Its headers; names in lower case.
        body: What it has to say; ``None`` if that was more than asked for.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | None


class HttpClient:
    """Asks web servers. It may be used by several threads at once.

    Arguments:
        connections_max: Connections that are kept to one server.
    """

    def __init__(self, *, connections_max: int = 1) -> None:
        self._pool = urllib3.PoolManager(
            maxsize=connections_max,
            retries=False,
            headers={"User-Agent": "sealstream", "Accept-Encoding": "identity"},
        )

    def ask(
        self,
        method: str,
        url: str,
        *,
        timeout_seconds: float,
        bytes_max: int,
        body: bytes | None = None,
        content_type: str = "",
    ) -> Answer:
        """Return a server's answer, whatever its status.

        Arguments:
            method: The HTTP method.
            url: Where to ask.
            timeout_seconds: How long all of it may take. A server that keeps a connection busy for longer is left
                behind with a thread, which ends with the connection.
            bytes_max: The most of the answer's body that is taken.
            body: What to send.
            content_type: Of what is sent.

        Raises:
            Unreachable: There was no whole answer in time.
        """
        headers = {"Content-Type": content_type} if content_type else {}
        deadline = time.monotonic() + timeout_seconds

        def call() -> Answer:
            answer = self._pool.request(
                method,
                url,
                body=body,
                headers={**self._pool.headers, **headers},
                redirect=False,
                preload_content=False,
                timeout=urllib3.Timeout(total=timeout_seconds),
            )
            try:
                read = _read(answer, bytes_max, deadline)
            finally:
                if not answer.closed:
                    answer.close()  # what is left unread is dropped with its connection
                answer.release_conn()
            return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, read)

        try:
            return call_within(call, timeout_seconds=timeout_seconds, give_up=lambda: False)
        except (HTTPError, OSError) as error:  # TimeoutError is one
            raise Unreachable(f"{url} gives no answer: {_words(error)}") from error


def check_url(url: str, what: str) -> str:
    """Return the URL of a server to ask, without a slash at its end.

    Raises:
        ConfigError: It is none of a web server, or has a user or a password in it.
    """
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    except ValueError:
        fits = False
    if not fits:
        raise ConfigError(
            f"the URL of {what} is no http:// or https:// URL, or has a user in it", hint="give it without credentials"
        )
    return url.rstrip("/")


def _words(error: HTTPError | OSError) -> str:
    """Say in words what became of a question; the library's own words would name its objects, and the URL again."""
    return next((words for kind, words in _WORDS.items() if isinstance(error, kind)), type(error).__name__)


def _read(answer: urllib3.BaseHTTPResponse, bytes_max: int, deadline: float) -> bytes | None:
    """Read an answer piece by piece as it comes, up to a size and a time."""
    pieces: list[bytes] = []
    count = 0
    while piece := answer.read1(_PIECE_BYTES, decode_content=False):
        pieces.append(piece)
        count += len(piece)
        if count > bytes_max:
            return None
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(pieces)
