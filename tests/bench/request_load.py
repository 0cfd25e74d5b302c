"""Sends the same request over and over through some connections: the load of ``sealstream bench gateway``.

A process of its own, so that it takes no time of the gateway's.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from typing import Final

import uvloop

from bench.http_connection import HttpConnection

_ACCEPTED: Final = 202


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


async def send(load: Load) -> Sent:
    """Send a load."""
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(HttpConnection, "127.0.0.1", load.port))[1] for _ in range(load.connections)
    ]
    taken: list[float] = []
    failures, number = 0, 0
    begin = time.perf_counter()

    async def work(connection: HttpConnection) -> None:
        nonlocal failures, number
        while number < load.requests:
            mine = number
            number += 1
            due = time.perf_counter()
            if load.per_second:
                due = begin + mine / load.per_second
                await asyncio.sleep(due - time.perf_counter())
            status, _ = await connection.ask(_request(load, mine))
            if status == _ACCEPTED:
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
