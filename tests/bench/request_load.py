"""Sends the same request over and over through some connections: the load of ``sealstream bench gateway``.

A process of its own, so that it takes no time of the gateway's. It is bare on purpose: it knows as much HTTP as it
takes to find the end of an answer, so that one core loads more than one gateway.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from typing import Final, cast

import uvloop

_ACCEPTED: Final = b"HTTP/1.1 202"
_LENGTH: Final = b"content-length: "
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent.

    Arguments:
        port: The gateway's port on loopback.
        tokens: What is sent as ``Authorization: Bearer``, one after the other and again from the first.
        body: The body, with ``%d`` for the request's number.
        connections: How many connections.
        requests: How many requests.
        per_second: How many requests a second are sent; 0 for as many as are answered.
    """

    port: int
    tokens: tuple[str, ...]
    body: str
    connections: int
    requests: int
    per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of it.

    Arguments:
        requests: How many were answered by 202.
        failures: How many were answered otherwise.
        seconds: From the first one to the last answer.
        p50_milliseconds: From the time at which a request was to be sent to its answer.
        p99_milliseconds: As above.
    """

    requests: int
    failures: int
    seconds: float
    p50_milliseconds: float
    p99_milliseconds: float


class _Connection(asyncio.Protocol):
    """One connection: sends a request when it is told to, and says when its answer is there."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[bool] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the gateway closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(_END)
        if end < 0:
            return
        start = self._received.find(_LENGTH) + len(_LENGTH)
        length = int(self._received[start : self._received.find(b"\r", start)])
        if len(self._received) < end + len(_END) + length:
            return
        accepted = self._received.startswith(_ACCEPTED)
        self._received.clear()
        assert self._answer is not None
        self._answer.set_result(accepted)

    async def ask(self, request: bytes) -> bool:
        """Send a request, and return whether it was accepted."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer


async def send(load: Load) -> Sent:
    """Send a load."""
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(_Connection, "127.0.0.1", load.port))[1] for _ in range(load.connections)
    ]
    taken: list[float] = []
    failures, number = 0, 0
    begin = time.perf_counter()

    async def work(connection: _Connection) -> None:
        nonlocal failures, number
        while number < load.requests:
            mine = number
            number += 1
            due = time.perf_counter()
            if load.per_second:
                due = begin + mine / load.per_second
                await asyncio.sleep(due - time.perf_counter())
            if await connection.ask(_request(load, mine)):
                taken.append(time.perf_counter() - due)
            else:
                failures += 1

    await asyncio.gather(*(work(connection) for connection in connections))
    seconds = time.perf_counter() - begin
    percentiles = statistics.quantiles(taken or [0.0, 0.0], n=100)
    return Sent(len(taken), failures, seconds, percentiles[49] * 1_000, percentiles[98] * 1_000)


def _request(load: Load, number: int) -> bytes:
    body, token = load.body.replace("%d", str(number)), load.tokens[number % len(load.tokens)]
    return (
        f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        f"User-Agent: bench\r\nAccept: */*\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(asdict(uvloop.run(send(Load(**given))))))
