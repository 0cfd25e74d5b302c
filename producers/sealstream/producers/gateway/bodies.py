"""A request's body: read as it comes, bounded in size, and in what all of them take together.

How long one may take is the protocol's to say: it knows when all came in one piece, and needs no clock then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from sealstream.producers.gateway.problems import Problem, body_too_large, malformed, unavailable

Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]

SHARE_OF_ALL: Final = 16
"""So many bodies of the largest size may be held at once; many more of the usual size."""
_RETRY_SECONDS: Final = 1
_LENGTH_DIGITS_MAX: Final = 18


class ClientGone(Exception):
    """The connection is closed: nobody hears an answer."""


class Bodies:
    """Reads bodies.

    Arguments:
        bytes_max: The most bytes of one body.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._held_bytes_max = SHARE_OF_ALL * bytes_max
        self.held_bytes = 0

    async def read(self, receive: Receive, length: bytes | None) -> bytes:
        """Return a request's body; it counts as held until :meth:`release`.

        Arguments:
            receive: Gives the next piece.
            length: The header ``Content-Length``, if there is one.

        Raises:
            Problem: It is too large, or there are too many bodies at once.
            ClientGone: The client went away, or took too long.
        """
        if length is not None:
            if not length.isdigit() or len(length) > _LENGTH_DIGITS_MAX:
                raise malformed("Content-Length is no number")
            if int(length) > self.bytes_max:
                raise body_too_large(self.bytes_max)
            if self.held_bytes + int(length) > self._held_bytes_max:
                raise _busy()
        message = await _next(receive)
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            return await self._rest(receive, body)
        self._hold(len(body), len(body))
        return body

    def release(self, body: bytes) -> None:
        """Say that a body is not held any more."""
        self.held_bytes -= len(body)

    async def _rest(self, receive: Receive, first: bytes) -> bytes:
        body = bytearray()
        piece, more = first, True
        try:
            while True:
                self._hold(len(piece), len(body) + len(piece))
                body += piece
                if not more:
                    return bytes(body)
                message = await _next(receive)
                piece, more = message.get("body", b""), bool(message.get("more_body"))
        except BaseException:
            self.held_bytes -= len(body)
            raise

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


async def _next(receive: Receive) -> dict[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


def _busy() -> Problem:
    return unavailable("busy", "the gateway holds as many bodies as it may", _RETRY_SECONDS, hint="try again")
