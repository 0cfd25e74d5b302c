"""A request's body: read as it comes, bounded in size, in time, and in what all of them take together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from sealstream.producers.gateway.problems import Problem, body_too_large, malformed, unavailable

Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]

SHARE_OF_ALL: Final = 16
"""So many bodies of the largest size may be held at once; many more of the usual size."""
_RETRY_SECONDS: Final = 1
_LENGTH_DIGITS_MAX: Final = 18


class ClientGone(Exception):
    """The client has closed the connection: nobody hears an answer."""


class Bodies:
    """Reads bodies.

    Arguments:
        bytes_max: The most bytes of one body.
        timeout_seconds: How long one may take to arrive.
    """

    def __init__(self, *, bytes_max: int, timeout_seconds: float) -> None:
        self.bytes_max = bytes_max
        self._timeout_seconds = timeout_seconds
        self._held_bytes_max = SHARE_OF_ALL * bytes_max
        self.held_bytes = 0

    async def read(self, receive: Receive, length: bytes | None) -> bytes:
        """Return a request's body; it counts as held until :meth:`release`.

        Arguments:
            receive: Gives the next piece.
            length: The header ``Content-Length``, if there is one.

        Raises:
            Problem: It is too large, takes too long, or there are too many bodies at once.
            ClientGone: The client went away.
        """
        if length is not None:
            if not length.isdigit() or len(length) > _LENGTH_DIGITS_MAX:
                raise malformed("Content-Length is no number")
            if int(length) > self.bytes_max:
                raise body_too_large(self.bytes_max)
            if self.held_bytes + int(length) > self._held_bytes_max:
                raise _busy()
        message = await self._first(receive)
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            return await self._rest(receive, body)
        self._hold(len(body), len(body))
        return body

    def release(self, body: bytes) -> None:
        """Say that a body is not held any more."""
        self.held_bytes -= len(body)

    async def _first(self, receive: Receive) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await _next(receive)
        except TimeoutError:
            raise self._too_slow() from None

    async def _rest(self, receive: Receive, first: bytes) -> bytes:
        body = bytearray()
        try:
            self._hold(len(first), len(first))
            body += first
            async with asyncio.timeout(self._timeout_seconds):
                more = True
                while more:
                    message = await _next(receive)
                    piece: bytes = message.get("body", b"")
                    self._hold(len(piece), len(body) + len(piece))
                    body += piece
                    more = bool(message.get("more_body"))
        except TimeoutError:
            self.held_bytes -= len(body)
            raise self._too_slow() from None
        except BaseException:
            self.held_bytes -= len(body)
            raise
        return bytes(body)

    def _hold(self, more: int, total: int) -> None:
        """Count bytes as held.

        Raises:
            Problem: They are too many.
        """
        if total > self.bytes_max:
            raise body_too_large(self.bytes_max)
        if self.held_bytes + more > self._held_bytes_max:
            raise _busy()
        self.held_bytes += more

    def _too_slow(self) -> Problem:
        detail = f"the body did not arrive within {self._timeout_seconds:g} s"
        return Problem(HTTPStatus.REQUEST_TIMEOUT, "too-slow", detail, headers={"connection": "close"})


async def _next(receive: Receive) -> dict[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


def _busy() -> Problem:
    return unavailable("busy", "the gateway holds as many bodies as it may", _RETRY_SECONDS, hint="try again")
