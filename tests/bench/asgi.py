"""``sealstream bench asgi``: the same application with and without the audit middleware, side by side.

One process of uvicorn serves both, because no two processes are equally fast. A run asks them in turn for short
stretches, so that whatever else the machine does befalls both alike; what counts is the CPU time that the server itself
says it has taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench.common import Machine, Options, Result, collect
from bench.contest import Contest
from bench.http_connection import HttpConnection
from bench.servers import serve
from sealstream.deploy.stack.ports import LOOPBACK, free_port
from sealstream.kafka.topics import TopicNames
from sealstream.schemas.entry import Genesis

EVENTS: Final = 30_000
"""Requests of one run to each application."""
PEER: Final = "plain"
LOGGING: Final = "logging"
AGAIN: Final = "plain_again"
_KINDS: Final = ("ours", PEER, AGAIN, LOGGING)
_STRETCH: Final = 200
"""Requests in a row to one application: some hundredths of a second."""
_CONNECTIONS: Final = 16
_START_SECONDS: Final = 60.0
_OK: Final = 200
_REQUEST: Final = (
    b"GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n"
    b"X-Request-ID: 0190163d-8694-739b-aea5-966c26f8ad90\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n"
)
_NOTES: Final = (
    "ours and plain are the same small Starlette application on uvicorn (uvloop, httptools), one with the middleware",
    "logging is ours, and logs an event for each request: reading headers, log(), and librdkafka's threads",
    "plain_again is plain once more: how far its ratio is from 1 is how far the others' may be by chance",
    "ratios are medians of those of neighbouring stretches of 200 requests, in CPU time",
    "per CPU second counts the server's own CPU time, all its threads; per second includes what else the machine does",
)


async def _page(connection: HttpConnection, path: bytes) -> bytes:
    status, body = await connection.ask(_REQUEST % path)
    assert status == _OK, (status, body[:200])
    return body


class _Asked:
    """One application under load, and what it has taken so far."""

    def __init__(self, name: str, port: int) -> None:
        self._name = name.encode()
        self._port = port
        self._connections: list[HttpConnection] = []
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []

    async def connect(self) -> None:
        """Open the connections, as soon as the server is there."""
        loop, deadline = asyncio.get_running_loop(), time.monotonic() + _START_SECONDS
        while len(self._connections) < _CONNECTIONS:
            try:
                _, connection = await loop.create_connection(HttpConnection, LOOPBACK, self._port)
            except OSError:
                assert time.monotonic() < deadline, "the server does not start"
                await asyncio.sleep(0.05)
                continue
            self._connections.append(connection)

    async def ask(self, requests: int) -> None:
        """Send so many requests, and note what each took."""
        left = requests

        async def work(connection: HttpConnection) -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await _page(connection, b"/%s/documents/%d" % (self._name, left))

        used, began = await self._used(), time.perf_counter()
        await asyncio.gather(*(work(connection) for connection in self._connections))
        self.seconds.append((time.perf_counter() - began) / requests)
        self.cpu_seconds.append((await self._used() - used) / requests)

    async def _used(self) -> float:
        return float(await _page(self._connections[0], b"/%s/used" % self._name))

    async def close(self) -> None:
        """End the connections."""
        for connection in self._connections:
            connection.close()
        await asyncio.sleep(0)  # let the loop take them out

    def measured(self) -> dict[str, float]:
        """Return what was measured since the last reset."""
        cpu_seconds = statistics.mean(self.cpu_seconds)
        return {
            "requests_per_cpu_second": 1 / cpu_seconds,
            "requests_per_second": 1 / statistics.mean(self.seconds),
            "cpu_microseconds": cpu_seconds * 1e6,
        }

    def reset(self) -> None:
        """Forget what was measured."""
        self.seconds, self.cpu_seconds = [], []


@dataclass(slots=True)
class _Found:
    """What all runs found: figures of each application, and the ratios of its stretches to the plain one's."""

    runs: dict[str, list[dict[str, float]]]
    ratios: dict[str, list[float]]


def run(options: Options) -> Result:
    """Run the benchmark."""
    machine = Machine.describe()
    name = f"bench-{secrets.token_hex(4)}"
    names = TopicNames(prefix=f"{name}.")
    with serve() as servers:
        contest = Contest(servers, name, progress=options.progress)
        try:
            contest.create_source(
                names.events, Genesis(instance=f"bench.example/{name}", partitions=options.partitions)
            )
            with _serving(servers.kafka, f"bench.example/{name}", names.prefix) as port:
                found = asyncio.run(_measure(port, options))
        finally:
            contest.delete_all()
    ours, plain, again, logging = (collect(found.runs[kind]) for kind in _KINDS)
    return Result(
        name="asgi",
        options=options,
        ours=ours,
        peers={PEER: plain, AGAIN: again, LOGGING: logging},
        ratios={
            PEER: statistics.median(found.ratios["ours"]),
            f"{AGAIN}_to_{PEER}": statistics.median(found.ratios[AGAIN]),
            f"{LOGGING}_to_{PEER}": statistics.median(found.ratios[LOGGING]),
        },
        machine=replace(machine, versions=dict(machine.versions) | servers.versions),
        notes=_NOTES,
    )


async def _measure(port: int, options: Options) -> _Found:
    asked = {kind: _Asked(kind, port) for kind in _KINDS}
    found = _Found({kind: [] for kind in asked}, {kind: [] for kind in asked})
    try:
        for one in asked.values():
            await one.connect()
        await _measure_runs(asked, found, options)
    finally:
        for one in asked.values():
            await one.close()
    return found


async def _measure_runs(asked: dict[str, _Asked], found: _Found, options: Options) -> None:
    for one in asked.values():
        await one.ask(options.warmup_events)
        one.reset()
    turns = max(1, options.events // _STRETCH)
    for number in range(options.runs):
        options.progress(f"run {number + 1} of {options.runs}")
        # What logs goes on in threads of its own behind its stretch, so it is compared by itself.
        for kinds, rounds in (("ours", PEER, AGAIN), turns), ((LOGGING, PEER), max(1, turns // 5)):
            for turn in range(rounds):
                first = turn % len(kinds)
                for kind in kinds[first:] + kinds[:first]:
                    await asked[kind].ask(_STRETCH)
            plain = asked[PEER].cpu_seconds
            for kind in kinds:
                found.ratios[kind] += [peer / own for own, peer in zip(asked[kind].cpu_seconds, plain, strict=True)]
                if kind != PEER or AGAIN in kinds:
                    found.runs[kind].append(asked[kind].measured())
            for kind in kinds:
                asked[kind].reset()


@contextlib.contextmanager
def _serving(kafka: str, instance: str, prefix: str) -> Generator[int]:
    """Serve the applications; gives their port."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.asgi_app", str(port), kafka, instance, prefix],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=subprocess.DEVNULL,
    )
    try:
        yield port
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
