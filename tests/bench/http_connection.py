"""One bare HTTP connection for loads: it knows as much HTTP as it takes to find the end of an answer.

It is bare on purpose, so that one core loads more than one server.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

_LENGTH: Final = b"content-length: "
_END: Final = b"\r\n\r\n"
_STATUS: Final = slice(9, 12)
"""Where the status stands in an answer: ``HTTP/1.1 200``."""


class HttpConnection(asyncio.Protocol):
    """One connection: sends a request when it is told to, and gives the answer.

    Give it to ``create_connection``. An answer has to state its length.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let whoever waits for an answer know."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Collect the answer, and give it when it is whole."""
        self._received += data
        end = self._received.find(_END)
        if end < 0:
            return
        start = self._received.find(_LENGTH) + len(_LENGTH)
        length = int(self._received[start : self._received.find(b"\r", start)])
        if len(self._received) < end + len(_END) + length:
            return
        answer = int(self._received[_STATUS]), bytes(self._received[end + len(_END) :])
        self._received.clear()
        assert self._answer is not None
        self._answer.set_result(answer)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request, and return the status and body of its answer.

        Raises:
            ConnectionError: The server closed the connection before it answered.
        """
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.abort()
